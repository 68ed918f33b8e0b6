//! The canonical byte layout of a bank, and its frames (codecs-v1 §2.2 and §2.3).

use super::Dtype;

/// Tokens in one block: the unit in which a bank with a token axis is cut (codecs-v1 §2.2).
pub const BLOCK_TOKENS: u64 = 256;

/// Plain bytes in one frame of a bank without a token axis (codecs-v1 §2.3).
pub const WHOLE_FRAME_BYTES: u64 = 1 << 20;

/// The shape of a bank in canonical form, which fixes its plain bytes and its frames.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum BankShape {
    /// A bank with a token axis: cut into blocks of [`BLOCK_TOKENS`] rows, each block one frame in
    /// the order `[head][token][dim]`.
    Tokens {
        /// Heads (1 where the runtime's rows are not divided into heads).
        heads: u64,
        /// Rows: tokens held, padding left out.
        tokens: u64,
        /// Elements of one head of one token.
        dim: u64,
    },
    /// A bank without a token axis (a recurrent or convolution state, an opaque tensor): its bytes
    /// in order, cut into frames of [`WHOLE_FRAME_BYTES`].
    Whole {
        /// Dimensions, outermost first; an empty list is one element.
        dims: Vec<u64>,
    },
}

impl BankShape {
    /// Plain bytes of the bank, or `None` on overflow or where a row is not whole blocks.
    #[must_use]
    pub fn plain_len(&self, dtype: Dtype) -> Option<u64> {
        match self {
            Self::Tokens { heads, tokens, dim } => dtype
                .row_bytes(*dim)?
                .checked_mul(*heads)?
                .checked_mul(*tokens),
            Self::Whole { dims } => match dims.split_last() {
                None => dtype.row_bytes(1),
                Some((last, outer)) => outer
                    .iter()
                    .try_fold(dtype.row_bytes(*last)?, |n, d| n.checked_mul(*d)),
            },
        }
    }

    /// Number of frames.
    #[must_use]
    pub fn frames(&self, dtype: Dtype) -> Option<u64> {
        match self {
            Self::Tokens { tokens, .. } => Some(tokens.div_ceil(BLOCK_TOKENS)),
            Self::Whole { .. } => Some(self.plain_len(dtype)?.div_ceil(WHOLE_FRAME_BYTES)),
        }
    }

    /// Rows of frame `index` for a bank with a token axis; 0 for others or past the end.
    #[must_use]
    pub fn frame_tokens(&self, index: u64) -> u64 {
        match self {
            Self::Tokens { tokens, .. } => index
                .checked_mul(BLOCK_TOKENS)
                .map_or(0, |start| tokens.saturating_sub(start).min(BLOCK_TOKENS)),
            Self::Whole { .. } => 0,
        }
    }

    /// Plain bytes of frame `index`; 0 past the end.
    #[must_use]
    pub fn frame_plain_len(&self, dtype: Dtype, index: u64) -> Option<u64> {
        match self {
            Self::Tokens { heads, dim, .. } => dtype
                .row_bytes(*dim)?
                .checked_mul(*heads)?
                .checked_mul(self.frame_tokens(index)),
            Self::Whole { .. } => {
                let start = index.checked_mul(WHOLE_FRAME_BYTES)?;
                let len = self.plain_len(dtype)?;
                Some(len.saturating_sub(start).min(WHOLE_FRAME_BYTES))
            }
        }
    }
}
