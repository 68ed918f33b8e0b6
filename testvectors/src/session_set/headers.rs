//! Which states can be cut, by the headers of their capsules.

use kvcap::{
    Context, Limits, Prefix, PrefixValue, Result, Role, RowsEntry, SectionKind, Stream, Untrusted,
    WrappingKey,
};
use kvcap_codecs::{BankShape, Dtype};
use kvcap_states::can_be_cut;
use serde_json::{Value, json};

use super::Case;
use crate::{
    context,
    fixture::{self, TOKENS},
    hex::{hex, unhex_any},
    lineage, parts,
};

/// Judges the header of a capsule.
pub(super) fn whole(input: &Value) -> Result<Value> {
    let header = unhex_any(input["header"].as_str().unwrap());
    let untrusted = Untrusted::read(&mut header.as_slice(), &Limits::default())?;
    let reader = context::Context::default();
    let trust = reader.trust()?;
    let verified = reader.with_policy(&trust, reader.now, |policy| untrusted.verify(policy))?;
    let is_whole = !can_be_cut(&verified.manifest().context);
    Ok(json!({ "whole": is_whole }))
}

/// The header of a capsule of a context: what stands before its tables.
fn header(file: &[u8]) -> Value {
    let (tables, _) = parts::regions(file);
    json!({ "header": hex(&file[..tables]) })
}

fn changed(seed: &str, change: impl FnOnce(&mut Context)) -> Value {
    let mut context = fixture::context();
    change(&mut context);
    header(&fixture::seal_context(seed, context).file)
}

fn of_runtime(name: &'static str) -> Value {
    changed(&format!("cut {name}"), |context| {
        context.runtime.name = name.to_owned();
    })
}

/// The base capsule with a prompt of so many tokens, and no ids of them.
fn prompt_of(count: u64) -> Value {
    changed(&format!("cut prompt of {count}"), |context| {
        let mut tokens = fixture::prompt();
        tokens.resize(usize::try_from(count).unwrap(), 9);
        let key = WrappingKey::from_bytes(fixture::WRAP_KEY);
        context.prefix = PrefixValue::of(&tokens).keyed(&key.prefix_key().unwrap().unwrap());
        context
            .streams
            .retain(|stream| !is_section(stream, &SectionKind::Tokens));
    })
}

fn is_section(stream: &Stream, kind: &SectionKind) -> bool {
    matches!(stream, Stream::Section(section) if section.kind == *kind)
}

/// The base capsule with banks of 16 rows.
fn rows_of(rows: RowsEntry, window: u64) -> Value {
    changed(&format!("cut rows {rows:?} {window}"), |context| {
        let mut banks = context
            .streams
            .iter_mut()
            .filter_map(|stream| match stream {
                Stream::Bank(bank) => Some(bank),
                Stream::Section(_) => None,
            });
        let bank = banks.next().unwrap();
        bank.shape = BankShape::Tokens {
            heads: 1,
            tokens: 16,
            dim: 64,
        };
        (bank.rows, bank.window) = (rows, window);
        if matches!(rows, RowsEntry::Listed(_)) {
            let listed = fixture::section(SectionKind::Positions, 128);
            context.streams.push(listed);
        }
    })
}

pub(super) fn cases() -> Vec<Case> {
    let recurrent = |context: &mut Context| {
        let bank = fixture::whole(Role::Recurrent, 0, 0, Dtype::F16, &[4, 4]);
        context.streams.push(Stream::Bank(bank));
    };
    let [_, child, _] = lineage::three();
    let table = [
        (
            "cut_mlx",
            "rows of every position, and a prompt of as many tokens",
            of_runtime("mlx-lm"),
        ),
        (
            "cut_llama",
            "the same of llama.cpp",
            of_runtime("llama.cpp"),
        ),
        (
            "cut_hf",
            "the same of transformers",
            of_runtime("transformers"),
        ),
        (
            "cut_raw",
            "tensors that nothing is known of",
            of_runtime("raw"),
        ),
        (
            "cut_unknown",
            "a runtime that is not known",
            of_runtime("another"),
        ),
        (
            "cut_alias",
            "a name that is a program's, and no runtime's",
            of_runtime("llama-cpp"),
        ),
        (
            "cut_prompt_one_more",
            "a last token that was not evaluated",
            prompt_of(TOKENS + 1),
        ),
        (
            "cut_prompt_two_more",
            "two tokens that are no positions",
            prompt_of(TOKENS + 2),
        ),
        (
            "cut_prompt_one_less",
            "a position that is of no token",
            prompt_of(TOKENS - 1),
        ),
        (
            "cut_no_prompt",
            "no prompt is named",
            changed("cut no prompt", |context| {
                context.prefix = Prefix::None;
                context.streams.truncate(2);
            }),
        ),
        (
            "cut_window",
            "one bank has a window",
            rows_of(RowsEntry::From(TOKENS - 16), 16),
        ),
        (
            "cut_window_all",
            "a window that has kept every position so far",
            changed("cut window all", |context| {
                if let Stream::Bank(bank) = &mut context.streams[0] {
                    bank.window = TOKENS;
                }
            }),
        ),
        (
            "cut_later_rows",
            "rows that begin after the capsule does",
            rows_of(RowsEntry::From(TOKENS - 16), 0),
        ),
        (
            "cut_listed",
            "rows in the runtime's own order",
            rows_of(RowsEntry::Listed(4), 16),
        ),
        (
            "cut_recurrent",
            "a recurrent state beside rows of every position",
            changed("cut recurrent", recurrent),
        ),
        (
            "cut_later_positions",
            "positions and rows that begin later, and a prompt of as many tokens as their end",
            changed("cut later", |context| {
                context.positions = 5..TOKENS;
                for stream in &mut context.streams {
                    if let Stream::Bank(bank) = stream {
                        bank.rows = RowsEntry::From(5);
                        if let BankShape::Tokens { tokens, .. } = &mut bank.shape {
                            *tokens = TOKENS - 5;
                        }
                    }
                }
            }),
        ),
        (
            "cut_increment",
            "an increment, which is joined first",
            header(&child.file),
        ),
    ];
    table
        .into_iter()
        .map(|(name, what, input)| Case::new(name, what, &["SES-L-5"], ("whole", input), 0))
        .collect()
}
