//! Rotary position embeddings (capsule-v1 §6.4).

pub use kvcap_codecs::Pairing;

use crate::binding::F64Bits;

/// A rotary position embedding and the layers that use it (capsule-v1 §6.4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rope {
    /// Layers, ascending.
    pub layers: Vec<u32>,
    /// Elements of a head that form a pair.
    pub pairing: Pairing,
    /// Elements of a head that are rotated; the rest pass through.
    pub rotary_dims: u32,
    /// The base.
    pub theta: F64Bits,
    /// Scaling of the frequencies, with every parameter.
    pub scaling: Scaling,
    /// Added to each position before rotation (M-RoPE delta, cache offset).
    pub offset: i64,
    /// Basis of the sealed keys: after or before rotation.
    pub keys: KeyBasis,
}

/// Basis in which keys are stored: after or before rotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyBasis {
    /// Rotated (every known runtime).
    PostRope,
    /// Not rotated.
    PreRope,
}

/// A scaling of rotary frequencies, with all its parameters (capsule-v1 §6.4).
///
/// Dynamic NTK is not here: its keys depend on the length at which each token was computed, so a
/// state cannot be bound to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scaling {
    /// Frequencies as theta gives them.
    None,
    /// Positions divided by a factor.
    Linear {
        /// Divisor of positions.
        factor: F64Bits,
    },
    /// YaRN.
    Yarn {
        /// Ratio of extended to original length.
        factor: F64Bits,
        /// Length the model was trained for.
        original: u64,
        /// Fast rotation bound.
        beta_fast: F64Bits,
        /// Slow rotation bound.
        beta_slow: F64Bits,
        /// Magnitude scale, 0 where absent.
        mscale: F64Bits,
        /// Magnitude scale over all dimensions, 0 where absent.
        mscale_all_dim: F64Bits,
        /// Factor on rotated vectors, 0 where it follows from the others.
        attention_factor: F64Bits,
        /// True if correction bounds are truncated to integers.
        truncate: bool,
    },
    /// Llama 3's piecewise scaling.
    Llama3 {
        /// Divisor of low frequencies.
        factor: F64Bits,
        /// Low-frequency bound.
        low_freq_factor: F64Bits,
        /// High-frequency bound.
        high_freq_factor: F64Bits,
        /// Length the model was trained for.
        original: u64,
    },
    /// LongRoPE: one factor for each pair, in two sets.
    LongRope {
        /// Factors below the original length.
        short: Vec<F64Bits>,
        /// Factors above it.
        long: Vec<F64Bits>,
        /// Length the model was trained for.
        original: u64,
        /// Factor on rotated vectors, 0 where it follows from the others.
        attention_factor: F64Bits,
        /// True if the long set rotated the sealed keys.
        long_used: bool,
    },
    /// Divisors for each pair as a tensor of the weights (`rope_freqs.weight` in GGUF).
    Factors {
        /// One divisor a pair.
        factors: Vec<F64Bits>,
    },
    /// Proportional rotary embedding: frequencies spread over the whole head.
    Proportional {
        /// Divisor of frequencies.
        factor: F64Bits,
    },
    /// Multi-axis positions: pairs divided into sections for time, height, width.
    Multi {
        /// Pairs in each section.
        sections: Vec<u32>,
        /// Sections interleaved (Qwen3-VL, Qwen3.5) rather than contiguous.
        interleaved: bool,
    },
}
