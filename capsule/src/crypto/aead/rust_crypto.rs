//! The suites by RustCrypto: pure Rust.

use aes_gcm::Aes256Gcm;
use chacha20poly1305::{
    ChaCha20Poly1305,
    aead::{AeadInOut, KeyInit, inout::InOutBuf},
};

use super::{Refused, Suite};

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

    pub(crate) fn open(
        &self,
        nonce: &[u8; 12],
        aad: &[u8],
        sealed: &[u8],
        tag: &[u8; 16],
        chunk: &mut [u8],
    ) -> Result<(), Refused> {
        let (nonce, tag) = (nonce.into(), tag.into());
        let both = InOutBuf::new(sealed, chunk).map_err(|_| Refused)?;
        match self {
            Self::ChaCha(cipher) => cipher.decrypt_inout_detached(nonce, aad, both, tag),
            Self::Aes(cipher) => cipher.decrypt_inout_detached(nonce, aad, both, tag),
        }
        .map_err(|_| Refused)
    }
}
