//! One bank between its plain frames and its encoded stream.

use std::{ops::Range, sync::Arc};

use kvcap::{
    BankEntry, Code, Error, Opened, ReadAt, Result, RotationTable, RowsEntry, StreamReader,
    binding::F64Bits,
};
use kvcap_codecs::{
    Codec, CodecError, FrameContext, FrameQuality, Measurement, Padding, Positions, Quality,
    Rotation, Scratch, aligned, packed,
};

use crate::{
    profiles::KnownProfile,
    state::{
        Placed, WriteAt,
        file::{output_error, overflow},
    },
};

/// What a codec says of a bank's frames, in a form that owns its tables.
pub(crate) struct BankCodec<'a> {
    bank: &'a BankEntry,
    rotation: Option<(kvcap_codecs::Pairing, Vec<f64>)>,
    /// Positions of listed rows.
    listed: Arc<[i64]>,
    profile: Option<Arc<KnownProfile>>,
}

/// A codec's refusal as ours.
pub(crate) fn codec_error(error: &CodecError) -> Error {
    let code = Code::from_number(error.code()).unwrap_or(Code::CodecMalformed);
    Error::new(code, error.to_string())
}

impl<'a> BankCodec<'a> {
    /// `listed` are the positions of the rows where the bank's entry names a section of them.
    /// `profile` is the capsule's, where it has one.
    pub(crate) fn new(
        bank: &'a BankEntry,
        tables: &[RotationTable],
        listed: Arc<[i64]>,
        profile: Option<Arc<KnownProfile>>,
    ) -> Self {
        let table = bank
            .rotation
            .and_then(|at| tables.get(usize::try_from(at).ok()?));
        Self {
            bank,
            rotation: table.map(|table| (table.pairing, floats(&table.frequencies))),
            listed,
            profile,
        }
    }

