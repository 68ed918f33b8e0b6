//! Banks that are in MLX's arrays already: quantized and restored without leaving unified memory.
//!
//! Arrays belong to the caller's thread and stream. MLX is not thread-safe: a process that evaluates arrays
//! on several threads takes turns, and [`exclusive`] is how this crate takes its own.

use std::sync::{Mutex, MutexGuard, PoisonError};

use kvcap_codecs::{AffineParams, Angles, Codec, FrameContext, ParamDtype, Scratch};
use mlx_rs::{Array, Dtype, transforms};

use super::{
    affine,
    error::{Error, Result, size},
    keys::{self, Rotation},
    transform,
};

pub use super::pack::Triplet;

/// Held while this crate uses MLX. Hold it too where other threads evaluate arrays meanwhile.
pub fn exclusive() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    // MLX's own state is not broken by a thread that panicked beside it.
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Quantizes `rows` `[…, dim]` (f16, bf16 or f32; dim a whole number of groups) by profile `affine-1`. The triplet has the
/// shapes and types of MLX's quantized caches: codes `[…, dim · bits / 32]` of `uint32`.
///
/// # Errors
/// Where the codec does not serve them, a value is not finite, or MLX fails.
pub fn affine_encode(rows: &Array, bits: u8, group: u16) -> Result<Triplet> {
    let dim = served(rows.dtype(), bits, group, rows)?;
    let _turn = exclusive();
    let shape = &rows.shape()[..rows.ndim() - 1];
    let (triplet, usable) = affine::encode(&rows.reshape(&[-1, dim])?, bits, group)?;
    let whole =
        |array: Array| -> Result<Array> { Ok(array.reshape(&[shape, &[array.dim(1)]].concat())?) };
    let triplet = Triplet {
        codes: whole(triplet.codes.view_dtype(Dtype::Uint32)?)?,
        scales: whole(triplet.scales)?,
        biases: whole(triplet.biases)?,
    };
    evaluated(
        &[&triplet.codes, &triplet.scales, &triplet.biases, &usable],
        &usable,
    )?;
    Ok(triplet)
}

/// Restores rows `[…, dim]` of the scales' type from such a triplet, whoever made it.
///
/// # Errors
/// Where the codec does not serve it, a scale or bias is not finite, or MLX fails.
pub fn affine_decode(triplet: &Triplet, bits: u8, group: u16) -> Result<Array> {
    let groups = served(triplet.scales.dtype(), bits, group, &triplet.scales)?;
    let dim = groups * i32::from(group);
    let _turn = exclusive();
    let flat = Triplet {
        codes: triplet
            .codes
            .reshape(&[-1, dim / 32 * i32::from(bits)])?
            .view_dtype(Dtype::Uint8)?,
        scales: triplet.scales.reshape(&[-1, groups])?,
        biases: triplet.biases.reshape(&[-1, groups])?,
    };
    let wide = usize::try_from(dim).map_err(|_| UNSERVED)?;
    let (rows, usable) = affine::decode(&flat, bits, group, wide)?;
    let shape = [&triplet.scales.shape()[..triplet.scales.ndim() - 1], &[dim]].concat();
    let rows = rows.reshape(&shape)?;
    evaluated(&[&rows, &usable], &usable)?;
    Ok(rows)
}

/// Quantizes keys `[heads, tokens, dim]` of one frame (at most 256 tokens) by profile `q4c-1`. `turns` are the frame's
/// ([`kvcap_codecs::FrameContext::turns`]).
///
/// # Errors
/// Where the shape has no such frame, a value is not finite, or MLX fails.
pub fn keys_encode(keys: &Array, turns: Angles<'_>) -> Result<Triplet> {
    let [_, tokens, _] = three(keys)?;
    check_turns(turns, tokens)?;
    let _turn = exclusive();
    let rotation = Rotation::new(turns, tokens)?;
    let (triplet, usable) = keys::encode(keys, rotation.as_ref())?;
    evaluated(
        &[&triplet.codes, &triplet.scales, &triplet.biases, &usable],
        &usable,
    )?;
    Ok(triplet)
}

