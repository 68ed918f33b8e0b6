//! An mlx-lm prompt cache of plain or quantized caches, without its rows (runtimes-v1 §2).

use kvcap::{Bank, Result};
use kvcap_codecs::{BLOCK_TOKENS, BankShape, Dtype, ParamDtype};
use serde_json::{Map, Value, json};

use super::{Blank, layers::refused};

/// The two layouts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    /// Up to 0.31.
    Old,
    /// From 0.32 on.
    New,
}

/// The parts of the metadata's tree by layout: the user's, classes, numbers.
impl Layout {
    pub(super) fn user(self) -> &'static str {
        self.pick("1.", "0.")
    }

    fn classes(self) -> &'static str {
        self.pick("2.", "1.")
    }

    fn pick(self, old: &'static str, new: &'static str) -> &'static str {
        match self {
            Self::Old => old,
            Self::New => new,
        }
    }
}

/// The file for `pairs`, keys and values of each layer, with the user's metadata under its keys.
pub(super) fn blank(
    pairs: &[[Bank; 2]],
    user: Vec<(String, String)>,
    layout: Layout,
) -> Result<Blank> {
    let mut metadata: Map<String, Value> = user
        .into_iter()
        .map(|(key, value)| (key, Value::String(value)))
        .collect();
    let mut tensors = Tensors::default();
    let mut numbers = Vec::new();
    if layout == Layout::New {
        metadata.insert("2.0".to_owned(), json!(""));
    }
    for (layer, pair) in pairs.iter().enumerate() {
        let mut offset = 0;
        for (slot, bank) in pair.iter().enumerate() {
            offset = tensors.bank(&format!("{layer}.{slot}"), bank, layout)?;
        }
        let affine = match pair.each_ref().map(|bank| bank.dtype) {
            [Dtype::MlxAffine(p), _] => Some([u64::from(p.group), u64::from(p.bits)]),
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
        let number = i32::try_from(number).map_err(|_| refused("too many tokens"))?;
        metadata.insert(format!("2.{entry}.0"), json!(name));
        metadata.insert(format!("2.{entry}.1"), json!("scalar"));
        pieces.push((tensors.end, number.to_le_bytes().to_vec()));
        tensors.push(name, "I32", &[], 4)?;
    }
    tensors.finish(metadata, pieces)
}

/// The header of a safetensors file in the making.
#[derive(Default)]
pub(super) struct Tensors {
    entries: Map<String, Value>,
    end: u64,
}

impl Tensors {
    pub(super) fn push(
        &mut self,
        name: String,
        dtype: &str,
        shape: &[u64],
        len: u64,
    ) -> Result<()> {
        let end = self.end.checked_add(len).ok_or_else(overflow)?;
        let entry = json!({"dtype": dtype, "shape": shape, "data_offsets": [self.end, end]});
        self.entries.insert(name, entry);
        self.end = end;
        Ok(())
    }

    /// `[1, heads, rows, …]`, three of them for a triplet; gives the tokens.
    fn bank(&mut self, name: &str, bank: &Bank, layout: Layout) -> Result<u64> {
        let BankShape::Tokens { heads, tokens, dim } = bank.shape else {
            return Err(overflow());
        };
        // 0.32 keeps whole blocks of rows
        let rows = match layout {
            Layout::Old => tokens,
            Layout::New => tokens
                .checked_next_multiple_of(BLOCK_TOKENS)
                .ok_or_else(overflow)?,
        };
        let mut push = |name, dtype, row: u64, last| {
            let len = heads.checked_mul(rows).and_then(|n| n.checked_mul(row));
            self.push(
                name,
                dtype,
                &[1, heads, rows, last],
                len.ok_or_else(overflow)?,
            )
        };
        if let Dtype::MlxAffine(params) = bank.dtype {
            let (codes, scales) = params.row_sections(dim).ok_or_else(overflow)?;
            let (float, groups) = (float(params.params), scales / params.params.bytes());
            push(format!("{name}.0"), "U32", codes, codes / 4)?;
            push(format!("{name}.1"), float, scales, groups)?;
            push(format!("{name}.2"), float, scales, groups)?;
        } else {
            let params = ParamDtype::from_dtype(bank.dtype).ok_or_else(|| {
                refused("mlx-lm has no cache of this element type")
                    .sides("f16, bf16, f32 or an affine triplet", bank.dtype.name())
            })?;
            let row = dim.checked_mul(params.bytes()).ok_or_else(overflow)?;
            push(name.to_owned(), float(params), row, dim)?;
        }
        Ok(tokens)
    }

    /// Length and text of the header before `pieces`, whose places count from the data's start.
    pub(super) fn finish(
        mut self,
        metadata: Map<String, Value>,
        pieces: Vec<(u64, Vec<u8>)>,
    ) -> Result<Blank> {
        let entry = Value::Object(metadata);
        self.entries.insert("__metadata__".to_owned(), entry);
        let mut text = serde_json::to_vec(&Value::Object(self.entries))
            .map_err(|_| refused("the header cannot be written"))?;
        text.resize(text.len().next_multiple_of(8), b' ');
        let text_len = u64::try_from(text.len()).map_err(|_| overflow())?;
        let data = 8 + text_len;
        let mut all = vec![(0, [&text_len.to_le_bytes()[..], &text].concat())];
        all.extend(pieces.into_iter().map(|(at, bytes)| (data + at, bytes)));
        Ok(Blank {
            pieces: all,
            len: data.checked_add(self.end).ok_or_else(overflow)?,
        })
    }
}

pub(super) fn float(params: ParamDtype) -> &'static str {
    match params {
        ParamDtype::F16 => "F16",
        ParamDtype::Bf16 => "BF16",
        ParamDtype::F32 => "F32",
    }
}

fn overflow() -> kvcap::Error {
    refused("the state is too large")
}
