//! Presets, and the guard that walks to a finer codec (codecs-v1 §11).

use crate::layout::{BankShape, Codec, Content, Dtype, Quality};

/// A choice of codecs by what a bank holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Preset {
    /// Every bit.
    Exact,
    /// 8 bits.
    Q8,
    /// Keys in 8 bits, values in 4: keys are several times as sensitive.
    K8V4,
    /// 4 bits.
    Q4,
    /// Keys un-rotated for each channel, values for each token, 4 bits.
    Q4c,
    /// Entropy-coded frames of one length, of at most so many 1/64 bits a value: tables, a short last
    /// frame and the receipt are counted.
    Rate(u16),
    /// The least rate with which a profile promises at most so much KL divergence, in 1e-9 nat.
    Promise(u32),
}

/// Bounds of error past which a lossy codec is given up for a finer one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Guard {
    /// The largest error that is accepted ([`Quality::guarded`]).
    pub limit: f64,
    /// True if a bank with a value that is not finite stays exact; otherwise it is an error.
    pub exact_where_non_finite: bool,
}

/// Reason for a bank's codec.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// It is the one that was wanted.
    Wanted,
    /// The error of the wanted one was over the limit.
    Error,
    /// The wanted one cannot express some value.
    NonFinite,
}

/// A codec for a bank, and why.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Choice {
    /// The codec to use.
    pub codec: Codec,
    /// Its measured quality; `None` where it is exact.
    pub quality: Option<Quality>,
    /// Reason that it was taken and not the wanted one.
    pub reason: Reason,
    /// The guarded error of the wanted codec, where it was measured.
    pub measured: f64,
    /// The guard's limit.
    pub limit: f64,
}

impl Default for Guard {
    /// The limit of codecs-v1 §11.2, and errors where values are not finite.
    fn default() -> Self {
        Self {
            limit: 0.175,
            exact_where_non_finite: false,
        }
    }
}

impl Preset {
    /// Every preset that is no number, with its name at the command line.
    pub const ALL: [(Self, &'static str); 8] = [
        (Self::Exact, "exact"),
        (Self::Rate(320), "near"),
        (Self::Rate(256), "small"),
        (Self::Rate(192), "tiny"),
        (Self::Q8, "q8"),
        (Self::K8V4, "k8v4"),
        (Self::Q4, "q4"),
        (Self::Q4c, "q4c"),
    ];

    /// Its name at the command line; `tc` for a rate without one, and `auto` for a promise.
    #[must_use]
    pub fn name(self) -> &'static str {
        let named = Self::ALL.into_iter().find(|(preset, _)| *preset == self);
        match (named, self) {
            (Some((_, name)), _) => name,
            (None, Self::Promise(_)) => "auto",
            (None, _) => "tc",
        }
    }

    /// The preset with this name; `q4k` is what `q4c` was called until 2026-11. `tc:3.5` is a rate in
    /// bits a value, `auto:1e-3` a KL divergence in nats that a profile promises.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        if let Some(bits) = name.strip_prefix("tc:") {
            return rate(bits).map(Self::Rate);
        }
        if let Some(nats) = name.strip_prefix("auto:") {
            return promise(nats).map(Self::Promise);
        }
        let name = if name == "q4k" { "q4c" } else { name };
        let named = Self::ALL.into_iter().find(|(_, known)| *known == name);
        named.map(|(preset, _)| preset)
    }

    /// The codec that the preset wants for a bank: raw wherever the lossy one does not serve it.
    #[must_use]
    pub fn codec(self, dtype: Dtype, shape: &BankShape, content: Content) -> Codec {
        let q8 = Codec::Affine { bits: 8, group: 64 };
        let q4 = Codec::Affine { bits: 4, group: 64 };
        let wanted = match (self, content) {
            (Self::Exact | Self::Promise(_), _) | (_, Content::Other) => Codec::Raw,
            (Self::Q8, _) | (Self::K8V4, Content::Keys | Content::Latent) => q8,
            (Self::Q4c, Content::Keys) => Codec::KeyChannel,
            // A latent is keys and values at once.
            (Self::Q4 | Self::Q4c, Content::Latent) => q8,
            (Self::K8V4 | Self::Q4 | Self::Q4c, _) => q4,
            (Self::Rate(rate), _) => Codec::within(0, rate, dtype, shape),
        };
        match wanted.applies(dtype, shape, content) {
            Ok(()) => wanted,
            Err(_) => Codec::Raw,
        }
    }
}

