//! The steps of sealing and opening a chunk, each alone, for measuring what they cost.

use crate::{
    binding::{Digest, PrefixKey},
    crypto::{
        chunk::{self, StreamKey},
        schedule::check_commitment,
    },
    error::Result,
    hazmat::Entropy,
    manifest::Prefix,
    suite::Suite,
};

/// Comparisons of secrets, each alone, to be timed.
pub struct SecretSteps;

impl SecretSteps {
    /// Returns whether a derived commitment is the signed one (CAP-A-1).
    #[must_use]
    pub fn commitment_is(derived: &Digest, signed: &Digest) -> bool {
        check_commitment(derived, signed).is_ok()
    }

    /// Returns whether a prefix names a prompt under a key, where this key could tell (capsule-v1 §6.5).
    #[must_use]
    pub fn prompt_is(prefix: &Prefix, value: &Digest, key: &PrefixKey) -> Option<bool> {
        prefix.names(value, Some(key))
    }
}

/// Steps that sealing and opening do to a chunk (capsule-v1 §9.4, §7.4), to be timed: the key is
/// made for this value and known to nobody, so that nothing else can be done with what they seal.
pub struct ChunkSteps(StreamKey);

impl ChunkSteps {
    /// The steps of `suite`.
    ///
    /// # Errors
    /// KVC-940 where the system gives no randomness.
    pub fn new(suite: Suite) -> Result<Self> {
        let key = Entropy::system().secret()?;
        Ok(Self(StreamKey::throwaway(suite, &key)))
    }

    /// The hash of a chunk's ciphertext.
    #[must_use]
    pub fn digest(ciphertext: &[u8]) -> [u8; 32] {
        chunk::chunk_digest(ciphertext)
    }

    /// Encrypts chunk `index` in place and gives its tag.
    ///
    /// # Errors
    /// KVC-806 where the cipher refuses.
    pub fn seal(&self, index: u64, chunk: &mut [u8]) -> Result<[u8; 16]> {
        self.0.seal(index, false, chunk)
    }

    /// Decrypts chunk `index` into `chunk`, which is as long.
    ///
    /// # Errors
    /// KVC-806 where it is not the chunk that was sealed.
    pub fn open(&self, index: u64, sealed: &[u8], tag: &[u8; 16], chunk: &mut [u8]) -> Result<()> {
        self.0.open(index, false, sealed, tag, chunk)
    }
}
