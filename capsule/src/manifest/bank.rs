//! What a bank is: one tensor of one layer, and the positions its rows stand for (capsule-v1 §7).

use std::sync::Arc;

use kvcap_codecs::{BankShape, Codec, Dtype};

/// Contents of a bank.
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

impl Role {
    /// Returns its name, one word in lower case (capsule-v1 §7.1).
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::Value => "value",
            Self::Latent => "latent",
            Self::RopeKey => "ropekey",
            Self::Recurrent => "recurrent",
            Self::Convolution => "convolution",
            Self::IndexKey => "indexkey",
            Self::Opaque => "opaque",
        }
    }
}

/// A bank in canonical form, as an adapter hands it over and as the manifest describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bank {
    /// Contents.
    pub role: Role,
    /// The model's layer, from 0.
    pub layer: u32,
    /// Number among several banks of one role in one layer, from 0 (streams of a cache, parts of a
    /// list).
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

/// Positions that the rows of a bank stand for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rows {
    /// Row r holds position `start + r`.
    From(u64),
    /// Row r holds the r-th position of this list, in the runtime's own order (rings, recycled
    /// cells). The list is sealed; the manifest names the section that holds it. Banks of one list share
    /// it.
    Listed(Arc<[i64]>),
    /// The bank has no token axis.
    None,
}

/// A bank as the manifest describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BankEntry {
    /// Contents.
    pub role: Role,
    /// The model's layer, from 0.
    pub layer: u32,
    /// Number among several banks of this role in this layer.
    pub index: u32,
    /// Element type of the plain bytes.
    pub dtype: Dtype,
    /// Shape of the plain bytes.
    pub shape: BankShape,
    /// Positions of the rows.
    pub rows: RowsEntry,
    /// Sliding window in tokens, 0 for none.
    pub window: u64,
    /// Encoding of the plain bytes.
    pub codec: Codec,
    /// Number of the rotation table that un-rotates the keys of a lossy bank: its codec or its
    /// receipt needs it.
    pub rotation: Option<u32>,
    /// Block of the Walsh-Hadamard rotation that the runtime applied to each stored head; 0 for none.
    pub hadamard: u32,
    /// Bytes of a chunk.
    pub chunk_len: u64,
    /// The codec that was asked for, where a finer one was taken by what was measured.
    pub asked: Option<Codec>,
}

/// Positions that the rows of a bank stand for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowsEntry {
    /// Row r holds position start + r.
    From(u64),
    /// The section with this stream index lists them.
    Listed(u32),
    /// No token axis.
    None,
}

impl BankEntry {
    /// Returns what no two banks of a capsule share, and what a chain finds its banks by.
    #[must_use]
    pub const fn identity(&self) -> (Role, u32, u32) {
        (self.role, self.layer, self.index)
    }

    /// Returns whether it keeps every position, in order: an increment continues such a bank, and holds every
    /// other whole.
    #[must_use]
    pub const fn is_by_position(&self) -> bool {
        matches!(self.rows, RowsEntry::From(_)) && self.window == 0
    }

    /// Bytes that the section of receipts holds of it: a receipt if its codec is lossy, and what was measured
    /// of the codec asked for if it was not taken (CAP-S-8).
    #[must_use]
    pub fn receipt_len(&self) -> u64 {
        let lossy = if self.codec.is_exact() { 0 } else { 32 };
        lossy + if self.asked.is_some() { 16 } else { 0 }
    }

    /// Encoded bytes, where they follow from the shape alone.
    #[must_use]
    pub fn fixed_len(&self) -> Option<u64> {
        let frames = self.shape.frames(self.dtype)?;
        let Some(last) = frames.checked_sub(1) else {
            return Some(0);
        };
        let frame = |index| self.codec.encoded_frame_len(&self.shape, self.dtype, index);
        // every frame but the last has the length of the first
        frame(0)?.checked_mul(last)?.checked_add(frame(last)?)
    }

    /// Encoded bytes at most.
    #[must_use]
    pub fn max_len(&self) -> Option<u64> {
        if self.codec.is_fixed_rate() {
            self.fixed_len()
        } else {
            self.codec.max_stream_len(&self.shape, self.dtype)
        }
    }
}
