//! Hugging Face transformers caches exported as safetensors (runtimes-v1 §4).
//!
//! Transformers has no format of its own: this is the plain export of a `DynamicCache`, one tensor
//! for each of `cache.layers[i]`'s attributes, under the attribute's name.

use crate::adapters::tensors::{heads_rows_dim, rows, whole};
use std::collections::{BTreeMap, BTreeSet};

use kvcap::{Bank, Code, Error, Result, Role, Rows};
use kvcap_codecs::BankShape;

use kvcap_models::safetensors::{Header, Tensor, malformed, shown, unsupported};

use crate::state::{Hints, Placed, ReadAt, State};

/// Most layers that a file may name.
const MAX_LAYERS: u32 = 4096;

/// Whether a tensor has a name that only such an export has.
pub(crate) fn recognise(file: &dyn ReadAt) -> bool {
    Header::read(file)
        .is_ok_and(|header| header.tensors.iter().any(|t| Slot::of(&t.name).is_some()))
}

pub(crate) fn parse(file: &dyn ReadAt, _: Hints<'_>) -> Result<State> {
    let header = Header::read(file)?;
    let mut layers: BTreeMap<u32, Layer<'_>> = BTreeMap::new();
    for tensor in &header.tensors {
        let (number, slot) = Slot::of(&tensor.name).ok_or_else(|| {
            unsupported("a tensor's name is not one of a dynamic cache's").at(shown(&tensor.name))
        })?;
        let layer = layers.entry(number).or_default();
        match slot {
            Slot::Keys => layer.keys = Some(tensor),
            Slot::Values => layer.values = Some(tensor),
            Slot::State(role, index) => layer.states.push((role, index, tensor)),
        }
    }
    let count = layers.keys().next_back().map_or(0, |last| last + 1);
    let rows = layers
        .iter()
        .filter_map(|(number, layer)| layer.rows(*number).transpose())
        .collect::<Result<Vec<_>>>()?;
    let length = length(&header.metadata, &rows)?;
    let mut banks = Vec::new();
    let mut kinds = Vec::new();
    for number in 0..count {
        let layer = layers.remove(&number).unwrap_or_default();
        kinds.push(layer.kind(length));
        layer.banks(number, length, &mut banks)?;
    }
    let filled: BTreeSet<_> = banks.iter().map(|placed| placed.bank.layer).collect();
    let stateless = (0..count)
        .filter(|number| !filled.contains(number))
        .collect();
    let mut notes = Vec::new();
    if rows.is_empty() && length == 0 {
        notes.push("the file does not say how many tokens its recurrent state covers".to_owned());
    }
    Ok(State {
        runtime: "transformers",
        format: "dynamic-cache",
        facts: vec![("layers".to_owned(), crate::state::runs(kinds))],
        banks,
        layers: count,
        stateless,
        positions: 0..length,
        tokens: None,
        notes,
        file_len: file.len(),
    })
}

/// Tokens that the state covers: `seq_len` of the metadata, or the rows of all layers if they agree.
fn length(metadata: &BTreeMap<String, String>, rows: &[u64]) -> Result<u64> {
    let mut stated: Option<u64> = None;
    for (key, text) in metadata {
        if key.starts_with("layers.") {
            return Err(unsupported("metadata of single layers").at(shown(key)));
        }
        if key != "seq_len" && key != "cumulative_length" {
            continue;
        }
        let value: u64 = text
            .parse()
            .map_err(|_| malformed("the length is not a number").at(shown(key)))?;
        if let Some(other) = stated.replace(value).filter(|other| *other != value) {
            let what = "seq_len and cumulative_length differ";
            return Err(Error::new(Code::StateContradiction, what).sides(other, value));
        }
    }
    let longest = rows.iter().copied().max().unwrap_or(0);
    let shortest = rows.iter().copied().min().unwrap_or(0);
    match stated {
        Some(length) if longest > length => Err(Error::new(
            Code::StateContradiction,
            "a layer has more rows than seq_len says",
        )
        .sides(length, longest)),
        Some(length) => Ok(length),
        None if longest == shortest => Ok(longest),
        None => Err(unsupported(
            "sliding-window layers without a seq_len in the metadata, which would say their positions",
        )
        .sides(longest, shortest)),
    }
}

/// What a tensor's name says it is.
enum Slot {
    Keys,
    Values,
    State(Role, u32),
}

