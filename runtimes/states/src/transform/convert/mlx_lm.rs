//! An mlx-lm prompt cache of plain or quantized caches, without its rows (runtimes-v1 §2).

use kvcap::{Bank, Result};
use kvcap_codecs::{BLOCK_TOKENS, BankShape, Dtype, ParamDtype};
use serde_json::{Map, Value, json};

use super::{
    header::{Header, float, overflow},
    layers::refused,
};
use crate::state::template::Template;

/// The two layouts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    /// Up to 0.31.
    Old,
    /// From 0.32 on.
    New,
}

impl Layout {
    /// How the keys of the user's metadata begin.
    pub(super) fn user(self) -> &'static str {
        match self {
            Self::Old => "1.",
            Self::New => "0.",
        }
    }

    /// How the keys of the caches' classes begin.
    fn classes(self) -> &'static str {
        match self {
            Self::Old => "2.",
            Self::New => "1.",
        }
    }

    /// Rows that are held for `tokens`: whole blocks from 0.32 on.
    fn rows(self, tokens: u64) -> Option<u64> {
        match self {
            Self::Old => Some(tokens),
            Self::New => tokens.checked_next_multiple_of(BLOCK_TOKENS),
        }
    }
}

/// The file for `pairs`, keys and values of each layer, with the user's metadata under its keys.
pub(super) fn template(
    pairs: &[[Bank; 2]],
    user: Vec<(String, String)>,
    layout: Layout,
) -> Result<Template> {
    let mut metadata: Map<String, Value> = user
        .into_iter()
        .map(|(key, value)| (key, Value::String(value)))
        .collect();
    let mut header = Header::default();
    let mut numbers = Vec::new();
    if layout == Layout::New {
        metadata.insert("2.0".to_owned(), json!(""));
    }
    for (layer, pair) in pairs.iter().enumerate() {
        let mut offset = 0;
        for (slot, bank) in pair.iter().enumerate() {
            offset = tensors(&mut header, &format!("{layer}.{slot}"), bank, layout)?;
        }
        let affine = match pair[0].dtype {
            Dtype::MlxAffine(p) => Some([u64::from(p.group), u64::from(p.bits)]),
            _ => None,
        };
        let facts = [offset].into_iter().chain(affine.into_iter().flatten());
        for (index, number) in facts.enumerate() {
            if layout == Layout::New {
                numbers.push((format!("{layer}.{}", index + 2), number));
            } else if affine.is_some() {
                metadata.insert(format!("0.{layer}.{index}"), json!(number.to_string()));
            } else {
                metadata.insert(format!("0.{layer}"), json!(""));
            }
        }
        let class = match affine {
            Some(_) => "QuantizedKVCache",
            None => "KVCache",
        };
        metadata.insert(format!("{}{layer}", layout.classes()), json!(class));
    }
    let mut pieces = Vec::new();
    for (entry, (name, number)) in (1..).zip(numbers) {
        let number = i32::try_from(number).map_err(|_| overflow())?;
        metadata.insert(format!("2.{entry}.0"), json!(name));
        metadata.insert(format!("2.{entry}.1"), json!("scalar"));
        pieces.push((header.end, number.to_le_bytes().to_vec()));
        header.push(name, "I32", &[], 4)?;
    }
    header.finish(metadata, pieces)
}

/// A bank's tensor, or the three of a triplet; gives its tokens.
fn tensors(header: &mut Header, name: &str, bank: &Bank, layout: Layout) -> Result<u64> {
    let BankShape::Tokens { heads, tokens, dim } = bank.shape else {
        return Err(overflow());
    };
    let rows = layout.rows(tokens).ok_or_else(overflow)?;
    if let Dtype::MlxAffine(params) = bank.dtype {
        let (codes, scales) = params.row_sections(dim).ok_or_else(overflow)?;
        let (float, groups) = (float(params.params), scales / params.params.bytes());
        header.rows(format!("{name}.0"), "U32", [heads, rows, codes / 4], codes)?;
        header.rows(format!("{name}.1"), float, [heads, rows, groups], scales)?;
        header.rows(format!("{name}.2"), float, [heads, rows, groups], scales)?;
    } else {
        let params = ParamDtype::from_dtype(bank.dtype).ok_or_else(|| {
            refused("mlx-lm has no cache of this element type")
                .sides("f16, bf16, f32 or an affine triplet", bank.dtype.name())
        })?;
        let row = dim.checked_mul(params.bytes()).ok_or_else(overflow)?;
        header.rows(name.to_owned(), float(params), [heads, rows, dim], row)?;
    }
    Ok(tokens)
}
