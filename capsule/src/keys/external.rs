//! Signing keys whose secret is kept elsewhere: who holds it signs (helper-v1).

use crate::error::Result;

/// Holder of a signing key's secret. What it gives is verified with the public key before it is used.
pub trait ExternalSigner: Send + Sync {
    /// Signs `message` with Ed25519 (RFC 8032).
    ///
    /// # Errors
    /// KVC-948 where it cannot, or does not.
    fn sign(&self, message: &[u8]) -> Result<[u8; 64]>;
}
