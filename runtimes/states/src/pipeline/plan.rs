//! From a parsed state and a model to what a capsule will say: its context, stream by stream, and the
//! bytes of its sections (capsule-v1 §§6–7).

use std::sync::Arc;

use kvcap::{
    Bank, BankEntry, CaptureFlags, Code, Context, Error, MAX_CHUNK, Prefix, PrefixKey, PrefixValue,
    Result, Role, RotationTable, Rows, RowsEntry, Section, SectionKind, Stream, Suite,
    binding::{Digest, F64Bits, Rope, Runtime},
};
use kvcap_codecs::{BankShape, Codec};

use crate::{
    pipeline::{hadamard, increment::Continued},
    state::{Placed, State},
};

use kvcap_models::{ModelProfile, attention_factor, inverse_frequencies};

/// Encoded bytes that a chunk holds at least, where a stream has that many.
const CHUNK: u64 = 256 << 10;

/// Where there is no token: llama-server's place of images and sounds.
const NO_TOKEN: u32 = u32::MAX;

/// Prompt that a state is of.
#[derive(Clone, Debug)]
pub enum Prompt {
    /// The tokens that the state carries.
    FromState,
    /// These token ids.
    Tokens(Vec<u32>),
    /// Only the value is known: the ids are not sealed.
    Value(PrefixValue),
    /// Nobody knows: whoever opens the capsule cannot tell which prompt it is of.
    DangerNone,
}

/// Statements of the sealer beyond the state and the model.
#[derive(Clone, Debug)]
pub struct Capture {
    /// Algorithms.
    pub suite: Suite,
    /// Prompt that the state is of.
    pub prompt: Prompt,
    /// True if anyone may recognise the prompt (base images).
    pub public_prefix: bool,
    /// Further sealed sections: history, agent state, named ones.
    pub sections: Vec<(SectionKind, Vec<u8>)>,
    /// The runtime's version or build; empty where nobody said.
    pub runtime_version: String,
    /// Further layout facts and run-time overrides, by name.
    pub facts: Vec<(String, String)>,
    /// True if llama.cpp rotated its quantized cache; its own rule where `None`.
    pub hadamard: Option<bool>,
    /// Circumstances of the capture.
    pub flags: CaptureFlags,
    /// Context length that the runtime was set to, 0 if unknown.
    pub context_length: u64,
    /// Relations to other capsules.
    pub lineage: Lineage,
}

/// Relations of a capsule to others (lineage-v1 §2).
#[derive(Clone, Debug, Default)]
pub struct Lineage {
    /// Parent that it continues: then it holds only what is new.
    pub continued: Option<Continued>,
    /// True for a curated start state of many sessions.
    pub base: bool,
}

/// A codec that would have passed its bound of error, so that a finer one was taken.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fallback {
    /// The codec asked for.
    pub from: Codec,
    /// The bound on the error.
    pub limit: f64,
    /// The error that was measured; infinite for numbers that it cannot express.
    pub seen: f64,
}

/// Codec chosen for one bank.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Choice {
    /// The codec.
    pub codec: Codec,
    /// Reason that it is not the one asked for.
    pub fallback: Option<Fallback>,
}

/// A context and the plain bytes of its sections, by stream.
#[derive(Debug)]
pub struct Plan {
    /// Statements that the capsule will make.
    pub context: Context,
    /// For each stream, the place in [`State::banks`] or the section's bytes.
    pub sources: Vec<Source>,
}

/// Origin of a stream's plain bytes.
#[derive(Debug)]
pub enum Source {
    /// A bank of the state, by its place in [`State::banks`].
    Bank(usize),
    /// These bytes.
    Section(Vec<u8>),
    /// The receipts of the banks before it.
    Receipts,
}

/// Encodings of a state's banks.
#[derive(Clone, Copy, Debug)]
pub struct Chosen<'a> {
    /// Encoding of each bank.
    pub choices: &'a [Choice],
    /// Digest of the codec profile, where one of them needs one.
    pub codec_profile: Option<Digest>,
}

