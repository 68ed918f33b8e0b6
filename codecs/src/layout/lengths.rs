//! Lengths of encoded frames and packed streams: the arithmetic of the shape, without data
//! (codecs-v1 §4, §6, §7 and §8.4).

use super::{AffineParams, BLOCK_TOKENS, BankShape, Codec, Dtype, Padding, ParamDtype};

/// Tokens of keys that share a scale and a bias of each channel (codecs-v1 §7).
pub(crate) const GROUP_TOKENS: usize = 64;

const _: () = assert!(
    BLOCK_TOKENS.is_multiple_of(GROUP_TOKENS as u64),
    "groups do not cross frames"
);

/// Bytes of one frame's entry in the index of a packed stream (codecs-v1 §8.1).
pub(crate) const INDEX_ENTRY: u64 = 4;

impl Codec {
    /// Bytes of frame `index` once encoded, where they follow from the shape alone.
    #[must_use]
    pub fn encoded_frame_len(self, shape: &BankShape, dtype: Dtype, index: u64) -> Option<u64> {
        self.is_fixed_rate()
            .then(|| self.max_encoded_frame_len(shape, dtype, index))
            .flatten()
    }

    /// Bytes that frame `index` can never exceed once encoded (codecs-v1 §8.4).
    #[must_use]
    pub fn max_encoded_frame_len(self, shape: &BankShape, dtype: Dtype, index: u64) -> Option<u64> {
        let plain = shape.frame_plain_len(dtype, index)?;
        match (self, shape) {
            (Self::Raw, _) => Some(plain),
            (Self::Planes16 | Self::Planes32, _) => plain.checked_add(1),
            (Self::Affine { bits, group }, BankShape::Tokens { heads, dim, .. }) => {
                affine_row_len(bits, group, ParamDtype::from_dtype(dtype)?, *dim)?
                    .checked_mul(heads.checked_mul(shape.frame_tokens(index))?)
            }
            (Self::KeyChannel, BankShape::Tokens { heads, dim, .. }) => {
                key_head_len(shape.frame_tokens(index), *dim)?.checked_mul(*heads)
            }
            (Self::Transform { rate, .. }, BankShape::Tokens { heads, dim, .. }) => {
                transform_len(rate, heads.checked_mul(*dim)?, shape.frame_tokens(index))
            }
            (
                Self::Affine { .. } | Self::KeyChannel | Self::Transform { .. },
                BankShape::Whole { .. },
            ) => None,
        }
    }

    /// Bytes that a packed stream of this bank can never exceed, whatever its padding (codecs-v1
    /// §8.4).
    #[must_use]
    pub fn max_stream_len(self, shape: &BankShape, dtype: Dtype) -> Option<u64> {
        let frames = shape.frames(dtype)?;
        let Some(last) = frames.checked_sub(1) else {
            return Some(0);
        };
        // Every frame but the last has the length of the first.
        let whole = self.max_encoded_frame_len(shape, dtype, 0)?;
        let data = last
            .checked_mul(whole)?
            .checked_add(self.max_encoded_frame_len(shape, dtype, last)?)?;
        let index = frames.checked_mul(INDEX_ENTRY)?;
        // never less than any other's
        Padding::Padme.padded(data.checked_add(index)?)
    }
}

/// Encoded bytes of an affine row of `dim` elements.
fn affine_row_len(bits: u8, group: u16, params: ParamDtype, dim: u64) -> Option<u64> {
    let (codes, scales) = AffineParams::new(bits, group, params)?.row_sections(dim)?;
    codes.checked_add(scales.checked_mul(2)?)
}

/// Bytes of a frame of coefficients before its tables: its header and the states of its lanes.
pub(crate) const TRANSFORM_HEADER: u32 = 8 + 4 * 32;

/// Encoded bytes of one frame of coefficients of `channels` channels (codecs-v1 §12.1).
fn transform_len(rate: u16, channels: u64, tokens: u64) -> Option<u64> {
    let values = channels.checked_mul(tokens)?;
    let overhead = channels
        .checked_mul(2)?
        .checked_add(TRANSFORM_HEADER.into())?;
    let missing = BLOCK_TOKENS.checked_sub(tokens)?;
    let rated = values.checked_mul(rate.into())? / 512;
    let short = overhead.checked_mul(missing)? / BLOCK_TOKENS;
    let least = overhead.checked_add(values.div_ceil(256))?;
    Some(rated.checked_add(short)?.max(least))
}

/// Encoded bytes of a head of one frame of keys.
fn key_head_len(tokens: u64, dim: u64) -> Option<u64> {
    let codes = tokens.checked_mul(dim.div_ceil(2))?;
    let groups = tokens.div_ceil(GROUP_TOKENS as u64);
    let scales = groups.checked_mul(dim)?.checked_mul(2)?;
    codes.checked_add(scales.checked_mul(2)?)
}
