//! Which layer, heads and role each tensor of the file has: from the model's geometry, from a
//! manifest's banks, or just in order.

use kvcap::{Bank, Result, Role, Rows};
use kvcap_codecs::BankShape;

use super::{
    layers::{Layers, contradiction},
    section::{Cells, Section, Stream, Tensor},
};
use crate::state::{Hints, Order, Placed, Region};

/// Banks in the order of the file, and the number of layers.
pub(super) struct Labelled {
    pub(super) banks: Vec<Placed>,
    pub(super) layers: u32,
}

/// Labels every tensor that has bytes.
///
/// # Errors
/// `StateContradiction` where the file and the hints disagree,
/// `StateUnsupported` for keys without values that nothing says are MLA's.
pub(super) fn label(sections: &[Section], hints: Hints<'_>) -> Result<Labelled> {
    let mut layers = Layers::new(sections, hints)?;
    let mut banks: Vec<Placed> = Vec::new();
    for section in sections {
        match section {
            Section::Attention(cache) => {
                let Some(first) = cache.used().next() else {
                    layers.skip_cache();
                    continue;
                };
                let numbers = layers.attention(first.keys.len())?;
                for stream in cache.used() {
                    let rows = rows(&stream.cells)?;
                    for (tensors, is_key) in [(&stream.keys, true), (&stream.values, false)] {
                        for (tensor, &layer) in tensors.iter().zip(&numbers) {
                            let bank = layers.row_bank(layer, is_key, stream, tensor, &rows)?;
                            let hadamard = block(stream, is_key, &bank)?;
                            banks.push(Placed {
                                hadamard,
                                ..placed(bank, tensor)?
                            });
                        }
                    }
                }
            }
            Section::Recurrent(recurrent) => {
                let numbers = layers.recurrent(recurrent)?;
                let halves = [
                    (&recurrent.convolution, Role::Convolution),
                    (&recurrent.state, Role::Recurrent),
                ];
                for (tensors, role) in halves {
                    for (tensor, &layer) in tensors.iter().zip(&numbers) {
                        if tensor.row_bytes > 0 && tensor.cells > 0 {
                            banks.push(placed(whole_bank(role, layer, tensor), tensor)?);
                        }
                    }
                }
            }
        }
    }
    number(&mut banks);
    if let Hints::Banks(hinted) = hints {
        adopt(&mut banks, hinted)?;
    }
    let named = banks.iter().map(|p| p.bank.layer.saturating_add(1)).max();
    Ok(Labelled {
        layers: layers.total().max(named.unwrap_or(0)),
        banks,
    })
}

fn whole_bank(role: Role, layer: u32, tensor: &Tensor) -> Bank {
    Bank {
        role,
        layer,
        index: 0,
        dtype: tensor.dtype,
        shape: BankShape::Whole {
            dims: vec![tensor.cells, tensor.elements],
        },
        rows: Rows::None,
        window: 0,
    }
}

/// Numbers the banks of one role in one layer (streams of the cache) from 0.
fn number(banks: &mut [Placed]) {
    let mut seen = std::collections::BTreeMap::new();
    for Placed { bank, .. } in banks {
        let next: &mut u32 = seen.entry((bank.role, bank.layer)).or_default();
        bank.index = *next;
        *next = next.saturating_add(1);
    }
}

