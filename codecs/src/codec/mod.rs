//! The calls that do the work: a frame encoded, checked and decoded by its codec (codecs-v1 §4 to
//! §7 and §12).

mod affine;
mod key_channel;
mod planes;
mod transform;
mod turns;

pub use transform::CodedFrame;
pub(crate) use turns::key_head;

use std::ops::Range;

use crate::{
    frame::FrameContext,
    layout::{Codec, CodecError, ErrorKind},
    scratch::Scratch,
};

impl Codec {
    /// Encodes one frame: `out` holds the encoded frame and nothing else afterwards.
    ///
    /// # Errors
    /// 903 where `plain` has not the frame's length; 905 where a lossy codec meets a value that is
    /// not finite (or a group whose range it cannot express), with its place; 903 or 904 where the
    /// codec does not serve such frames; 908 and 909 where it needs another profile than `ctx` has.
    pub fn encode_frame(
        self,
        ctx: &FrameContext<'_>,
        plain: &[u8],
        out: &mut Vec<u8>,
        scratch: &mut Scratch,
    ) -> Result<(), CodecError> {
        check_plain(ctx, plain.len())?;
        if let Some(other) = scratch.accelerator
            && other.encode(self, ctx, plain, out, scratch)
        {
            return Ok(());
        }
        match self {
            Self::Raw => {
                out.clear();
                out.extend_from_slice(plain);
                Ok(())
            }
            Self::Planes16 => planes::encode(2, ctx, plain, out, scratch),
            Self::Planes32 => planes::encode(4, ctx, plain, out, scratch),
            Self::Affine { bits, group } => affine::encode(bits, group, ctx, plain, out, scratch),
            Self::KeyChannel => key_channel::encode(ctx, plain, out, scratch),
            Self::Transform { transform, rate } => {
                transform::encode((transform, rate), ctx, plain, out, scratch)
            }
        }
    }

    /// Refuses an encoded frame that is too short or too long for `ctx`, so that a caller allocates
    /// plain bytes only for a frame that can give them. Those of a codec of fixed rate pass: their
    /// length is the one that [`Self::encoded_frame_len`] gave.
    ///
    /// # Errors
    /// 902 to 904, as [`Self::decode_frame`] would.
    pub fn check_frame(self, ctx: &FrameContext<'_>, encoded: &[u8]) -> Result<(), CodecError> {
        match self {
            Self::Planes16 => planes::check(2, ctx, encoded),
            Self::Planes32 => planes::check(4, ctx, encoded),
            Self::Raw | Self::Affine { .. } | Self::KeyChannel | Self::Transform { .. } => Ok(()),
        }
    }

    /// Decodes one frame into `out`, which has the frame's plain length. On an error the content of
    /// `out` is unspecified; nothing beyond it is written.
    ///
    /// # Errors
    /// 902 to 905 where the encoded bytes break a rule (codecs-v1 §9); 908 and 909 where the codec needs another
    /// profile than `ctx` has; 903 where `out` or `encoded`
    /// has another length than shape and codec give, or the codec does not serve such frames.
    pub fn decode_frame(
        self,
        ctx: &FrameContext<'_>,
        encoded: &[u8],
        out: &mut [u8],
        scratch: &mut Scratch,
    ) -> Result<(), CodecError> {
        check_plain(ctx, out.len())?;
        if let Some(other) = scratch.accelerator
            && other.decode(self, ctx, encoded, out, scratch)
        {
            return Ok(());
        }
        match self {
            Self::Raw => {
                check_encoded(ctx.plain_len, encoded)?;
                out.copy_from_slice(encoded);
                Ok(())
            }
            Self::Planes16 => planes::decode(2, ctx, encoded, out, scratch),
            Self::Planes32 => planes::decode(4, ctx, encoded, out, scratch),
            Self::Affine { bits, group } => {
                let rows = 0..ctx.row_count().unwrap_or(0);
                affine::decode((bits, group), ctx, encoded, rows, (out, false), scratch)
            }
            Self::KeyChannel => key_channel::decode(ctx, encoded, out, scratch),
            Self::Transform { transform, rate } => {
                transform::decode((transform, rate), ctx, encoded, out, scratch)
            }
        }
    }

    /// Returns whether rows of a frame are decoded by themselves here ([`Self::decode_rows`]): by those codecs
    /// whose rows stand alone, where no accelerator takes the whole frame.
    #[must_use]
    pub const fn decodes_rows(self, scratch: &Scratch) -> bool {
        matches!(self, Self::Affine { .. }) && scratch.accelerator.is_none()
    }

    /// Decodes rows `rows` of a frame, counted over heads and tokens in the frame's order, into `out`: to
    /// where they are to lie, so that the frame need not be decoded elsewhere first. Where `past_cache`
    /// says that `out` is not read again soon, the cache is left to others. On an error the content of
    /// `out` is unspecified.
    ///
    /// # Errors
    /// As [`Self::decode_frame`]; 903 for a codec that decodes no rows, and where `out` has not their length.
    pub fn decode_rows(
        self,
        ctx: &FrameContext<'_>,
        encoded: &[u8],
        rows: Range<usize>,
        out: &mut [u8],
        past_cache: bool,
        scratch: &mut Scratch,
    ) -> Result<(), CodecError> {
        match self {
            Self::Affine { bits, group } => {
                let out = (out, past_cache);
                affine::decode((bits, group), ctx, encoded, rows, out, scratch)
            }
            _ => Err(CodecError::new(
                ErrorKind::Length,
                "rows of this codec are not decoded by themselves",
            )),
        }
    }
}

fn check_plain(ctx: &FrameContext<'_>, found: usize) -> Result<(), CodecError> {
    if found == ctx.plain_len {
        return Ok(());
    }
    let expected = u64::try_from(ctx.plain_len).unwrap_or(u64::MAX);
    Err(CodecError::new(ErrorKind::Length, "plain bytes are not one frame").sides(expected, found))
}

fn check_encoded(expected: usize, encoded: &[u8]) -> Result<(), CodecError> {
    if encoded.len() == expected {
        return Ok(());
    }
    let expected = u64::try_from(expected).unwrap_or(u64::MAX);
    Err(
        CodecError::new(ErrorKind::Length, "an encoded frame has another length")
            .sides(expected, encoded.len()),
    )
}
