//! The suites of algorithms (capsule-v1 §4).

/// Algorithms, as a whole (capsule-v1 §4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Suite {
    /// 1: ChaCha20-Poly1305 and BLAKE3.
    ChaCha20Poly1305,
    /// 2: AES-256-GCM and BLAKE3.
    Aes256Gcm,
}

impl Suite {
    /// Its number.
    #[must_use]
    pub const fn number(self) -> u64 {
        match self {
            Self::ChaCha20Poly1305 => 1,
            Self::Aes256Gcm => 2,
        }
    }

    /// The suite with this number.
    #[must_use]
    pub const fn from_number(number: u64) -> Option<Self> {
        match number {
            1 => Some(Self::ChaCha20Poly1305),
            2 => Some(Self::Aes256Gcm),
            _ => None,
        }
    }

    /// Its name: that of its AEAD.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ChaCha20Poly1305 => "chacha20-poly1305",
            Self::Aes256Gcm => "aes-256-gcm",
        }
    }

    /// Every suite, in the order of their numbers.
    pub const ALL: [Self; 2] = [Self::ChaCha20Poly1305, Self::Aes256Gcm];

    /// The library that this build seals and opens chunks with: `RustCrypto`, or `AWS-LC` with the
    /// feature `aws-lc`.
    #[must_use]
    pub const fn provider() -> &'static str {
        match cfg!(feature = "aws-lc") {
            true => "AWS-LC",
            false => "RustCrypto",
        }
    }
}
