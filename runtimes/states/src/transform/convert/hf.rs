//! A transformers cache as safetensors, without its rows (runtimes-v1 §4).

use kvcap::{Bank, Result, Role};
use kvcap_codecs::{BankShape, ParamDtype};
use serde_json::{Map, json};

use super::{
    header::{Header, float, overflow},
    layers::refused,
};
use crate::state::template::Template;

/// The file for `pairs`, keys and values of each layer.
pub(super) fn template(pairs: &[[Bank; 2]]) -> Result<Template> {
    let mut header = Header::default();
    let mut length = 0;
    for bank in pairs.iter().flatten() {
        let BankShape::Tokens { heads, tokens, dim } = bank.shape else {
            return Err(overflow());
        };
        let params = ParamDtype::from_dtype(bank.dtype).ok_or_else(|| {
            refused("transformers' dynamic cache is of floats")
                .sides("f16, bf16 or f32", bank.dtype.name())
        })?;
        let slot = match bank.role {
            Role::Key => "keys",
            _ => "values",
        };
        let row = dim.checked_mul(params.bytes()).ok_or_else(overflow)?;
        let name = format!("layers.{}.{slot}", bank.layer);
        header.rows(name, float(params), [heads, tokens, dim], row)?;
        length = tokens;
    }
    let metadata = Map::from_iter([("seq_len".to_owned(), json!(length.to_string()))]);
    header.finish(metadata, Vec::new())
}
