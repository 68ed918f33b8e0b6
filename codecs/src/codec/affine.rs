//! Affine quantization along head_dim, in MLX's section layout (codecs-v1 §6).
//!
//! An encoded frame is codes ‖ scales ‖ biases, each in `[head][token]` row order, so that it has
//! the form of a verbatim MLX triplet.

use std::ops::Range;

use super::check_encoded;
use crate::{
    frame::FrameContext,
    kernels::{Kernels, Sections, SectionsMut},
    layout::{AffineParams, CodecError, ErrorKind, ParamDtype},
    scratch::Scratch,
};

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

/// Decodes rows `rows` of a frame into `out`, and past the cache if that is asked.
pub(crate) fn decode(
    (bits, group): (u8, u16),
    ctx: &FrameContext<'_>,
    encoded: &[u8],
    rows: Range<usize>,
    (out, past_cache): (&mut [u8], bool),
    scratch: &mut Scratch,
) -> Result<(), CodecError> {
    let layout = Layout::new(bits, group, ctx)?;
    check_encoded(layout.encoded_len().unwrap_or(0), encoded)?;
    let row = ctx.dim * layout.element;
    if rows.end > layout.rows || rows.len().checked_mul(row) != Some(out.len()) {
        let what = "plain bytes are not the rows of a frame that are asked for";
        return Err(CodecError::new(ErrorKind::Length, what));
    }
    layout.decode(ctx, encoded, rows, (out, past_cache), scratch.kernels)
}

impl Layout {
    /// What an encoded frame has of `rows`.
    fn sections<'a>(&self, encoded: &'a [u8], rows: &Range<usize>) -> Sections<'a> {
        let (scales_at, biases_at) = self.bounds();
        let of = |from, row| &encoded[from + rows.start * row..from + rows.end * row];
        Sections {
            codes: of(0, self.code_row),
            scales: of(scales_at, self.scale_row),
            biases: of(biases_at, self.scale_row),
        }
    }

    fn decode(
        &self,
        ctx: &FrameContext<'_>,
        encoded: &[u8],
        rows: Range<usize>,
        (out, past_cache): (&mut [u8], bool),
        kernels: &Kernels,
    ) -> Result<(), CodecError> {
        let sections = self.sections(encoded, &rows);
        let finite = match self.tail {
            0 => (kernels.affine_decode)(self.params, sections, out, past_cache),
            _ => self.decode_with_tails(ctx, sections, out, kernels)?,
        };
        if finite {
            return Ok(());
        }
        let Sections { scales, biases, .. } = sections;
        let groups = (self.scale_row / self.element).max(1);
        let bad = scales
            .chunks_exact(self.element)
            .zip(biases.chunks_exact(self.element))
            .position(|(scale, bias)| {
                !is_finite(self.params.params, scale) || !is_finite(self.params.params, bias)
            });
        let error = CodecError::new(ErrorKind::NonFinite, "a scale or bias is not finite");
        Err(bad.map_or(error, |at| {
            let row = rows.start + at / groups;
            error.at(ctx.place(row * ctx.dim + at % groups * self.group))
        }))
    }

    /// Rows whose last group is partial: it is decoded whole, elsewhere. Whether all is finite.
    fn decode_with_tails(
        &self,
        ctx: &FrameContext<'_>,
        encoded: Sections<'_>,
        out: &mut [u8],
        kernels: &Kernels,
    ) -> Result<bool, CodecError> {
        let decode =
            |sections, out: &mut [u8]| (kernels.affine_decode)(self.params, sections, out, false);
        let mut finite = true;
        let rows = out
            .chunks_exact_mut(ctx.dim * self.element)
            .zip(encoded.codes.chunks_exact(self.code_row))
            .zip(encoded.scales.chunks_exact(self.scale_row))
            .zip(encoded.biases.chunks_exact(self.scale_row));
        for (((out, codes), scales), biases) in rows {
            let (out, out_tail) = out.split_at_mut(self.whole * self.element);
            let (codes, codes_tail) = codes.split_at(self.code_bytes(self.whole));
            let split = self.scale_row - self.element;
            let (scales, scale_tail) = scales.split_at(split);
            let (biases, bias_tail) = biases.split_at(split);
            if !padding_is_zero(codes_tail, self.tail * usize::from(self.params.bits)) {
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
            finite &= decode(whole, out);
            let mut padded = [0; GROUP_BYTES];
            let padded = &mut padded[..self.group * self.element];
            let tail = Sections {
                codes: codes_tail,
                scales: scale_tail,
                biases: bias_tail,
            };
            finite &= decode(tail, padded);
            out_tail.copy_from_slice(&padded[..out_tail.len()]);
        }
        Ok(finite)
    }
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

/// Bytes that are looked through at once for values that are not finite.
const REFUSED_STEP: usize = 1 << 12;

/// The error that names the first value that is not finite, if there is one.
pub(crate) fn refused_value(
    ctx: &FrameContext<'_>,
    params: ParamDtype,
    plain: &[u8],
) -> Option<CodecError> {
    let element = if params == ParamDtype::F32 { 4 } else { 2 };
    let refused = |values: &[u8]| {
        let values = values.chunks_exact(element);
        values.fold(false, |any, x| any | !is_finite(params, x))
    };
    // most frames have none, and are passed over by vectors
    let (step, values) = plain
        .chunks(REFUSED_STEP)
        .enumerate()
        .find(|(_, x)| refused(x))?;
    let mut values = values.chunks_exact(element);
    let at = step * REFUSED_STEP / element + values.position(|x| !is_finite(params, x))?;
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
