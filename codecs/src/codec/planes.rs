//! Exact and smaller: exponents apart and entropy-coded, the rest as it is (codecs-v1 §5).

use super::check_encoded;
use crate::{
    frame::FrameContext,
    layout::{CodecError, Dtype, ErrorKind},
    scratch::Scratch,
};

/// The frame's plain bytes follow.
const MODE_RAW: u8 = 0;
/// The low bytes of each rotated element follow, plane after plane, then the top bytes as a zstd
/// frame.
const MODE_PLANES: u8 = 1;

/// Refuses a frame whose elements are not floats of `width` bytes.
fn check_served(width: usize, dtype: Dtype) -> Result<(), CodecError> {
    match (width, dtype) {
        (2, Dtype::F16 | Dtype::Bf16) | (4, Dtype::F32) => Ok(()),
        _ => Err(CodecError::new(
            ErrorKind::Length,
            "the planes codec does not serve this element type",
        )),
    }
}

pub(crate) fn encode(
    width: usize,
    ctx: &FrameContext<'_>,
    plain: &[u8],
    out: &mut Vec<u8>,
    scratch: &mut Scratch,
) -> Result<(), CodecError> {
    check_served(width, ctx.dtype)?;
    let elements = plain.len() / width;
    let low_len = elements * (width - 1);
    let bound = zstd::zstd_safe::compress_bound(elements);
    if scratch.bytes.len() < elements + bound {
        scratch.bytes.resize(elements + bound, 0);
    }
    let (top, rest) = scratch.bytes.split_at_mut(elements);
    let packed = &mut rest[..bound];

    out.resize(1 + low_len, 0);
    out[0] = MODE_PLANES;
    (scratch.kernels.split)(width, plain, &mut out[1..], top);
    if let Some(len) = scratch.zstd.compress(top, packed)
        && gains(1 + low_len + len, plain.len())
    {
        out.extend_from_slice(&packed[..len]);
        return Ok(());
    }
    out.clear();
    out.push(MODE_RAW);
    out.extend_from_slice(plain);
    Ok(())
}

/// Whether the encoded frame is at least 3 % shorter.
fn gains(encoded: usize, plain: usize) -> bool {
    encoded <= plain.saturating_sub(plain.div_ceil(100) * 3)
}

/// An encoded frame in its parts.
enum Parts<'a> {
    Raw(&'a [u8]),
    Planes { low: &'a [u8], top: &'a [u8] },
}

/// Checks the lengths that mode and shape give; what is inside the zstd frame is not looked at.
fn parts<'a>(width: usize, plain_len: usize, encoded: &'a [u8]) -> Result<Parts<'a>, CodecError> {
    let malformed = |what| CodecError::new(ErrorKind::Malformed, what);
    let (mode, body) = encoded
        .split_first()
        .ok_or(malformed("an encoded frame is empty"))?;
    match *mode {
        MODE_RAW => {
            check_encoded(plain_len.saturating_add(1), encoded)?;
            Ok(Parts::Raw(body))
        }
        MODE_PLANES => {
            if encoded.len() > plain_len {
                return Err(CodecError::new(
                    ErrorKind::Bounds,
                    "a frame of planes is longer than its plain bytes",
                )
                .sides(u64::try_from(plain_len).unwrap_or(u64::MAX), encoded.len()));
            }
            let (low, top) = body
                .split_at_checked(plain_len / width * (width - 1))
                .ok_or(malformed("a frame of planes is cut short"))?;
            Ok(Parts::Planes { low, top })
        }
        _ => Err(malformed("the mode of a frame of planes is not 0 or 1")),
    }
}

/// Refuses a frame whose length alone is wrong, so that its plain bytes need not be allocated.
pub(crate) fn check(
    width: usize,
    ctx: &FrameContext<'_>,
    encoded: &[u8],
) -> Result<(), CodecError> {
    check_served(width, ctx.dtype)?;
    parts(width, ctx.plain_len, encoded).map(drop)
}

pub(crate) fn decode(
    width: usize,
    ctx: &FrameContext<'_>,
    encoded: &[u8],
    out: &mut [u8],
    scratch: &mut Scratch,
) -> Result<(), CodecError> {
    check_served(width, ctx.dtype)?;
    match parts(width, out.len(), encoded)? {
        Parts::Raw(plain) => out.copy_from_slice(plain),
        Parts::Planes { low, top } => {
            let elements = out.len() / width;
            if scratch.bytes.len() < elements {
                scratch.bytes.resize(elements, 0);
            }
            let plane = &mut scratch.bytes[..elements];
            scratch.zstd.decompress(top, plane)?;
            (scratch.kernels.merge)(width, low, plane, out);
        }
    }
    Ok(())
}
