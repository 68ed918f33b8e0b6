//! The context: everything that enters the keys of the body (capsule-v1 §6).

use std::ops::Range;
use subtle::ConstantTimeEq;

use crate::{
    binding::{F64Bits, Model, Pairing, PrefixKey, PrefixValue, Rope, Runtime, Tokenizer},
    digest::Digest,
    keys::KeyId,
    manifest::{BankEntry, Section, SectionKind, Stream},
    suite::Suite,
};

/// Everything that enters the keys of the body: changing any of it makes the body unreadable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Context {
    /// The suite of algorithms.
    pub suite: Suite,
    /// Model that computed the banks.
    pub model: Model,
    /// Tokenizer that turned text into token ids.
    pub tokenizer: Tokenizer,
    /// Runtime that saved them, and its format.
    pub runtime: Runtime,
    /// Rotary embeddings, by layers.
    pub rope: Vec<Rope>,
    /// Name of the prompt that the state is of.
    pub prefix: Prefix,
    /// Positions that the capsule holds.
    pub positions: Range<u64>,
    /// Circumstances of the capture.
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
    /// True for a curated start state of many sessions.
    pub base: bool,
    /// Digest of the profile that codecs of its banks decode with (CAP-S-12).
    pub profile: Option<Digest>,
}

impl Context {
    /// Returns the context of `streams` of a model of `layers` layers: suite 1, no rotary embedding, no prefix,
    /// no parent; layers without a bank hold no state.
    #[must_use]
    pub fn new(
        model: Model,
        tokenizer: Tokenizer,
        runtime: Runtime,
        positions: Range<u64>,
        layers: u32,
        streams: Vec<Stream>,
    ) -> Self {
        let holds = |layer: &u32| {
            let of = |stream: &Stream| matches!(stream, Stream::Bank(bank) if bank.layer == *layer);
            streams.iter().any(of)
        };
        Self {
            suite: Suite::ChaCha20Poly1305,
            stateless: (0..layers).filter(|layer| !holds(layer)).collect(),
            model,
            tokenizer,
            runtime,
            rope: Vec::new(),
            prefix: Prefix::None,
            positions,
            flags: CaptureFlags::default(),
            context_length: 0,
            layers,
            rotations: Vec::new(),
            streams,
            parent: None,
            base: false,
            profile: None,
        }
    }
}

/// Unusual circumstances of a state's capture (capsule-v1 §6).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CaptureFlags {
    /// The prefill was speculative or skipped tokens.
    pub speculative_prefill: bool,
    /// Multi-token prediction was active.
    pub multi_token_prediction: bool,
    /// Attention ran on a quantized cache.
    pub quantized_attention: bool,
}

impl CaptureFlags {
    /// Returns those that are set here or in `other`.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Self {
            speculative_prefill: self.speculative_prefill || other.speculative_prefill,
            multi_token_prediction: self.multi_token_prediction || other.multi_token_prediction,
            quantized_attention: self.quantized_attention || other.quantized_attention,
        }
    }

    /// Returns the names of those that are set: `speculative-prefill`, `multi-token-prediction`,
    /// `quantized-attention`.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        [
            (self.speculative_prefill, "speculative-prefill"),
            (self.multi_token_prediction, "multi-token-prediction"),
            (self.quantized_attention, "quantized-attention"),
        ]
        .into_iter()
        .filter_map(|(set, name)| set.then_some(name))
    }
}

/// Name of the prompt in the manifest (capsule-v1 §6.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prefix {
    /// Not at all.
    None,
    /// By a commitment under a tenant's prefix key.
    Keyed {
        /// Id of the prefix key.
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
    /// Elements that form a pair.
    pub pairing: Pairing,
    /// Factor on rotated vectors; 1 where there is none.
    pub attention_factor: F64Bits,
    /// Radians a position, one for each pair.
    pub frequencies: Vec<F64Bits>,
}

/// The capsule that this one continues (lineage-v1 §2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parent {
    /// Its lineage digest.
    pub digest: Digest,
    /// Positions that it holds.
    pub positions: Range<u64>,
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

impl PrefixValue {
    /// Returns how the manifest names it under a tenant's key.
    #[must_use]
    pub fn keyed(&self, key: &PrefixKey) -> Prefix {
        Prefix::Keyed {
            key: key.id(),
            commitment: key.commit(&self.value),
            tokens: self.tokens,
        }
    }

    /// Returns how the manifest names it for everyone.
    #[must_use]
    pub fn public(&self) -> Prefix {
        Prefix::Public {
            value: self.value,
            tokens: self.tokens,
        }
    }
}

impl Prefix {
    /// Whether this names `value`; `None` where only another key could tell.
    pub(crate) fn names(&self, value: &Digest, key: Option<&PrefixKey>) -> Option<bool> {
        match self {
            Self::None => None,
            Self::Public { value: own, .. } => Some(own == value),
            Self::Keyed {
                key: id,
                commitment,
                ..
            } => {
                let key = key.filter(|key| key.id() == *id)?;
                Some(key.commit(value).0.ct_eq(&commitment.0).into())
            }
        }
    }
}
