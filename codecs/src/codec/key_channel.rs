//! Keys un-rotated and quantized for each channel (codecs-v1 §7).
//!
//! An encoded frame is codes ‖ scales ‖ biases. Codes lie in `[head][token]` rows of 4 bits an
//! element; scales and biases are binary16 in `[head][group][channel]` order, a group being 64
//! tokens of the frame, the last one perhaps fewer.

use super::{
    affine::{is_finite, refused_value},
    check_encoded,
    turns::key_head,
};
use crate::{
    frame::FrameContext,
    kernels::{Sections, SectionsMut, padded},
    layout::{CodecError, ErrorKind, GROUP_TOKENS, ParamDtype},
    scratch::{Scratch, aligned},
};

/// Lengths of one head's parts, in bytes.
struct Layout {
    heads: usize,
    codes: usize,
    scales: usize,
    plain: usize,
}

impl Layout {
    fn new(ctx: &FrameContext<'_>) -> Result<Self, CodecError> {
        let unknown = CodecError::new(
            ErrorKind::Length,
            "q4c does not serve this element type or shape",
        );
        let params = ParamDtype::from_dtype(ctx.dtype).ok_or(unknown)?;
        ctx.row_count().ok_or(unknown)?;
        let element = if params == ParamDtype::F32 { 4 } else { 2 };
        let sizes = || {
            let codes = ctx.tokens.checked_mul(ctx.dim.div_ceil(2))?;
            let groups = ctx.tokens.div_ceil(GROUP_TOKENS);
            let scales = groups.checked_mul(ctx.dim)?.checked_mul(2)?;
            let plain = ctx.tokens.checked_mul(ctx.dim)?.checked_mul(element)?;
            let head = codes.checked_add(scales.checked_mul(2)?)?;
            ctx.heads.checked_mul(head)?;
            Some(Self {
                heads: ctx.heads,
                codes,
                scales,
                plain,
            })
        };
        sizes().ok_or(CodecError::new(
            ErrorKind::Length,
            "the frame's lengths overflow",
        ))
    }

    const fn bounds(&self) -> (usize, usize) {
        let scales = self.heads * self.codes;
        (scales, scales + self.heads * self.scales)
    }

    const fn encoded_len(&self) -> usize {
        self.heads * (self.codes + 2 * self.scales)
    }
}

/// The rotation must be stated, be it an empty one: keys are never quantized in a basis by default.
fn check_rotation(ctx: &FrameContext<'_>) -> Result<(), CodecError> {
    ctx.rotation.map(|_| ()).ok_or(CodecError::new(
        ErrorKind::Length,
        "q4c needs the keys' rotation and positions",
    ))
}

pub(crate) fn encode(
    ctx: &FrameContext<'_>,
    plain: &[u8],
    out: &mut Vec<u8>,
    scratch: &mut Scratch,
) -> Result<(), CodecError> {
    check_rotation(ctx)?;
    let layout = Layout::new(ctx)?;
    let kernels = scratch.kernels;
    let head = key_head(ctx, kernels, &mut scratch.positions, &mut scratch.table)?;
    out.resize(layout.encoded_len(), 0);
    if layout.plain == 0 {
        return Ok(());
    }
    let floats = aligned(&mut scratch.floats, (ctx.tokens + 2) * padded(ctx.dim));
    let (scales_at, biases_at) = layout.bounds();
    let (codes, params) = out.split_at_mut(scales_at);
    let (scales, biases) = params.split_at_mut(biases_at - scales_at);
    let heads = plain
        .chunks_exact(layout.plain)
        .zip(codes.chunks_exact_mut(layout.codes))
        .zip(scales.chunks_exact_mut(layout.scales))
        .zip(biases.chunks_exact_mut(layout.scales));
    for (((keys, codes), scales), biases) in heads {
        let sections = SectionsMut {
            codes,
            scales,
            biases,
        };
        if !(kernels.keys_encode)(head, keys, sections, floats) {
            let range = CodecError::new(
                ErrorKind::NonFinite,
                "a channel's range cannot be expressed in binary16",
            );
            let params = ParamDtype::from_dtype(ctx.dtype).unwrap_or(ParamDtype::F32);
            return Err(refused_value(ctx, params, plain).unwrap_or(range));
        }
    }
    Ok(())
}

pub(crate) fn decode(
    ctx: &FrameContext<'_>,
    encoded: &[u8],
    out: &mut [u8],
    scratch: &mut Scratch,
) -> Result<(), CodecError> {
    check_rotation(ctx)?;
    let layout = Layout::new(ctx)?;
    check_encoded(layout.encoded_len(), encoded)?;
    let kernels = scratch.kernels;
    let head = key_head(ctx, kernels, &mut scratch.positions, &mut scratch.table)?;
    if layout.plain == 0 {
        return Ok(());
    }
    let floats = aligned(&mut scratch.floats, 3 * padded(ctx.dim));
    let (scales_at, biases_at) = layout.bounds();
    let (codes, params) = encoded.split_at(scales_at);
    let (scales, biases) = params.split_at(biases_at - scales_at);
    if ctx.dim % 2 == 1 && codes.chunks_exact(ctx.dim.div_ceil(2)).any(odd_padding) {
        return Err(CodecError::new(
            ErrorKind::Malformed,
            "padding of a row's codes is not zero",
        ));
    }
    let heads = out
        .chunks_exact_mut(layout.plain)
        .zip(codes.chunks_exact(layout.codes))
        .zip(scales.chunks_exact(layout.scales))
        .zip(biases.chunks_exact(layout.scales));
    let mut finite = true;
    for (((out, codes), scales), biases) in heads {
        let sections = Sections {
            codes,
            scales,
            biases,
        };
        finite &= (kernels.keys_decode)(head, sections, out, floats);
    }
    if finite {
        return Ok(());
    }
    let groups = ctx.tokens.div_ceil(GROUP_TOKENS).max(1);
    let bad = scales
        .chunks_exact(2)
        .zip(biases.chunks_exact(2))
        .position(|(scale, bias)| {
            !is_finite(ParamDtype::F16, scale) || !is_finite(ParamDtype::F16, bias)
        });
    let error = CodecError::new(ErrorKind::NonFinite, "a scale or bias is not finite");
    Err(bad.map_or(error, |at| {
        let (group, channel) = (at / ctx.dim, at % ctx.dim);
        let token = group / groups * ctx.tokens + group % groups * GROUP_TOKENS;
        error.at(ctx.place(token * ctx.dim + channel))
    }))
}

fn odd_padding(row: &[u8]) -> bool {
    row.last().is_some_and(|byte| byte & 0xf0 != 0)
}
