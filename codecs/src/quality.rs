//! What a lossy codec cost: receipts (codecs-v1 §10).
//!
//! Every sum is binary64 in a prescribed order, so that who has the original finds the same bits.

use crate::{
    codec::key_head,
    frame::FrameContext,
    kernels::{MOMENT_ROWS, Moments, Sums, padded},
    layout::{CodecError, ErrorKind, ParamDtype, Quality},
    scratch::{Scratch, aligned},
};

/// The sums of one frame.
#[derive(Clone, Debug, PartialEq)]
pub struct FrameQuality {
    sums: Sums,
    tokens: usize,
    /// Sums and then sums of squares, for each head and channel; empty where not keys.
    moments: Vec<f64>,
}

impl FrameQuality {
    /// Compares a frame with what came back. It is one of keys if the context states a rotation.
    ///
    /// # Errors
    /// 903 where elements are not f16, bf16 or f32, or a length is not the frame's; and what
    /// [`Codec::encode_frame`](crate::Codec::encode_frame) says of rotations.
    pub fn measure(
        ctx: &FrameContext<'_>,
        original: &[u8],
        decoded: &[u8],
        scratch: &mut Scratch,
    ) -> Result<Self, CodecError> {
        let params = ParamDtype::from_dtype(ctx.dtype).ok_or(CodecError::new(
            ErrorKind::Length,
            "only f16, bf16 and f32 have a quality",
        ))?;
        if original.len() != ctx.plain_len || decoded.len() != ctx.plain_len {
            return Err(CodecError::new(
                ErrorKind::Length,
                "plain bytes are not one frame",
            ));
        }
        let kernels = scratch.kernels;
        let mut moments = Vec::new();
        if ctx.rotation.is_some() && ctx.plain_len > 0 {
            let head = key_head(ctx, kernels, &mut scratch.positions, &mut scratch.table)?;
            let element = if params == ParamDtype::F32 { 4 } else { 2 };
            let floats = aligned(
                &mut scratch.floats,
                ctx.tokens.min(MOMENT_ROWS) * padded(ctx.dim),
            );
            moments.resize(ctx.heads * ctx.dim * 2, 0.0);
            let (sums, squares) = moments.split_at_mut(ctx.heads * ctx.dim);
            let heads = original
                .chunks_exact(ctx.tokens * ctx.dim * element)
                .zip(sums.chunks_exact_mut(ctx.dim))
                .zip(squares.chunks_exact_mut(ctx.dim));
            for ((plain, sums), squares) in heads {
                let out = Moments { sums, squares };
                (kernels.key_moments)(head, plain, out, floats);
            }
        }
        Ok(Self {
            sums: (kernels.sums)(ctx.dtype, original, decoded),
            tokens: ctx.tokens,
            moments,
        })
    }
}

/// Frames' sums on their way to a receipt. Frames must be added in order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Measurement {
    sums: Sums,
    tokens: f64,
    moments: Vec<f64>,
}

impl Measurement {
    /// Nothing measured yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the next frame of the bank.
    pub fn add(&mut self, frame: &FrameQuality) {
        let (sums, more) = (&mut self.sums, &frame.sums);
        sums.error2 += more.error2;
        sums.original2 += more.original2;
        sums.decoded2 += more.decoded2;
        sums.product += more.product;
        sums.max_error = sums.max_error.max(more.max_error);
        // At most 256 a frame, so that every sum is exact.
        self.tokens += u32::try_from(frame.tokens).map_or(0.0, f64::from);
        self.moments
            .resize(self.moments.len().max(frame.moments.len()), 0.0);
        for (sum, more) in self.moments.iter_mut().zip(&frame.moments) {
            *sum += more;
        }
    }

    /// The bank's receipt.
    #[must_use]
    pub fn finish(&self) -> Quality {
        let s = &self.sums;
        let relative_rmse = relative(s.error2, s.original2);
        let lengths = (s.original2 * s.decoded2).sqrt();
        Quality {
            relative_rmse,
            max_abs_error: s.max_error,
            cosine: match lengths > 0.0 {
                true => s.product / lengths,
                false if s.original2 == s.decoded2 => 1.0,
                false => 0.0,
            },
            centred_key_error: match self.spread() {
                None => 0.0,
                Some(spread) if spread > 0.0 => relative(s.error2, spread),
                Some(_) => relative_rmse,
            },
        }
    }

    /// The summed squares of un-rotated keys about the means of their channels.
    fn spread(&self) -> Option<f64> {
        if self.moments.is_empty() {
            return None;
        }
        let (sums, squares) = self.moments.split_at(self.moments.len() / 2);
        let mut spread = 0.0;
        for (sum, square) in sums.iter().zip(squares) {
            spread += (square - sum * sum / self.tokens).max(0.0);
        }
        Some(spread)
    }
}

/// √(error / whole); what would be infinite is the largest finite number.
fn relative(error2: f64, whole: f64) -> f64 {
    if error2 == 0.0 {
        return 0.0;
    }
    (error2 / whole).sqrt().min(f64::MAX)
}
