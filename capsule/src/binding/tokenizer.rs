//! How text became token ids (capsule-v1 §6.2).

use crate::digest::Digest;

/// Tokenizer that turned text into token ids (capsule-v1 §6.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tokenizer {
    /// Digest over all token strings by id; the same from `tokenizer.json` and GGUF.
    pub vocab: Digest,
    /// Number of token ids.
    pub vocab_size: u32,
    /// Version or class of the tokenizer as its files state it.
    pub version: String,
    /// The pre-tokenizer by name, or a digest of its description in hexadecimal.
    pub pre_tokenizer: String,
    /// Special tokens by name (`bos`, `eos`, …), sorted by name.
    pub specials: Vec<(String, u32)>,
    /// Digest of the chat template's text, if there is one.
    pub chat_template: Option<Digest>,
}

impl Tokenizer {
    /// Returns a tokenizer of this vocabulary, of which nothing else is known.
    #[must_use]
    pub fn new(vocab: Digest, vocab_size: u32) -> Self {
        Self {
            vocab,
            vocab_size,
            version: String::new(),
            pre_tokenizer: String::new(),
            specials: Vec::new(),
            chat_template: None,
        }
    }
}
