//! The facts that a capsule binds its banks to: model, tokenizer, runtime, rope, prefix, positions.
//!
//! Plain data, in the order of capsule-v1 §5. What is compared with what, and the code of each
//! difference, is in `policy`; how they are written as CBOR is in `manifest`.

use std::fmt;

/// A 32-byte BLAKE3 digest.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest(pub [u8; 32]);

/// A BLAKE3 hasher in key-derivation mode, by a context string of capsule-v1 §3.
#[must_use]
pub fn labelled_hasher(context: &str) -> blake3::Hasher {
    blake3::Hasher::new_derive_key(context)
}

/// An IEEE 754 binary64 by its bits, so that no rule about floats can blur a comparison.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct F64Bits(pub u64);

/// What the banks were computed with (capsule-v1 §5.1).
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

/// An adapter (LoRA, control vector) applied to the weights.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Adapter {
    /// Digest over the adapter's files.
    pub digest: Digest,
    /// The factor it was applied with.
    pub scale: F64Bits,
}

/// How text became token ids (capsule-v1 §5.2).
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

/// Which runtime saved the state and in which format (capsule-v1 §5.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Runtime {
    /// `mlx-lm`, `llama.cpp`, `transformers` or another runtime's own name.
    pub name: String,
    /// Its version or build commit; empty where nobody said.
    pub version: String,
    /// The state format by an adapter's name for it: `mlx-lm-0.32`, `ggsq-3`, `dynamic-cache`.
    pub format: String,
    /// Facts of layout and run-time overrides that change the state, sorted by name.
    pub facts: Vec<(String, String)>,
}

/// A rotary position embedding and the layers that use it (capsule-v1 §5.4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rope {
    /// Layers, ascending.
    pub layers: Vec<u32>,
    /// Which elements of a head form a pair.
    pub pairing: Pairing,
    /// Elements of a head that are rotated; the rest pass through.
    pub rotary_dims: u32,
    /// The base.
    pub theta: F64Bits,
    /// How the frequencies are scaled, with every parameter.
    pub scaling: Scaling,
    /// Added to each position before rotation (M-RoPE delta, cache offset).
    pub offset: i64,
    /// Whether the sealed keys are rotated.
    pub keys: KeyBasis,
    /// Block of the Walsh-Hadamard rotation that the runtime applied to the stored keys; 0 for none.
    pub hadamard_keys: u32,
    /// The same for the stored values.
    pub hadamard_values: u32,
}

/// Which two elements of a head are rotated together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pairing {
    /// `(i, i + rotary_dims / 2)`: Hugging Face, MLX, ggml "neox".
    Half,
    /// `(2i, 2i + 1)`: ggml "norm", MLX "traditional".
    Interleaved,
}

/// Whether keys are stored after or before rotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyBasis {
    /// Rotated (every known runtime).
    PostRope,
    /// Not rotated.
    PreRope,
}

/// A scaling of rotary frequencies, with all its parameters (capsule-v1 §5.4).
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
        /// Whether correction bounds are truncated to integers.
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
        /// Whether the long set rotated the sealed keys.
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

impl Digest {
    /// BLAKE3 in key-derivation mode over `parts` one after the other.
    #[must_use]
    pub fn labelled(context: &str, parts: &[&[u8]]) -> Self {
        let mut hasher = labelled_hasher(context);
        for part in parts {
            hasher.update(part);
        }
        Self(*hasher.finalize().as_bytes())
    }

    /// The digest whose 64 hexadecimal digits `text` is.
    #[must_use]
    pub fn from_hex(text: &str) -> Option<Self> {
        let mut bytes = [0; 32];
        if text.len() != 64 || !text.is_ascii() {
            return None;
        }
        for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let high = char::from(pair[0]).to_digit(16)?;
            let low = char::from(pair[1]).to_digit(16)?;
            *byte = u8::try_from(high * 16 + low).ok()?;
        }
        Some(Self(bytes))
    }
}

impl F64Bits {
    /// Whether it is neither infinite nor NaN: its exponent is not all ones.
    #[must_use]
    pub const fn is_finite(self) -> bool {
        self.0 >> 52 & 0x7FF != 0x7FF
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Debug for F64Bits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "F64Bits({:#018x})", self.0)
    }
}
