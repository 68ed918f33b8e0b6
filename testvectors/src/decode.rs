//! A bank's plain bytes from its encoded stream (codecs-v1).

use kvcap::{BankEntry, Code, Error, Manifest, Result, RowsEntry, SectionKind, binding::Pairing};
use kvcap_codecs::{
    BankShape, Codec, CodecError, Dtype, FrameContext, FrameQuality, Measurement, Padding,
    Positions, Profile, Rotation, Scratch, packed,
};

type CodecResult<T> = std::result::Result<T, CodecError>;

fn refused(error: &CodecError) -> Error {
    let code = Code::from_number(error.code()).unwrap_or(Code::CodecMalformed);
    Error::new(code, error.to_string())
}

/// The rotation of a bank's keys and the positions of its rows, as a codec is told of them.
#[derive(Clone, Debug)]
pub struct Turned {
    /// Elements that form a pair.
    pub pairing: Pairing,
    /// Radians a position for each pair.
    pub frequencies: Vec<f64>,
    /// The first row's position, where none are listed.
    pub start: i64,
    /// Each row's position.
    pub listed: Option<Vec<i64>>,
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
            pairing: table.pairing,
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

/// Reads the receipts of lossy banks (codecs-v1 §10.4).
///
/// # Errors
/// KVC-905 for numbers that no measurement gives.
pub fn receipts(manifest: &Manifest, streams: &[Vec<u8>]) -> Result<()> {
    let context = &manifest.context;
    let Some((section, _)) = context.section(&SectionKind::Receipts) else {
        return Ok(());
    };
    let mut rest = streams[section].as_slice();
    let mut number = || {
        let (first, later) = rest.split_first_chunk::<8>().unwrap();
        rest = later;
        f64::from_le_bytes(*first)
    };
    let refuse = || {
        Err(Error::new(
            Code::CodecNonFinite,
            "no measurement gives this",
        ))
    };
    for (_, bank) in context.banks() {
        if !bank.codec.is_exact() {
            let [rmse, largest, cosine, keys] = [number(), number(), number(), number()];
            let errors = [rmse, largest, keys];
            if !cosine.is_finite() || errors.iter().any(|e| !e.is_finite() || *e < 0.0) {
                return refuse();
            }
        }
        if bank.asked.is_some() && [number(), number()].iter().any(|n| n.is_nan() || *n < 0.0) {
            return refuse();
        }
    }
    Ok(())
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
    Coding::of(bank, turned.as_ref())
        .decode(encoded, &mut Scratch::new())
        .map_err(|error| refused(&error))
}

/// A bank's layout and codec.
#[derive(Clone, Copy, Debug)]
pub struct Coding<'a> {
    /// Encoding of its frames.
    pub codec: Codec,
    /// Its shape.
    pub shape: &'a BankShape,
    /// Its element type.
    pub dtype: Dtype,
    /// Rotation of its keys, where that is stated.
    pub turned: Option<&'a Turned>,
    /// The profile's file, whose bank of layer 0 and role 1 it is.
    pub profile: Option<&'a [u8]>,
}

impl<'a> Coding<'a> {
    fn of(bank: &'a BankEntry, turned: Option<&'a Turned>) -> Self {
        Self {
            codec: bank.codec,
            shape: &bank.shape,
            dtype: bank.dtype,
            turned,
            profile: None,
        }
    }

    fn profile(&self) -> CodecResult<Option<Profile>> {
        self.profile.map(Profile::parse).transpose()
    }

    fn frames(&self) -> u64 {
        self.shape.frames(self.dtype).unwrap_or(0)
    }

