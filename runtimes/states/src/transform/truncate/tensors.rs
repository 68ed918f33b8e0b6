//! What a shorter safetensors state says: the header's shapes and places, and the caches' offsets.

use std::collections::BTreeMap;

use kvcap::{Code, Error, Result};
use kvcap_codecs::Dtype;
use serde_json::{Map, Value, json};

use super::{Edit, unsupported};
use crate::state::{Placed, ReadAt, State, file::overflow};
use kvcap_models::safetensors::{Header, Tensor, tensor_dtype};

/// mlx-lm: shapes, and the offset of each cache (a tensor from 0.32 on; up to 0.31 in the metadata of a
/// quantized cache, and nowhere for a plain one).
pub(super) fn mlx_lm(
    state: &State,
    file: &dyn ReadAt,
    cut: &[Placed],
    tokens: u64,
) -> Result<Vec<Edit>> {
    let mut header = Header::read(file)?;
    let new = state.format == "mlx-lm-0.32";
    let mut edits = Vec::new();
    for layer in 0..state.layers {
        let key = format!("{}.{layer}", if new { 1 } else { 2 });
        let class = header.metadata.get(&key).map_or("", String::as_str);
        let quantized = match class {
            "KVCache" | "KVCacheSimple" | "ConcatenateKVCache" => false,
            "QuantizedKVCache" => true,
            _ => return Err(unsupported("a cache of this class cannot be cut").at(key)),
        };
        if state.stateless.contains(&layer) || class == "ConcatenateKVCache" {
            continue;
        }
        if new {
            let name = format!("{layer}.2");
            let offset = header.tensors.iter().find(|tensor| tensor.name == name);
            let offset = offset.ok_or_else(|| unsupported("a cache without an offset"))?;
            edits.push(number(offset, tokens)?);
        } else if quantized {
            // before its numbers began with the offset they began with the step
            let place = usize::from(header.metadata.contains_key(&format!("0.{layer}.3")));
            let offset = header.metadata.get_mut(&format!("0.{layer}.{place}"));
            let offset = offset.ok_or_else(|| unsupported("a cache without an offset"))?;
            *offset = tokens.to_string();
        }
    }
    edits.push(text(&header, state, cut)?);
    Ok(edits)
}

/// Hugging Face: shapes, and the length in the metadata.
pub(super) fn hf(
    state: &State,
    file: &dyn ReadAt,
    cut: &[Placed],
    tokens: u64,
) -> Result<Vec<Edit>> {
    let mut header = Header::read(file)?;
    for key in ["seq_len", "cumulative_length"] {
        if let Some(length) = header.metadata.get_mut(key) {
            *length = tokens.to_string();
        }
    }
    Ok(vec![text(&header, state, cut)?])
}

/// A whole number as a 0-d tensor.
fn number(tensor: &Tensor, value: u64) -> Result<Edit> {
    let bytes = match tensor.dtype {
        Dtype::I32 => i32::try_from(value)
            .map_err(|_| overflow())?
            .to_le_bytes()
            .to_vec(),
        Dtype::I64 => i64::try_from(value)
            .map_err(|_| overflow())?
            .to_le_bytes()
            .to_vec(),
        _ => return Err(unsupported("an offset that is no whole number")),
    };
    Ok(Edit {
        start: tensor.offset,
        end: tensor.offset.saturating_add(tensor.len),
        bytes,
    })
}

/// The header with the tensors of `cut` banks as long as these.
fn text(header: &Header, state: &State, cut: &[Placed]) -> Result<Edit> {
    let mut lengths = BTreeMap::new();
    for (old, new) in state.banks.iter().zip(cut) {
        let tokens = match new.bank.shape {
            kvcap_codecs::BankShape::Tokens { tokens, .. } => tokens,
            kvcap_codecs::BankShape::Whole { .. } => return Err(overflow()),
        };
        for (old, new) in old.parts.iter().zip(&new.parts) {
            lengths.insert(old.offset, (tokens, new.len));
        }
    }
    let mut map = Map::new();
    if !header.metadata.is_empty() {
        map.insert("__metadata__".to_owned(), json!(header.metadata));
    }
    let mut at = 0_u64;
    let first = header.tensors.first().map_or(0, |tensor| tensor.offset);
    for tensor in &header.tensors {
        let mut shape = tensor.shape.clone();
        let mut len = tensor.len;
        if let Some((tokens, cut)) = lengths.get(&tensor.offset).filter(|_| tensor.len > 0) {
            let rows = shape.get_mut(2).ok_or_else(overflow)?;
            (*rows, len) = (*tokens, *cut);
        }
        let end = at.checked_add(len).ok_or_else(overflow)?;
        let dtype = tensor_dtype(tensor.dtype).ok_or_else(overflow)?;
        map.insert(
            tensor.name.clone(),
            json!({"dtype": dtype, "shape": shape, "data_offsets": [at, end]}),
        );
        at = end;
    }
    let mut json = serde_json::to_vec(&Value::Object(map))
        .map_err(|error| Error::new(Code::LocalIo, error.to_string()))?;
    json.resize(json.len().next_multiple_of(8), b' ');
    let len = u64::try_from(json.len()).map_err(|_| overflow())?;
    Ok(Edit {
        start: 0,
        end: first,
        bytes: [&len.to_le_bytes()[..], &json].concat(),
    })
}