impl Plan {
    /// Plans a capsule of `state` (for an increment, the part of it that is new), whose residue is `residue`, whose keys were
    /// rotated by `rope`, and whose banks are encoded as `chosen`.
    ///
    /// # Errors
    /// KVC-925 where the prompt is to come from a state that does not carry it; 704 where it does not continue
    /// the parent's; 944 for facts that stand
    /// twice; 924 where a count overflows.
    pub fn new(
        state: &State,
        residue: Vec<u8>,
        profile: &ModelProfile,
        rope: Vec<Rope>,
        chosen: Chosen<'_>,
        capture: Capture,
        prefix_key: Option<&PrefixKey>,
    ) -> Result<Self> {
        let Chosen {
            choices,
            codec_profile,
        } = chosen;
        let mut plan = Streams::default();
        let (prefix, tokens) = prompt(state, profile, &capture, prefix_key)?;
        let continued = &capture.lineage.continued;
        if let Some(prompt) = continued.as_ref().and_then(Continued::prompt) {
            let ids = tokens.and_then(|(_, ids)| ids).unwrap_or_default();
            prompt.check_continued(ids)?;
        }
        let parent = continued
            .as_ref()
            .map(|continued| continued.parent().clone());
        let positions = match tokens {
            // recurrent layers alone do not tell how far they are
            Some((value, _)) if state.positions.is_empty() => {
                parent.as_ref().map_or(0, |parent| parent.positions.end)..value.tokens
            }
            _ => state.positions.clone(),
        };
        if let Some((value, ids)) = tokens {
            plan.section(SectionKind::Prefix, value.value.0.to_vec());
            if let Some(ids) = ids {
                let bytes = ids.iter().flat_map(|id| id.to_le_bytes()).collect();
                plan.section(SectionKind::Tokens, bytes);
            }
        }
        plan.section(SectionKind::Residue, residue);
        for (kind, bytes) in capture.sections {
            plan.section(kind, bytes);
        }
        let mut tables = Vec::new();
        for (index, (placed, choice)) in state.banks.iter().zip(choices).enumerate() {
            let rows = plan.rows(&placed.bank)?;
            let rotation = match choice.codec.is_exact() {
                true => None,
                false => table_of(&mut tables, &placed.bank, &rope, capture.context_length)?,
            };
            let block = hadamard::block(placed, state.runtime, capture.hadamard)?;
            plan.bank(index, entry(&placed.bank, rows, *choice, rotation, block));
        }
        plan.receipts();
        let mut facts = state.facts.clone();
        facts.extend(capture.facts);
        facts.sort();
        if facts.windows(2).any(|pair| pair[0].0 == pair[1].0) {
            return Err(Error::new(
                Code::LocalUsage,
                "a layout fact is stated twice",
            ));
        }
        let needed = choices.iter().any(|choice| choice.codec.needs_profile());
        let context = Context {
            suite: capture.suite,
            model: profile.model.clone(),
            tokenizer: profile.tokenizer.clone(),
            runtime: Runtime {
                name: state.runtime.to_owned(),
                version: capture.runtime_version,
                format: state.format.to_owned(),
                facts,
            },
            rope,
            prefix,
            positions,
            flags: capture.flags,
            context_length: capture.context_length,
            layers: state.layers,
            stateless: state.stateless.clone(),
            rotations: tables,
            streams: plan.streams,
            parent,
            base: capture.lineage.base,
            profile: codec_profile.filter(|_| needed),
        };
        Ok(Self {
            context,
            sources: plan.sources,
        })
    }
}

/// The prompt as it is sealed: its value, and its ids where they are known.
type Sealed<'a> = (PrefixValue, Option<&'a [u32]>);

