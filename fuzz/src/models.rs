//! Small models: files that a profile is read from.

use std::path::Path;

use kvcap::Result;
use kvcap_models::{HashCache, ModelProfile, RuntimeOptions};

/// Reads a model without a cache and without options.
pub fn read_model(path: &Path) -> Result<ModelProfile> {
    let options = RuntimeOptions::default();
    ModelProfile::read(path, &[], &options, &HashCache::off(), &|_, _| {})
}

/// A tokenizer of three tokens.
pub fn tokenizer_json() -> &'static str {
    r#"{"version":"1.0","added_tokens":[{"id":0,"content":"<s>"}],"normalizer":null,"pre_tokenizer":{"type":"ByteLevel"},"model":{"type":"BPE","vocab":{"<s>":0,"a":1,"é":2},"merges":[]}}"#
}
