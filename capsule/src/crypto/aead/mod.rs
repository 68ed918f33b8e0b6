//! The ciphers of the suites, behind one seam (capsule-v1 §4).
//!
//! A provider is a file with a `Cipher`: `new` of a suite and a key, `seal` in place giving the tag,
//! `open` into other memory as long, which must not be used after a refusal. Providers differ in speed alone,
//! and each chooses its instructions by what the processor has at run time.

use chacha20poly1305::{
    XChaCha20Poly1305,
    aead::{AeadInOut, KeyInit},
};
use zeroize::Zeroizing;

use crate::suite::Suite;

#[cfg(feature = "aws-lc")]
mod aws_lc;
#[cfg(any(test, not(feature = "aws-lc")))]
mod rust_crypto;

#[cfg(feature = "aws-lc")]
pub(crate) use aws_lc::Cipher;
#[cfg(not(feature = "aws-lc"))]
pub(crate) use rust_crypto::Cipher;

/// A chunk or a wrapped key could not be opened; nothing more may be said.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Refused;

/// XChaCha20-Poly1305 of a 32-byte key: ciphertext and tag.
pub(crate) fn wrap(
    key: &[u8; 32],
    nonce: &[u8; 24],
    aad: &[u8],
    secret: &[u8; 32],
) -> Result<[u8; 48], Refused> {
    let mut wrapped = [0; 48];
    let (text, end) = wrapped.split_at_mut(32);
    text.copy_from_slice(secret);
    let tag = XChaCha20Poly1305::new(key.into())
        .encrypt_inout_detached(nonce.into(), aad, text.into())
        .map_err(|_| Refused)?;
    end.copy_from_slice(&tag);
    Ok(wrapped)
}

/// The inverse of [`wrap`].
pub(crate) fn unwrap(
    key: &[u8; 32],
    nonce: &[u8; 24],
    aad: &[u8],
    wrapped: &[u8; 48],
) -> Result<Zeroizing<[u8; 32]>, Refused> {
    let (text, end) = wrapped.split_at(32);
    let mut secret = Zeroizing::new([0; 32]);
    secret.copy_from_slice(text);
    let mut tag = [0; 16];
    tag.copy_from_slice(end);
    XChaCha20Poly1305::new(key.into())
        .decrypt_inout_detached(
            nonce.into(),
            aad,
            secret.as_mut_slice().into(),
            (&tag).into(),
        )
        .map_err(|_| Refused)?;
    Ok(secret)
}

#[cfg(test)]
mod tests;
