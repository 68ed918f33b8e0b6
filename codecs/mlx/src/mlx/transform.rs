//! Synthesis of `tc` (codecs-v1 §12.4): the CPU decodes the coefficients, MLX makes the rows of them.
//!
//! The sums of the format are whole numbers modulo 2^32, and MLX multiplies matrices of floating-point numbers alone.
//! So a coefficient, shifted as its component says, is cut into three digits of 8 bits from −128 to 128. A sum of at
//! most 1,024 products of such a digit and a weight of at most 127 is below 2^24: binary32 holds it and every part of
//! it exactly, in any order, whatever a device adds first. The three sums are put together in 32 bits.

use kvcap_codecs::{BankProfile, CodedFrame};
use mlx_rs::{Array, Dtype, ops};

use super::{
    affine::saturate,
    error::{Error, Result, size},
    keys::{Rotation, turned},
};

/// What is added so that a shifted coefficient is not negative: half of each digit's range.
const MIDDLE: i32 = 0x0080_8080;
/// The middle of a digit's range.
const DIGIT: f32 = 128.0;

/// Rows `[heads, tokens, dim]` of `dtype`, out of a frame that the CPU has judged.
pub(super) fn rows(frame: &CodedFrame<'_>, extent: [i32; 3], dtype: Dtype) -> Result<Array> {
    let stored_rows = size(frame.stored_rows)?;
    let extent = [extent[0], extent[1] - stored_rows, extent[2]];
    let mut parts = Vec::with_capacity(2);
    if stored_rows > 0 {
        let bytes = Array::from_slice(frame.stored, &[size(frame.stored.len())?]);
        let shape = [extent[0], stored_rows, extent[2]];
        parts.push(bytes.view_dtype(dtype)?.reshape(&shape)?);
    }
    if extent[1] > 0 {
        let rows = match frame.profile {
            None => channels(frame, extent)?,
            Some(profile) => components(frame, profile, extent)?,
        };
        let rotation = Rotation::new(frame.turns, extent[1])?;
        let rows = turned(rows, rotation.as_ref(), false)?;
        parts.push(saturate(&rows, dtype)?);
    }
    Ok(ops::concatenate(&parts, 1)?)
}

/// Transform 0: `(8 · q + o) · unit`, the integer exact in binary32.
fn channels(frame: &CodedFrame<'_>, [heads, coded, dim]: [i32; 3]) -> Result<Array> {
    let offsets = Array::from_slice(frame.offsets, &[heads, 1, dim]);
    let eighths = Array::from_slice(frame.quantized, &[heads, dim, coded])
        .swap_axes(1, 2)?
        .as_dtype(Dtype::Float32)?
        .multiply(Array::from_f32(8.0))?
        .add(offsets.as_dtype(Dtype::Float32)?)?;
    saturate(
        &eighths.multiply(Array::from_f32(frame.unit))?,
        Dtype::Float32,
    )
}

/// Transforms 1 and 2.
fn components(
    frame: &CodedFrame<'_>,
    profile: &BankProfile,
    [heads, coded, dim]: [i32; 3],
) -> Result<Array> {
    // heads whose components are transformed together: groups of them, components and channels of a group
    let joint = profile.transform() == 2;
    let (groups, count) = if joint {
        (1, heads * dim)
    } else {
        (heads, dim)
    };
    let shifts = profile.shifts().iter().map(|shift| 1_i32 << shift);
    let shifts: Vec<i32> = shifts.collect();

    // the offsets are summed as one token more
    let whole = |numbers: &[i16], tokens| {
        Array::from_slice(numbers, &[groups, count, tokens]).as_dtype(Dtype::Int32)
    };
    let (q, o) = (whole(frame.quantized, coded)?, whole(frame.offsets, 1)?);
    let shifted = ops::concatenate(&[q, o], 2)?
        .multiply(Array::from_slice(&shifts, &[groups, count, 1]))?
        .swap_axes(1, 2)?;
    let weights = Array::from_slice(profile.synthesis(), &[groups, count, count]);
    let sums = sums(&shifted, &weights.as_dtype(Dtype::Float32)?)?;
    let parts = ops::split_at_indices(&sums.as_dtype(Dtype::Float32)?, &[coded], 1)?;
    let [acc, off] = <[Array; 2]>::try_from(parts)
        .map_err(|_| Error::Mlx("a split gave no two parts".to_owned()))?;

    let unit = Array::from_f32(frame.unit);
    let means = Array::from_slice(profile.means(), &[groups, 1, count]);
    let bias = saturate(&off.multiply(unit)?.add(means)?, Dtype::Float32)?;
    let steps = acc.multiply(Array::from_f32(8.0 * frame.unit))?;
    let y = saturate(&steps.add(bias)?, Dtype::Float32)?;
    if joint {
        return Ok(y.reshape(&[coded, heads, dim])?.swap_axes(0, 1)?);
    }
    Ok(y)
}

/// Sums modulo 2^32 of whole numbers of at most 24 bits, `[groups, tokens, count]`, times weights, as `int32`.
fn sums(shifted: &Array, weights: &Array) -> Result<Array> {
    let above = shifted.add(Array::from_int(MIDDLE))?;
    let byte = Array::from_int(256);
    let mut sum: Option<Array> = None;
    for (place, digit) in [
        (1_u32, above.remainder(&byte)?),
        (1 << 8, above.floor_divide(&byte)?.remainder(&byte)?),
        (1 << 16, above.floor_divide(Array::from_int(1 << 16))?),
    ] {
        let digit = digit
            .as_dtype(Dtype::Float32)?
            .subtract(Array::from_f32(DIGIT))?;
        // unsigned from here on, so that it wraps
        let part = digit
            .matmul(weights)?
            .as_dtype(Dtype::Int32)?
            .view_dtype(Dtype::Uint32)?
            .multiply(Array::from_slice(&[place], &[1]))?;
        sum = Some(match sum {
            None => part,
            Some(sum) => sum.add(part)?,
        });
    }
    let sum = sum.ok_or(Error::Unserved("no digits"))?;
    Ok(sum.view_dtype(Dtype::Int32)?)
}