/// Takes role, layer, index, heads and window from a manifest's banks, in the order of the file.
fn adopt(banks: &mut [Placed], hinted: &[Bank]) -> Result<()> {
    if banks.len() != hinted.len() {
        return Err(
            contradiction("the file and the manifest differ in the number of banks")
                .sides(hinted.len(), banks.len()),
        );
    }
    for (Placed { bank, parts, .. }, hint) in banks.iter_mut().zip(hinted) {
        let size = |bank: &Bank| bank.shape.plain_len(bank.dtype);
        let tokens = |bank: &Bank| match bank.shape {
            BankShape::Tokens { tokens, .. } => Some(tokens),
            BankShape::Whole { .. } => None,
        };
        let same = (bank.dtype, size(bank), tokens(bank), &bank.rows)
            == (hint.dtype, size(hint), tokens(hint), &hint.rows);
        if !same {
            let facts = |bank: &Bank| {
                let rows = match &bank.rows {
                    Rows::From(start) => format!(" from {start}"),
                    Rows::Listed(_) => " at listed positions".to_owned(),
                    Rows::None => String::new(),
                };
                format!("{} {:?}{rows}", bank.dtype.name(), bank.shape)
            };
            return Err(contradiction("the file and the manifest differ in a bank")
                .at(format_args!("layer {} {:?}", hint.layer, hint.role))
                .sides(facts(hint), facts(bank)));
        }
        let transposed = parts
            .iter()
            .any(|part| matches!(part.order, Order::Transposed { .. }));
        bank.role = hint.role;
        bank.layer = hint.layer;
        bank.index = hint.index;
        bank.window = hint.window;
        bank.shape = hint.shape.clone();
        for part in parts {
            part.order = order(bank, transposed)?;
        }
    }
    Ok(())
}

fn placed(bank: Bank, tensor: &Tensor) -> Result<Placed> {
    let part = Region {
        offset: tensor.offset,
        len: tensor.row_bytes.saturating_mul(tensor.cells),
        order: order(&bank, tensor.transposed)?,
    };
    Ok(Placed {
        bank,
        parts: vec![part],
        hadamard: None,
    })
}

/// The rotation that the file says a bank has. Only quantized rows are rotated, by blocks that make up
/// a head.
fn block(stream: &Stream, is_key: bool, bank: &Bank) -> Result<Option<u32>> {
    let Some([keys, values]) = stream.rotation else {
        return Ok(None);
    };
    let block = if is_key { keys } else { values };
    let dim = match bank.shape {
        BankShape::Tokens { dim, .. } => dim,
        BankShape::Whole { .. } => 0,
    };
    let quantized = bank.dtype.row_bytes(1).is_none();
    if block != 0 && !(quantized && dim.is_multiple_of(block.into())) {
        return Err(
            contradiction("the file says a rotation that its rows cannot have")
                .at(format_args!("layer {} {}", bank.layer, bank.role.name()))
                .sides(
                    format_args!("none, or blocks of quantized heads of {dim}"),
                    format_args!("blocks of {block}, {}", bank.dtype.name()),
                ),
        );
    }
    Ok(Some(block))
}

/// Rows lie token by token with their heads side by side; transposed values channel by channel.
fn order(bank: &Bank, transposed: bool) -> Result<Order> {
    let BankShape::Tokens { heads, tokens, dim } = bank.shape else {
        return Ok(Order::Contiguous);
    };
    let order = || {
        let row_bytes = bank.dtype.row_bytes(dim)?;
        if transposed {
            let element = bank.dtype.row_bytes(1)?;
            let dim_stride = tokens.checked_mul(element)?;
            return Some(Order::Transposed {
                element,
                head_stride: dim.checked_mul(dim_stride)?,
                dim_stride,
            });
        }
        Some(Order::Rows {
            row_bytes,
            head_stride: row_bytes,
            token_stride: row_bytes.checked_mul(heads)?,
        })
    };
    order().ok_or_else(|| contradiction("a row is not a whole number of its type's blocks"))
}

/// Positions of the rows, in the order of the cells.
fn rows(cells: &Cells) -> Result<Rows> {
    let first = cells.positions.first().copied().unwrap_or(0);
    let contiguous = (i64::from(first)..)
        .zip(&cells.positions)
        .all(|(want, &position)| want == i64::from(position));
    if contiguous {
        let start = u64::try_from(first).map_err(|_| contradiction("a position is negative"))?;
        return Ok(Rows::From(start));
    }
    Ok(Rows::Listed(
        cells.positions.iter().map(|&p| i64::from(p)).collect(),
    ))
}
