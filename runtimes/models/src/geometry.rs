//! What each layer of a model keeps (model-id-v1 §7).

/// A model's shape, as far as its cache depends on it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Geometry {
    /// One entry a layer.
    pub layers: Vec<LayerGeometry>,
    /// Longest context the model is made for, 0 if unknown.
    pub context_length: u64,
    /// Architecture as a GGUF file names it, where the model is one.
    pub architecture: Option<String>,
}

/// State that one layer keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LayerGeometry {
    /// Keys and values by head.
    Attention {
        /// Key and value heads.
        kv_heads: u64,
        /// Elements of a key head.
        key_dim: u64,
        /// Elements of a value head.
        value_dim: u64,
        /// Sliding window in tokens, 0 for none.
        window: u64,
    },
    /// Multi-head latent attention.
    Latent {
        /// Rank of the latent.
        rank: u64,
        /// Elements of the rotated key part.
        rope_dim: u64,
    },
    /// A recurrent layer (state-space model, gated delta net), whose sizes are the runtime's own.
    Recurrent,
    /// Attention that reads another layer's cache.
    Shared,
    /// A kind that this version does not know: its banks are not checked.
    Unknown,
}
