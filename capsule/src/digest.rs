//! BLAKE3 digests under a context string (capsule-v1 §4).

use std::fmt;

/// A 32-byte BLAKE3 digest.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest(pub [u8; 32]);

/// A BLAKE3 hasher in key-derivation mode, by a context string of capsule-v1 §4.
#[must_use]
pub fn labelled_hasher(context: &str) -> blake3::Hasher {
    blake3::Hasher::new_derive_key(context)
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

    /// Returns the digest whose 64 hexadecimal digits `text` is.
    #[must_use]
    pub fn from_hex(text: &str) -> Option<Self> {
        hex(text).map(Self)
    }
}

/// Parses `2 · N` hexadecimal digits.
pub(crate) fn hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    if text.len() != 2 * N || !text.is_ascii() {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let high = char::from(pair[0]).to_digit(16)?;
        let low = char::from(pair[1]).to_digit(16)?;
        *byte = u8::try_from(high * 16 + low).ok()?;
    }
    Some(bytes)
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