    pub(crate) fn frame(&self, index: u64) -> Result<FrameContext<'_>> {
        let bank = self.bank;
        let frame =
            FrameContext::new(&bank.shape, bank.dtype, index).map_err(|e| codec_error(&e))?;
        let frame = match &self.profile {
            Some(profile) if bank.codec.needs_profile() => {
                frame.with_profile(profile.of_bank(bank)?)
            }
            _ => frame,
        };
        let Some((pairing, inv_freq)) = &self.rotation else {
            return Ok(frame);
        };
        let positions = match bank.rows {
            RowsEntry::From(start) => Positions::From(i64::try_from(start).unwrap_or(i64::MAX)),
            _ => Positions::Listed(&self.listed),
        };
        let rotation = Rotation {
            pairing: *pairing,
            inv_freq,
        };
        Ok(frame.with_rotation(rotation, positions))
    }

    pub(crate) fn frames(&self) -> u64 {
        self.bank.shape.frames(self.bank.dtype).unwrap_or(0)
    }

    /// Whether every bit comes back.
    pub(crate) fn is_exact(&self) -> bool {
        self.bank.codec.is_exact()
    }

    /// Whether frames vary in length, and an index follows them.
    pub(crate) fn is_packed(&self) -> bool {
        !self.bank.codec.is_fixed_rate()
    }

    /// How many frames are worth handling at a time: those of a chunk, where chunks are whole frames.
    pub(crate) fn batch(&self) -> u64 {
        let bank = self.bank;
        let fixed = bank
            .codec
            .encoded_frame_len(&bank.shape, bank.dtype, 0)
            .filter(|frame| *frame > 0 && bank.chunk_len.is_multiple_of(*frame));
        let plain = bank.shape.frame_plain_len(bank.dtype, 0);
        match (fixed, plain) {
            (Some(frame), _) => bank.chunk_len / frame,
            (None, Some(plain)) => (bank.chunk_len / plain.max(1)).max(1),
            (None, None) => 1,
        }
    }

    /// Encodes the plain frame in `buffers`.
    pub(crate) fn encode_frame(&self, index: u64, buffers: &mut Buffers) -> Result<()> {
        let codec = self.bank.codec;
        if codec == Codec::Raw {
            return Ok(());
        }
        let frame = self.frame(index)?;
        let (out, scratch) = (&mut buffers.encoded, &mut buffers.codec);
        let encoded = codec.encode_frame(&frame, &buffers.plain, out, scratch);
        encoded.map_err(|error| codec_error(&error).at(self.name()))
    }

    /// What [`Self::encode_frame`] made.
    pub(crate) fn encoded_of<'b>(&self, buffers: &'b mut Buffers) -> &'b mut Vec<u8> {
        match self.bank.codec {
            Codec::Raw => &mut buffers.plain,
            _ => &mut buffers.encoded,
        }
    }

    /// What encoding and decoding did to the frame in `buffers`.
    pub(crate) fn measure_frame(&self, index: u64, buffers: &mut Buffers) -> Result<FrameQuality> {
        let frame = self.frame(index)?;
        let measured = self.measure(&frame, buffers);
        measured.map_err(|error| codec_error(&error).at(self.name()))
    }

    /// The receipt of a lossy bank, whose frames `read` gives.
    pub(crate) fn receipt(
        &self,
        buffers: &mut Buffers,
        mut read: impl FnMut(u64, &mut Vec<u8>) -> Result<()>,
    ) -> Result<Quality> {
        let mut measurement = Measurement::new();
        for at in 0..self.frames() {
            read(at, &mut buffers.plain)?;
            self.encode_frame(at, buffers)?;
            measurement.add(&self.measure_frame(at, buffers)?);
        }
        Ok(measurement.finish())
    }

    fn measure(
        &self,
        frame: &FrameContext<'_>,
        scratch: &mut Buffers,
    ) -> std::result::Result<FrameQuality, CodecError> {
        let Buffers {
            plain,
            encoded,
            decoded,
            codec,
        } = scratch;
        let decoded = aligned(decoded, plain.len());
        self.bank
            .codec
            .decode_frame(frame, encoded, decoded, codec)?;
        FrameQuality::measure(frame, plain, decoded, codec)
    }

    /// The plain bytes of a frame: decoded into `out`, or where nothing is to be done `encoded`.
    pub(crate) fn plain<'b>(
        &self,
        index: u64,
        encoded: &'b [u8],
        out: &'b mut Vec<u8>,
        scratch: &mut Scratch,
    ) -> Result<&'b [u8]> {
        let codec = self.bank.codec;
        if codec == Codec::Raw {
            return Ok(encoded);
        }
        let frame = self.frame(index)?;
        let refused = |error: CodecError| codec_error(&error).at(self.name());
        // a few bytes must not ask for all that a shape may claim
        codec.check_frame(&frame, encoded).map_err(refused)?;
        let out = aligned(out, frame.plain_len());
        codec
            .decode_frame(&frame, encoded, out, scratch)
            .map_err(refused)?;
        Ok(out)
    }

    /// Decodes a frame to its place in `out`: run by run where rows are decoded by themselves and lie there
    /// as they are, otherwise whole and then written. Gives its plain bytes.
    pub(crate) fn write(
        &self,
        placed: &Placed,
        out: &dyn WriteAt,
        (index, encoded): (u64, &[u8]),
        (plain, scratch): &mut (Vec<u8>, Scratch),
    ) -> Result<usize> {
        let frame = self.frame(index)?;
        let in_runs = match self.row_len(&frame, scratch) {
            None => false,
            Some(row) => placed.each_rows(index, |offset, rows| {
                let len = rows.len().saturating_mul(row);
                let mut decoded = Ok(());
                let mut decode = |place: &mut [u8], past_cache| {
                    let rows = rows.clone();
                    decoded = self.rows(&frame, encoded, rows, (place, past_cache), scratch);
                };
                if out.lend(offset, len, &mut decode) {
                    return decoded;
                }
                let plain = aligned(plain, len);
                decode(plain, false);
                decoded?;
                let written = out.write_all_at(offset, plain);
                written.map_err(|error| output_error(&error))
            })?,
        };
        if !in_runs {
            let plain = self.plain(index, encoded, plain, scratch)?;
            placed.write_frame(out, index, plain)?;
        }
        Ok(frame.plain_len())
    }

    /// Decodes a frame into `runs`, which are its plain bytes in order, each of them whole rows.
    pub(crate) fn fill(
        &self,
        runs: &mut [&mut [u8]],
        (index, encoded): (u64, &[u8]),
        (plain, scratch): &mut (Vec<u8>, Scratch),
    ) -> Result<()> {
        let frame = self.frame(index)?;
        if let Some(row) = self.row_len(&frame, scratch) {
            let mut first = 0;
            for run in runs {
                let rows = first..first + run.len() / row;
                first = rows.end;
                self.rows(&frame, encoded, rows, (run, false), scratch)?;
            }
            return Ok(());
        }
        let mut rest = self.plain(index, encoded, plain, scratch)?;
        for run in runs {
            let (now, later) = rest.split_at_checked(run.len()).ok_or_else(overflow)?;
            run.copy_from_slice(now);
            rest = later;
        }
        Ok(())
    }

    /// Bytes of a row, where rows are decoded by themselves.
    fn row_len(&self, frame: &FrameContext<'_>, scratch: &Scratch) -> Option<usize> {
        let row = frame.row_len().filter(|row| *row > 0)?;
        self.bank.codec.decodes_rows(scratch).then_some(row)
    }

    fn rows(
        &self,
        frame: &FrameContext<'_>,
        encoded: &[u8],
        rows: Range<usize>,
        (place, past_cache): (&mut [u8], bool),
        scratch: &mut Scratch,
    ) -> Result<()> {
        let codec = self.bank.codec;
        let decoded = codec.decode_rows(frame, encoded, rows, place, past_cache, scratch);
        decoded.map_err(|error| codec_error(&error).at(self.name()))
    }

    /// Where a frame lies in the stream; `index` is that of a stream of varying frames.
    pub(crate) fn place(&self, index: Option<&packed::Index>, frame: u64) -> Result<Range<u64>> {
        let bank = self.bank;
        let length = |at| bank.codec.encoded_frame_len(&bank.shape, bank.dtype, at);
        let place = match index {
            Some(index) => usize::try_from(frame).ok().and_then(|at| index.frame(at)),
            // every frame but the last has the length of the first
            None => length(0)
                .and_then(|len| len.checked_mul(frame))
                .zip(length(frame))
                .map(|(start, len)| start..start.saturating_add(len)),
        };
        place.ok_or_else(|| {
            Error::new(Code::BodyRange, "the bank has no such frame").at(self.name())
        })
    }

    /// The frame index at the end of a stream of varying frames, and its padding checked.
    pub(crate) fn index<S: ReadAt>(
        &self,
        scratch: &mut Buffers,
        reader: &mut StreamReader<'_, S>,
    ) -> Result<Option<packed::Index>> {
        let bank = self.bank;
        if bank.codec.is_fixed_rate() {
            return Ok(None);
        }
        let refused = |error: CodecError| codec_error(&error).at(self.name());
        let len = reader.len();
        let start = packed::index_len(self.frames())
            .and_then(|index| len.checked_sub(index))
            .ok_or_else(|| {
                Error::new(Code::CodecLength, "the stream is shorter than its index")
                    .at(self.name())
            })?;
        scratch.encoded.clear();
        reader.read(start..len, &mut scratch.encoded)?;
        let index =
            packed::Index::parse(bank.codec, &bank.shape, bank.dtype, &scratch.encoded, len)
                .map_err(refused)?;
        let (mut at, end) = (index.padding().start, index.padding().end);
        while at < end {
            let piece = at..end.min(at.saturating_add(reader.chunk_len()));
            at = piece.end;
            scratch.encoded.clear();
            reader.read(piece, &mut scratch.encoded)?;
            packed::check_padding(&scratch.encoded).map_err(refused)?;
        }
        Ok(Some(index))
    }

    pub(crate) fn name(&self) -> String {
        let role = self.bank.role.name();
        format!("layer {} {role} {}", self.bank.layer, self.bank.index)
    }
}

