//! What a bank is: one tensor of one layer, and the positions its rows stand for (capsule-v1 §6).

use kvcap_codecs::{BankShape, Dtype};

/// What a bank holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// Attention keys.
    Key,
    /// Attention values.
    Value,
    /// MLA latent.
    Latent,
    /// MLA rotated key part.
    RopeKey,
    /// Recurrent state (SSM, gated delta net).
    Recurrent,
    /// Convolution taps.
    Convolution,
    /// An indexer's keys.
    IndexKey,
    /// A tensor that only its runtime understands.
    Opaque,
}

/// A bank in canonical form, as an adapter hands it over and as the manifest describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bank {
    /// What it holds.
    pub role: Role,
    /// The model's layer, from 0.
    pub layer: u32,
    /// Which of several banks of one role in one layer, from 0 (streams of a cache, parts of a list).
    pub index: u32,
    /// Element type of the plain bytes.
    pub dtype: Dtype,
    /// Shape of the plain bytes.
    pub shape: BankShape,
    /// The positions of its rows.
    pub rows: Rows,
    /// Sliding window in tokens, 0 where the bank keeps every position.
    pub window: u64,
}

/// Which positions the rows of a bank stand for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rows {
    /// Row r holds position `start + r`.
    From(u64),
    /// Row r holds the r-th position of this list, in the runtime's own order (rings, recycled
    /// cells). The list is sealed; the manifest names the section that holds it.
    Listed(Vec<i64>),
    /// The bank has no token axis.
    None,
}
