//! The registry of codecs, and where each applies (codecs-v1 §3).

use std::fmt;

use super::{AffineParams, BankShape, CodecError, Content, Dtype, ErrorKind, ParamDtype};

/// A codec with its parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Codec {
    /// Every bit, as it is. Serves every element type.
    Raw,
    /// Every bit, smaller: the exponents of 16-bit floats entropy-coded. Length depends on content.
    Planes16,
    /// Lossless byte planes of binary32.
    Planes32,
    /// `q · scale + bias` for each group along head_dim, in MLX's section layout.
    Affine {
        /// Bits of a code: 3, 4, 5, 6 or 8.
        bits: u8,
        /// Elements that share a scale and a bias: 32, 64 or 128.
        group: u16,
    },
    /// Keys, un-rotated and quantized to 4 bits for each channel over 64 tokens.
    KeyChannel,
    /// Entropy-coded coefficients in frames of one length.
    Transform {
        /// Transform before quantization: 0, none but the keys' rotation undone; by a profile then 1, of
        /// each head, or 2, of all heads.
        transform: u8,
        /// Rate in units of 1/64 bit a value, everything counted: [`MIN_RATE`](Self::MIN_RATE) to
        /// [`MAX_RATE`](Self::MAX_RATE).
        rate: u16,
    },
}

impl Codec {
    /// The codecs that the presets use, and the name of each.
    const NAMED: [Self; 5] = [
        Self::Raw,
        Self::Planes16,
        Self::Planes32,
        Self::KeyChannel,
        Self::Affine { bits: 8, group: 64 },
    ];

    /// The least rate of [`Self::Transform`]: a quarter of a bit.
    pub const MIN_RATE: u16 = 16;
    /// The greatest rate of [`Self::Transform`]: 16 bits.
    pub const MAX_RATE: u16 = 1024;

    /// The registered id (codecs-v1 §3.1).
    #[must_use]
    pub const fn id(self) -> u8 {
        match self {
            Self::Raw => 0,
            Self::Planes16 => 1,
            Self::Affine { .. } => 2,
            Self::KeyChannel => 3,
            Self::Planes32 => 4,
            Self::Transform { .. } => 5,
        }
    }

    /// The parameters, in the order of the registry.
    #[must_use]
    pub fn params(self) -> Vec<u64> {
        match self {
            Self::Affine { bits, group } => vec![bits.into(), group.into()],
            Self::Transform { transform, rate } => vec![transform.into(), rate.into()],
            Self::Raw | Self::Planes16 | Self::Planes32 | Self::KeyChannel => Vec::new(),
        }
    }

    /// The codec with this id and these parameters.
    ///
    /// # Errors
    /// 901 where the id is not registered, or the parameters are not among the codec's.
    pub fn from_id(id: u64, params: &[u64]) -> Result<Self, CodecError> {
        let known = match (id, params) {
            (2, [bits, group]) => Self::affine(*bits, *group),
            (5, [transform, rate]) => Self::transform(*transform, *rate),
            (_, []) => Self::NAMED
                .into_iter()
                .find(|codec| u64::from(codec.id()) == id && codec.params().is_empty()),
            _ => None,
        };
        known.ok_or(CodecError::new(
            ErrorKind::Unknown,
            "the codec or its parameters are not registered",
        ))
    }

    fn affine(bits: u64, group: u64) -> Option<Self> {
        let (bits, group) = (u8::try_from(bits).ok()?, u16::try_from(group).ok()?);
        AffineParams::new(bits, group, ParamDtype::F16).map(|_| Self::Affine { bits, group })
    }

    fn transform(transform: u64, rate: u64) -> Option<Self> {
        let rate = u16::try_from(rate).ok()?;
        let transform = u8::try_from(transform).ok()?;
        let known = transform <= 2 && (Self::MIN_RATE..=Self::MAX_RATE).contains(&rate);
        known.then_some(Self::Transform { transform, rate })
    }

    /// Its name: `raw`, `planes16`, `planes32`, `q4c`, `q8_g64`, `tc0_r192`.
    #[must_use]
    pub fn name(self) -> String {
        match self {
            Self::Raw => "raw".to_owned(),
            Self::Planes16 => "planes16".to_owned(),
            Self::Planes32 => "planes32".to_owned(),
            Self::KeyChannel => "q4c".to_owned(),
            Self::Affine { bits, group } => format!("q{bits}_g{group}"),
            Self::Transform { transform, rate } => format!("tc{transform}_r{rate}"),
        }
    }

    /// The codec with this name; `q4k` is what `q4c` was called until 2026-11.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        let numbers = |prefix, separator| {
            let (first, second) = name.strip_prefix(prefix)?.split_once(separator)?;
            Some((first.parse().ok()?, second.parse().ok()?))
        };
        let with_params = numbers("q", "_g")
            .and_then(|(bits, group)| Self::affine(bits, group))
            .or_else(|| numbers("tc", "_r").and_then(|(kind, rate)| Self::transform(kind, rate)));
        let name = if name == "q4k" { "q4c" } else { name };
        Self::NAMED
            .into_iter()
            .chain(with_params)
            .find(|codec| codec.name() == name)
    }

    /// Returns whether every bit comes back.
    #[must_use]
    pub const fn is_exact(self) -> bool {
        matches!(self, Self::Raw | Self::Planes16 | Self::Planes32)
    }

    /// Returns whether it decodes with a profile (codecs-v1 §12.7).
    #[must_use]
    pub const fn needs_profile(self) -> bool {
        matches!(self, Self::Transform { transform: 1.., .. })
    }

    /// Returns whether encoded lengths follow from the shape alone. Streams of other codecs are packed
    /// (codecs-v1 §8) and reveal how compressible the content is.
    #[must_use]
    pub const fn is_fixed_rate(self) -> bool {
        !matches!(self, Self::Planes16 | Self::Planes32)
    }

    /// Returns whether the codec may be used for such a bank (codecs-v1 §3.2).
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
            Self::Affine { .. } | Self::KeyChannel | Self::Transform { .. } if !float || !rows => {
                return refused("a lossy codec serves rows of f16, bf16 and f32 only");
            }
            Self::Affine { .. } | Self::Transform { .. } if content == Content::Other => {
                return refused("a bank of this kind stays exact");
            }
            Self::KeyChannel if content != Content::Keys => return refused("q4c serves keys only"),
            Self::Transform { transform: 1.., .. } if !transformed(self, shape) => {
                return refused("a transform serves fewer channels only");
            }
            _ => {}
        }
        let frames = shape.frames(dtype);
        let bounded =
            frames.is_some_and(|n| n == 0 || self.max_encoded_frame_len(shape, dtype, 0).is_some());
        if !bounded || shape.plain_len(dtype).is_none() {
            return Err(CodecError::new(
                ErrorKind::Length,
                "the bank's lengths overflow or a row is not whole blocks",
            ));
        }
        Ok(())
    }
}

/// Channels that transform 2 takes together at most.
pub(crate) const JOINT_CHANNELS: usize = 1024;

/// Whether the matrices of a transform are within their limits (codecs-v1 §12.7).
fn transformed(codec: Codec, shape: &BankShape) -> bool {
    let BankShape::Tokens { heads, dim, .. } = *shape else {
        return false;
    };
    let joint = matches!(codec, Codec::Transform { transform: 2, .. });
    let most = if joint { JOINT_CHANNELS as u64 } else { 16_384 };
    let channels = heads.checked_mul(dim);
    (1..=1024).contains(&heads) && (1..=1024).contains(&dim) && channels.is_some_and(|n| n <= most)
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())
    }
}