    fn frame<'p>(
        &'p self,
        number: u64,
        profile: Option<&'p Profile>,
    ) -> CodecResult<FrameContext<'p>> {
        let frame = FrameContext::new(self.shape, self.dtype, number)?;
        let frame = match profile.and_then(|profile| profile.bank(0, 1)) {
            Some(bank) => frame.with_profile(bank),
            None => frame,
        };
        Ok(match self.turned {
            Some(turned) => turned.tell(frame),
            None => frame,
        })
    }

    /// The plain bytes of an encoded stream.
    ///
    /// # Errors
    /// 901 to 905, 908 and 909 as codecs-v1.
    pub fn decode(&self, encoded: &[u8], scratch: &mut Scratch) -> CodecResult<Vec<u8>> {
        let profile = self.profile()?;
        let frames = self.frames();
        let mut index = None;
        if !self.codec.is_fixed_rate() {
            let at = encoded.len().saturating_sub(4 * frames as usize);
            let len = encoded.len() as u64;
            let parsed =
                packed::Index::parse(self.codec, self.shape, self.dtype, &encoded[at..], len)?;
            let padding = parsed.padding();
            packed::check_padding(&encoded[padding.start as usize..padding.end as usize])?;
            index = Some(parsed);
        }
        let (mut plain, mut rest) = (Vec::new(), encoded);
        for number in 0..frames {
            let len = match &index {
                Some(index) => index.frame(number as usize).map_or(0, |r| r.end - r.start),
                // the last frame of a fixed rate is whatever is left
                None if number + 1 == frames => rest.len() as u64,
                None => self
                    .codec
                    .encoded_frame_len(self.shape, self.dtype, number)
                    .unwrap_or(0),
            };
            let (part, after) = rest.split_at((len as usize).min(rest.len()));
            rest = after;
            let frame = self.frame(number, profile.as_ref())?;
            let at = plain.len();
            plain.resize(at + frame.plain_len(), 0);
            self.codec
                .decode_frame(&frame, part, &mut plain[at..], scratch)?;
        }
        Ok(plain)
    }

    /// The stream of a bank's plain bytes, packed where its codec is not of fixed rate.
    ///
    /// # Errors
    /// 903 to 905 where the codec cannot express them.
    pub fn encode(&self, plain: &[u8], scratch: &mut Scratch) -> CodecResult<Vec<u8>> {
        let profile = self.profile()?;
        let (mut out, mut index) = (Vec::new(), Vec::new());
        let (mut encoded, mut rest) = (Vec::new(), plain);
        for number in 0..self.frames() {
            let frame = self.frame(number, profile.as_ref())?;
            let (part, after) = rest.split_at(frame.plain_len());
            rest = after;
            self.codec
                .encode_frame(&frame, part, &mut encoded, scratch)?;
            packed::push_entry(&mut index, encoded.len())?;
            out.extend_from_slice(&encoded);
        }
        if self.codec.is_fixed_rate() {
            return Ok(out);
        }
        Ok(pack(out, &index, Padding::Padme))
    }

    /// The quality receipt of what came back.
    ///
    /// # Errors
    /// 903 to 905 as codecs-v1 §10.
    pub fn receipt(
        &self,
        plain: &[u8],
        decoded: &[u8],
        scratch: &mut Scratch,
    ) -> CodecResult<[u8; 32]> {
        let profile = self.profile()?;
        let (mut measurement, mut start) = (Measurement::new(), 0);
        for number in 0..self.frames() {
            let frame = self.frame(number, profile.as_ref())?;
            let part = start..start + frame.plain_len();
            start = part.end;
            let (was, is) = (&plain[part.clone()], &decoded[part]);
            measurement.add(&FrameQuality::measure(&frame, was, is, scratch)?);
        }
        Ok(measurement.finish().to_bytes())
    }
}

/// Frames, padding, index.
#[must_use]
pub fn pack(mut frames: Vec<u8>, index: &[u8], padding: Padding) -> Vec<u8> {
    let used = (frames.len() + index.len()) as u64;
    let len = padding.padded(used).unwrap() as usize;
    frames.resize(len - index.len(), 0);
    frames.extend_from_slice(index);
    frames
}

/// A bank's encoded stream, and its quality receipt where its codec is lossy. Its keys are turned by
/// `frequencies` from position 0 on, where there are any.
#[must_use]
pub fn encode(bank: &BankEntry, frequencies: &[f64], plain: &[u8]) -> (Vec<u8>, Option<[u8; 32]>) {
    let turned = (!frequencies.is_empty()).then(|| Turned {
        pairing: Pairing::Half,
        frequencies: frequencies.to_vec(),
        start: 0,
        listed: None,
    });
    let (coding, mut scratch) = (Coding::of(bank, turned.as_ref()), Scratch::new());
    let encoded = coding.encode(plain, &mut scratch).unwrap();
    let receipt = (!bank.codec.is_exact()).then(|| {
        let decoded = coding.decode(&encoded, &mut scratch).unwrap();
        coding.receipt(plain, &decoded, &mut scratch).unwrap()
    });
    (encoded, receipt)
}
