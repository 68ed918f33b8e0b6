//! Codes as a little-endian bit stream (codecs-v1 §6.1): 8 codes of `bits` bits are `bits` bytes, for every width.
//! So 8 codes are gathered in one 64-bit integer, of which the low bytes are kept.

use mlx_rs::{Array, Dtype, ops};

use super::error::{Result, size};

/// Codes with their scales and biases.
///
/// Read in this order, each row-major, their bytes are the encoded frame.
#[derive(Clone, Debug)]
pub struct Triplet {
    /// Packed codes; `uint8`, or `uint32` as MLX's own quantized operations take them.
    pub codes: Array,
    /// Scales.
    pub scales: Array,
    /// Biases, of the scales' shape and type.
    pub biases: Array,
}

/// Weights of the eight codes in their integer.
fn weights(bits: u8) -> Array {
    let weights: [u64; 8] = std::array::from_fn(|at| (0..at).fold(1, |w, _| w << bits));
    Array::from_slice(&weights, &[8])
}

/// Whole numbers below 2^bits as binary32, `[rows, codes]` with whole eights of codes, to their
/// bytes `[rows, codes / 8 · bits]`.
pub(crate) fn pack(codes: &Array, bits: u8) -> Result<Array> {
    let (rows, codes_of_row) = (codes.dim(0), codes.dim(1));
    let eights = codes
        .as_dtype(Dtype::Uint64)?
        .reshape(&[-1, 8])?
        .multiply(weights(bits))?
        .sum_axis(1, true)?;
    let bytes = eights.view_dtype(Dtype::Uint8)?;
    let kept = ops::split_at_indices(&bytes, &[i32::from(bits)], 1)?;
    first(kept)?
        .reshape(&[rows, codes_of_row / 8 * i32::from(bits)])
        .map_err(Into::into)
}

/// The inverse: bytes `[rows, n · bits]` to codes `[rows, 8 · n]` as binary32.
pub(crate) fn unpack(bytes: &Array, bits: u8) -> Result<Array> {
    let (rows, width) = (bytes.dim(0), i32::from(bits));
    let codes_of_row = bytes.dim(1) / width * 8;
    let eights = bytes.reshape(&[-1, width])?;
    let zeros = ops::zeros_dtype(&[eights.dim(0), 8 - width], Dtype::Uint8)?;
    let eights = ops::concatenate(&[eights, zeros], 1)?.view_dtype(Dtype::Uint64)?;
    let above = Array::from_slice(&[1_u64 << bits], &[1]);
    eights
        .floor_divide(weights(bits))?
        .remainder(above)?
        .as_dtype(Dtype::Float32)?
        .reshape(&[rows, codes_of_row])
        .map_err(Into::into)
}

/// The part before the first cut.
pub(crate) fn first(parts: Vec<Array>) -> Result<Array> {
    let part = parts.into_iter().next();
    part.ok_or_else(|| super::Error::Mlx("a split gave no parts".to_owned()))
}

/// The first `n` along `axis`.
pub(crate) fn take(array: &Array, n: usize, axis: i32) -> Result<Array> {
    let n = size(n)?;
    if array.dim(axis) == n {
        return Ok(array.clone());
    }
    first(ops::split_at_indices(array, &[n], axis)?)
}

/// Whether every number is finite, as an array of one.
pub(crate) fn finite(array: &Array) -> Result<Array> {
    Ok(array.is_finite()?.all(None)?)
}
