//! A bank's plain bytes from its encoded stream (codecs-v1).

use kvcap::{BankEntry, Code, Error, Manifest, Result, RowsEntry, binding::Pairing};
use kvcap_codecs::{
    CodecError, FrameContext, FrameQuality, Measurement, Positions, Rotation, Scratch, packed,
};

fn refused(error: &CodecError) -> Error {
    let code = Code::from_number(error.code()).unwrap_or(Code::CodecMalformed);
    Error::new(code, error.to_string())
}

/// The rotation of a bank's keys and the positions of its rows, as a codec is told of them.
struct Turned {
    pairing: kvcap_codecs::Pairing,
    frequencies: Vec<f64>,
    start: i64,
    listed: Option<Vec<i64>>,
}

impl Turned {
    fn of(bank: &BankEntry, manifest: &Manifest, streams: &[Vec<u8>]) -> Option<Self> {
        let table = &manifest.context.rotations[bank.rotation? as usize];
        let (start, listed) = match bank.rows {
            RowsEntry::From(start) => (start, None),
            RowsEntry::Listed(stream) => {
                let (rows, _) = streams[stream as usize].as_chunks::<8>();
                (
                    0,
                    Some(rows.iter().map(|row| i64::from_le_bytes(*row)).collect()),
                )
            }
            RowsEntry::None => (0, None),
        };
        Some(Self {
            pairing: match table.pairing {
                Pairing::Half => kvcap_codecs::Pairing::Half,
                Pairing::Interleaved => kvcap_codecs::Pairing::Interleaved,
            },
            frequencies: table
                .frequencies
                .iter()
                .map(|f| f64::from_bits(f.0))
                .collect(),
            start: i64::try_from(start).unwrap(),
            listed,
        })
    }

    fn tell<'a>(&'a self, frame: FrameContext<'a>) -> FrameContext<'a> {
        let rotation = Rotation {
            pairing: self.pairing,
            inv_freq: &self.frequencies,
        };
        let positions = match &self.listed {
            Some(list) => Positions::Listed(list),
            None => Positions::From(self.start),
        };
        frame.with_rotation(rotation, positions)
    }
}

/// Decodes the stream of `bank`.
///
/// # Errors
/// KVC-901 to 905 as codecs-v1.
pub fn bank(
    bank: &BankEntry,
    manifest: &Manifest,
    streams: &[Vec<u8>],
    encoded: &[u8],
) -> Result<Vec<u8>> {
    let turned = Turned::of(bank, manifest, streams);
    decode(bank, turned.as_ref(), encoded).map_err(|error| refused(&error))
}

fn decode(
    bank: &BankEntry,
    turned: Option<&Turned>,
    encoded: &[u8],
) -> std::result::Result<Vec<u8>, CodecError> {
    let (codec, shape, dtype) = (bank.codec, &bank.shape, bank.dtype);
    let frames = shape.frames(dtype).unwrap_or(0);
    let mut index = None;
    if !codec.is_fixed_rate() {
        let at = encoded.len().saturating_sub(4 * frames as usize);
        let parsed =
            packed::Index::parse(codec, shape, dtype, &encoded[at..], encoded.len() as u64)?;
        let padding = parsed.padding();
        packed::check_padding(&encoded[padding.start as usize..padding.end as usize])?;
        index = Some(parsed);
    }
    let mut scratch = Scratch::new();
    let (mut plain, mut start) = (Vec::new(), 0);
    for frame in 0..frames {
        let len = match &index {
            Some(index) => {
                let range = index.frame(frame as usize).unwrap();
                range.end - range.start
            }
            None => codec.encoded_frame_len(shape, dtype, frame).unwrap_or(0),
        };
        let part = &encoded[start..start + len as usize];
        start += len as usize;
        let mut told = FrameContext::new(shape, dtype, frame)?;
        if let Some(turned) = turned {
            told = turned.tell(told);
        }
        let at = plain.len();
        plain.resize(at + told.plain_len(), 0);
        codec.decode_frame(&told, part, &mut plain[at..], &mut scratch)?;
    }
    Ok(plain)
}

/// Encodes a bank's plain bytes: its stream, packed where its codec is not of fixed rate.
#[must_use]
pub fn encode(bank: &BankEntry, frequencies: &[f64], plain: &[u8]) -> Vec<u8> {
    let turned = Turned {
        pairing: kvcap_codecs::Pairing::Half,
        frequencies: frequencies.to_vec(),
        start: 0,
        listed: None,
    };
    let (mut scratch, mut frame) = (Scratch::new(), Vec::new());
    let (mut out, mut index, mut start) = (Vec::new(), Vec::new(), 0);
    for number in 0..bank.shape.frames(bank.dtype).unwrap() {
        let mut told = FrameContext::new(&bank.shape, bank.dtype, number).unwrap();
        if !frequencies.is_empty() {
            told = turned.tell(told);
        }
        let part = &plain[start..start + told.plain_len()];
        start += part.len();
        bank.codec
            .encode_frame(&told, part, &mut frame, &mut scratch)
            .unwrap();
        packed::push_entry(&mut index, frame.len()).unwrap();
        out.extend_from_slice(&frame);
    }
    if bank.codec.is_fixed_rate() {
        return out;
    }
    pack(out, &index)
}

/// Frames, padding, index.
#[must_use]
pub fn pack(mut frames: Vec<u8>, index: &[u8]) -> Vec<u8> {
    let used = (frames.len() + index.len()) as u64;
    let len = packed::padme(used).unwrap() as usize;
    frames.resize(len - index.len(), 0);
    frames.extend_from_slice(index);
    frames
}

/// The quality receipt of a lossy bank.
#[must_use]
pub fn receipt(bank: &BankEntry, frequencies: &[f64], plain: &[u8], encoded: &[u8]) -> [u8; 32] {
    let turned = (!frequencies.is_empty()).then(|| Turned {
        pairing: kvcap_codecs::Pairing::Half,
        frequencies: frequencies.to_vec(),
        start: 0,
        listed: None,
    });
    let decoded = decode(bank, turned.as_ref(), encoded).unwrap();
    let (mut scratch, mut start) = (Scratch::new(), 0);
    let mut measurement = Measurement::new();
    for number in 0..bank.shape.frames(bank.dtype).unwrap() {
        let mut told = FrameContext::new(&bank.shape, bank.dtype, number).unwrap();
        if let Some(turned) = &turned {
            told = turned.tell(told);
        }
        let part = start..start + told.plain_len();
        start = part.end;
        let (was, is) = (&plain[part.clone()], &decoded[part]);
        measurement.add(&FrameQuality::measure(&told, was, is, &mut scratch).unwrap());
    }
    measurement.finish().to_bytes()
}
