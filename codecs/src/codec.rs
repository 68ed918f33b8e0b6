//! The codecs of the format: their registry, where each applies, and the two calls that do the work
//! (codecs-v1 §3).

use std::{fmt, ops::Range};

use crate::{
    BankShape, CodecError, Dtype, ErrorKind, FrameContext, ParamDtype, Scratch, affine, planes, q4k,
};

/// A codec with its parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Codec {
    /// Every bit, as it is. Serves every element type.
    Raw,
    /// Every bit, smaller: the exponents of 16-bit floats entropy-coded. Length depends on content.
    Planes16,
    /// The same for binary32.
    Planes32,
    /// `q · scale + bias` for each group along head_dim, in MLX's section layout.
    Affine {
        /// Bits of a code: 3, 4, 5, 6 or 8.
        bits: u8,
        /// Elements that share a scale and a bias: 32, 64 or 128.
        group: u16,
    },
    /// Keys, un-rotated and quantized to 4 bits for each channel over 64 tokens.
    Q4k,
}

/// What a bank holds, as far as a codec's choice depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Content {
    /// Attention keys (or the rotated key part of a latent attention).
    Keys,
    /// Attention values.
    Values,
    /// The latent of a latent attention.
    Latent,
    /// Anything else: recurrent and convolution states, indexers, opaque tensors. Stays exact.
    Other,
}

impl Codec {
    /// The codecs that the presets use, and the name of each.
    const NAMED: [Self; 5] = [
        Self::Raw,
        Self::Planes16,
        Self::Planes32,
        Self::Q4k,
        Self::Affine { bits: 8, group: 64 },
    ];

    /// The registered id (codecs-v1 §3.1).
    #[must_use]
    pub const fn id(self) -> u8 {
        match self {
            Self::Raw => 0,
            Self::Planes16 => 1,
            Self::Affine { .. } => 2,
            Self::Q4k => 3,
            Self::Planes32 => 4,
        }
    }

    /// Bits and group, for the codecs that have parameters.
    #[must_use]
    pub const fn params(self) -> Option<(u8, u16)> {
        match self {
            Self::Affine { bits, group } => Some((bits, group)),
            _ => None,
        }
    }

    /// The codec with this id and these parameters.
    ///
    /// # Errors
    /// 901 where the id is not registered, or the parameters are not among the codec's.
    pub fn from_id(id: u8, params: Option<(u8, u16)>) -> Result<Self, CodecError> {
        let known = match (id, params) {
            (2, Some((bits, group))) => crate::AffineParams::new(bits, group, ParamDtype::F16)
                .map(|_| Self::Affine { bits, group }),
            (_, None) => Self::NAMED
                .into_iter()
                .find(|codec| codec.id() == id && codec.params().is_none()),
            _ => None,
        };
        known.ok_or(CodecError::new(
            ErrorKind::Unknown,
            "the codec or its parameters are not registered",
        ))
    }

    /// Its name: `raw`, `planes16`, `planes32`, `q4k`, `q8_g64`.
    #[must_use]
    pub fn name(self) -> String {
        match self {
            Self::Raw => "raw".to_owned(),
            Self::Planes16 => "planes16".to_owned(),
            Self::Planes32 => "planes32".to_owned(),
            Self::Q4k => "q4k".to_owned(),
            Self::Affine { bits, group } => format!("q{bits}_g{group}"),
        }
    }

