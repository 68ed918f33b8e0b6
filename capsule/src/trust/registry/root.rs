//! The root of a registry: a signing key of its own kind, kept offline (registry-v1 §1).

use crate::{
    error::Result,
    keys::{KeyId, PublicKey, SigningKey, parse_text, write_text},
};
use zeroize::Zeroizing;

const ROOT_TEXT: &str = "KVCAP-SECRET-ROOT-1";
const ROOT_PUBLIC_TEXT: &str = "kvcap-root-1";

/// The Ed25519 key that signs registries. Its text and its id differ from a signing key's, so that
/// neither is taken for the other. Wiped when dropped; its `Debug` shows the id alone.
pub struct RootKey(SigningKey);

/// The public half of a [`RootKey`].
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct RootPublic(PublicKey);

impl RootKey {
    /// A fresh key from the system's generator.
    ///
    /// # Errors
    /// KVC-940 where the system gives no randomness.
    pub fn generate() -> Result<Self> {
        SigningKey::generate().map(Self)
    }

    /// The key of a 32-byte seed (RFC 8032).
    #[must_use]
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(SigningKey::from_seed(seed))
    }

    /// Its public half.
    #[must_use]
    pub fn public(&self) -> RootPublic {
        RootPublic(self.0.public())
    }

    /// The root key in a key file's text.
    ///
    /// # Errors
    /// KVC-942 for another form.
    pub fn from_text(text: &str) -> Result<Self> {
        parse_text(text, ROOT_TEXT, "a secret root key").map(|seed| Self::from_seed(&seed))
    }

    /// The one line of a key file. A secret.
    #[must_use]
    pub fn to_secret_text(&self) -> Zeroizing<String> {
        write_text(ROOT_TEXT, &*self.0.seed())
    }

    pub(super) fn key(&self) -> &SigningKey {
        &self.0
    }
}

impl RootPublic {
    /// The key with these 32 bytes (RFC 8032).
    ///
    /// # Errors
    /// KVC-305 where the encoding is not canonical or the point is of small order.
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self> {
        PublicKey::from_bytes(bytes).map(Self)
    }

    /// The root's id, as `kid` in a registry's header.
    #[must_use]
    pub fn id(&self) -> KeyId {
        KeyId::of("kvcap v1 root key id", &self.0.to_bytes())
    }

    /// The public key in a key file's text.
    ///
    /// # Errors
    /// KVC-942 for another form, KVC-305 for a weak key.
    pub fn from_text(text: &str) -> Result<Self> {
        Self::from_bytes(&*parse_text(text, ROOT_PUBLIC_TEXT, "a public root key")?)
    }

    /// The one line of a key file, in lower case.
    #[must_use]
    pub fn to_text(&self) -> String {
        write_text(ROOT_PUBLIC_TEXT, &self.0.to_bytes()).to_ascii_lowercase()
    }

    pub(super) fn key(&self) -> &PublicKey {
        &self.0
    }
}

impl std::fmt::Debug for RootKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RootKey({})", self.public().id())
    }
}

impl std::fmt::Debug for RootPublic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RootPublic({})", self.id())
    }
}
