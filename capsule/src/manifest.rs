//! What a capsule's issuer has signed about its banks (capsule-v1 §5, §6).
//!
//! `decode` reads it, `encode` writes it, `check` holds its statements against each other. A
//! [`Manifest`] in a reader's hands has passed all of that and a trusted key's signature.

mod check;
mod decode;
mod encode;

use std::ops::Range;

use kvcap_codecs::{BankShape, Codec, Dtype};

use crate::{
    bank::Role,
    binding::{Digest, F64Bits, Model, Pairing, Rope, Runtime, Tokenizer},
    envelope::Claims,
    keys::KeyId,
    wrapping::RecipientKind,
};

pub(crate) use decode::decode;
pub(crate) use encode::{encode, encode_context, encode_keys};

/// A verified capsule's statements.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// The claims of its header, signed as well.
    pub claims: Claims,
    /// What the banks are.
    pub context: Context,
    /// Lengths and digests, one a stream.
    pub measured: Vec<Measured>,
    pub(crate) keys: Keys,
    pub(crate) tables_len: u64,
    pub(crate) extensions: Vec<(u64, Vec<u8>)>,
}

/// Everything that enters the keys of the body: changing any of it makes the body unreadable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Context {
    /// The suite of algorithms.
    pub suite: Suite,
    /// What computed the banks.
    pub model: Model,
    /// How text became token ids.
    pub tokenizer: Tokenizer,
    /// Which runtime saved them, in which format.
    pub runtime: Runtime,
    /// Rotary embeddings, by layers.
    pub rope: Vec<Rope>,
    /// Which prompt the state is of.
    pub prefix: Prefix,
    /// Positions that the capsule holds.
    pub positions: Range<u64>,
    /// How the state was captured.
    pub flags: CaptureFlags,
    /// Context length that the runtime was set to, 0 if unknown.
    pub context_length: u64,
    /// Layers of the model.
    pub layers: u32,
    /// Layers that hold no state, ascending.
    pub stateless: Vec<u32>,
    /// Tables for codecs that un-rotate keys.
    pub rotations: Vec<RotationTable>,
    /// Banks and sections in the order of the body.
    pub streams: Vec<Stream>,
    /// The capsule that this one continues.
    pub parent: Option<Parent>,
    /// Whether this is a curated start state for many sessions.
    pub base: bool,
}

/// Algorithms, as a whole (capsule-v1 §3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Suite {
    /// 1: ChaCha20-Poly1305 and BLAKE3.
    ChaCha20Poly1305,
    /// 2: AES-256-GCM and BLAKE3.
    Aes256Gcm,
}

/// What was unusual when the state was captured (capsule-v1 §5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CaptureFlags {
    /// The prefill was speculative or skipped tokens.
    pub speculative_prefill: bool,
    /// Multi-token prediction was active.
    pub multi_token_prediction: bool,
    /// Attention ran on a quantized cache.
    pub quantized_attention: bool,
}

/// How the manifest names the prompt (capsule-v1 §5.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prefix {
    /// Not at all.
    None,
    /// By a commitment under a tenant's prefix key.
    Keyed {
        /// Which key.
        key: KeyId,
        /// The commitment.
        commitment: Digest,
        /// Tokens in the prompt.
        tokens: u64,
    },
    /// In the clear: anyone can confirm a guess.
    Public {
        /// The prefix value.
        value: Digest,
        /// Tokens in the prompt.
        tokens: u64,
    },
}

/// Inverse frequencies with which a codec un-rotates keys (codecs-v1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RotationTable {
    /// Which elements form a pair.
    pub pairing: Pairing,
    /// Factor on rotated vectors; 1 where there is none.
    pub attention_factor: F64Bits,
    /// Radians a position, one for each pair.
    pub frequencies: Vec<F64Bits>,
}

/// The capsule that this one continues (capsule-v1 §9).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parent {
    /// Its lineage digest.
    pub digest: Digest,
    /// Positions that it holds.
    pub positions: Range<u64>,
}

