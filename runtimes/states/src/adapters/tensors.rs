//! Tensors of safetensors files as regions of rows.

use kvcap::Result;
use kvcap_codecs::BankShape;
use kvcap_models::safetensors::{Tensor, malformed, shown, unsupported};

use crate::state::{Order, Region};

/// The whole tensor as a bank without a token axis.
pub(super) fn whole(tensor: &Tensor) -> (BankShape, Region) {
    let dims = tensor.shape.clone();
    (BankShape::Whole { dims }, region(tensor, Order::Contiguous))
}

/// The tensor's bytes as a region with rows of this order.
pub(super) fn region(tensor: &Tensor, order: Order) -> Region {
    Region {
        offset: tensor.offset,
        len: tensor.len,
        order,
    }
}

/// A `[1, heads, rows, dim]` tensor's last three dimensions.
pub(super) fn heads_rows_dim(tensor: &Tensor) -> Result<(u64, u64, u64)> {
    match *tensor.shape.as_slice() {
        [1, heads, rows, dim] => Ok((heads, rows, dim)),
        [batch, _, _, _] => Err(unsupported("several sequences in one state")
            .at(shown(&tensor.name))
            .sides("batch 1", batch)),
        _ => Err(malformed("the shape is not [1, heads, tokens, dim]")
            .at(shown(&tensor.name))
            .sides("4 dimensions", tensor.shape.len())),
    }
}

/// Rows of `row_bytes` in a `[1, heads, rows, …]` tensor.
pub(super) fn rows(tensor: &Tensor, rows: u64, row_bytes: u64) -> Result<Region> {
    let head_stride = rows
        .checked_mul(row_bytes)
        .ok_or_else(|| malformed("the shape overflows").at(shown(&tensor.name)))?;
    Ok(region(
        tensor,
        Order::Rows {
            row_bytes,
            head_stride,
            token_stride: row_bytes,
        },
    ))
}
