//! Wrapping keys whose secret is kept elsewhere: who holds it unwraps (helper-v1).

use zeroize::Zeroizing;

use crate::{error::Result, manifest::RecipientKind};

/// Holder of the secret half of a wrapping key. What it gives is compared with the capsule's key commitment before
/// anything is opened with it (capsule-v1 §9.2).
pub trait ExternalUnwrapper: Send + Sync {
    /// Opens a wrapped content key by HPKE (capsule-v1 §9.3).
    ///
    /// # Errors
    /// KVC-948 where it cannot, or does not.
    fn unwrap(&self, wrapped: &WrappedContent<'_>) -> Result<Zeroizing<[u8; 32]>>;

    /// Returns the bytes of the prefix key that belongs to the key (capsule-v1 §6.5), the same each time; `None` where it
    /// gives none.
    ///
    /// # Errors
    /// KVC-948 where it does not say.
    fn prefix_key(&self) -> Result<Option<Zeroizing<[u8; 32]>>>;
}

/// A content key wrapped for one public key, and what HPKE binds it to.
#[derive(Clone, Copy, Debug)]
pub struct WrappedContent<'a> {
    /// Kind of the public key.
    pub kind: RecipientKind,
    /// HPKE's `info`.
    pub info: &'a [u8],
    /// Associated data.
    pub aad: &'a [u8],
    /// Encapsulated secret.
    pub enc: &'a [u8],
    /// Ciphertext and tag.
    pub wrapped: &'a [u8; 48],
}
