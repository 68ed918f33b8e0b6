//! What a bank holds, as far as codecs ask (codecs-v1 §3.2).

/// Contents of a bank, as far as a codec's choice depends on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Content {
    /// Attention keys (or the rotated key part of a latent attention).
    Keys,
    /// Attention values.
    Values,
    /// The latent of a latent attention.
    Latent,
    /// Anything else: recurrent and convolution states, indexers, opaque tensors. Stays exact.
    Other,
}
