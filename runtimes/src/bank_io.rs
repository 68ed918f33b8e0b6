//! One bank between its plain frames and its encoded stream.

use std::ops::Range;

use kvcap::{
    BankEntry, Code, Error, Opened, ReadAt, Result, RotationTable, RowsEntry, StreamReader,
    binding::{F64Bits, Pairing},
};
use kvcap_codecs::{
    Codec, CodecError, FrameContext, FrameQuality, Measurement, Positions, Rotation, Scratch,
    packed,
};

/// What a codec says of a bank's frames, in a form that owns its tables.
pub(crate) struct BankCodec<'a> {
    bank: &'a BankEntry,
    rotation: Option<(kvcap_codecs::Pairing, Vec<f64>)>,
    /// Positions of listed rows.
    listed: Vec<i64>,
}

/// A codec's refusal as ours.
pub(crate) fn codec_error(error: &CodecError) -> Error {
    let code = Code::from_number(error.code()).unwrap_or(Code::CodecMalformed);
    Error::new(code, error.to_string())
}

impl<'a> BankCodec<'a> {
    /// `listed` are the positions of the rows where the bank's entry names a section of them.
    pub(crate) fn new(bank: &'a BankEntry, tables: &[RotationTable], listed: Vec<i64>) -> Self {
        let table = bank
            .rotation
            .and_then(|at| tables.get(usize::try_from(at).ok()?));
        Self {
            bank,
            rotation: table.map(|table| (pairing(table.pairing), floats(&table.frequencies))),
            listed,
        }
    }

    pub(crate) fn frame(&self, index: u64) -> Result<FrameContext<'_>> {
        let bank = self.bank;
        let frame =
            FrameContext::new(&bank.shape, bank.dtype, index).map_err(|e| codec_error(&e))?;
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

    /// Encodes every frame that `read` gives, in order, into `write`; gives the receipt of a lossy bank.
    pub(crate) fn encode(
        &self,
        scratch: &mut Buffers,
        mut read: impl FnMut(u64, &mut Vec<u8>) -> Result<()>,
        mut write: impl FnMut(&[u8]) -> Result<()>,
    ) -> Result<Option<[u8; 32]>> {
        let codec = self.bank.codec;
        let mut measurement = Measurement::new();
        let mut index = Vec::new();
        let mut total = 0_u64;
        for at in 0..self.frames() {
            read(at, &mut scratch.plain)?;
            if codec == Codec::Raw {
                write(&scratch.plain)?;
                continue;
            }
            let frame = self.frame(at)?;
            let refused = |error: CodecError| codec_error(&error).at(self.name());
            codec
                .encode_frame(
                    &frame,
                    &scratch.plain,
                    &mut scratch.encoded,
                    &mut scratch.codec,
                )
                .map_err(refused)?;
            if !codec.is_exact() {
                let quality = self.measure(&frame, scratch).map_err(refused)?;
                measurement.add(&quality);
            }
            if !codec.is_fixed_rate() {
                packed::push_entry(&mut index, scratch.encoded.len()).map_err(refused)?;
                total += u64::try_from(scratch.encoded.len()).unwrap_or(0);
            }
            write(&scratch.encoded)?;
        }
        if !codec.is_fixed_rate() {
            let used = total + u64::try_from(index.len()).unwrap_or(0);
            let padding = packed::padme(used).unwrap_or(used) - used;
            write(&vec![0; usize::try_from(padding).unwrap_or(0)])?;
            write(&index)?;
        }
        Ok((!codec.is_exact()).then(|| measurement.finish().to_bytes()))
    }

    /// What encoding and decoding did to the frame in `scratch`.
    fn measure(
        &self,
        frame: &FrameContext<'_>,
        scratch: &mut Buffers,
    ) -> std::result::Result<FrameQuality, CodecError> {
        scratch.decoded.resize(scratch.plain.len(), 0);
        self.bank.codec.decode_frame(
            frame,
            &scratch.encoded,
            &mut scratch.decoded,
            &mut scratch.codec,
        )?;
        FrameQuality::measure(frame, &scratch.plain, &scratch.decoded, &mut scratch.codec)
    }

    /// Decodes frames `range` of an opened stream, in order, and hands each to `write`.
    pub(crate) fn decode<S: ReadAt>(
        &self,
        buffers: &mut Buffers,
        reader: &mut StreamReader<'_, S>,
        range: Range<u64>,
        mut write: impl FnMut(u64, &[u8]) -> Result<()>,
    ) -> Result<()> {
        let (mut plain, mut scratch) = (
            std::mem::take(&mut buffers.plain),
            std::mem::take(&mut buffers.codec),
        );
        self.encoded(buffers, reader, range, |at, encoded| {
            write(at, self.plain(at, encoded, &mut plain, &mut scratch)?)
        })?;
        (buffers.plain, buffers.codec) = (plain, scratch);
        Ok(())
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
        out.resize(frame.plain_len(), 0);
        codec
            .decode_frame(&frame, encoded, out, scratch)
            .map_err(refused)?;
        Ok(out)
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

    /// Hands encoded frames `range` of an opened stream, in order, to `take`.
    pub(crate) fn encoded<S: ReadAt>(
        &self,
        buffers: &mut Buffers,
        reader: &mut StreamReader<'_, S>,
        range: Range<u64>,
        mut take: impl FnMut(u64, &[u8]) -> Result<()>,
    ) -> Result<()> {
        let index = self.index(buffers, reader)?;
        for at in range {
            buffers.encoded.clear();
            reader.read(self.place(index.as_ref(), at)?, &mut buffers.encoded)?;
            take(at, &buffers.encoded)?;
        }
        Ok(())
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
        let role = format!("{:?}", self.bank.role).to_lowercase();
        format!("layer {} {role} {}", self.bank.layer, self.bank.index)
    }
}

/// Buffers that one thread uses again for every frame.
#[derive(Default)]
pub(crate) struct Buffers {
    plain: Vec<u8>,
    encoded: Vec<u8>,
    decoded: Vec<u8>,
    codec: Scratch,
}

/// The positions that the rows of a bank stand for, where they are a section.
pub(crate) fn listed_rows<S: ReadAt>(opened: &Opened<S>, bank: &BankEntry) -> Result<Vec<i64>> {
    let RowsEntry::Listed(section) = bank.rows else {
        return Ok(Vec::new());
    };
    let bytes = opened.stream_bytes(usize::try_from(section).unwrap_or(usize::MAX))?;
    let (list, _) = bytes.as_chunks::<8>();
    Ok(list.iter().map(|p| i64::from_le_bytes(*p)).collect())
}

fn pairing(pairing: Pairing) -> kvcap_codecs::Pairing {
    match pairing {
        Pairing::Half => kvcap_codecs::Pairing::Half,
        Pairing::Interleaved => kvcap_codecs::Pairing::Interleaved,
    }
}

fn floats(bits: &[F64Bits]) -> Vec<f64> {
    bits.iter().map(|bits| f64::from_bits(bits.0)).collect()
}
