//! What the banks were computed with (capsule-v1 §6.1).

use crate::{binding::F64Bits, digest::Digest};

/// Model that the banks were computed with (capsule-v1 §6.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Model {
    /// Digest over weights, config and adapters: the identity that is compared.
    pub id: Digest,
    /// Digest over the weights files alone.
    pub weights: Digest,
    /// Digest of the model's configuration.
    pub config: Digest,
    /// Adapters in the order in which they were applied.
    pub adapters: Vec<Adapter>,
    /// A label for people; never compared.
    pub name: String,
}

impl Model {
    /// Returns a model of these digests without adapters and label.
    #[must_use]
    pub fn new(id: Digest, weights: Digest, config: Digest) -> Self {
        Self {
            id,
            weights,
            config,
            adapters: Vec::new(),
            name: String::new(),
        }
    }
}

/// An adapter (LoRA, control vector) applied to the weights.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Adapter {
    /// Digest over the adapter's files.
    pub digest: Digest,
    /// The factor it was applied with.
    pub scale: F64Bits,
}
