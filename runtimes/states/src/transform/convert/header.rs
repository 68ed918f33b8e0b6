//! The header of a safetensors file in the making.

use kvcap::{Error, Result};
use kvcap_codecs::ParamDtype;
use serde_json::{Map, Value, json};

use super::layers::refused;
use crate::state::template::Template;

/// Tensors one after the other.
#[derive(Default)]
pub(super) struct Header {
    entries: Map<String, Value>,
    /// Bytes of data so far.
    pub(super) end: u64,
}

impl Header {
    /// Adds a tensor of `len` bytes.
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

    /// Adds `[1, heads, rows, last]`, of `row` bytes a row.
    pub(super) fn rows(
        &mut self,
        name: String,
        dtype: &str,
        [heads, rows, last]: [u64; 3],
        row: u64,
    ) -> Result<()> {
        let len = heads.checked_mul(rows).and_then(|n| n.checked_mul(row));
        self.push(
            name,
            dtype,
            &[1, heads, rows, last],
            len.ok_or_else(overflow)?,
        )
    }

    /// The file, with `pieces` whose places count from the data's start.
    pub(super) fn finish(
        mut self,
        metadata: Map<String, Value>,
        pieces: Vec<(u64, Vec<u8>)>,
    ) -> Result<Template> {
        let entry = Value::Object(metadata);
        self.entries.insert("__metadata__".to_owned(), entry);
        let mut text = serde_json::to_vec(&Value::Object(self.entries))
            .map_err(|_| refused("the header cannot be written"))?;
        text.resize(text.len().next_multiple_of(8), b' ');
        let text_len = u64::try_from(text.len()).map_err(|_| overflow())?;
        let data = 8 + text_len;
        let mut all = vec![(0, [&text_len.to_le_bytes()[..], &text].concat())];
        all.extend(pieces.into_iter().map(|(at, bytes)| (data + at, bytes)));
        Ok(Template {
            pieces: all,
            len: data.checked_add(self.end).ok_or_else(overflow)?,
        })
    }
}

/// The name of a float type.
pub(super) fn float(params: ParamDtype) -> &'static str {
    match params {
        ParamDtype::F16 => "F16",
        ParamDtype::Bf16 => "BF16",
        ParamDtype::F32 => "F32",
    }
}

pub(super) fn overflow() -> Error {
    refused("the state is too large")
}
