//! Recipient entries as the manifest holds them (capsule-v1 §9.3).

use crate::{digest::Digest, keys::KeyId};

/// Method by which a recipient's entry is made and opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecipientKind {
    /// 1: one secret key wraps and unwraps (XChaCha20-Poly1305).
    Symmetric,
    /// 2: HPKE with X25519, for hand-over between operators.
    X25519,
    /// 3: HPKE with X-Wing, ML-KEM-768 and X25519 together: post-quantum hybrid.
    XWing,
}

impl RecipientKind {
    pub(crate) const ALL: [Self; 3] = [Self::Symmetric, Self::X25519, Self::XWing];

    /// Its number in a recipient's entry.
    #[must_use]
    pub const fn number(self) -> u64 {
        match self {
            Self::Symmetric => 1,
            Self::X25519 => 2,
            Self::XWing => 3,
        }
    }

    /// Its name in tools.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Symmetric => "wrap",
            Self::X25519 => "hpke",
            Self::XWing => "x-wing",
        }
    }

    /// The kind of this number, where there is one.
    #[must_use]
    pub fn from_number(number: u64) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.number() == number)
    }

    /// Bytes of what stands beside the wrapped key: a nonce or an encapsulated secret.
    pub(crate) const fn enc_len(self) -> usize {
        match self {
            Self::Symmetric => 24,
            Self::X25519 => 32,
            Self::XWing => 1120,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Keys {
    pub(crate) salt: [u8; 32],
    pub(crate) commitment: Digest,
    pub(crate) recipients: Vec<WrappedKey>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WrappedKey {
    pub(crate) kind: RecipientKind,
    pub(crate) key: KeyId,
    /// A nonce, or an encapsulated secret: as long as the kind says.
    pub(crate) enc: Vec<u8>,
    pub(crate) wrapped: [u8; 48],
}