/// The prefix binding, and what is sealed of the prompt.
fn prompt<'a>(
    state: &'a State,
    profile: &ModelProfile,
    capture: &'a Capture,
    key: Option<&PrefixKey>,
) -> Result<(Prefix, Option<Sealed<'a>>)> {
    check_positions(state, profile, capture)?;
    let (value, ids) = match &capture.prompt {
        Prompt::DangerNone => return Ok((Prefix::None, None)),
        Prompt::Value(value) => (*value, None),
        Prompt::Tokens(ids) => {
            let other = state.tokens.as_ref().filter(|own| *own != ids);
            if let Some(own) = other {
                return Err(Error::new(
                    Code::StateContradiction,
                    "the state carries other tokens than those given",
                )
                .sides(
                    format_args!("{} tokens", ids.len()),
                    format_args!("{} tokens", own.len()),
                ));
            }
            check_ids(ids, profile, state.tokens.is_some(), Code::LocalUsage)?;
            let end = state.positions.end;
            if u64::try_from(ids.len()).is_ok_and(|count| count < end) {
                let what = "fewer token ids than the state has positions";
                return Err(Error::new(Code::LocalUsage, what)
                    .sides(format_args!("at least {end}"), ids.len()));
            }
            (PrefixValue::of(ids), Some(ids.as_slice()))
        }
        Prompt::FromState => {
            let ids = state.tokens.as_deref().ok_or_else(|| {
                Error::new(
                    Code::StateUnknownPrefix,
                    "the state file does not carry its tokens",
                )
            })?;
            check_ids(ids, profile, true, Code::StateContradiction)?;
            (PrefixValue::of(ids), Some(ids))
        }
    };
    let prefix = match (capture.public_prefix, key) {
        (true, _) => value.public(),
        (false, Some(key)) => value.keyed(key),
        (false, None) => {
            let what = "a keyed prefix needs a recipient with a secret key";
            return Err(Error::new(Code::LocalUsage, what));
        }
    };
    Ok((prefix, Some((value, ids))))
}

/// Refuses token ids that the model's tokenizer does not have. Where the state carries the ids, `media` may
/// stand among them, which no id names.
fn check_ids(ids: &[u32], profile: &ModelProfile, media: bool, code: Code) -> Result<()> {
    let size = profile.tokenizer.vocab_size;
    let known = |id: u32| id < size || (media && id == NO_TOKEN);
    match ids.iter().find(|id| !known(**id)) {
        Some(id) if size > 0 => Err(Error::new(
            code,
            "a token id is not one of the model's vocabulary",
        )
        .sides(format_args!("below {size}"), id)),
        _ => Ok(()),
    }
}

/// Refuses positions of a llama.cpp state that the model's context does not reach, or the one that the
/// runtime was set to.
fn check_positions(state: &State, profile: &ModelProfile, capture: &Capture) -> Result<()> {
    let longest = profile.geometry.context_length.max(capture.context_length);
    if state.runtime != "llama.cpp"
        || profile.geometry.context_length == 0
        || state.positions.end <= longest
    {
        return Ok(());
    }
    let what = "the state's positions are past the model's context, and no longer one was stated";
    Err(Error::new(Code::StateContradiction, what)
        .sides(format_args!("at most {longest}"), state.positions.end))
}

/// The model's ropes as this state was made with them.
pub(crate) fn rope(state: &State, profile: &ModelProfile) -> Vec<Rope> {
    let opaque = |placed: &Placed| placed.bank.role == Role::Opaque;
    if state.banks.iter().all(opaque) {
        return Vec::new();
    }
    of_layers(profile.rope_in(state.runtime), state.layers)
}

/// The ropes of the layers that a state has.
pub(crate) fn of_layers(mut ropes: Vec<Rope>, layers: u32) -> Vec<Rope> {
    for rope in &mut ropes {
        rope.layers.retain(|layer| *layer < layers);
    }
    ropes.retain(|rope| !rope.layers.is_empty());
    ropes
}

/// The rotation table of a bank of keys, added if it is new; none for other banks.
fn table_of(
    tables: &mut Vec<RotationTable>,
    bank: &Bank,
    ropes: &[Rope],
    context_length: u64,
) -> Result<Option<u32>> {
    let Some(table) = rotation(bank, ropes, context_length) else {
        return Ok(None);
    };
    let at = tables.iter().position(|known| *known == table);
    let at = at.unwrap_or_else(|| {
        tables.push(table);
        tables.len() - 1
    });
    u32::try_from(at)
        .map(Some)
        .map_err(|_| Error::new(Code::StateLimit, "too many rotation tables"))
}