/// A rate in 1/64 bit, rounded down, that a codec has.
fn rate(bits: &str) -> Option<u16> {
    let plain = bits
        .bytes()
        .all(|byte| byte.is_ascii_digit() || byte == b'.');
    let bits: f64 = bits.parse().ok().filter(|_| plain)?;
    (Codec::MIN_RATE..=Codec::MAX_RATE)
        .rev()
        .find(|rate| f64::from(*rate) <= bits * 64.0)
        .filter(|_| bits <= 16.0)
}

/// A KL divergence in 1e-9 nat, rounded down.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "bounded before"
)]
fn promise(nats: &str) -> Option<u32> {
    let nats: f64 = nats.parse().ok()?;
    (1e-9..=4.0).contains(&nats).then_some((nats * 1e9) as u32)
}

/// Bytes of a receipt (codecs-v1 §10.1).
const RECEIPT: u64 = 32;

impl Codec {
    /// The finest codec of a transform whose stream and receipt have at most `rate` 1/64 bits a value; the
    /// coarsest where a bank is too short for any.
    #[must_use]
    pub fn within(transform: u8, rate: u16, dtype: Dtype, shape: &BankShape) -> Self {
        let of = |rate| Self::Transform { transform, rate };
        let fits = |codec: &Self| {
            let BankShape::Tokens { heads, tokens, dim } = shape else {
                return false;
            };
            let budget = || {
                let values = heads.checked_mul(*tokens)?.checked_mul(*dim)?;
                Some(values.checked_mul(rate.into())? / 512)
            };
            let last = shape.frames(dtype).and_then(|frames| frames.checked_sub(1));
            let len = || {
                let whole = codec
                    .encoded_frame_len(shape, dtype, 0)?
                    .checked_mul(last?)?;
                let short = codec.encoded_frame_len(shape, dtype, last?)?;
                whole.checked_add(short)?.checked_add(RECEIPT)
            };
            len()
                .zip(budget())
                .is_some_and(|(len, budget)| len <= budget)
        };
        let rates = (Self::MIN_RATE..=rate.max(Self::MIN_RATE)).rev();
        let found = rates.map(of).find(fits);
        found.unwrap_or(of(Self::MIN_RATE))
    }

    /// The next finer codec of the ladder 3, 4, 5, 6, 8 bits, exact; after 4 bits of keys whose turns are
    /// known (`turned`) comes [`Self::KeyChannel`].
    #[must_use]
    pub const fn finer(self, turned: bool) -> Self {
        match self {
            Self::Affine { bits: 3, group } => Self::Affine { bits: 4, group },
            Self::Affine { bits: 4, .. } if turned => Self::KeyChannel,
            Self::Affine { bits: 4, group } => Self::Affine { bits: 5, group },
            Self::KeyChannel => Self::Affine { bits: 5, group: 64 },
            Self::Transform { .. } => Self::Affine { bits: 8, group: 64 },
            Self::Affine { bits: 5, group } => Self::Affine { bits: 6, group },
            Self::Affine { bits: 6, group } => Self::Affine { bits: 8, group },
            Self::Affine { .. } | Self::Raw | Self::Planes16 | Self::Planes32 => Self::Raw,
        }
    }
}

/// The coarsest codec, from `wanted` on, whose measured error the guard accepts.
///
/// `turned` says that the bank is of keys whose turns are known; `measure` encodes and decodes the whole
/// bank ([`Measurement`](crate::Measurement));
/// `is_non_finite` tells the errors that stand for a value that is not finite.
///
/// # Errors
/// What `measure` gives, but for values that are not finite where the guard keeps such banks exact.
pub fn choose<E>(
    wanted: Codec,
    turned: bool,
    guard: Guard,
    mut measure: impl FnMut(Codec) -> Result<Quality, E>,
    is_non_finite: impl Fn(&E) -> bool,
) -> Result<Choice, E> {
    let mut choice = Choice {
        codec: wanted,
        quality: None,
        reason: Reason::Wanted,
        measured: 0.0,
        limit: guard.limit,
    };
    while !choice.codec.is_exact() {
        match measure(choice.codec) {
            Ok(quality) => {
                let error = quality.guarded();
                if choice.codec == wanted {
                    choice.measured = error;
                }
                if error <= guard.limit {
                    choice.quality = Some(quality);
                    break;
                }
                if choice.reason == Reason::Wanted {
                    choice.reason = Reason::Error;
                }
            }
            Err(error) if guard.exact_where_non_finite && is_non_finite(&error) => {
                choice.reason = Reason::NonFinite;
            }
            Err(error) => return Err(error),
        }
        choice.codec = choice.codec.finer(turned);
    }
    Ok(choice)
}
