//! Affine quantization along head_dim, in MLX's section layout (codecs-v1 §6).
//!
//! An encoded frame is codes ‖ scales ‖ biases, each in `[head][token]` row order, so that it has
//! the form of a verbatim MLX triplet.

use crate::{
    AffineParams, CodecError, ErrorKind, FrameContext, ParamDtype, Scratch,
    backend::{Sections, SectionsMut},
    codec::check_encoded,
};

/// Encoded bytes of a row of `dim` elements.
pub(crate) fn row_len(bits: u8, group: u16, params: ParamDtype, dim: u64) -> Option<u64> {
    let (codes, scales) = AffineParams::new(bits, group, params)?.row_sections(dim)?;
    codes.checked_add(scales.checked_mul(2)?)
}

/// Lengths of one frame's parts, in bytes.
struct Layout {
    params: AffineParams,
    group: usize,
    element: usize,
    rows: usize,
    /// A row of codes, and of scales or biases.
    code_row: usize,
    scale_row: usize,
    /// Elements of a row in whole groups, and after them.
    whole: usize,
    tail: usize,
}

impl Layout {
    fn new(bits: u8, group: u16, ctx: &FrameContext<'_>) -> Result<Self, CodecError> {
        let unknown = CodecError::new(
            ErrorKind::Length,
            "an affine codec does not serve this element type or shape",
        );
        let params = ParamDtype::from_dtype(ctx.dtype)
            .and_then(|params| AffineParams::new(bits, group, params))
            .ok_or(unknown)?;
        let rows = ctx.row_count().ok_or(unknown)?;
        let size = |n: u64| {
            usize::try_from(n)
                .map_err(|_| CodecError::new(ErrorKind::Length, "the frame's lengths overflow"))
        };
        let dim = u64::try_from(ctx.dim).map_err(|_| unknown)?;
        let (codes, scales) = params.row_sections(dim).ok_or(unknown)?;
        let group = usize::from(group);
        let layout = Self {
            params,
            group,
            element: size(params.params.bytes())?,
            rows,
            code_row: size(codes)?,
            scale_row: size(scales)?,
            whole: ctx.dim - ctx.dim % group,
            tail: ctx.dim % group,
        };
        layout.encoded_len().ok_or(unknown)?;
        Ok(layout)
    }

    fn encoded_len(&self) -> Option<usize> {
        let row = self.scale_row.checked_mul(2)?.checked_add(self.code_row)?;
        self.rows.checked_mul(row)
    }

    /// Bytes of the codes of `elements` elements, a whole number of groups.
    const fn code_bytes(&self, elements: usize) -> usize {
        elements / 8 * self.params.bits as usize
    }

    /// Where scales and biases begin.
    const fn bounds(&self) -> (usize, usize) {
        let scales = self.rows * self.code_row;
        (scales, scales + self.rows * self.scale_row)
    }
}

/// The largest group, in bytes of its widest element.
const GROUP_BYTES: usize = 128 * 4;

pub(crate) fn encode(
    bits: u8,
    group: u16,
    ctx: &FrameContext<'_>,
    plain: &[u8],
    out: &mut Vec<u8>,
    scratch: &mut Scratch,
) -> Result<(), CodecError> {
    let layout = Layout::new(bits, group, ctx)?;
    let (scales_at, biases_at) = layout.bounds();
    out.resize(layout.encoded_len().unwrap_or(0), 0);
    let (codes, params) = out.split_at_mut(scales_at);
    let (scales, biases) = params.split_at_mut(biases_at - scales_at);
    let encode = scratch.kernels.affine_encode;
    if layout.tail == 0 {
        let sections = SectionsMut {
            codes,
            scales,
            biases,
        };
        return check(ctx, &layout, plain, encode(layout.params, plain, sections));
    }
    let row_bytes = ctx.dim * layout.element;
    let rows = plain
        .chunks_exact(row_bytes)
        .zip(codes.chunks_exact_mut(layout.code_row))
        .zip(scales.chunks_exact_mut(layout.scale_row))
        .zip(biases.chunks_exact_mut(layout.scale_row));
    let mut finite = true;
    for (((plain, codes), scales), biases) in rows {
        let (plain, plain_tail) = plain.split_at(layout.whole * layout.element);
        let (codes, codes_tail) = codes.split_at_mut(layout.code_bytes(layout.whole));
        let split = layout.scale_row - layout.element;
        let (scales, scale_tail) = scales.split_at_mut(split);
        let (biases, bias_tail) = biases.split_at_mut(split);
        let whole = SectionsMut {
            codes,
            scales,
            biases,
        };
        finite &= encode(layout.params, plain, whole);
        // Repeats of the last element change neither the smallest nor the largest of the group.
        let mut padded = [0; GROUP_BYTES];
        let padded = &mut padded[..layout.group * layout.element];
        let last = &plain_tail[plain_tail.len() - layout.element..];
        padded[..plain_tail.len()].copy_from_slice(plain_tail);
        for element in padded[plain_tail.len()..].chunks_exact_mut(layout.element) {
            element.copy_from_slice(last);
        }
        let tail = SectionsMut {
            codes: codes_tail,
            scales: scale_tail,
            biases: bias_tail,
        };
        finite &= encode(layout.params, padded, tail);
        clear_padding(codes_tail, layout.tail * usize::from(bits));
    }
    check(ctx, &layout, plain, finite)
}

