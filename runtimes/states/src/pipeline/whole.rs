//! The banks of a state across the capsules that hold it: one, or a chain of them.

use std::{collections::BTreeMap, sync::Arc};

use kvcap::{Bank, BankEntry, Code, Error, Members, Part, ReadAt, Result, Rows, RowsEntry};
use kvcap_codecs::BankShape;

use crate::{
    pipeline::bank_io::{BankCodec, listed_rows},
    profiles,
    state::{Placed, State},
};

/// A bank of the whole state, and where its rows are.
pub(crate) struct WholeBank<'a, S> {
    pub(crate) bank: Bank,
    pub(crate) parts: Vec<Part<'a, S>>,
}

/// One capsule's rows of a bank, and their place in a state file.
pub(crate) struct PlacedPart<'a, S> {
    pub(crate) part: Part<'a, S>,
    pub(crate) placed: Placed,
}

/// The banks in the order of the tip's body, which is that of the state file.
///
/// # Errors
/// KVC-704 where an ancestor lacks a bank; as [`kvcap::StreamReader::read`] for listed positions.
pub(crate) fn whole_banks<M: Members>(members: &M) -> Result<Vec<WholeBank<'_, M::Source>>> {
    let tip = members.tip();
    let banks = tip.manifest().context.banks();
    // a list that many banks name is held once
    let mut lists: BTreeMap<u32, Arc<[i64]>> = BTreeMap::new();
    banks
        .map(|(_, entry)| {
            let parts = members.parts(entry)?;
            let first = parts.first().map_or(entry, |part| part.bank);
            let bank = Bank {
                role: entry.role,
                layer: entry.layer,
                index: entry.index,
                dtype: entry.dtype,
                shape: joined(entry, &parts)?,
                rows: match first.rows {
                    RowsEntry::From(start) => Rows::From(start),
                    RowsEntry::Listed(section) => Rows::Listed(match lists.get(&section) {
                        Some(list) => Arc::clone(list),
                        None => {
                            let list = listed_rows(tip, entry)?;
                            Arc::clone(lists.entry(section).or_insert(list))
                        }
                    }),
                    RowsEntry::None => Rows::None,
                },
                window: entry.window,
            };
            Ok(WholeBank { bank, parts })
        })
        .collect()
}

/// The shape of all parts together.
fn joined<S>(entry: &BankEntry, parts: &[Part<'_, S>]) -> Result<BankShape> {
    let BankShape::Tokens { heads, dim, .. } = entry.shape else {
        return Ok(entry.shape.clone());
    };
    let tokens = parts
        .iter()
        .try_fold(0_u64, |sum, part| sum.checked_add(rows_of(part.bank)));
    tokens
        .map(|tokens| BankShape::Tokens { heads, tokens, dim })
        .ok_or_else(|| Error::new(Code::ResourceBudget, "the chain's rows overflow"))
}

/// Rows of a bank, none for one without a token axis.
pub(crate) fn rows_of(bank: &BankEntry) -> u64 {
    match bank.shape {
        BankShape::Tokens { tokens, .. } => tokens,
        BankShape::Whole { .. } => 0,
    }
}

/// Every part with its place in `state`, which has exactly these banks.
///
/// # Errors
/// KVC-923 where the state's rows are fewer.
pub(crate) fn pieces<'a, S: ReadAt>(
    whole: &[WholeBank<'a, S>],
    state: &State,
) -> Result<Vec<PlacedPart<'a, S>>> {
    let mut pieces = Vec::new();
    for (bank, placed) in whole.iter().zip(&state.banks) {
        let mut first = 0;
        for part in &bank.parts {
            let rows = rows_of(part.bank);
            pieces.push(PlacedPart {
                part: *part,
                placed: match bank.parts.len() {
                    1 => placed.clone(),
                    _ => placed.rows(first, rows)?,
                },
            });
            first += rows;
        }
    }
    Ok(pieces)
}

/// How a bank's frames are read. Its listed positions are read only where a rotation needs them.
///
/// # Errors
/// KVC-908 and 909 for a profile that is not here, or is another model's; as [`kvcap::StreamReader::read`]
/// for listed positions.
pub(crate) fn codec<'a, S: ReadAt>(part: &Part<'a, S>) -> Result<BankCodec<'a>> {
    let context = &part.capsule.manifest().context;
    let profile = match part.bank.codec.needs_profile() {
        true => profiles::needed(context)?,
        false => None,
    };
    let listed = match part.bank.rotation {
        Some(_) => listed_rows(part.capsule, part.bank)?,
        None => Arc::default(),
    };
    Ok(BankCodec::new(
        part.bank,
        &context.rotations,
        listed,
        profile,
    ))
}