    /// The codec with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        let affine = [3, 4, 5, 6, 8].into_iter().flat_map(|bits| {
            [32, 64, 128]
                .into_iter()
                .map(move |group| Self::Affine { bits, group })
        });
        Self::NAMED
            .into_iter()
            .chain(affine)
            .find(|codec| codec.name() == name)
    }

    /// Whether every bit comes back.
    #[must_use]
    pub const fn is_exact(self) -> bool {
        matches!(self, Self::Raw | Self::Planes16 | Self::Planes32)
    }

    /// Whether encoded lengths follow from the shape alone. Streams of other codecs are [`packed`]
    /// and reveal how compressible the content is.
    ///
    /// [`packed`]: crate::packed
    #[must_use]
    pub const fn is_fixed_rate(self) -> bool {
        !matches!(self, Self::Planes16 | Self::Planes32)
    }

    /// Whether the codec may be used for such a bank (codecs-v1 §3.2).
    ///
    /// # Errors
    /// 903 where it does not serve the element type, the shape or the content, or a length overflows.
    pub fn applies(
        self,
        dtype: Dtype,
        shape: &BankShape,
        content: Content,
    ) -> Result<(), CodecError> {
        let refused = |what| Err(CodecError::new(ErrorKind::Length, what));
        let float = ParamDtype::from_dtype(dtype).is_some();
        let rows = matches!(shape, BankShape::Tokens { .. });
        match self {
            Self::Planes16 if !matches!(dtype, Dtype::F16 | Dtype::Bf16) => {
                return refused("planes16 serves f16 and bf16 only");
            }
            Self::Planes32 if dtype != Dtype::F32 => return refused("planes32 serves f32 only"),
            Self::Affine { .. } | Self::Q4k if !float || !rows => {
                return refused("a lossy codec serves rows of f16, bf16 and f32 only");
            }
            Self::Affine { .. } if content == Content::Other => {
                return refused("a bank of this kind stays exact");
            }
            Self::Q4k if content != Content::Keys => return refused("q4k serves keys only"),
            _ => {}
        }
        let frames = shape.frames(dtype);
        let bounded = frames.is_some_and(|n| n == 0 || self.max_len(shape, dtype, 0).is_some());
        if !bounded || shape.plain_len(dtype).is_none() {
            return Err(CodecError::new(
                ErrorKind::Length,
                "the bank's lengths overflow or a row is not whole blocks",
            ));
        }
        Ok(())
    }

    /// Bytes of frame `index` once encoded, where they follow from the shape alone.
    #[must_use]
    pub fn encoded_frame_len(self, shape: &BankShape, dtype: Dtype, index: u64) -> Option<u64> {
        self.is_fixed_rate()
            .then(|| self.max_len(shape, dtype, index))
            .flatten()
    }

    /// Bytes that frame `index` can never exceed once encoded (codecs-v1 §8.4).
    #[must_use]
    pub fn max_encoded_frame_len(self, shape: &BankShape, dtype: Dtype, index: u64) -> Option<u64> {
        self.max_len(shape, dtype, index)
    }

    fn max_len(self, shape: &BankShape, dtype: Dtype, index: u64) -> Option<u64> {
        let plain = shape.frame_plain_len(dtype, index)?;
        match (self, shape) {
            (Self::Raw, _) => Some(plain),
            (Self::Planes16 | Self::Planes32, _) => plain.checked_add(1),
            (Self::Affine { bits, group }, BankShape::Tokens { heads, dim, .. }) => {
                affine::row_len(bits, group, ParamDtype::from_dtype(dtype)?, *dim)?
                    .checked_mul(heads.checked_mul(shape.frame_tokens(index))?)
            }
            (Self::Q4k, BankShape::Tokens { heads, dim, .. }) => {
                q4k::head_len(shape.frame_tokens(index), *dim)?.checked_mul(*heads)
            }
            (Self::Affine { .. } | Self::Q4k, BankShape::Whole { .. }) => None,
        }
    }

    /// Encodes one frame: `out` holds the encoded frame and nothing else afterwards.
    ///
    /// # Errors
    /// 903 where `plain` has not the frame's length; 905 where a lossy codec meets a value that is
    /// not finite (or a group whose range it cannot express), with its place; 903 or 904 where the
    /// codec does not serve such frames.
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
            Self::Planes16 | Self::Planes32 => planes::encode(self, ctx, plain, out, scratch),
            Self::Affine { bits, group } => affine::encode(bits, group, ctx, plain, out, scratch),
            Self::Q4k => q4k::encode(ctx, plain, out, scratch),
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
            Self::Planes16 | Self::Planes32 => planes::check(self, ctx, encoded),
            Self::Raw | Self::Affine { .. } | Self::Q4k => Ok(()),
        }
    }

    /// Decodes one frame into `out`, which has the frame's plain length. On an error the content of
    /// `out` is unspecified; nothing beyond it is written.
    ///
    /// # Errors
    /// 902 to 905 where the encoded bytes break a rule (codecs-v1 §9); 903 where `out` or `encoded`
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
            Self::Planes16 | Self::Planes32 => planes::decode(self, ctx, encoded, out, scratch),
            Self::Affine { bits, group } => {
                let rows = 0..ctx.row_count().unwrap_or(0);
                affine::decode((bits, group), ctx, encoded, rows, (out, false), scratch)
            }
            Self::Q4k => q4k::decode(ctx, encoded, out, scratch),
        }
    }

    /// Whether rows of a frame are decoded by themselves here ([`Self::decode_rows`]): by those codecs
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

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())
    }
}

fn check_plain(ctx: &FrameContext<'_>, found: usize) -> Result<(), CodecError> {
    if found == ctx.plain_len {
        return Ok(());
    }
    let expected = u64::try_from(ctx.plain_len).unwrap_or(u64::MAX);
    Err(CodecError::new(ErrorKind::Length, "plain bytes are not one frame").sides(expected, found))
}

pub(crate) fn check_encoded(expected: usize, encoded: &[u8]) -> Result<(), CodecError> {
    if encoded.len() == expected {
        return Ok(());
    }
    let expected = u64::try_from(expected).unwrap_or(u64::MAX);
    Err(
        CodecError::new(ErrorKind::Length, "an encoded frame has another length")
            .sides(expected, encoded.len()),
    )
}
