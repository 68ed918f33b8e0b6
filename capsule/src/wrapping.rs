//! Keys for which a capsule's content key is wrapped (capsule-v1 §7, §8.3): one secret both ways, or a
//! pair whose public half wraps. And the prefix key that belongs to a secret one.

use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::{
    binding::Digest,
    error::{Code, Error, Result},
    hazmat::Entropy,
    hpke::{self, Kem},
    keys::{KeyId, debug_as_id, key_line, parse_text, write_text},
};

/// How a recipient's entry is made and opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecipientKind {
    /// 1: one secret key wraps and unwraps (XChaCha20-Poly1305).
    Secret,
    /// 2: HPKE with X25519, for hand-over between operators.
    Hpke,
    /// 3: HPKE with X-Wing, ML-KEM-768 and X25519 together: safe from quantum computers that are to come.
    XWing,
}

impl RecipientKind {
    const ALL: [Self; 3] = [Self::Secret, Self::Hpke, Self::XWing];

    /// Its number in a recipient's entry.
    #[must_use]
    pub const fn number(self) -> u64 {
        match self {
            Self::Secret => 1,
            Self::Hpke => 2,
            Self::XWing => 3,
        }
    }

    /// Its name in tools.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Secret => "wrap",
            Self::Hpke => "hpke",
            Self::XWing => "x-wing",
        }
    }

    /// The kind of this number, where there is one.
    #[must_use]
    pub fn from_number(number: u64) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.number() == number)
    }

    /// Bytes of what stands beside the wrapped key: a nonce or an encapsulated secret.
    pub(crate) const fn enc_len(self) -> usize {
        match self {
            Self::Secret => 24,
            Self::Hpke => 32,
            Self::XWing => 1120,
        }
    }

    const fn secret_text(self) -> &'static str {
        match self {
            Self::Secret => "KVCAP-SECRET-WRAP-1",
            Self::Hpke => "KVCAP-SECRET-HPKE-1",
            Self::XWing => "KVCAP-SECRET-XWING-1",
        }
    }
}

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

/// The public half of a [`WrappingKey`] of a kind that has one: capsules are sealed for it by who cannot
/// open them.
#[derive(Clone, PartialEq, Eq)]
pub struct RecipientKey {
    kem: Kem,
    bytes: Vec<u8>,
}

/// For whom a content key is wrapped.
#[derive(Clone, Copy, Debug)]
pub enum Recipient<'k> {
    /// Who holds this secret key.
    Key(&'k WrappingKey),
    /// Who holds the secret half of this key.
    Public(&'k RecipientKey),
}

/// A tenant's key for prefix commitments (capsule-v1 §5.5). Wiped when dropped.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct PrefixKey {
    bytes: [u8; 32],
}

impl WrappingKey {
    /// A fresh key of kind 1 from the system's generator.
    ///
    /// # Errors
    /// KVC-940 where the system gives no randomness.
    pub fn generate() -> Result<Self> {
        Self::generate_of(RecipientKind::Secret)
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
        Self::of(RecipientKind::Secret, bytes)
    }

    /// The key of any kind with these bytes, which must be random: an X25519 private key (RFC 7748), or
    /// the seed of an X-Wing key.
    #[must_use]
    pub fn of(kind: RecipientKind, bytes: [u8; 32]) -> Self {
        let id = match Kem::of(kind) {
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
    pub fn public(&self) -> Option<RecipientKey> {
        let kem = Kem::of(self.kind)?;
        let bytes = hpke::public(kem, &self.bytes);
        Some(RecipientKey { kem, bytes })
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
        let kind = kind.unwrap_or(RecipientKind::Secret);
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
        PrefixKey {
            bytes: Digest::labelled("kvcap v1 prefix key", &[&self.bytes]).0,
        }
    }

    pub(crate) fn bytes(&self) -> &[u8; 32] {
        &self.bytes
    }
}

const HPKE_TEXT: &str = "kvcap-hpke-1";
const XWING_TEXT: &str = "kvcap-xwing-1";

impl RecipientKey {
    /// The key of this kind with these bytes: 32 of an X25519 public key (RFC 7748), 1,216 of an X-Wing
    /// encapsulation key.
    ///
    /// # Errors
    /// KVC-305 where no secret can be agreed with the key, or its encoding is wrong; 944 for the kind
    /// that has no public half.
    pub fn from_bytes(kind: RecipientKind, bytes: &[u8]) -> Result<Self> {
        let Some(kem) = Kem::of(kind) else {
            let what = "a key of this kind has no public half";
            return Err(Error::new(Code::LocalUsage, what));
        };
        if !hpke::is_sound(kem, bytes) {
            return Err(Error::new(
                Code::KeyWeak,
                "no secret can be agreed with the key",
            ));
        }
        let bytes = bytes.to_vec();
        Ok(Self { kem, bytes })
    }

    /// Its kind.
    #[must_use]
    pub fn kind(&self) -> RecipientKind {
        match self.kem {
            Kem::X25519 => RecipientKind::Hpke,
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
                Self::from_bytes(RecipientKind::Hpke, &*bytes)
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

fn public_id(bytes: &[u8]) -> KeyId {
    KeyId::of("kvcap v1 hpke key id", bytes)
}

impl Recipient<'_> {
    /// The prefix key that belongs to it; nobody but its holder has that of a public key.
    #[must_use]
    pub fn prefix_key(&self) -> Option<PrefixKey> {
        match self {
            Self::Key(key) => Some(key.prefix_key()),
            Self::Public(_) => None,
        }
    }
}

impl<'k> From<&'k WrappingKey> for Recipient<'k> {
    fn from(key: &'k WrappingKey) -> Self {
        Self::Key(key)
    }
}

impl<'k> From<&'k RecipientKey> for Recipient<'k> {
    fn from(key: &'k RecipientKey) -> Self {
        Self::Public(key)
    }
}

impl PrefixKey {
    /// The key of these bytes, which must be random.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self { bytes }
    }

    /// The key's id, as in the manifest.
    #[must_use]
    pub fn id(&self) -> KeyId {
        KeyId::of("kvcap v1 prefix key id", &self.bytes)
    }

    pub(crate) fn commit(&self, value: &Digest) -> Digest {
        Digest(*blake3::keyed_hash(&self.bytes, &value.0).as_bytes())
    }
}

debug_as_id! {
    WrappingKey |key| key.id();
    RecipientKey |key| key.id();
    PrefixKey |key| key.id();
}