pub(crate) fn decode(
    bits: u8,
    group: u16,
    ctx: &FrameContext<'_>,
    encoded: &[u8],
    out: &mut [u8],
    scratch: &mut Scratch,
) -> Result<(), CodecError> {
    let layout = Layout::new(bits, group, ctx)?;
    check_encoded(layout.encoded_len().unwrap_or(0), encoded)?;
    let (scales_at, biases_at) = layout.bounds();
    let (codes, params) = encoded.split_at(scales_at);
    let (scales, biases) = params.split_at(biases_at - scales_at);
    let decode = scratch.kernels.affine_decode;
    let mut finite = true;
    if layout.tail == 0 {
        let sections = Sections {
            codes,
            scales,
            biases,
        };
        finite = decode(layout.params, sections, out);
    } else {
        let rows = out
            .chunks_exact_mut(ctx.dim * layout.element)
            .zip(codes.chunks_exact(layout.code_row))
            .zip(scales.chunks_exact(layout.scale_row))
            .zip(biases.chunks_exact(layout.scale_row));
        for (((out, codes), scales), biases) in rows {
            let (out, out_tail) = out.split_at_mut(layout.whole * layout.element);
            let (codes, codes_tail) = codes.split_at(layout.code_bytes(layout.whole));
            let split = layout.scale_row - layout.element;
            let (scales, scale_tail) = scales.split_at(split);
            let (biases, bias_tail) = biases.split_at(split);
            if !padding_is_zero(codes_tail, layout.tail * usize::from(bits)) {
                return Err(CodecError::new(
                    ErrorKind::Malformed,
                    "padding of a row's codes is not zero",
                ));
            }
            let whole = Sections {
                codes,
                scales,
                biases,
            };
            finite &= decode(layout.params, whole, out);
            let mut padded = [0; GROUP_BYTES];
            let padded = &mut padded[..layout.group * layout.element];
            let tail = Sections {
                codes: codes_tail,
                scales: scale_tail,
                biases: bias_tail,
            };
            finite &= decode(layout.params, tail, padded);
            out_tail.copy_from_slice(&padded[..out_tail.len()]);
        }
    }
    if finite {
        return Ok(());
    }
    let groups = (layout.scale_row / layout.element).max(1);
    let bad = scales
        .chunks_exact(layout.element)
        .zip(biases.chunks_exact(layout.element))
        .position(|(scale, bias)| {
            !is_finite(layout.params.params, scale) || !is_finite(layout.params.params, bias)
        });
    let error = CodecError::new(ErrorKind::NonFinite, "a scale or bias is not finite");
    Err(bad.map_or(error, |at| {
        error.at(ctx.place(at / groups * ctx.dim + at % groups * layout.group))
    }))
}

/// Names the first element that an encoder refused.
fn check(
    ctx: &FrameContext<'_>,
    layout: &Layout,
    plain: &[u8],
    finite: bool,
) -> Result<(), CodecError> {
    if finite {
        return Ok(());
    }
    Err(refused_value(ctx, layout.params.params, plain).unwrap_or(
        // Every value is finite, so a difference of two was not.
        CodecError::new(
            ErrorKind::NonFinite,
            "the range of a group is not finite in binary32",
        ),
    ))
}

/// The error that names the first value that is not finite, if there is one.
pub(crate) fn refused_value(
    ctx: &FrameContext<'_>,
    params: ParamDtype,
    plain: &[u8],
) -> Option<CodecError> {
    let element = if params == ParamDtype::F32 { 4 } else { 2 };
    let at = plain
        .chunks_exact(element)
        .position(|x| !is_finite(params, x))?;
    Some(CodecError::new(ErrorKind::NonFinite, "a value is not finite").at(ctx.place(at)))
}

/// Whether a stored number is finite: its exponent bits are not all ones.
pub(crate) fn is_finite(params: ParamDtype, bytes: &[u8]) -> bool {
    let top = match bytes {
        [.., low, high] => u16::from_le_bytes([*low, *high]),
        _ => return false,
    };
    let exponent = match params {
        ParamDtype::F16 => 0x7c00,
        ParamDtype::Bf16 | ParamDtype::F32 => 0x7f80,
    };
    top & exponent != exponent
}

/// Sets every bit from `used` on to zero.
fn clear_padding(codes: &mut [u8], used: usize) {
    for (at, byte) in codes.iter_mut().enumerate() {
        *byte &= kept_bits(at, used);
    }
}

fn padding_is_zero(codes: &[u8], used: usize) -> bool {
    codes
        .iter()
        .enumerate()
        .all(|(at, byte)| byte & !kept_bits(at, used) == 0)
}

/// The bits of byte `at` that lie before bit `used` of the stream.
const fn kept_bits(at: usize, used: usize) -> u8 {
    match used.saturating_sub(at * 8) {
        bits @ 0..8 => !(0xff << bits),
        _ => 0xff,
    }
}
