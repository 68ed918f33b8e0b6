//! Bytes of a codec vector: in full, by a recipe, or by their digest.

use serde::{Deserialize, Serialize};

use crate::{
    generate::sha256,
    hex::{hex, unhex_any},
};

/// Bytes that stand in hexadecimal up to this length, and by their digest beyond.
const IN_FULL: usize = 1 << 13;

/// Statement of bytes (README, "Bytes").
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Bytes {
    /// In hexadecimal.
    Hex(String),
    /// Sixteen-bit patterns, little-endian.
    Halves(Halves),
    /// Bytes, so many times.
    Repeat(Box<Bytes>, usize),
    /// One after the other.
    Concat(Vec<Bytes>),
    /// Only their length and digest.
    Digest(usize, String),
}

/// The patterns `(first + i · step) mod 2¹⁶` for `i` from 0 to `count` − 1, of which those are left
/// out whose low 15 bits are not below `below`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "described above")]
pub struct Halves {
    pub first: u16,
    pub step: u16,
    pub count: usize,
    pub below: u16,
}

impl Bytes {
    /// These bytes in full, or their digest where they are many.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        if bytes.len() <= IN_FULL {
            Self::full(bytes)
        } else {
            Self::Digest(bytes.len(), sha256(bytes))
        }
    }

    /// These bytes in full.
    #[must_use]
    pub fn full(bytes: &[u8]) -> Self {
        Self::Hex(hex(bytes))
    }

    /// Patterns in order from 0 on, or scattered, whose low 15 bits are below `below`.
    #[must_use]
    pub const fn halves(step: u16, count: usize, below: u16) -> Self {
        Self::Halves(Halves {
            first: 0,
            step,
            count,
            below,
        })
    }

    /// The bytes, where they are not stated by a digest alone.
    #[must_use]
    pub fn get(&self) -> Option<Vec<u8>> {
        Some(match self {
            Self::Hex(text) => unhex_any(text),
            Self::Halves(halves) => halves.get(),
            Self::Repeat(bytes, count) => bytes.get()?.repeat(*count),
            Self::Concat(parts) => parts
                .iter()
                .map(Self::get)
                .collect::<Option<Vec<_>>>()?
                .concat(),
            Self::Digest(..) => return None,
        })
    }

    /// Returns true if `found` are the bytes.
    #[must_use]
    pub fn are(&self, found: &[u8]) -> bool {
        match self {
            Self::Digest(len, digest) => found.len() == *len && sha256(found) == *digest,
            _ => self.get().is_some_and(|bytes| bytes == found),
        }
    }
}

impl Halves {
    fn get(&self) -> Vec<u8> {
        (0..self.count)
            .map(|i| self.first.wrapping_add((i as u16).wrapping_mul(self.step)))
            .filter(|bits| bits & 0x7FFF < self.below)
            .flat_map(u16::to_le_bytes)
            .collect()
    }
}
