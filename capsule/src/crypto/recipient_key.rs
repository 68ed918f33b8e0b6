//! The public half of a wrapping key: capsules are sealed for it (capsule-v1 §8, §9.3).

use crate::{
    crypto::hpke::{self, Kem},
    error::{Code, Error, Result},
    keys::{KeyId, debug_as_id, key_line, parse_text, write_text},
    manifest::RecipientKind,
};

impl RecipientKind {
    /// The key encapsulation of a kind that has a public half.
    pub(crate) const fn kem(self) -> Option<Kem> {
        match self {
            Self::Symmetric => None,
            Self::X25519 => Some(Kem::X25519),
            Self::XWing => Some(Kem::XWing),
        }
    }
}

/// The public half of a [`WrappingKey`] of a kind that has one: capsules are sealed for it by who cannot
/// open them.
#[derive(Clone, PartialEq, Eq)]
pub struct RecipientPublicKey {
    kem: Kem,
    bytes: Vec<u8>,
}

const HPKE_TEXT: &str = "kvcap-hpke-1";

const XWING_TEXT: &str = "kvcap-xwing-1";

impl RecipientPublicKey {
    /// The public half of a secret key that is there.
    pub(crate) fn new(kem: Kem, bytes: Vec<u8>) -> Self {
        Self { kem, bytes }
    }

    /// The key of this kind with these bytes: 32 of an X25519 public key (RFC 7748), 1,216 of an X-Wing
    /// encapsulation key.
    ///
    /// # Errors
    /// KVC-305 where the recipient's public key is not sound: its point is of small order, or malformed, or its encoding is wrong; 944 for the kind
    /// that has no public half.
    pub fn from_bytes(kind: RecipientKind, bytes: &[u8]) -> Result<Self> {
        let Some(kem) = kind.kem() else {
            let what = "a key of this kind has no public half";
            return Err(Error::new(Code::LocalUsage, what));
        };
        if !hpke::is_sound(kem, bytes) {
            return Err(Error::new(
                Code::KeyWeak,
                "the recipient's public key is not sound: its point is of small order, or malformed",
            ));
        }
        let bytes = bytes.to_vec();
        Ok(Self { kem, bytes })
    }

    /// Its kind.
    #[must_use]
    pub fn kind(&self) -> RecipientKind {
        match self.kem {
            Kem::X25519 => RecipientKind::X25519,
            Kem::XWing => RecipientKind::XWing,
        }
    }

    /// Its bytes, as [`Self::from_bytes`] takes them.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The key's id, as in a recipient entry: that of its secret half.
    #[must_use]
    pub fn id(&self) -> KeyId {
        public_id(&self.bytes)
    }

    /// The public key in a key file's text.
    ///
    /// # Errors
    /// KVC-942 for another form, 305 for a weak key.
    pub fn from_text(text: &str) -> Result<Self> {
        let kind = "a recipient's public key";
        match key_line(text).is_some_and(|line| line.starts_with(XWING_TEXT)) {
            true => {
                let bytes = parse_text::<1216>(text, XWING_TEXT, kind)?;
                Self::from_bytes(RecipientKind::XWing, &*bytes)
            }
            false => {
                let bytes = parse_text::<32>(text, HPKE_TEXT, kind)?;
                Self::from_bytes(RecipientKind::X25519, &*bytes)
            }
        }
    }

    /// The one line of a key file, in lower case.
    #[must_use]
    pub fn to_text(&self) -> String {
        let tag = match self.kem {
            Kem::X25519 => HPKE_TEXT,
            Kem::XWing => XWING_TEXT,
        };
        write_text(tag, &self.bytes).to_ascii_lowercase()
    }

    pub(crate) fn kem(&self) -> Kem {
        self.kem
    }
}

pub(crate) fn public_id(bytes: &[u8]) -> KeyId {
    KeyId::of("kvcap v1 hpke key id", bytes)
}

debug_as_id! {
    RecipientPublicKey |key| key.id();
}
