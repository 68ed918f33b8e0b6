//! Keys that open capsules (capsule-v1 §8, §9.3): one secret both ways, or the secret half of a pair.

use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::{
    binding::PrefixKey,
    crypto::{
        hpke,
        recipient_key::{RecipientPublicKey, public_id},
    },
    digest::Digest,
    error::Result,
    hazmat::Entropy,
    keys::{KeyId, debug_as_id, key_line, parse_text, write_text},
    manifest::RecipientKind,
};

/// A secret key that opens capsules, and for which they can be sealed. Wiped when dropped; its `Debug`
/// shows the key id alone.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct WrappingKey {
    #[zeroize(skip)]
    kind: RecipientKind,
    #[zeroize(skip)]
    id: KeyId,
    bytes: [u8; 32],
}

impl WrappingKey {
    /// A fresh key of kind 1 from the system's generator.
    ///
    /// # Errors
    /// KVC-940 where the system gives no randomness.
    pub fn generate() -> Result<Self> {
        Self::generate_of(RecipientKind::Symmetric)
    }

    /// A fresh key of any kind.
    ///
    /// # Errors
    /// As [`Self::generate`].
    pub fn generate_of(kind: RecipientKind) -> Result<Self> {
        Ok(Self::of(kind, *Entropy::system().secret()?))
    }

    /// The key of kind 1 with these bytes, which must be random.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self::of(RecipientKind::Symmetric, bytes)
    }

    /// The key of any kind with these bytes, which must be random: an X25519 private key (RFC 7748), or
    /// the seed of an X-Wing key.
    #[must_use]
    pub fn of(kind: RecipientKind, bytes: [u8; 32]) -> Self {
        let id = match kind.kem() {
            None => KeyId::of("kvcap v1 wrap key id", &bytes),
            Some(kem) => public_id(&hpke::public(kem, &bytes)),
        };
        Self { kind, id, bytes }
    }

    /// Its kind.
    #[must_use]
    pub fn kind(&self) -> RecipientKind {
        self.kind
    }

    /// The key's id, as in a recipient entry.
    #[must_use]
    pub fn id(&self) -> KeyId {
        self.id
    }

    /// Its public half, where its kind has one.
    #[must_use]
    pub fn public(&self) -> Option<RecipientPublicKey> {
        let kem = self.kind.kem()?;
        Some(RecipientPublicKey::new(kem, hpke::public(kem, &self.bytes)))
    }

    /// The wrapping key of any kind in a key file's text.
    ///
    /// # Errors
    /// KVC-942 for another form.
    pub fn from_text(text: &str) -> Result<Self> {
        let is_of = |kind: &RecipientKind| {
            key_line(text).is_some_and(|line| line.starts_with(kind.secret_text()))
        };
        let kind = RecipientKind::ALL.into_iter().find(is_of);
        let kind = kind.unwrap_or(RecipientKind::Symmetric);
        parse_text(text, kind.secret_text(), "a secret wrapping key")
            .map(|key| Self::of(kind, *key))
    }

    /// The one line of a key file. A secret.
    #[must_use]
    pub fn to_secret_text(&self) -> Zeroizing<String> {
        write_text(self.kind.secret_text(), &self.bytes)
    }

    /// The prefix key that belongs to this wrapping key by default.
    #[must_use]
    pub fn prefix_key(&self) -> PrefixKey {
        PrefixKey::from_bytes(Digest::labelled("kvcap v1 prefix key", &[&self.bytes]).0)
    }

    pub(crate) fn bytes(&self) -> &[u8; 32] {
        &self.bytes
    }
}

impl RecipientKind {
    pub(crate) const fn secret_text(self) -> &'static str {
        match self {
            Self::Symmetric => "KVCAP-SECRET-WRAP-1",
            Self::X25519 => "KVCAP-SECRET-HPKE-1",
            Self::XWing => "KVCAP-SECRET-XWING-1",
        }
    }
}

debug_as_id! {
    WrappingKey |key| key.id();
}
