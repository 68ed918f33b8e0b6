//! The ciphers of the suites, behind one seam (capsule-v1 §3).

use aes_gcm::Aes256Gcm;
use chacha20poly1305::{
    ChaCha20Poly1305, XChaCha20Poly1305,
    aead::{AeadInOut, KeyInit},
};
use zeroize::Zeroizing;

use crate::manifest::Suite;

/// A chunk or a wrapped key could not be opened; nothing more may be said.
pub(crate) struct Refused;

/// One stream's cipher.
pub(crate) enum Cipher {
    ChaCha(ChaCha20Poly1305),
    Aes(Box<Aes256Gcm>),
}

impl Cipher {
    pub(crate) fn new(suite: Suite, key: &[u8; 32]) -> Self {
        match suite {
            Suite::ChaCha20Poly1305 => Self::ChaCha(ChaCha20Poly1305::new(key.into())),
            Suite::Aes256Gcm => Self::Aes(Box::new(Aes256Gcm::new(key.into()))),
        }
    }

    /// Encrypts in place and gives the tag.
    pub(crate) fn seal(
        &self,
        nonce: &[u8; 12],
        aad: &[u8],
        chunk: &mut [u8],
    ) -> Result<[u8; 16], Refused> {
        let tag = match self {
            Self::ChaCha(cipher) => cipher.encrypt_inout_detached(nonce.into(), aad, chunk.into()),
            Self::Aes(cipher) => cipher.encrypt_inout_detached(nonce.into(), aad, chunk.into()),
        };
        tag.map(Into::into).map_err(|_| Refused)
    }

    /// Decrypts in place; where the tag is wrong, `chunk` must not be used.
    pub(crate) fn open(
        &self,
        nonce: &[u8; 12],
        aad: &[u8],
        chunk: &mut [u8],
        tag: &[u8; 16],
    ) -> Result<(), Refused> {
        let (nonce, tag) = (nonce.into(), tag.into());
        match self {
            Self::ChaCha(cipher) => cipher.decrypt_inout_detached(nonce, aad, chunk.into(), tag),
            Self::Aes(cipher) => cipher.decrypt_inout_detached(nonce, aad, chunk.into(), tag),
        }
        .map_err(|_| Refused)
    }
}

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
