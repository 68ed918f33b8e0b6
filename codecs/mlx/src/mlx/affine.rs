//! Affine quantization (codecs-v1 §6) as eager primitives in binary32.

use mlx_rs::{Array, Dtype, ops};

use super::{
    error::{Result, size},
    pack::{Triplet, finite, pack, take, unpack},
};

/// The largest finite number of an element type.
pub(super) fn largest(dtype: Dtype) -> f32 {
    match dtype {
        Dtype::Float16 => 65504.0,
        Dtype::Bfloat16 => f32::from_bits(0x7f7f_0000),
        _ => f32::MAX,
    }
}

/// Clamped to the finite numbers of the type and rounded to it, ties to even.
pub(super) fn saturate(x: &Array, dtype: Dtype) -> Result<Array> {
    let largest = largest(dtype);
    let x = ops::clip(x, (Array::from_f32(-largest), Array::from_f32(largest)))?;
    Ok(x.as_dtype(dtype)?)
}

/// `q = rint(min(max((x − bias) / scale, 0), n))`.
pub(super) fn quantize(x: &Array, scale: &Array, bias: &Array, highest: f32) -> Result<Array> {
    let q = x.subtract(bias)?.divide(scale)?;
    let q = ops::clip(q, (Array::from_f32(0.0), Array::from_f32(highest)))?;
    Ok(q.round(0)?)
}

/// Rows `[rows, dim]` of a float type to a triplet in profile `affine-1`, and whether it may be used
/// (an array of one).
pub(super) fn encode(rows: &Array, bits: u8, group: u16) -> Result<(Triplet, Array)> {
    let dtype = rows.dtype();
    let (count, dim, group) = (rows.dim(0), rows.dim(1), i32::from(group));
    let groups = dim.div_euclid(group) + i32::from(dim % group != 0);
    let highest = f32::from(u8::MAX >> (8 - bits));
    let values = rows.as_dtype(Dtype::Float32)?;
    let all_finite = finite(&values)?;
    let x = padded(&values, groups * group)?.reshape(&[-1, group])?;

    let (lo, hi) = (x.min_axis(1, true)?, x.max_axis(1, true)?);
    let range = hi.subtract(&lo)?;
    let usable = all_finite.logical_and(finite(&range)?)?;
    let step = ops::maximum(
        range.divide(Array::from_f32(highest))?,
        Array::from_f32(1e-7),
    )?;
    let below = lo.abs()?.gt(hi.abs()?)?;
    let edge = ops::select(&below, &lo, &hi)?;
    let step = ops::select(&below, &step, step.negative()?)?;
    let steps = edge.divide(&step)?.round(0)?;
    let zero = Array::from_f32(0.0);
    let none = steps.eq(&zero)?;
    let constant = lo.eq(&hi)?;
    let scale = ops::select(&none, &step, edge.divide(&steps)?)?;
    let scale = ops::select(&constant, Array::from_f32(1.0), scale)?;
    let bias = ops::select(&none, &zero, &edge)?;
    let bias = ops::select(&constant, hi.add(&zero)?, bias)?;

    let scales = scale.as_dtype(dtype)?;
    let codes = quantize(&x, &scales.as_dtype(Dtype::Float32)?, &bias, highest)?;
    let codes = codes.reshape(&[count, groups * group])?;
    let codes = zeroed_after(&codes, dim)?;
    let triplet = Triplet {
        codes: pack(&codes, bits)?,
        scales: scales.reshape(&[count, groups])?,
        biases: bias.as_dtype(dtype)?.reshape(&[count, groups])?,
    };
    Ok((triplet, usable))
}

/// The inverse: a triplet of rows of `dim` elements to `[rows, dim]` of the scales' type, and whether
/// scales, biases and padding are lawful.
pub(super) fn decode(t: &Triplet, bits: u8, group: u16, dim: usize) -> Result<(Array, Array)> {
    let dtype = t.scales.dtype();
    let (scale, bias) = (
        t.scales.as_dtype(Dtype::Float32)?.reshape(&[-1, 1])?,
        t.biases.as_dtype(Dtype::Float32)?.reshape(&[-1, 1])?,
    );
    let codes = unpack(&t.codes, bits)?;
    let padding = zeroed_after(&codes, size(dim)?)?.eq(&codes)?.all(None)?;
    let usable = finite(&scale)?
        .logical_and(finite(&bias)?)?
        .logical_and(padding)?;
    let width = codes.dim(1);
    let y = codes
        .reshape(&[-1, i32::from(group)])?
        .multiply(scale)?
        .add(bias)?
        .reshape(&[-1, width])?;
    Ok((saturate(&take(&y, dim, 1)?, dtype)?, usable))
}

/// Repeats of the last column up to `width`: they change neither extreme of a group.
fn padded(x: &Array, width: i32) -> Result<Array> {
    let dim = x.dim(1);
    if dim == width {
        return Ok(x.clone());
    }
    let last = ops::split_at_indices(x, &[dim - 1], 1)?.pop();
    let last = last.ok_or(super::Error::Unserved("a row without elements"))?;
    let more = ops::broadcast_to(last, &[x.dim(0), width - dim])?;
    Ok(ops::concatenate(&[x, &more], 1)?)
}

/// Zeros from column `dim` on.
fn zeroed_after(x: &Array, dim: i32) -> Result<Array> {
    let width = x.dim(1);
    if dim == width {
        return Ok(x.clone());
    }
    let kept = super::pack::first(ops::split_at_indices(x, &[dim], 1)?)?;
    let zeros = ops::zeros_dtype(&[x.dim(0), width - dim], x.dtype())?;
    Ok(ops::concatenate(&[kept, zeros], 1)?)
}
