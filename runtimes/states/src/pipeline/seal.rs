//! A runtime's state file into a capsule: frame by frame, so that it may be larger than memory.

use std::{
    mem,
    ops::Range,
    sync::{Arc, Mutex, PoisonError},
};

use kvcap::{
    Code, Cut, Draft, Error, ReadAt, Recipient, Result, Rows, Sealed, Sealer, SigningKey, Stream,
    Terms, Ticket, Workers, WriteAt,
};
use kvcap_codecs::{FrameQuality, Measurement, Padding, Quality};

use crate::{
    pipeline::{
        bank_io::{BankCodec, Buffers, Packing, codec_error},
        encoding::Encoding,
        frames::lock,
        plan,
        plan::{Capture, Chosen, Fallback, Plan, Source},
        receipts::Receipts,
        residue::residue,
    },
    state::{Placed, State, leftover::Leftover},
};

use kvcap_models::ModelProfile;

/// Account of what was sealed, and what the user should hear of.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SealReport {
    /// The capsule.
    pub sealed: Sealed,
    /// Bytes of the state file.
    pub state_len: u64,
    /// Banks whose padding was not zero: it is not sealed and comes back as zeros.
    pub leftovers: Vec<Leftover>,
    /// Banks that a finer codec was chosen for, by their place in [`State::banks`].
    pub fallbacks: Vec<(usize, Fallback)>,
    /// The worst of each number of the lossy banks' receipts, where there are any.
    pub worst: Option<Quality>,
}

/// A state to seal: what it is of, for whom, and how.
pub struct SealRequest<'a> {
    state: &'a State,
    source: &'a dyn ReadAt,
    profile: &'a ModelProfile,
    capture: Capture,
    terms: Terms,
    signer: &'a SigningKey,
    recipients: Vec<Recipient<'a>>,
    encoding: Encoding,
    workers: Workers,
}

impl<'a> SealRequest<'a> {
    /// Returns the request to seal `state`, whose bytes are `source`, exactly, on all cores, for nobody yet.
    #[must_use]
    pub fn new(
        state: &'a State,
        source: &'a dyn ReadAt,
        profile: &'a ModelProfile,
        capture: Capture,
        terms: Terms,
        signer: &'a SigningKey,
    ) -> Self {
        Self {
            state,
            source,
            profile,
            capture,
            terms,
            signer,
            recipients: Vec::new(),
            encoding: Encoding::EXACT,
            workers: Workers::all(),
        }
    }

