//! What a codec is told about one frame (codecs-v1 §2).

use crate::{
    layout::{BLOCK_TOKENS, BankShape, CodecError, Dtype, ErrorKind, Place},
    profile::BankProfile,
    rope::{Positions, Rotation},
};

/// One frame of a bank: element type, extent, and for keys how they were rotated.
#[derive(Clone, Copy, Debug)]
pub struct FrameContext<'a> {
    pub(crate) dtype: Dtype,
    pub(crate) heads: usize,
    pub(crate) tokens: usize,
    pub(crate) dim: usize,
    /// Row of the bank at which the frame begins.
    pub(crate) first_token: u64,
    pub(crate) plain_len: usize,
    /// Whether the bank has a token axis; without one `heads`, `tokens` and `dim` mean nothing.
    pub(crate) rows: bool,
    pub(crate) rotation: Option<(Rotation<'a>, Positions<'a>)>,
    pub(crate) profile: Option<&'a BankProfile>,
}

impl<'a> FrameContext<'a> {
    /// Frame `index` of a bank.
    ///
    /// # Errors
    /// 903 where the bank has no such frame, or its lengths overflow.
    pub fn new(shape: &BankShape, dtype: Dtype, index: u64) -> Result<Self, CodecError> {
        let refused = CodecError::new(ErrorKind::Length, "the bank has no such frame");
        let plain_len = shape
            .frame_plain_len(dtype, index)
            .and_then(|len| usize::try_from(len).ok())
            .ok_or(refused)?;
        if index >= shape.frames(dtype).ok_or(refused)? {
            return Err(refused);
        }
        let size = |n: u64| usize::try_from(n).map_err(|_| refused);
        let (heads, tokens, dim, first_token, rows) = match *shape {
            BankShape::Tokens { heads, dim, .. } => (
                size(heads)?,
                size(shape.frame_tokens(index))?,
                size(dim)?,
                index.checked_mul(BLOCK_TOKENS).ok_or(refused)?,
                true,
            ),
            BankShape::Whole { .. } => (1, 1, 0, 0, false),
        };
        Ok(Self {
            dtype,
            heads,
            tokens,
            dim,
            first_token,
            plain_len,
            rows,
            rotation: None,
            profile: None,
        })
    }

    /// Returns the frame with its keys' rotation stated. `positions` are those of the whole bank's
    /// rows.
    #[must_use]
    pub const fn with_rotation(mut self, rotation: Rotation<'a>, positions: Positions<'a>) -> Self {
        self.rotation = Some((rotation, positions));
        self
    }

    /// Returns the frame with its bank's profile, for the codecs that need one
    /// ([`Codec::needs_profile`](crate::Codec::needs_profile)).
    #[must_use]
    pub const fn with_profile(mut self, profile: &'a BankProfile) -> Self {
        self.profile = Some(profile);
        self
    }

    /// Plain bytes of the frame.
    #[must_use]
    pub const fn plain_len(&self) -> usize {
        self.plain_len
    }

    /// Element type.
    #[must_use]
    pub const fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// Heads, tokens and elements of a row, whose order is `[head][token][dim]`; `None` for a bank
    /// without a token axis.
    #[must_use]
    pub fn extent(&self) -> Option<[usize; 3]> {
        self.rows.then_some([self.heads, self.tokens, self.dim])
    }

    /// Plain bytes of a row; `None` for a bank without a token axis, or without heads.
    #[must_use]
    pub fn row_len(&self) -> Option<usize> {
        self.plain_len.checked_div(self.row_count()?)
    }

    /// Rows of a head of the frame, and elements of a row; `None` for a bank without a token axis.
    pub(crate) fn row_count(&self) -> Option<usize> {
        self.heads.checked_mul(self.tokens).filter(|_| self.rows)
    }

    /// The place in the bank of element `index` of the frame.
    pub(crate) fn place(&self, index: usize) -> Place {
        let wide = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
        let (dim, tokens) = (self.dim.max(1), self.tokens.max(1));
        let row = index / dim;
        Place {
            token: self.first_token.saturating_add(wide(row % tokens)),
            head: wide(row / tokens),
            channel: wide(index % dim),
        }
    }
}
