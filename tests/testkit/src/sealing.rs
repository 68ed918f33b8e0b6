//! What states are sealed with, the same in every run.

use std::path::Path;

use kvcap::{CaptureFlags, Result, SigningKey, Suite, WrappingKey};
use kvcap_models::{HashCache, ModelProfile, RuntimeOptions};
use kvcap_states::{Capture, Lineage, Prompt};

/// A signing key.
#[must_use]
pub fn signer() -> SigningKey {
    SigningKey::from_seed(&[7; 32])
}

/// A wrapping key.
#[must_use]
pub fn wrapping() -> WrappingKey {
    WrappingKey::from_bytes([9; 32])
}

/// A capture that says nothing but its prompt.
#[must_use]
pub fn capture(suite: Suite, prompt: Prompt) -> Capture {
    Capture {
        suite,
        prompt,
        public_prefix: false,
        sections: Vec::new(),
        runtime_version: String::new(),
        facts: Vec::new(),
        hadamard: None,
        flags: CaptureFlags::default(),
        context_length: 0,
        lineage: Lineage::default(),
    }
}

/// The profile of a model's folder or GGUF file; that of the stored states is `fixture("model")`.
///
/// # Errors
/// Of reading it.
pub fn model(path: &Path) -> Result<ModelProfile> {
    let options = RuntimeOptions::default();
    ModelProfile::read(path, &[], &options, &HashCache::off(), &|_, _| {})
}
