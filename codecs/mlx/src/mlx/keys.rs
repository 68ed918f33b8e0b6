//! Keys un-rotated and quantized for each channel (codecs-v1 §7) as eager primitives in binary32.
//!
//! Angles are binary64 in the format, which no GPU of MLX has. So their cosines and sines come from
//! the CPU, as binary32 and by the prescribed polynomial: 2 · pairs numbers a token, shared by all heads.

use kvcap_codecs::{Angles, Pairing};
use mlx_rs::{Array, Dtype, ops};

use super::{
    affine::{quantize, saturate},
    error::{Error, Result, size},
    pack::{Triplet, finite, first, pack, take, unpack},
};

/// Tokens that share a scale and a bias.
const GROUP: i32 = 64;

/// A frame's turns as arrays `[tokens, pairs]`.
pub(super) struct Rotation {
    pairing: Pairing,
    pairs: i32,
    cosines: Array,
    sines: Array,
}

impl Rotation {
    /// `None` for keys that are stored un-rotated.
    pub(super) fn new(turns: Angles<'_>, tokens: i32) -> Result<Option<Self>> {
        let pairs = size(turns.pairs)?;
        if pairs == 0 {
            return Ok(None);
        }
        let table = Array::from_slice(turns.table, &[tokens, 2 * pairs]);
        let [cosines, sines] = halves(&table, pairs)?;
        Ok(Some(Self {
            pairing: turns.pairing,
            pairs,
            cosines,
            sines,
        }))
    }

    /// `[heads, tokens, dim]` turned back (`back`) or forth.
    fn turn(&self, x: &Array, back: bool) -> Result<Array> {
        let shape = x.shape().to_vec();
        let dim = x.dim(2);
        let mut parts = ops::split_at_indices(x, &[2 * self.pairs], 2)?.into_iter();
        let (Some(turned), rest) = (parts.next(), parts.next()) else {
            return Err(Error::Unserved("more pairs than a row has"));
        };
        let pairs_first = match self.pairing {
            Pairing::Half => turned,
            Pairing::Interleaved => turned
                .reshape(&[shape[0], shape[1], self.pairs, 2])?
                .swap_axes(2, 3)?
                .reshape(&[shape[0], shape[1], 2 * self.pairs])?,
        };
        let [x, y] = halves(&pairs_first, self.pairs)?;
        let sines = if back {
            self.sines.negative()?
        } else {
            self.sines.clone()
        };
        let (xc, ys) = (x.multiply(&self.cosines)?, y.multiply(&sines)?);
        let (yc, xs) = (y.multiply(&self.cosines)?, x.multiply(&sines)?);
        let both = ops::concatenate(&[xc.subtract(ys)?, yc.add(xs)?], 2)?;
        let both = match self.pairing {
            Pairing::Half => both,
            Pairing::Interleaved => both
                .reshape(&[shape[0], shape[1], 2, self.pairs])?
                .swap_axes(2, 3)?
                .reshape(&[shape[0], shape[1], 2 * self.pairs])?,
        };
        match rest {
            Some(rest) if dim > 2 * self.pairs => Ok(ops::concatenate(&[both, rest], 2)?),
            _ => Ok(both),
        }
    }
}

fn halves(x: &Array, first: i32) -> Result<[Array; 2]> {
    let axis = size(x.ndim())? - 1;
    <[Array; 2]>::try_from(ops::split_at_indices(x, &[first], axis)?)
        .map_err(|_| Error::Mlx("a split gave no two parts".to_owned()))
}

/// Rows turned back (`back`) or forth, where they are turned.
pub(super) fn turned(x: Array, rotation: Option<&Rotation>, back: bool) -> Result<Array> {
    rotation.map_or(Ok(x.clone()), |rotation| rotation.turn(&x, back))
}