/// One sealed run of bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stream {
    /// A tensor of a layer.
    Bank(BankEntry),
    /// Anything else.
    Section(Section),
}

/// A bank as the manifest describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BankEntry {
    /// What it holds.
    pub role: Role,
    /// The model's layer, from 0.
    pub layer: u32,
    /// Which of several banks of this role in this layer.
    pub index: u32,
    /// Element type of the plain bytes.
    pub dtype: Dtype,
    /// Shape of the plain bytes.
    pub shape: BankShape,
    /// Positions of the rows.
    pub rows: RowsEntry,
    /// Sliding window in tokens, 0 for none.
    pub window: u64,
    /// How the plain bytes are encoded.
    pub codec: Codec,
    /// Which rotation table un-rotates the keys of a lossy bank: its codec or its receipt needs it.
    pub rotation: Option<u32>,
    /// Bytes of a chunk.
    pub chunk_len: u64,
    /// Why a finer codec than the one asked for was chosen.
    pub fallback: Option<Fallback>,
}

/// Which positions the rows of a bank stand for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowsEntry {
    /// Row r holds position start + r.
    From(u64),
    /// The section with this stream index lists them.
    Listed(u32),
    /// No token axis.
    None,
}

/// A codec that would have passed its bound of error, so that a finer one was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fallback {
    /// The codec asked for.
    pub from: Codec,
    /// The bound on the centred key error.
    pub limit: F64Bits,
    /// The error that was measured.
    pub seen: F64Bits,
}

/// A sealed stream that is not a bank.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// What it holds.
    pub kind: SectionKind,
    /// Its bytes.
    pub len: u64,
    /// Bytes of a chunk.
    pub chunk_len: u64,
}

/// What a section holds (capsule-v1 §6.3).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SectionKind {
    /// u32 token ids.
    Tokens,
    /// The conversation, in the sealer's form.
    History,
    /// The agent's own state.
    AgentState,
    /// What the state file holds beside banks.
    Residue,
    /// i64 positions of a bank's rows.
    Positions,
    /// The prefix value.
    Prefix,
    /// Named by the sealer.
    Other(String),
}

/// What is known of a stream once it is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Measured {
    /// Bytes in the body.
    pub encoded_len: u64,
    /// Digest of the chunk table.
    pub table: Digest,
    /// Quality receipt of a lossy bank (codecs-v1).
    pub receipt: Option<[u8; 32]>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Keys {
    pub(crate) salt: [u8; 32],
    pub(crate) commitment: Digest,
    pub(crate) recipients: Vec<WrappedKey>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WrappedKey {
    pub(crate) kind: RecipientKind,
    pub(crate) key: KeyId,
    /// A nonce, or an encapsulated secret: as long as the kind says.
    pub(crate) enc: Vec<u8>,
    pub(crate) wrapped: [u8; 48],
}

impl Suite {
    /// Its number.
    #[must_use]
    pub const fn number(self) -> u64 {
        match self {
            Self::ChaCha20Poly1305 => 1,
            Self::Aes256Gcm => 2,
        }
    }

    /// The suite with this number.
    #[must_use]
    pub const fn from_number(number: u64) -> Option<Self> {
        match number {
            1 => Some(Self::ChaCha20Poly1305),
            2 => Some(Self::Aes256Gcm),
            _ => None,
        }
    }

    /// Its name: that of its AEAD.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ChaCha20Poly1305 => "chacha20-poly1305",
            Self::Aes256Gcm => "aes-256-gcm",
        }
    }
}

impl CaptureFlags {
    pub(crate) fn bits(self) -> u64 {
        u64::from(self.speculative_prefill)
            | u64::from(self.multi_token_prediction) << 1
            | u64::from(self.quantized_attention) << 2
    }

    pub(crate) fn from_bits(bits: u64) -> Option<Self> {
        (bits < 8).then_some(Self {
            speculative_prefill: bits & 1 != 0,
            multi_token_prediction: bits & 2 != 0,
            quantized_attention: bits & 4 != 0,
        })
    }
}

