//! A state that goes on where an opened capsule or chain ends (lineage-v1 §2, runtimes-v1 §1.7).

use std::sync::Mutex;

use kvcap::{
    Code, Context, Error, Manifest, Members, Parent, PrefixValue, ReadAt, Result, Terms, Workers,
};
use kvcap_codecs::{BankShape, Codec};

use crate::{
    pipeline::{
        bank_io::codec_error,
        frames::{Frame, Wanted, each_frame, lock},
        whole::{pieces, whole_banks},
    },
    state::{Placed, State},
};

/// That a state begins as the state of an opened capsule or chain: what an increment needs to be sealed.
#[derive(Clone, Debug)]
pub struct Continued {
    parent: Parent,
    manifest: Manifest,
    prompt: Option<PrefixValue>,
}

impl Continued {
    /// Compares the shared part of `state`, read from `file`, with every bank of `parent` that keeps its
    /// positions. Where such a bank was sealed with loss, the state may hold what it decodes to (it was
    /// restored) or what it was encoded from (it was not). `progress` hears of plain bytes compared.
    ///
    /// # Errors
    /// KVC-702 where the state is not a continuation of this one; 703 where it does not go on; 704 where
    /// its banks are others; 706 where the chain is at its limit; as [`crate::open_state`] for what is
    /// read.
    pub fn check<M: Members>(
        state: &State,
        file: &dyn ReadAt,
        parent: &M,
        workers: Workers,
        progress: &mut (dyn FnMut(u64) + Send),
    ) -> Result<Self> {
        let (tip, held) = (parent.tip(), parent.positions());
        let members = parent.ancestors().len() + 1;
        let most = kvcap::Limits::default().chain;
        if members >= most {
            let error = Error::new(Code::LineageDepth, "the chain is too long");
            return Err(error.sides(format_args!("at most {most} capsules"), members + 1));
        }
        if !state.positions.is_empty() && state.positions.end <= held.end {
            let what = "the state does not go on where its parent ends";
            let error = Error::new(Code::LineagePositions, what);
            return Err(error.sides(format_args!("past {}", held.end), state.positions.end));
        }
        let mut whole = whole_banks(parent)?;
        whole.retain(|bank| bank.parts.iter().all(|part| part.bank.is_by_position()));
        let places = whole
            .iter()
            .map(|bank| shared(state, &bank.bank))
            .collect::<Result<Vec<_>>>()?;
        let found = State {
            banks: places,
            ..state.clone()
        };
        let pieces = pieces(&whole, &found)?;
        let wanted: Vec<_> = pieces.iter().map(|piece| Wanted::all(piece.part)).collect();
        let progress = Mutex::new(progress);
        each_frame(&wanted, workers, Compared::default, |own, frame| {
            let Some(piece) = pieces.get(frame.bank) else {
                return Ok(());
            };
            piece.placed.read_frame(file, frame.index, &mut own.plain)?;
            lock(&progress)(u64::try_from(own.plain.len()).unwrap_or(0));
            compare(piece.part.bank.codec, frame, own)
        })?;
        Ok(Self {
            parent: Parent {
                digest: tip.lineage(),
                positions: tip.manifest().context.positions.clone(),
            },
            manifest: tip.manifest().clone(),
            prompt: tip.prompt()?,
        })
    }

    /// The parent as a manifest names it.
    #[must_use]
    pub fn parent(&self) -> &Parent {
        &self.parent
    }

    /// Returns true where an increment leaves rows out that the parent holds. Where every bank is whole (a recurrent
    /// state, a sliding window), an increment holds as much as a capsule by itself.
    #[must_use]
    pub fn leaves_rows_out(&self) -> bool {
        let mut banks = self.manifest.context.banks();
        banks.any(|(_, bank)| bank.is_by_position())
    }

    /// Its prompt, where it is named.
    pub(crate) fn prompt(&self) -> Option<PrefixValue> {
        self.prompt
    }

    /// Whether a capsule of these terms and this context may continue it.
    pub(crate) fn check_child(&self, terms: &Terms, child: &Context) -> Result<()> {
        self.manifest.check_child(terms, child)
    }
}

/// The rows of the state's bank that the parent's bank holds.
fn shared(state: &State, bank: &kvcap::Bank) -> Result<Placed> {
    let same = |placed: &&Placed| {
        let own = &placed.bank;
        (own.role, own.layer, own.index) == (bank.role, bank.layer, bank.index)
    };
    let refused = |placed: String| {
        let what = "the state's bank does not continue the parent's";
        Error::new(Code::LineageBinding, what).at(placed)
    };
    let placed = state.banks.iter().find(same).ok_or_else(|| {
        refused(format!(
            "layer {} {} {}",
            bank.layer,
            bank.role.name(),
            bank.index
        ))
    })?;
    let part = match bank.shape {
        BankShape::Tokens { tokens, .. } => placed.rows(0, tokens),
        BankShape::Whole { .. } => Err(refused(placed.name())),
    };
    let part = part.map_err(|_| refused(placed.name()))?;
    match part.bank == *bank {
        true => Ok(part),
        false => {
            Err(refused(placed.name())
                .sides(format_args!("{bank:?}"), format_args!("{:?}", part.bank)))
        }
    }
}

#[derive(Default)]
struct Compared {
    plain: Vec<u8>,
    encoded: Vec<u8>,
    decoded: Vec<u8>,
    scratch: kvcap_codecs::Scratch,
}

/// A frame of the parent against the state's rows, which are `own.plain`.
fn compare(kind: Codec, frame: &Frame<'_, '_>, own: &mut Compared) -> Result<()> {
    let (codec, at, encoded) = (frame.codec, frame.index, frame.encoded);
    let refused = |error| codec_error(&error).at(codec.name());
    let same = match kind {
        Codec::Raw => encoded == own.plain,
        _ => {
            let frame = codec.frame(at)?;
            kind.check_frame(&frame, encoded).map_err(refused)?;
            own.decoded.resize(frame.plain_len(), 0);
            kind.decode_frame(&frame, encoded, &mut own.decoded, &mut own.scratch)
                .map_err(refused)?;
            // values that the codec cannot take are not what it was made from
            let mut again = || {
                let made =
                    kind.encode_frame(&frame, &own.plain, &mut own.encoded, &mut own.scratch);
                made.is_ok() && own.encoded == encoded
            };
            own.decoded == own.plain || (!kind.is_exact() && again())
        }
    };
    match same {
        true => Ok(()),
        false => {
            let what = "the state is not a continuation of the parent's";
            Err(Error::new(Code::LineageParentDigest, what)
                .at(format_args!("{}, rows of frame {at}", codec.name())))
        }
    }
}