/// Buffers that one thread uses again for every frame.
#[derive(Default)]
pub(crate) struct Buffers {
    pub(crate) plain: Vec<u8>,
    encoded: Vec<u8>,
    decoded: Vec<u8>,
    codec: Scratch,
}

/// What follows the frames of a stream of varying frames.
#[derive(Default)]
pub(crate) struct Packing {
    index: Vec<u8>,
    used: usize,
}

impl Packing {
    pub(crate) fn push(&mut self, encoded_len: usize) -> std::result::Result<(), CodecError> {
        self.used = self.used.saturating_add(encoded_len);
        packed::push_entry(&mut self.index, encoded_len)
    }

    /// Zeros between the frames and the index.
    pub(crate) fn padding(&self, padding: Padding) -> usize {
        let used = u64::try_from(self.used.saturating_add(self.index.len())).unwrap_or(u64::MAX);
        let padding = padding.padded(used).unwrap_or(used) - used;
        usize::try_from(padding).unwrap_or(usize::MAX)
    }

    pub(crate) fn index(&self) -> &[u8] {
        &self.index
    }
}

/// The positions that the rows of a bank stand for, where they are a section.
pub(crate) fn listed_rows<S: ReadAt>(opened: &Opened<S>, bank: &BankEntry) -> Result<Arc<[i64]>> {
    let RowsEntry::Listed(section) = bank.rows else {
        return Ok(Arc::default());
    };
    let bytes = opened.stream_bytes(usize::try_from(section).unwrap_or(usize::MAX))?;
    let (list, _) = bytes.as_chunks::<8>();
    Ok(list.iter().map(|p| i64::from_le_bytes(*p)).collect())
}

fn floats(bits: &[F64Bits]) -> Vec<f64> {
    bits.iter().map(|bits| f64::from_bits(bits.0)).collect()
}
