//! A capsule's statements as text and numbers for people.
//!
//! An [`Outline`] can be had of an untrusted capsule, and nothing of the library takes one: it is
//! how an unverified manifest is shown without anybody holding a [`Manifest`].

use std::ops::Range;

use crate::manifest::{BankEntry, Manifest, OutlineRope, Prefix, RowsEntry, Stream, StreamDigest};
use kvcap_codecs::{BankShape, Codec};

/// Summary of a capsule's own statements, for display.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Outline {
    /// Name of the suite.
    pub suite: &'static str,
    /// Model id, weights digest and config digest in hexadecimal, and the label.
    pub model: [String; 4],
    /// Digest and factor bits of each adapter.
    pub adapters: Vec<(String, u64)>,
    /// Vocabulary digest, version, pre-tokenizer.
    pub tokenizer: [String; 3],
    /// Runtime's name, version and state format.
    pub runtime: [String; 3],
    /// Layout facts.
    pub facts: Vec<(String, String)>,
    /// Rotary embeddings.
    pub rope: Vec<OutlineRope>,
    /// Kind of the prompt's name: `none`, `keyed`, `public`.
    pub prefix: &'static str,
    /// Tokens in the prompt.
    pub prefix_tokens: u64,
    /// Positions held.
    pub positions: Range<u64>,
    /// Names of the flags of an unusual capture; empty for a usual one.
    pub capture: Vec<&'static str>,
    /// Context length of the runtime.
    pub context_length: u64,
    /// Layers of the model, and how many hold no state.
    pub layers: (u32, usize),
    /// Ids of the keys that the content key is wrapped for, and their kinds.
    pub recipients: Vec<(String, &'static str)>,
    /// Lineage digest of the parent.
    pub parent: Option<String>,
    /// True for a base image.
    pub base: bool,
    /// Digest of the profile that its codecs decode with.
    pub codec_profile: Option<String>,
    /// Streams in the order of the body.
    pub streams: Vec<OutlineStream>,
}

/// One stream of an [`Outline`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct OutlineStream {
    /// `key`, `value`, … for a bank; `section` otherwise.
    pub kind: &'static str,
    /// Name of a section.
    pub name: String,
    /// Layer and index of a bank.
    pub bank: Option<(u32, u32)>,
    /// Element type of a bank.
    pub dtype: String,
    /// Shape of a bank: `2 heads × 1000 tokens × 64`.
    pub shape: String,
    /// Positions of a bank's rows.
    pub rows: String,
    /// Codec.
    pub codec: String,
    /// Bytes before encoding.
    pub plain_len: u64,
    /// Bytes in the body.
    pub encoded_len: u64,
    /// Bytes of a chunk.
    pub chunk_len: u64,
    /// Codec that was asked for, where a finer one was taken.
    pub asked: Option<String>,
}

impl Outline {
    /// The statements of a manifest.
    #[must_use]
    pub fn of(manifest: &Manifest) -> Self {
        let context = &manifest.context;
        let (model, tokenizer) = (&context.model, &context.tokenizer);
        let (prefix, prefix_tokens) = match context.prefix {
            Prefix::None => ("none", 0),
            Prefix::Keyed { tokens, .. } => ("keyed", tokens),
            Prefix::Public { tokens, .. } => ("public", tokens),
        };
        let adapter = |a: &crate::binding::Adapter| (a.digest.to_string(), a.scale.0);
        Self {
            suite: context.suite.name(),
            model: [
                model.id.to_string(),
                model.weights.to_string(),
                model.config.to_string(),
                model.name.clone(),
            ],
            adapters: model.adapters.iter().map(adapter).collect(),
            tokenizer: [
                tokenizer.vocab.to_string(),
                tokenizer.version.clone(),
                tokenizer.pre_tokenizer.clone(),
            ],
            runtime: [
                context.runtime.name.clone(),
                context.runtime.version.clone(),
                context.runtime.format.clone(),
            ],
            facts: context.runtime.facts.clone(),
            rope: context.rope.iter().map(OutlineRope::of).collect(),
            prefix,
            prefix_tokens,
            positions: context.positions.clone(),
            capture: context.flags.names().collect(),
            context_length: context.context_length,
            layers: (context.layers, context.stateless.len()),
            recipients: manifest
                .keys
                .recipients
                .iter()
                .map(|recipient| (recipient.key.to_string(), recipient.kind.name()))
                .collect(),
            parent: context.parent.as_ref().map(|p| p.digest.to_string()),
            base: context.base,
            codec_profile: context.profile.as_ref().map(ToString::to_string),
            streams: context
                .streams
                .iter()
                .zip(&manifest.measured)
                .map(|(stream, measured)| OutlineStream::of(stream, measured))
                .collect(),
        }
    }
}

impl OutlineStream {
    fn of(stream: &Stream, measured: &StreamDigest) -> Self {
        let common = Self {
            kind: "section",
            name: String::new(),
            bank: None,
            dtype: "u8".to_owned(),
            shape: String::new(),
            rows: String::new(),
            codec: stream.codec().name(),
            plain_len: stream.plain_len().unwrap_or(0),
            encoded_len: measured.encoded_len,
            chunk_len: stream.chunk_len(),
            asked: None,
        };
        match stream {
            Stream::Section(section) => Self {
                name: section.kind.name().to_owned(),
                ..common
            },
            Stream::Bank(bank) => Self {
                kind: bank.role.name(),
                bank: Some((bank.layer, bank.index)),
                dtype: bank.dtype.name(),
                shape: shape_text(&bank.shape),
                rows: rows_text(bank),
                asked: bank.asked.map(Codec::name),
                ..common
            },
        }
    }
}

fn shape_text(shape: &BankShape) -> String {
    match shape {
        BankShape::Tokens { heads, tokens, dim } => {
            format!("{heads} heads × {tokens} tokens × {dim}")
        }
        BankShape::Whole { dims } => {
            let dims: Vec<String> = dims.iter().map(u64::to_string).collect();
            format!("[{}]", dims.join(", "))
        }
    }
}

fn rows_text(bank: &BankEntry) -> String {
    match (bank.rows, &bank.shape) {
        (RowsEntry::From(start), BankShape::Tokens { tokens, .. }) => {
            format!("{start}..{}", start.saturating_add(*tokens))
        }
        (RowsEntry::Listed(stream), _) => format!("listed in stream {stream}"),
        _ => String::new(),
    }
}
