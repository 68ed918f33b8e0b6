//! The pairs of a rotary position embedding (codecs-v1 §7.1).

/// Choice of the two elements of a head that are rotated together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Pairing {
    /// `(i, i + n)`, where n is the number of pairs: Hugging Face, MLX, ggml "neox".
    Half,
    /// `(2i, 2i + 1)`: ggml "norm", MLX "traditional".
    Interleaved,
}