impl SectionKind {
    /// The name in tools: `tokens`, `history`, `agent-state`, … or the sealer's own.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Tokens => "tokens",
            Self::History => "history",
            Self::AgentState => "agent-state",
            Self::Residue => "residue",
            Self::Positions => "positions",
            Self::Prefix => "prefix",
            Self::Other(name) => name,
        }
    }

    pub(crate) fn code(&self) -> (u64, &str) {
        match self {
            Self::Tokens => (1, ""),
            Self::History => (2, ""),
            Self::AgentState => (3, ""),
            Self::Residue => (4, ""),
            Self::Positions => (5, ""),
            Self::Prefix => (6, ""),
            Self::Other(name) => (7, name),
        }
    }
}

impl Stream {
    /// Bytes of a chunk.
    #[must_use]
    pub fn chunk_len(&self) -> u64 {
        match self {
            Self::Bank(bank) => bank.chunk_len,
            Self::Section(section) => section.chunk_len,
        }
    }

    /// Plain bytes, or `None` where the bank's shape overflows (never in a verified manifest).
    #[must_use]
    pub fn plain_len(&self) -> Option<u64> {
        match self {
            Self::Bank(bank) => bank.shape.plain_len(bank.dtype),
            Self::Section(section) => Some(section.len),
        }
    }

    /// The codec's name, or `raw` for a section.
    #[must_use]
    pub fn codec(&self) -> Codec {
        match self {
            Self::Bank(bank) => bank.codec,
            Self::Section(_) => Codec::Raw,
        }
    }
}

impl Prefix {
    /// Tokens in the prompt, where it is named.
    #[must_use]
    pub const fn tokens(&self) -> Option<u64> {
        match self {
            Self::None => None,
            Self::Keyed { tokens, .. } | Self::Public { tokens, .. } => Some(*tokens),
        }
    }
}

impl BankEntry {
    /// What no two banks of a capsule share, and what a chain finds its banks by.
    #[must_use]
    pub const fn identity(&self) -> (Role, u32, u32) {
        (self.role, self.layer, self.index)
    }

    /// Whether it keeps every position, in order: an increment continues such a bank, and holds every
    /// other whole.
    #[must_use]
    pub const fn is_by_position(&self) -> bool {
        matches!(self.rows, RowsEntry::From(_)) && self.window == 0
    }

    /// Encoded bytes, where they follow from the shape alone.
    #[must_use]
    pub fn fixed_len(&self) -> Option<u64> {
        let frames = self.shape.frames(self.dtype)?;
        let Some(last) = frames.checked_sub(1) else {
            return Some(0);
        };
        let frame = |index| self.codec.encoded_frame_len(&self.shape, self.dtype, index);
        // every frame but the last has the length of the first
        frame(0)?.checked_mul(last)?.checked_add(frame(last)?)
    }

    /// Encoded bytes at most.
    #[must_use]
    pub fn max_len(&self) -> Option<u64> {
        if self.codec.is_fixed_rate() {
            self.fixed_len()
        } else {
            self.codec.max_stream_len(&self.shape, self.dtype)
        }
    }
}

impl Context {
    /// The section of this kind and its stream index.
    #[must_use]
    pub fn section(&self, kind: &SectionKind) -> Option<(usize, &Section)> {
        self.streams
            .iter()
            .enumerate()
            .find_map(|(index, stream)| match stream {
                Stream::Section(section) if section.kind == *kind => Some((index, section)),
                _ => None,
            })
    }

    /// The banks with their stream indices, in the order of the body.
    pub fn banks(&self) -> impl Iterator<Item = (usize, &BankEntry)> {
        self.streams
            .iter()
            .enumerate()
            .filter_map(|(index, stream)| match stream {
                Stream::Bank(bank) => Some((index, bank)),
                Stream::Section(_) => None,
            })
    }
}