    /// Adds who may open it. A keyed prefix belongs to the first recipient with a secret key.
    #[must_use]
    pub fn to(mut self, recipients: &[impl Into<Recipient<'a>> + Copy]) -> Self {
        let more = recipients.iter().map(|recipient| (*recipient).into());
        self.recipients.extend(more);
        self
    }

    /// Sets how banks are encoded.
    #[must_use]
    pub fn encoding(self, encoding: Encoding) -> Self {
        Self { encoding, ..self }
    }

    /// Sets how many threads share the work.
    #[must_use]
    pub fn workers(self, workers: Workers) -> Self {
        Self { workers, ..self }
    }
}

/// Seals a state into `out`, which is empty; where it continues a capsule, only what is new. `progress`
/// hears how many bytes of banks are done.
///
/// # Errors
/// KVC-944 where there is no recipient; as [`Plan::new`], [`kvcap::Manifest::check_child`], [`Sealer::new`],
/// [`crate::Placed::read_frame`] and the codecs (KVC-901 to 905).
pub fn seal_state<W: WriteAt>(
    out: W,
    request: SealRequest<'_>,
    progress: &mut (dyn FnMut(u64) + Send),
) -> Result<(W, SealReport)> {
    let SealRequest {
        state,
        source: file,
        profile,
        capture,
        terms,
        signer,
        recipients,
        encoding,
        workers,
    } = request;
    if recipients.is_empty() {
        return Err(Error::new(
            Code::LocalUsage,
            "a capsule needs a wrapping key",
        ));
    }
    let mut prefix_keys = recipients.iter().map(Recipient::prefix_key);
    let prefix_key = prefix_keys.find_map(Result::transpose).transpose()?;
    let leftovers = state.padding_nonzero(file)?;
    let residue = residue(state, file)?;
    let (state_len, continued) = (state.file_len, capture.lineage.continued.clone());
    let new = match &continued {
        Some(continued) => &state.after(continued.parent().positions.end)?,
        None => state,
    };
    let state = new;
    let ropes = plan::rope(state, profile);
    let codec_profile = encoding.codec_profile(&profile.model.id)?;
    let (choices, measured) = encoding.choices(
        state,
        file,
        &ropes,
        codec_profile.as_ref(),
        capture.context_length,
        workers,
    )?;
    let plan = Plan::new(
        state,
        residue,
        profile,
        ropes,
        Chosen {
            choices: &choices,
            codec_profile: codec_profile.as_ref().map(|known| known.digest()),
        },
        capture,
        prefix_key.as_ref(),
    )?;
    if let Some(continued) = &continued {
        continued.check_child(&terms, &plan.context)?;
    }
    let draft = Draft::new(terms, plan.context);
    let context = draft.context.clone();
    let sealer = Sealer::new(out, draft, signer, &recipients)?;
    let progress = Mutex::new(progress);
    let receipts = Mutex::new(Receipts::default());
    let mut pieces = context.streams.iter().zip(&plan.sources);
    let mut frames: Option<(Arc<SealedBank<'_>>, u64)> = None;
    workers.run(
        Scratch::default,
        |_| {
            if let Some((bank, next)) = &mut frames
                && *next < bank.frames
            {
                let first = *next;
                *next = first.saturating_add(bank.batch).min(bank.frames);
                return Ok(Some(Work::Frames(Arc::clone(bank), first..*next)));
            }
            let Some((stream, source)) = pieces.next() else {
                return Ok(None);
            };
            let (entry, at) = match (stream, source) {
                (_, Source::Section(bytes)) => return Ok(Some(Work::Section(bytes))),
                (_, Source::Receipts) => return Ok(Some(Work::Receipts)),
                (Stream::Bank(entry), Source::Bank(at)) => (entry, *at),
                (Stream::Section(_), Source::Bank(_)) => return Err(no_bank()),
            };
            let placed = state.banks.get(at).ok_or_else(no_bank)?;
            let listed = match &placed.bank.rows {
                Rows::Listed(list) => Arc::clone(list),
                _ => Arc::default(),
            };
            let profile = codec_profile.clone();
            let codec = BankCodec::new(entry, &context.rotations, listed, profile);
            let known = measured.get(at).copied().flatten();
            let fallback = choices.get(at).and_then(|choice| choice.fallback);
            let padding = encoding.compress.unwrap_or_default();
            let bank = Arc::new(SealedBank::new(placed, codec, padding, known, fallback));
            let first = 0..bank.batch.min(bank.frames);
            frames = Some((Arc::clone(&bank), first.end));
            // also where there is no frame, so that the stream ends
            Ok(Some(Work::Frames(bank, first)))
        },
        |scratch, piece, turn| match piece {
            Work::Section(bytes) => turn.run(|| {
                sealer.write(bytes)?;
                sealer.end_stream()
            }),
            Work::Receipts => turn.run(|| {
                sealer.write(lock(&receipts).bytes())?;
                sealer.end_stream()
            }),
            Work::Frames(bank, range) => {
                let plain = bank.encode(range.clone(), file, scratch)?;
                for cut in bank.cut(range, &sealer, scratch, turn, &receipts)? {
                    sealer.seal(cut)?;
                }
                lock(&progress)(plain);
                Ok(())
            }
        },
    )?;
    let (out, sealed) = sealer.finish()?;
    let fallbacks = choices
        .iter()
        .enumerate()
        .filter_map(|(place, choice)| Some((place, choice.fallback?)));
    let receipts = receipts.into_inner();
    let report = SealReport {
        sealed,
        state_len,
        leftovers,
        fallbacks: fallbacks.collect(),
        worst: receipts.unwrap_or_else(PoisonError::into_inner).worst(),
    };
    Ok((out, report))
}

fn no_bank() -> Error {
    Error::new(
        Code::StateContradiction,
        "the plan names a bank that is not there",
    )
}

/// What is sealed next.
enum Work<'a> {
    Section(&'a [u8]),
    Receipts,
    Frames(Arc<SealedBank<'a>>, Range<u64>),
}

/// A bank that is being sealed.
struct SealedBank<'a> {
    placed: &'a Placed,
    codec: BankCodec<'a>,
    frames: u64,
    /// Frames that are encoded at a time: a chunk of them, where chunks are whole frames.
    batch: u64,
    /// Of the stream, where its codec is packed.
    padding: Padding,
    /// Known where the bank has been measured before.
    known: Option<Quality>,
    fallback: Option<Fallback>,
    /// What is added up in the order of frames.
    sums: Mutex<(Measurement, Packing)>,
}

/// What one worker uses again for every piece.
#[derive(Default)]
struct Scratch {
    buffers: Buffers,
    /// Encoded frames, and the length and quality of each.
    encoded: Vec<u8>,
    lengths: Vec<usize>,
    qualities: Vec<FrameQuality>,
}

impl<'a> SealedBank<'a> {
    fn new(
        placed: &'a Placed,
        codec: BankCodec<'a>,
        padding: Padding,
        known: Option<Quality>,
        fallback: Option<Fallback>,
    ) -> Self {
        Self {
            placed,
            frames: codec.frames(),
            batch: codec.batch(),
            codec,
            padding,
            known,
            fallback,
            sums: Mutex::default(),
        }
    }

    /// Reads and encodes frames into `scratch`, and gives their plain length.
    fn encode(&self, range: Range<u64>, file: &dyn ReadAt, scratch: &mut Scratch) -> Result<u64> {
        let measured = self.known.is_some() || self.codec.is_exact();
        let mut plain = 0;
        scratch.lengths.clear();
        scratch.qualities.clear();
        for frame in range {
            let buffers = &mut scratch.buffers;
            self.placed.read_frame(file, frame, &mut buffers.plain)?;
            plain += u64::try_from(buffers.plain.len()).unwrap_or(0);
            self.codec.encode_frame(frame, buffers)?;
            if !measured {
                let quality = self.codec.measure_frame(frame, buffers)?;
                scratch.qualities.push(quality);
            }
            let encoded = self.codec.encoded_of(buffers);
            // memory changes hands with the length it has: that which is written over is not cleared before
            let len = encoded.len();
            match scratch.lengths.is_empty() {
                true => mem::swap(&mut scratch.encoded, encoded),
                false => scratch.encoded.extend_from_slice(encoded),
            }
            scratch.lengths.push(len);
        }
        if scratch.lengths.is_empty() {
            scratch.encoded.clear();
        }
        Ok(plain)
    }

    /// Adds the frames of `scratch` to the capsule, in their turn; gives the chunks that are complete.
    fn cut<W: WriteAt>(
        &self,
        range: Range<u64>,
        sealer: &Sealer<'_, W>,
        scratch: &mut Scratch,
        turn: &Ticket<'_>,
        receipts: &Mutex<Receipts>,
    ) -> Result<Vec<Cut>> {
        turn.run(|| {
            let mut sums = lock(&self.sums);
            let (measurement, packing) = &mut *sums;
            for quality in &scratch.qualities {
                measurement.add(quality);
            }
            for length in &scratch.lengths {
                packing.push(*length).map_err(|error| codec_error(&error))?;
            }
            let mut cuts = sealer.cut(&mut scratch.encoded)?;
            if range.end == self.frames {
                if self.codec.is_packed() {
                    // up to an eighth of the stream: not held
                    let mut padding = packing.padding(self.padding);
                    while padding > 0 {
                        let piece = padding.min(PIECE);
                        sealer.write(ZEROS.get(..piece).unwrap_or_default())?;
                        padding -= piece;
                    }
                    sealer.write(packing.index())?;
                }
                let measured = || (!self.codec.is_exact()).then(|| measurement.finish());
                lock(receipts).add(self.known.or_else(measured), self.fallback);
                cuts.extend(sealer.cut_end()?);
            }
            Ok(cuts)
        })
    }
}

/// Padding is written in pieces of these zeros.
const PIECE: usize = 4096;
const ZEROS: &[u8; PIECE] = &[0; PIECE];