/// Keys `[heads, tokens, dim]` to a triplet in profile `q4c-1` (codes `[heads · tokens, bytes]`, scales and
/// biases `[heads, groups, dim]`), and whether it may be used.
pub(super) fn encode(keys: &Array, rotation: Option<&Rotation>) -> Result<(Triplet, Array)> {
    let (heads, tokens, dim) = (keys.dim(0), keys.dim(1), keys.dim(2));
    let values = keys.as_dtype(Dtype::Float32)?;
    let all_finite = finite(&values)?;
    let x = turned(values, rotation, true)?;
    let x = grouped(&x, tokens)?;

    let (lo, hi) = (x.min_axis(2, true)?, x.max_axis(2, true)?);
    let biases = lo.add(Array::from_f32(0.0))?.as_dtype(Dtype::Float16)?;
    let bias = biases.as_dtype(Dtype::Float32)?;
    let step = hi.subtract(&bias)?.divide(Array::from_f32(15.0))?;
    let scales =
        ops::maximum(step, Array::from_f32(2.0_f32.powi(-24)))?.as_dtype(Dtype::Float16)?;
    let usable = all_finite
        .logical_and(finite(&biases)?)?
        .logical_and(finite(&scales)?)?;

    let codes = quantize(&x, &scales.as_dtype(Dtype::Float32)?, &bias, 15.0)?;
    let codes = codes.reshape(&[heads, -1, dim])?;
    let codes = first(ops::split_at_indices(&codes, &[tokens], 1)?)?;
    let codes = codes.reshape(&[heads * tokens, dim])?;
    let more = ops::zeros_dtype(&[heads * tokens, (8 - dim % 8) % 8], Dtype::Float32)?;
    let bytes = pack(&ops::concatenate(&[codes, more], 1)?, 4)?;
    let triplet = Triplet {
        codes: take(&bytes, keys_row(dim)?, 1)?,
        scales: scales.reshape(&[heads, -1, dim])?,
        biases: biases.reshape(&[heads, -1, dim])?,
    };
    Ok((triplet, usable))
}

/// The inverse: keys `[heads, tokens, dim]` of `dtype`, and whether scales, biases and padding are lawful.
pub(super) fn decode(
    t: &Triplet,
    tokens: i32,
    dtype: Dtype,
    rotation: Option<&Rotation>,
) -> Result<(Array, Array)> {
    let (heads, dim) = (t.scales.dim(0), t.scales.dim(2));
    let width = t.codes.dim(1);
    let more = ops::zeros_dtype(&[heads * tokens, (4 - width % 4) % 4], Dtype::Uint8)?;
    let codes = unpack(&ops::concatenate(&[&t.codes, &more], 1)?, 4)?;
    let parts = ops::split_at_indices(&codes, &[dim], 1)?;
    let padding = match parts.get(1) {
        Some(rest) if rest.size() > 0 => rest.eq(Array::from_f32(0.0))?.all(None)?,
        _ => Array::from_bool(true),
    };
    let codes = first(parts)?.reshape(&[heads, tokens, dim])?;
    let usable = finite(&t.scales)?
        .logical_and(finite(&t.biases)?)?
        .logical_and(padding)?;

    let codes = grouped(&codes, tokens)?;
    let groups = codes.dim(1);
    let each = |params: &Array| {
        params
            .as_dtype(Dtype::Float32)?
            .reshape(&[heads, groups, 1, dim])
    };
    let x = codes
        .multiply(each(&t.scales)?)?
        .add(each(&t.biases)?)?
        .reshape(&[heads, groups * GROUP, dim])?;
    let x = first(ops::split_at_indices(&x, &[tokens], 1)?)?;
    Ok((saturate(&turned(x, rotation, false)?, dtype)?, usable))
}

/// `[heads, tokens, dim]` as `[heads, groups, 64, dim]`; the last group is filled with its last token.
fn grouped(x: &Array, tokens: i32) -> Result<Array> {
    let (heads, dim) = (x.dim(0), x.dim(2));
    let missing = (GROUP - tokens % GROUP) % GROUP;
    let x = if missing == 0 {
        x.clone()
    } else {
        let last = ops::split_at_indices(x, &[tokens - 1], 1)?.pop();
        let last = last.ok_or(Error::Unserved("keys without tokens"))?;
        let more = ops::broadcast_to(last, &[heads, missing, dim])?;
        ops::concatenate(&[x, &more], 1)?
    };
    Ok(x.reshape(&[heads, -1, GROUP, dim])?)
}

/// Bytes of a row of codes.
fn keys_row(dim: i32) -> Result<usize> {
    usize::try_from(dim)
        .map(|dim| dim.div_ceil(2))
        .map_err(|_| Error::Unserved("a negative length"))
}
