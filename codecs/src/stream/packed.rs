//! Streams of frames of varying length: frames, zero padding, index (codecs-v1 §8).
//!
//! ```text
//! frame 0 ‖ frame 1 ‖ … ‖ zeros ‖ n × u32 LE frame lengths
//! ```
//!
//! The whole has a length that a [`Padding`] gives, so that only that step is public; the index is
//! the last `4 · n` bytes, and `n` follows from the bank's shape.

use std::ops::Range;

use crate::layout::{BankShape, Codec, CodecError, Dtype, ErrorKind, INDEX_ENTRY, Padding};

/// Bytes of the index of `frames` frames.
#[must_use]
pub fn index_len(frames: u64) -> Option<u64> {
    frames.checked_mul(INDEX_ENTRY)
}

/// Appends the index entry of a frame of `encoded_len` bytes.
///
/// # Errors
/// 904 where the frame is longer than an entry can say.
pub fn push_entry(index: &mut Vec<u8>, encoded_len: usize) -> Result<(), CodecError> {
    let len = u32::try_from(encoded_len)
        .map_err(|_| CodecError::new(ErrorKind::Bounds, "a frame is longer than 4 GiB"))?;
    index.extend_from_slice(&len.to_le_bytes());
    Ok(())
}

/// A checked index: where each frame of a stream lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Index {
    /// `ends[i]` is the end of frame `i`.
    ends: Vec<u64>,
    padding_end: u64,
}

impl Index {
    /// Reads the last `4 · n` bytes of a stream of `stream_len` bytes.
    ///
    /// # Errors
    /// 903 where the index has not one entry a frame, or the frames do not give `stream_len` by any
    /// [`Padding`]; 904 where a frame is empty or longer than its codec's worst case.
    pub fn parse(
        codec: Codec,
        shape: &BankShape,
        dtype: Dtype,
        index: &[u8],
        stream_len: u64,
    ) -> Result<Self, CodecError> {
        let length = |what| CodecError::new(ErrorKind::Length, what);
        let overflow = length("the bank's lengths overflow");
        let frames = shape.frames(dtype).ok_or(overflow)?;
        let expected = index_len(frames).ok_or(overflow)?;
        if u64::try_from(index.len()) != Ok(expected) {
            return Err(length("the frame index has not one entry for each frame")
                .sides(expected, index.len()));
        }
        let mut ends = Vec::with_capacity(index.len() / 4);
        let mut end = 0_u64;
        let (entries, _) = index.as_chunks::<4>();
        for (frame, entry) in (0..).zip(entries) {
            let len = u64::from(u32::from_le_bytes(*entry));
            let limit = codec
                .max_encoded_frame_len(shape, dtype, frame)
                .ok_or(overflow)?;
            if len == 0 || len > limit {
                return Err(CodecError::new(
                    ErrorKind::Bounds,
                    "a frame's length is outside its codec's bounds",
                ));
            }
            end = end.checked_add(len).ok_or(overflow)?;
            ends.push(end);
        }
        let used = end.checked_add(expected).ok_or(overflow)?;
        let padded = [Padding::Padme, Padding::Fine].map(|padding| padding.padded(used));
        if !padded.contains(&Some(stream_len)) {
            return Err(length(
                "the stream's length is not the padded sum of its frames",
            ));
        }
        Ok(Self {
            ends,
            padding_end: stream_len - expected,
        })
    }

    /// Number of frames.
    #[must_use]
    pub fn frames(&self) -> usize {
        self.ends.len()
    }

    /// Bytes of frame `index` within the stream.
    #[must_use]
    pub fn frame(&self, index: usize) -> Option<Range<u64>> {
        let end = *self.ends.get(index)?;
        let start = match index.checked_sub(1) {
            Some(before) => *self.ends.get(before)?,
            None => 0,
        };
        Some(start..end)
    }

    /// The padding between the frames and the index; [`check_padding`] is for its bytes.
    #[must_use]
    pub fn padding(&self) -> Range<u64> {
        self.ends.last().copied().unwrap_or(0)..self.padding_end
    }
}

/// Checks bytes of the padding, in any pieces.
///
/// # Errors
/// 902 where one is not zero.
pub fn check_padding(bytes: &[u8]) -> Result<(), CodecError> {
    if bytes.iter().fold(0, |all, byte| all | byte) != 0 {
        return Err(CodecError::new(
            ErrorKind::Malformed,
            "a padding byte of the stream is not zero",
        ));
    }
    Ok(())
}
