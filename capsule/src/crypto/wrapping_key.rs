//! Keys that open capsules (capsule-v1 §8, §9.3): one secret both ways, or the secret half of a pair.

use std::sync::Arc;

use zeroize::Zeroizing;

use crate::{
    binding::PrefixKey,
    crypto::{
        aead::Refused,
        external::{ExternalUnwrapper, WrappedContent},
        hpke,
        recipient_key::{RecipientPublicKey, public_id},
    },
    digest::Digest,
    error::{Code, Error, Result},
    hazmat::Entropy,
    keys::{KeyId, debug_as_id, key_line, parse_text, write_text},
    manifest::RecipientKind,
};

/// A secret key that opens capsules, and for which they can be sealed. Wiped when dropped; its `Debug`
/// shows the key id alone.
pub struct WrappingKey {
    kind: RecipientKind,
    id: KeyId,
    secret: Secret,
}

enum Secret {
    Here(Zeroizing<[u8; 32]>),
    Elsewhere(RecipientPublicKey, Arc<dyn ExternalUnwrapper>),
}

/// What unwraps a content key.
pub(crate) enum Unwraps<'k> {
    /// The secret itself.
    Secret(&'k [u8; 32]),
    /// Its holder.
    External(&'k dyn ExternalUnwrapper),
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
        let secret = Secret::Here(Zeroizing::new(bytes));
        Self { kind, id, secret }
    }

    /// The key with this public half, whose secret `unwrapper` holds.
    #[must_use]
    pub fn external(public: RecipientPublicKey, unwrapper: Arc<dyn ExternalUnwrapper>) -> Self {
        Self {
            kind: public.kind(),
            id: public.id(),
            secret: Secret::Elsewhere(public, unwrapper),
        }
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
        Some(match &self.secret {
            Secret::Here(bytes) => RecipientPublicKey::new(kem, hpke::public(kem, bytes)),
            Secret::Elsewhere(public, _) => public.clone(),
        })
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

    /// The one line of a key file, a secret; `None` where that is kept elsewhere.
    #[must_use]
    pub fn to_secret_text(&self) -> Option<Zeroizing<String>> {
        match &self.secret {
            Secret::Here(bytes) => Some(write_text(self.kind.secret_text(), &**bytes)),
            Secret::Elsewhere(..) => None,
        }
    }

    /// The prefix key that belongs to this wrapping key by default; `None` where the secret is kept elsewhere and its holder
    /// gives none.
    ///
    /// # Errors
    /// KVC-948 where its holder does not say.
    pub fn prefix_key(&self) -> Result<Option<PrefixKey>> {
        let bytes = ExternalUnwrapper::prefix_key(self)?;
        Ok(bytes.map(|bytes| PrefixKey::from_bytes(*bytes)))
    }

    pub(crate) fn unwraps(&self) -> Unwraps<'_> {
        match &self.secret {
            Secret::Here(bytes) => Unwraps::Secret(bytes),
            Secret::Elsewhere(_, holder) => Unwraps::External(&**holder),
        }
    }
}

/// For who holds a key for others.
impl ExternalUnwrapper for WrappingKey {
    fn unwrap(&self, of: &WrappedContent<'_>) -> Result<Zeroizing<[u8; 32]>> {
        let refused = |_| Error::new(Code::BodyUnwrap, "the content key could not be unwrapped");
        let bound = hpke::Bound {
            info: of.info,
            aad: of.aad,
        };
        match (&self.secret, self.kind.kem()) {
            (Secret::Elsewhere(_, holder), _) => holder.unwrap(of),
            (Secret::Here(secret), Some(kem)) if self.kind == of.kind => {
                hpke::open(kem, secret, bound, of.enc, of.wrapped).map_err(refused)
            }
            _ => Err(refused(Refused)),
        }
    }

    fn prefix_key(&self) -> Result<Option<Zeroizing<[u8; 32]>>> {
        match &self.secret {
            Secret::Here(bytes) => {
                let derived = Digest::labelled("kvcap v1 prefix key", &[&**bytes]);
                Ok(Some(Zeroizing::new(derived.0)))
            }
            Secret::Elsewhere(_, holder) => holder.prefix_key(),
        }
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
