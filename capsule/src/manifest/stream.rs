//! Streams: banks and sections in the order of the body (capsule-v1 §7).

use kvcap_codecs::Codec;

use crate::{digest::Digest, limits::MIN_CHUNK, manifest::BankEntry};

/// One sealed run of bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stream {
    /// A tensor of a layer.
    Bank(BankEntry),
    /// Anything else.
    Section(Section),
}

/// A sealed stream that is not a bank.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// Contents.
    pub kind: SectionKind,
    /// Its bytes.
    pub len: u64,
    /// Bytes of a chunk.
    pub chunk_len: u64,
}

impl Section {
    /// Returns a section of `len` bytes in chunks of at most 1 MiB.
    #[must_use]
    pub fn new(kind: SectionKind, len: u64) -> Self {
        Self {
            kind,
            len,
            chunk_len: len.next_multiple_of(MIN_CHUNK).clamp(MIN_CHUNK, 1 << 20),
        }
    }
}

impl From<Section> for Stream {
    fn from(section: Section) -> Self {
        Self::Section(section)
    }
}

impl From<BankEntry> for Stream {
    fn from(bank: BankEntry) -> Self {
        Self::Bank(bank)
    }
}

/// Contents of a section (capsule-v1 §7.3).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SectionKind {
    /// u32 token ids.
    Tokens,
    /// The conversation, in the sealer's form.
    History,
    /// The agent's own state.
    AgentState,
    /// Bytes of the state file that are in no bank.
    Residue,
    /// i64 positions of a bank's rows.
    Positions,
    /// The prefix value.
    Prefix,
    /// Quality receipts of the lossy banks (codecs-v1 §10.4).
    Receipts,
    /// Named by the sealer.
    Other(String),
}

/// Encoded length, table digest and quality of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamDigest {
    /// Bytes in the body.
    pub encoded_len: u64,
    /// Digest of the chunk table.
    pub table: Digest,
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
            Self::Receipts => "receipts",
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
            Self::Receipts => (8, ""),
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
