//! The root of a registry: a signing key of its own kind, kept offline (registry-v1 §1).

use crate::{
    digest::Digest,
    error::Result,
    keys::{
        KeyId, PublicKey, SigningKey, external::ExternalSigner, issuers_in, key_line, parse_text,
        write_text,
    },
};
use std::sync::Arc;
use zeroize::Zeroizing;

const ROOT_TEXT: &str = "KVCAP-SECRET-ROOT-1";
const ROOT_PUBLIC_TEXT: &str = "kvcap-root-1";
const ROOTS_TEXT: &str = "kvcap-roots-1";

/// The Ed25519 key that signs registries. Its text and its id differ from a signing key's, so that
/// neither is taken for the other. Wiped when dropped; its `Debug` shows the id alone.
pub struct RootKey(SigningKey);

/// Root of a registry as a verifier is given it, once: the public half of a [`RootKey`], or the digest of a statement
/// about several roots; and the issuers that it is trusted with, where these are not all.
#[derive(Clone, PartialEq, Eq)]
pub struct RootPublic {
    anchor: Anchor,
    issuers: Vec<String>,
}

#[derive(Clone, PartialEq, Eq)]
pub(super) enum Anchor {
    Key(PublicKey),
    Statement(Digest),
}

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

    /// The key whose secret `signer` holds.
    #[must_use]
    pub fn external(public: PublicKey, signer: Arc<dyn ExternalSigner>) -> Self {
        Self(SigningKey::external(public, signer))
    }

    /// Its public half.
    #[must_use]
    pub fn public(&self) -> RootPublic {
        RootPublic::of(Anchor::Key(self.0.public()))
    }

    /// The root key in a key file's text.
    ///
    /// # Errors
    /// KVC-942 for another form.
    pub fn from_text(text: &str) -> Result<Self> {
        parse_text(text, ROOT_TEXT, "a secret root key").map(|seed| Self::from_seed(&seed))
    }

    /// The one line of a key file, a secret; `None` where that is kept elsewhere.
    #[must_use]
    pub fn to_secret_text(&self) -> Option<Zeroizing<String>> {
        Some(write_text(ROOT_TEXT, &*self.0.seed()?))
    }

    /// Its id.
    #[must_use]
    pub fn public_id(&self) -> KeyId {
        root_id(&self.0.public())
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
        PublicKey::from_bytes(bytes).map(|key| Self::of(Anchor::Key(key)))
    }

    /// The statement about roots with this digest.
    #[must_use]
    pub fn of_statement(digest: Digest) -> Self {
        Self::of(Anchor::Statement(digest))
    }

    fn of(anchor: Anchor) -> Self {
        let issuers = Vec::new();
        Self { anchor, issuers }
    }

    /// Trusts it with these issuers alone.
    #[must_use]
    pub fn limited_to(self, issuers: Vec<String>) -> Self {
        Self { issuers, ..self }
    }

    /// The root's id, as `kid` in a registry's header; of a statement the first half of its digest.
    #[must_use]
    pub fn id(&self) -> KeyId {
        match &self.anchor {
            Anchor::Key(key) => root_id(key),
            Anchor::Statement(digest) => {
                let mut id = KeyId([0; 16]);
                id.0.iter_mut()
                    .zip(digest.0)
                    .for_each(|(to, from)| *to = from);
                id
            }
        }
    }

    /// The root's public key; `None` of a statement.
    #[must_use]
    pub fn key(&self) -> Option<&PublicKey> {
        match &self.anchor {
            Anchor::Key(key) => Some(key),
            Anchor::Statement(_) => None,
        }
    }

    /// The only issuers that it is trusted with; none for all.
    #[must_use]
    pub fn issuers(&self) -> &[String] {
        &self.issuers
    }

    /// The public key in a key file's text.
    ///
    /// # Errors
    /// KVC-942 for another form, KVC-305 for a weak key.
    pub fn from_text(text: &str) -> Result<Self> {
        let kind = "a public root key";
        let root = match key_line(text).is_some_and(|line| line.starts_with(ROOTS_TEXT)) {
            true => Self::of_statement(Digest(*parse_text(text, ROOTS_TEXT, kind)?)),
            false => Self::from_bytes(&*parse_text(text, ROOT_PUBLIC_TEXT, kind)?)?,
        };
        Ok(root.limited_to(issuers_in(text)?))
    }

    /// The one line of a key file, in lower case.
    #[must_use]
    pub fn to_text(&self) -> String {
        let line = match &self.anchor {
            Anchor::Key(key) => write_text(ROOT_PUBLIC_TEXT, &key.to_bytes()),
            Anchor::Statement(digest) => write_text(ROOTS_TEXT, &digest.0),
        };
        line.to_ascii_lowercase()
    }

    pub(super) fn anchor(&self) -> &Anchor {
        &self.anchor
    }

    /// REG-M-9, of what the verifier says.
    pub(super) fn check_speaks(&self, issuer: &str) -> Result<()> {
        match self.issuers.is_empty() || self.issuers.iter().any(|own| own == issuer) {
            true => Ok(()),
            false => Err(super::out_of_scope(Some(issuer))),
        }
    }
}

pub(super) fn root_id(key: &PublicKey) -> KeyId {
    KeyId::of("kvcap v1 root key id", &key.to_bytes())
}

/// For who holds a root for others.
impl ExternalSigner for RootKey {
    fn sign(&self, message: &[u8]) -> Result<[u8; 64]> {
        self.0.sign(message)
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
