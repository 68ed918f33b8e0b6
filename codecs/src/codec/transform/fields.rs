//! The fields of a frame (codecs-v1 §12.2).

use super::malformed;
use crate::{
    coefficients::{Buffers, LANES, RENORM, Table, steps},
    frame::FrameContext,
    layout::{BankShape, Codec, CodecError, ErrorKind, ParamDtype, TRANSFORM_HEADER},
};

/// The most rows of a frame that are stored as they are.
const STORED_ROWS: usize = 16;
/// The most bits of an offset.
const OFFSET_BITS: u8 = 16;
/// Bits of the number of a table.
pub(super) const TABLE_BITS: u8 = 6;

/// Extent of a frame before and after it is encoded.
pub(super) struct Extent {
    pub(super) heads: usize,
    pub(super) tokens: usize,
    pub(super) dim: usize,
    /// Bytes of an element.
    pub(super) element: usize,
    pub(super) encoded_len: usize,
}

impl Extent {
    pub(super) fn new(rate: u16, ctx: &FrameContext<'_>) -> Result<Self, CodecError> {
        let unknown = CodecError::new(
            ErrorKind::Length,
            "tc does not serve this element type or shape",
        );
        let params = ParamDtype::from_dtype(ctx.dtype).ok_or(unknown)?;
        let [heads, tokens, dim] = ctx.extent().ok_or(unknown)?;
        let wide = |n: usize| u64::try_from(n).map_err(|_| unknown);
        let shape = BankShape::Tokens {
            heads: wide(heads)?,
            tokens: wide(tokens)?,
            dim: wide(dim)?,
        };
        let codec = Codec::Transform { transform: 0, rate };
        let len = codec.encoded_frame_len(&shape, ctx.dtype, 0);
        let encoded_len = len.and_then(|len| usize::try_from(len).ok());
        Ok(Self {
            heads,
            tokens,
            dim,
            element: if params == ParamDtype::F32 { 4 } else { 2 },
            encoded_len: encoded_len.ok_or(unknown)?,
        })
    }

    pub(super) const fn channels(&self) -> usize {
        self.heads * self.dim
    }

    /// Plain bytes of a head.
    pub(super) const fn head_len(&self) -> usize {
        self.tokens * self.dim * self.element
    }

    /// Bytes of a row of every head.
    pub(super) const fn rows_len(&self, rows: usize) -> usize {
        rows * self.channels() * self.element
    }
}

/// A frame, cut.
pub(super) struct Fields<'a> {
    /// k: the step is 2^(k/32).
    pub(super) step: i16,
    /// Rows of each head that are stored as they are.
    pub(super) stored_rows: usize,
    pub(super) states: [u32; LANES],
    pub(super) stored: &'a [u8],
    pub(super) escapes: &'a [u8],
    pub(super) words: &'a [u8],
}

impl<'a> Fields<'a> {
    /// Cuts a frame of the right length; tables and offsets of the channels are left in `buffers`.
    pub(super) fn parse(
        extent: &Extent,
        transform: u8,
        encoded: &'a [u8],
        buffers: &mut Buffers,
    ) -> Result<Self, CodecError> {
        let bounds = CodecError::new(ErrorKind::Bounds, "a frame's fields are over their bounds");
        let header = TRANSFORM_HEADER as usize;
        let (header, rest) = encoded.split_at_checked(header).ok_or(bounds)?;
        let [
            k0,
            k1,
            stored_rows,
            offset_bits,
            e0,
            e1,
            e2,
            e3,
            states @ ..,
        ] = header
        else {
            return Err(bounds);
        };
        let step = i16::from_le_bytes([*k0, *k1]);
        let stored_rows = usize::from(*stored_rows);
        let escapes = u32::from_le_bytes([*e0, *e1, *e2, *e3]);
        let escapes = usize::try_from(escapes).map_err(|_| bounds)?;
        let channels = extent.channels();
        if !steps(transform).contains(&step)
            || stored_rows > STORED_ROWS.min(extent.tokens)
            || *offset_bits > OFFSET_BITS
            || escapes > channels * (extent.tokens - stored_rows)
        {
            return Err(bounds);
        }
        let mut rest = rest;
        let mut cut = |len: usize| -> Result<&'a [u8], CodecError> {
            let (field, after) = rest.split_at_checked(len).ok_or(bounds)?;
            rest = after;
            Ok(field)
        };
        let tables = cut(stream_len(channels, TABLE_BITS))?;
        let offsets = cut(stream_len(channels, *offset_bits))?;
        let stored = cut(extent.rows_len(stored_rows))?;
        let escapes = cut(2 * escapes)?;
        let mut lanes = [RENORM; LANES];
        for (lane, bytes) in lanes.iter_mut().zip(states.as_chunks().0) {
            *lane = u32::from_le_bytes(*bytes);
        }
        if lanes.iter().any(|lane| *lane < RENORM) {
            return Err(malformed("the state of a lane is too small"));
        }
        buffers.tables.clear();
        for number in numbers(tables, channels, TABLE_BITS)? {
            let number = u8::try_from(number).unwrap_or(Table::COUNT);
            let table =
                Table::numbered(number).ok_or(malformed("a channel has an unknown table"))?;
            buffers.tables.push(table);
        }
        buffers.offsets.clear();
        let unused = 16 - u32::from(*offset_bits);
        let extended = |n: u16| (n << (unused % 16)).cast_signed() >> (unused % 16);
        let offsets = numbers(offsets, channels, *offset_bits)?;
        buffers.offsets.extend(offsets.map(extended));
        Ok(Self {
            step,
            stored_rows,
            states: lanes,
            stored,
            escapes,
            words: rest,
        })
    }

    /// The byte after the last word that the frame has room for.
    pub(super) fn odd_byte(&self) -> &'a [u8] {
        self.words.as_chunks::<2>().1
    }
}

/// Bytes of a stream of so many numbers.
pub(super) const fn stream_len(count: usize, bits: u8) -> usize {
    (count * bits as usize).div_ceil(8)
}

/// The numbers of a little-endian stream of bits whose length fits; refused where bits are left over.
fn numbers(stream: &[u8], count: usize, bits: u8) -> Result<impl Iterator<Item = u16>, CodecError> {
    let used = count * usize::from(bits) % 8;
    if used > 0 && stream.last().is_some_and(|last| last >> used != 0) {
        return Err(malformed("bits after the last channel are not zero"));
    }
    let mask = ((1_u32 << bits) - 1) & 0xffff;
    Ok((0..count).map(move |at| {
        let first = at * usize::from(bits);
        let mut word = [0; 4];
        let bytes = stream.get(first / 8..).unwrap_or_default();
        for (to, from) in word.iter_mut().zip(bytes) {
            *to = *from;
        }
        let number = u32::from_le_bytes(word) >> (first % 8) & mask;
        u16::try_from(number).unwrap_or(0)
    }))
}

/// Writes numbers as a little-endian stream of bits at the end of `out`; what is above `bits` is dropped.
pub(super) fn push_numbers(out: &mut Vec<u8>, bits: u8, numbers: impl Iterator<Item = u16>) {
    let mask = (1_u64 << bits) - 1;
    let (mut held, mut have) = (0_u64, 0);
    for number in numbers {
        held |= (u64::from(number) & mask) << have;
        have += u32::from(bits);
        while have >= 8 {
            out.push(held.to_le_bytes()[0]);
            held >>= 8;
            have -= 8;
        }
    }
    if have > 0 {
        out.push(held.to_le_bytes()[0]);
    }
}