/// Restores keys `[heads, tokens, dim]` of `dtype` from such a triplet.
///
/// # Errors
/// As [`keys_encode`].
pub fn keys_decode(
    triplet: &Triplet,
    tokens: usize,
    dtype: Dtype,
    turns: Angles<'_>,
) -> Result<Array> {
    let tokens = size(tokens)?;
    three(&triplet.scales)?;
    check_turns(turns, tokens)?;
    if ParamDtype::from_dtype(element(dtype)?).is_none() || triplet.codes.ndim() != 2 {
        return Err(UNSERVED);
    }
    let _turn = exclusive();
    let rotation = Rotation::new(turns, tokens)?;
    let (keys, usable) = keys::decode(triplet, tokens, dtype, rotation.as_ref())?;
    evaluated(&[&keys, &usable], &usable)?;
    Ok(keys)
}

/// Restores rows `[heads, tokens, dim]` of a frame of `tc`: the CPU decodes its coefficients, MLX multiplies and turns.
/// `ctx` has the rotation of keys, and the profile where the codec needs one.
///
/// # Errors
/// Where `codec` is another or a rule is broken, as [`Codec::decode_frame`] says, or MLX fails.
pub fn transform_decode(
    codec: Codec,
    ctx: &FrameContext<'_>,
    encoded: &[u8],
    scratch: &mut Scratch,
) -> Result<Array> {
    let frame = super::host::Frame::new(ctx)?;
    let coded = codec.decode_coefficients(ctx, encoded, scratch)?;
    let _turn = exclusive();
    let rows = transform::rows(&coded, frame.extent, frame.dtype)?;
    transforms::eval([&rows])?;
    Ok(rows)
}

const UNSERVED: Error = Error::Unserved("no codec of MLX's serves this type and shape");

/// Computes the arrays, of which `usable` says whether a rule was kept.
pub(super) fn evaluated(arrays: &[&Array], usable: &Array) -> Result<()> {
    transforms::eval(arrays.iter().copied())?;
    if usable.try_as_slice::<bool>()? == [true] {
        return Ok(());
    }
    Err(Error::Broken(
        "a value, scale or bias is not finite, or padding is not zero",
    ))
}

/// The format's name of an element type.
fn element(dtype: Dtype) -> Result<kvcap_codecs::Dtype> {
    match dtype {
        Dtype::Float16 => Ok(kvcap_codecs::Dtype::F16),
        Dtype::Bfloat16 => Ok(kvcap_codecs::Dtype::Bf16),
        Dtype::Float32 => Ok(kvcap_codecs::Dtype::F32),
        _ => Err(UNSERVED),
    }
}

/// The last axis of `rows` (elements or groups), if there are any and the codec knows the parameters.
fn served(dtype: Dtype, bits: u8, group: u16, rows: &Array) -> Result<i32> {
    let params = ParamDtype::from_dtype(element(dtype)?);
    params
        .and_then(|params| AffineParams::new(bits, group, params))
        .ok_or(UNSERVED)?;
    let last = rows.shape().last().copied().ok_or(UNSERVED)?;
    if rows.size() == 0 {
        return Err(UNSERVED);
    }
    Ok(last)
}

fn three(array: &Array) -> Result<[i32; 3]> {
    let shape = <[i32; 3]>::try_from(array.shape()).map_err(|_| UNSERVED)?;
    if array.size() == 0 {
        return Err(UNSERVED);
    }
    Ok(shape)
}

fn check_turns(turns: Angles<'_>, tokens: i32) -> Result<()> {
    let rows = usize::try_from(tokens).map_err(|_| UNSERVED)?;
    let expected = turns.pairs.checked_mul(2).and_then(|n| n.checked_mul(rows));
    if expected == Some(turns.table.len()) {
        return Ok(());
    }
    Err(Error::Unserved(
        "the turns are not those of the keys' tokens",
    ))
}