/// How the keys of a bank are un-rotated, where that is known.
pub(crate) fn rotation(bank: &Bank, ropes: &[Rope], context_length: u64) -> Option<RotationTable> {
    if !matches!(bank.role, Role::Key | Role::RopeKey) {
        return None;
    }
    let BankShape::Tokens { dim, .. } = bank.shape else {
        return None;
    };
    let rope = ropes.iter().find(|r| r.layers.contains(&bank.layer))?;
    let frequencies = inverse_frequencies(rope, dim)?;
    Some(RotationTable {
        pairing: rope.pairing,
        attention_factor: F64Bits(attention_factor(rope, context_length).to_bits()),
        frequencies: frequencies.iter().map(|f| F64Bits(f.to_bits())).collect(),
    })
}

#[derive(Default)]
struct Streams {
    streams: Vec<Stream>,
    sources: Vec<Source>,
    /// Lists of positions that are sections already.
    lists: Vec<(Arc<[i64]>, u32)>,
}

impl Streams {
    fn section(&mut self, kind: SectionKind, bytes: Vec<u8>) {
        self.streams.push(Stream::Section(Section {
            kind,
            len: u64::try_from(bytes.len()).unwrap_or(u64::MAX),
            chunk_len: CHUNK,
        }));
        self.sources.push(Source::Section(bytes));
    }

    fn rows(&mut self, bank: &Bank) -> Result<RowsEntry> {
        let list = match &bank.rows {
            Rows::None => return Ok(RowsEntry::None),
            Rows::From(start) => return Ok(RowsEntry::From(*start)),
            Rows::Listed(list) => list,
        };
        if let Some((_, section)) = self.lists.iter().find(|(known, _)| known == list) {
            return Ok(RowsEntry::Listed(*section));
        }
        let section = u32::try_from(self.streams.len())
            .map_err(|_| Error::new(Code::StateLimit, "too many streams"))?;
        let bytes = list.iter().flat_map(|position| position.to_le_bytes());
        self.section(SectionKind::Positions, bytes.collect());
        self.lists.push((Arc::clone(list), section));
        Ok(RowsEntry::Listed(section))
    }

    /// The receipts of lossy banks, which are known once these are sealed.
    fn receipts(&mut self) {
        let banks = self.streams.iter().filter_map(|stream| match stream {
            Stream::Bank(bank) => Some(bank.receipt_len()),
            Stream::Section(_) => None,
        });
        let len = banks.sum();
        if len > 0 {
            self.streams
                .push(Section::new(SectionKind::Receipts, len).into());
            self.sources.push(Source::Receipts);
        }
    }

    fn bank(&mut self, place: usize, entry: BankEntry) {
        self.streams.push(Stream::Bank(entry));
        self.sources.push(Source::Bank(place));
    }
}

/// What the manifest says of a bank that is encoded so.
pub(crate) fn entry(
    bank: &Bank,
    rows: RowsEntry,
    choice: Choice,
    rotation: Option<u32>,
    hadamard: u32,
) -> BankEntry {
    let mut entry = BankEntry {
        role: bank.role,
        layer: bank.layer,
        index: bank.index,
        dtype: bank.dtype,
        shape: bank.shape.clone(),
        rows,
        window: bank.window,
        codec: choice.codec,
        rotation,
        hadamard,
        chunk_len: CHUNK,
        asked: choice.fallback.map(|fallback| fallback.from),
    };
    entry.chunk_len = chunk_len(&entry);
    entry
}

/// Whole frames of at least 256 KiB, where the codec has a fixed rate and a chunk can hold them.
fn chunk_len(bank: &BankEntry) -> u64 {
    let frame = bank
        .codec
        .encoded_frame_len(&bank.shape, bank.dtype, 0)
        .filter(|frame| (1..=MAX_CHUNK).contains(frame));
    match frame {
        Some(frame) => frame * CHUNK.div_ceil(frame),
        None => CHUNK,
    }
}
