//! The suites by AWS-LC, whose assembly is chosen by what the processor has at run time.

use aws_lc_rs::aead::{AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};

use super::{Refused, Suite};

/// "Less safe" since it leaves nonces to its caller, as capsule-v1 §9.4 wants. A key that AWS-LC
/// could not set up refuses everything.
pub(crate) struct Cipher(Option<LessSafeKey>);

impl Cipher {
    pub(crate) fn new(suite: Suite, key: &[u8; 32]) -> Self {
        let algorithm = match suite {
            Suite::ChaCha20Poly1305 => &CHACHA20_POLY1305,
            Suite::Aes256Gcm => &AES_256_GCM,
        };
        let key = UnboundKey::new(algorithm, key).ok();
        Self(key.map(LessSafeKey::new))
    }

    pub(crate) fn seal(
        &self,
        nonce: &[u8; 12],
        aad: &[u8],
        chunk: &mut [u8],
    ) -> Result<[u8; 16], Refused> {
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let key = self.0.as_ref().ok_or(Refused)?;
        let tag = key
            .seal_in_place_separate_tag(nonce, Aad::from(aad), chunk)
            .map_err(|_| Refused)?;
        tag.as_ref().try_into().map_err(|_| Refused)
    }

    pub(crate) fn open(
        &self,
        nonce: &[u8; 12],
        aad: &[u8],
        sealed: &[u8],
        tag: &[u8; 16],
        chunk: &mut [u8],
    ) -> Result<(), Refused> {
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let key = self.0.as_ref().ok_or(Refused)?;
        key.open_separate_gather(nonce, Aad::from(aad), sealed, tag, chunk)
            .map_err(|_| Refused)
    }
}