impl Slot {
    fn of(name: &str) -> Option<(u32, Self)> {
        let (layer, rest) = name.strip_prefix("layers.")?.split_once('.')?;
        let layer = number(layer).filter(|layer| *layer < MAX_LAYERS)?;
        let (slot, index) = match rest.split_once('.') {
            Some((slot, index)) => (slot, Some(number(index)?)),
            None => (rest, None),
        };
        let slot = match (slot, index) {
            ("keys", None) => Self::Keys,
            ("values", None) => Self::Values,
            ("conv_states", index) => Self::State(Role::Convolution, index.unwrap_or(0)),
            ("recurrent_states", index) => Self::State(Role::Recurrent, index.unwrap_or(0)),
            _ => return None,
        };
        Some((layer, slot))
    }
}

/// A number as Python writes it: digits without leading zeros.
fn number(text: &str) -> Option<u32> {
    let canonical = text == "0" || !text.starts_with('0');
    if !canonical || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

#[derive(Default)]
struct Layer<'a> {
    keys: Option<&'a Tensor>,
    values: Option<&'a Tensor>,
    states: Vec<(Role, u32, &'a Tensor)>,
}

impl Layer<'_> {
    /// Tokens held, if this layer has keys and values.
    fn rows(&self, number: u32) -> Result<Option<u64>> {
        match (self.keys, self.values) {
            (None, None) => Ok(None),
            (Some(keys), Some(values)) => {
                let (key_heads, key_rows, _) = heads_rows_dim(keys)?;
                let (value_heads, value_rows, _) = heads_rows_dim(values)?;
                if (key_heads, key_rows) != (value_heads, value_rows) {
                    let what = "keys and values differ in heads or tokens";
                    return Err(Error::new(Code::StateContradiction, what)
                        .at(format_args!("layer {number}"))
                        .sides(
                            format_args!("{key_heads} × {key_rows}"),
                            format_args!("{value_heads} × {value_rows}"),
                        ));
                }
                Ok(Some(key_rows))
            }
            _ => {
                Err(malformed("a layer has keys or values alone")
                    .at(format_args!("layer {number}")))
            }
        }
    }

    fn kind(&self, length: u64) -> &'static str {
        let sliding = |keys: &Tensor| keys.shape.get(2).is_some_and(|rows| *rows < length);
        match (self.keys, self.states.is_empty()) {
            (None, true) => "none",
            (None, false) => "recurrent",
            (Some(keys), true) if sliding(keys) => "sliding",
            (Some(_), true) => "full",
            (Some(_), false) => "mixed",
        }
    }

    fn banks(self, number: u32, length: u64, banks: &mut Vec<Placed>) -> Result<()> {
        for (role, tensor) in [(Role::Key, self.keys), (Role::Value, self.values)] {
            let Some(tensor) = tensor else { continue };
            let (heads, tokens, dim) = heads_rows_dim(tensor)?;
            if tokens == 0 {
                continue;
            }
            let row_bytes = tensor.dtype.row_bytes(dim).filter(|_| tensor.len > 0);
            let row_bytes = row_bytes
                .ok_or_else(|| unsupported("rows without elements").at(shown(&tensor.name)))?;
            let first = length.saturating_sub(tokens);
            banks.push(Placed {
                bank: Bank {
                    role,
                    layer: number,
                    index: 0,
                    dtype: tensor.dtype,
                    shape: BankShape::Tokens { heads, tokens, dim },
                    rows: Rows::From(first),
                    // A sliding layer keeps one row less than its window: the next token is the last.
                    window: if first > 0 {
                        tokens.saturating_add(1)
                    } else {
                        0
                    },
                },
                parts: vec![rows(tensor, tokens, row_bytes)?],
                hadamard: None,
            });
        }
        let mut states = self.states;
        states.sort_unstable_by_key(|state| (state.0, state.1));
        for (role, index, tensor) in states {
            if tensor.shape.first() != Some(&1) {
                return Err(unsupported("several sequences in one state").at(shown(&tensor.name)));
            }
            let (shape, region) = whole(tensor);
            banks.push(Placed {
                bank: Bank {
                    role,
                    layer: number,
                    index,
                    dtype: tensor.dtype,
                    shape,
                    rows: Rows::None,
                    window: 0,
                },
                parts: vec![region],
                hadamard: None,
            });
        }
        Ok(())
    }
}
