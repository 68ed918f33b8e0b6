//! Keys, their ids and their text form (capsule-v1 §8).
//!
//! `ed25519-dalek` also offers a lenient verification under a shorter name; this is the only module
//! that calls it, and it calls `verify_strict`.

pub(crate) mod external;
mod file_text;

use std::{fmt, sync::Arc};

use ed25519_dalek::Signer;
use zeroize::Zeroizing;

use crate::{
    digest::{self, Digest},
    error::{Code, Error, Result},
    hazmat::Entropy,
};

use external::ExternalSigner;
use file_text::{ISSUER, PUBLIC_TEXT, SIGN_TEXT, checked_issuer};
pub(crate) use file_text::{issuer_in, issuers_in, key_line, parse_text, write_text};

/// The 16-byte name of a key, computed from it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId(pub [u8; 16]);

/// The random 16-byte name of a capsule: its `cti`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CapsuleId(pub [u8; 16]);

/// An Ed25519 public key that is canonical and not weak.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PublicKey {
    key: ed25519_dalek::VerifyingKey,
}

/// An Ed25519 signing key and the issuer that it speaks for. Wiped when dropped; its `Debug` shows the key
/// id alone.
pub struct SigningKey {
    key: Secret,
    /// Its own where `None`.
    issuer: Option<String>,
}

enum Secret {
    Here(ed25519_dalek::SigningKey),
    Elsewhere(PublicKey, Arc<dyn ExternalSigner>),
}

/// The field prime 2²⁵⁵ − 19 and the group order L, little-endian.
const PRIME: [u8; 32] = {
    let mut p = [0xFF; 32];
    p[0] = 0xED;
    p[31] = 0x7F;
    p
};
const ORDER: [u8; 32] = [
    0xED, 0xD3, 0xF5, 0x5C, 0x1A, 0x63, 0x12, 0x58, 0xD6, 0x9C, 0xF7, 0xA2, 0xDE, 0xF9, 0xDE, 0x14,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
];

fn less(a: &[u8], b: &[u8]) -> bool {
    a.iter().rev().lt(b.iter().rev())
}

impl CapsuleId {
    /// Returns the id whose 32 hexadecimal digits `text` is.
    #[must_use]
    pub fn from_hex(text: &str) -> Option<Self> {
        digest::hex(text).map(Self)
    }
}

impl KeyId {
    /// Returns the id whose 32 hexadecimal digits `text` is.
    #[must_use]
    pub fn from_hex(text: &str) -> Option<Self> {
        digest::hex(text).map(Self)
    }

    pub(crate) fn of(label: &str, key: &[u8]) -> Self {
        let [first, _] = halves(Digest::labelled(label, &[key]));
        Self(first)
    }
}

fn halves(digest: Digest) -> [[u8; 16]; 2] {
    let mut out = [[0; 16]; 2];
    for (half, part) in out.iter_mut().zip(digest.0.chunks_exact(16)) {
        half.copy_from_slice(part);
    }
    out
}

impl PublicKey {
    /// The key with these 32 bytes (RFC 8032).
    ///
    /// # Errors
    /// KVC-305 where the encoding is not canonical or the point is of small order.
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self> {
        let weak = || Error::new(Code::KeyWeak, "the public key is weak or not canonical");
        let mut y = *bytes;
        y[31] &= 0x7F;
        if !less(&y, &PRIME) {
            return Err(weak());
        }
        let key = ed25519_dalek::VerifyingKey::from_bytes(bytes).map_err(|_| weak())?;
        if key.is_weak() {
            return Err(weak());
        }
        Ok(Self { key })
    }

    /// The 32 bytes of RFC 8032.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; 32] {
        self.key.to_bytes()
    }

    /// The key's id, as `kid` in the header.
    #[must_use]
    pub fn id(&self) -> KeyId {
        KeyId::of("kvcap v1 sign key id", &self.to_bytes())
    }

    /// The issuer that the key speaks for where nobody has given it another: `key:` and its id. No two keys
    /// share one (capsule-v1 §8).
    #[must_use]
    pub fn own_issuer(&self) -> String {
        format!("key:{}", self.id())
    }

    /// The public key in a key file's text, whatever issuer that names.
    ///
    /// # Errors
    /// KVC-942 for another form, KVC-305 for a weak key.
    pub fn from_text(text: &str) -> Result<Self> {
        Self::from_bytes(&*parse_text(text, PUBLIC_TEXT, "a public signing key")?)
    }

    /// The key's line of a key file, in lower case.
    #[must_use]
    pub fn to_text(&self) -> String {
        write_text(PUBLIC_TEXT, &self.to_bytes()).to_ascii_lowercase()
    }

    /// Verifies strictly (CAP-E-11).
    pub(crate) fn verify(&self, message: &[u8], signature: &[u8; 64]) -> Result<()> {
        let (_, s) = signature.split_at(32);
        if !less(s, &ORDER) {
            return Err(Error::new(
                Code::SignatureMalformed,
                "the signature's scalar is not reduced",
            ));
        }
        let signature = ed25519_dalek::Signature::from_bytes(signature);
        self.key
            .verify_strict(message, &signature)
            .map_err(|_| Error::new(Code::SignatureInvalid, "the signature does not verify"))
    }
}

impl SigningKey {
    /// A fresh key from the system's generator.
    ///
    /// # Errors
    /// KVC-940 where the system gives no randomness.
    pub fn generate() -> Result<Self> {
        Ok(Self::from_seed(&*Entropy::system().secret()?))
    }

    /// The key of a 32-byte seed (RFC 8032).
    #[must_use]
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self {
            key: Secret::Here(ed25519_dalek::SigningKey::from_bytes(seed)),
            issuer: None,
        }
    }

    /// The key whose secret `signer` holds.
    #[must_use]
    pub fn external(public: PublicKey, signer: Arc<dyn ExternalSigner>) -> Self {
        Self {
            key: Secret::Elsewhere(public, signer),
            issuer: None,
        }
    }

    /// Returns the key as one that speaks for `issuer`.
    ///
    /// # Errors
    /// KVC-942 for a name that no capsule can state (capsule-v1 §5).
    pub fn speaking_for(self, issuer: &str) -> Result<Self> {
        Ok(Self {
            key: self.key,
            issuer: Some(checked_issuer(issuer)?),
        })
    }

    /// The issuer that it speaks for: what its file names, or its own ([`PublicKey::own_issuer`]).
    #[must_use]
    pub fn issuer(&self) -> String {
        let own = || self.public().own_issuer();
        self.issuer.clone().unwrap_or_else(own)
    }

    /// The issuer that somebody gave it, if anybody did.
    #[must_use]
    pub fn named_issuer(&self) -> Option<&str> {
        self.issuer.as_deref()
    }

    /// The line that names that issuer in both of its key files.
    #[must_use]
    pub fn issuer_line(&self) -> Option<String> {
        self.issuer
            .as_ref()
            .map(|issuer| format!("{ISSUER}{issuer}"))
    }

    /// Its public key.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        match &self.key {
            Secret::Here(key) => PublicKey {
                key: key.verifying_key(),
            },
            Secret::Elsewhere(public, _) => *public,
        }
    }

    /// The signing key in a key file's text.
    ///
    /// # Errors
    /// KVC-942 for another form.
    pub fn from_text(text: &str) -> Result<Self> {
        let seed = parse_text(text, SIGN_TEXT, "a secret signing key")?;
        Ok(Self {
            issuer: issuer_in(text)?,
            ..Self::from_seed(&seed)
        })
    }

    /// The key's line of a key file, a secret; `None` where that is kept elsewhere.
    #[must_use]
    pub fn to_secret_text(&self) -> Option<Zeroizing<String>> {
        Some(write_text(SIGN_TEXT, &*self.seed()?))
    }

    pub(crate) fn seed(&self) -> Option<Zeroizing<[u8; 32]>> {
        match &self.key {
            Secret::Here(key) => Some(Zeroizing::new(key.to_bytes())),
            Secret::Elsewhere(..) => None,
        }
    }

    /// Signs; what another has signed is verified first, so that no document leaves here that its reader refuses.
    pub(crate) fn sign(&self, message: &[u8]) -> Result<[u8; 64]> {
        match &self.key {
            Secret::Here(key) => Ok(key.sign(message).to_bytes()),
            Secret::Elsewhere(public, signer) => {
                let signature = signer.sign(message)?;
                public.verify(message, &signature).map_err(|_| {
                    let what = "the signature that was given for the key does not verify";
                    Error::new(Code::LocalHelper, what).at(public.id())
                })?;
                Ok(signature)
            }
        }
    }
}

/// For who holds a key for others.
impl ExternalSigner for SigningKey {
    fn sign(&self, message: &[u8]) -> Result<[u8; 64]> {
        Self::sign(self, message)
    }
}

macro_rules! show_id {
    ($($name:ident)+) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    )+};
}
show_id!(KeyId CapsuleId);

macro_rules! debug_as_id {
    ($($name:ident |$key:ident| $id:expr;)+) => {$(
        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                let $key = self;
                write!(f, "{}({})", stringify!($name), $id)
            }
        }
    )+};
}
pub(crate) use debug_as_id;
debug_as_id! {
    PublicKey |key| key.id();
    SigningKey |key| key.public().id();
}

#[cfg(test)]
mod sets;
#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::wrapping_key::WrappingKey;

    #[test]
    fn text_forms_round_trip_and_catch_typos() {
        let sign = SigningKey::from_seed(&[7; 32]);
        let wrap = WrappingKey::from_bytes([9; 32]);
        let text = format!("# a comment\n\n{}\n", *sign.to_secret_text().unwrap());
        assert_eq!(
            SigningKey::from_text(&text).unwrap().public(),
            sign.public()
        );
        assert_eq!(
            WrappingKey::from_text(&wrap.to_secret_text().unwrap())
                .unwrap()
                .id(),
            wrap.id()
        );
        let public = sign.public().to_text();
        assert_eq!(PublicKey::from_text(&public).unwrap(), sign.public());
        let code = |result: Result<PublicKey>| result.err().map(|e| e.code().number());
        for at in PUBLIC_TEXT.len()..public.len() {
            let mut wrong = public.clone().into_bytes();
            wrong[at] = if wrong[at] == b'0' { b'1' } else { b'0' };
            let wrong = String::from_utf8(wrong).unwrap();
            assert_eq!(code(PublicKey::from_text(&wrong)), Some(942), "{at}");
        }
        assert_eq!(
            code(PublicKey::from_text(&public.to_ascii_uppercase())),
            Some(942)
        );
        assert_eq!(code(PublicKey::from_text(&text)), Some(942));
        assert_eq!(
            code(PublicKey::from_text(&format!("{public}\n{public}"))),
            Some(942)
        );
    }

    /// CAP-K-6.
    #[test]
    fn lines_of_a_key_file_end_as_editors_end_them() {
        let public = SigningKey::from_seed(&[7; 32]).public();
        let text = public.to_text();
        for file in [
            text.clone(),
            format!("{text}\n"),
            format!("# a comment\r\n\r\n{text} \t\r\n"),
            format!("issuer: a name \r\n{text}"),
        ] {
            assert_eq!(PublicKey::from_text(&file).unwrap(), public, "{file:?}");
        }
        assert_eq!(
            issuer_in(&format!("issuer: a name \r\n{text}")).unwrap(),
            Some("a name".to_owned())
        );
        assert!(PublicKey::from_text(&format!(" {text}")).is_err());
    }

    /// CAP-K-6.
    #[test]
    fn a_key_has_its_length_and_case() {
        let key = SigningKey::from_seed(&[7; 32]);
        let public = key.public().to_text();
        let (tag, digits) = public.split_at(PUBLIC_TEXT.len());
        for wrong in [
            format!("{public}00"),
            public[..public.len() - 2].to_owned(),
            format!("{tag}{}", digits.to_ascii_uppercase()),
        ] {
            let error = PublicKey::from_text(&wrong).unwrap_err();
            assert_eq!(error.code(), Code::LocalKeyMalformed, "{wrong}");
        }
        // an error says which kind of key it is, and shows none of it
        let error = SigningKey::from_text(&public).unwrap_err().to_string();
        assert!(error.contains("a public signing key"), "{error}");
        assert!(!error.contains(digits), "{error}");
    }

    #[test]
    fn a_key_speaks_for_the_issuer_that_its_file_names() {
        let key = || SigningKey::from_seed(&[7; 32]);
        let own = format!("key:{}", key().public().id());
        assert_eq!((key().issuer(), key().issuer_line()), (own.clone(), None));
        assert_eq!(
            (key().public().own_issuer(), key().named_issuer()),
            (own, None)
        );
        let named = key().speaking_for("acme").unwrap();
        let line = named.issuer_line().unwrap();
        assert_eq!(line, "issuer: acme");
        let text = format!("{line}\n{}", *named.to_secret_text().unwrap());
        let read = SigningKey::from_text(&text).unwrap();
        assert_eq!(
            (&*read.issuer(), read.named_issuer()),
            ("acme", Some("acme"))
        );
        let trust = crate::trust::Trust::from(&read);
        assert_eq!(trust.issuer_of(read.public().id()), Some("acme"));
        assert_eq!(trust.issuer_of(KeyId([0; 16])), None);
        assert!(SigningKey::from_text(&format!("{line}\n{text}")).is_err());
        let long = "x".repeat(1024);
        assert!(key().speaking_for(&long).is_ok());
        for wrong in ["", " acme", "acme ", "a\u{7}b", &format!("{long}x")] {
            let error = key().speaking_for(wrong).unwrap_err();
            assert_eq!(error.code(), Code::LocalKeyMalformed, "{wrong}");
        }
    }

    #[test]
    fn a_key_that_another_holds_signs_as_its_own() {
        let key = || SigningKey::from_seed(&[7; 32]);
        let held = SigningKey::external(key().public(), Arc::new(key()));
        assert_eq!(held.sign(b"m").unwrap(), key().sign(b"m").unwrap());
        assert!(held.to_secret_text().is_none());
        let other = SigningKey::from_seed(&[8; 32]).public();
        let wrong = SigningKey::external(other, Arc::new(key()));
        assert_eq!(wrong.sign(b"m").unwrap_err().code(), Code::LocalHelper);
    }

    #[test]
    fn an_id_is_read_as_it_is_shown() {
        let (key, capsule) = (KeyId([0xA5; 16]), CapsuleId([0x5A; 16]));
        assert_eq!(KeyId::from_hex(&key.to_string()), Some(key));
        assert_eq!(CapsuleId::from_hex(&capsule.to_string()), Some(capsule));
        assert_eq!(CapsuleId::from_hex("5a"), None);
    }

    #[test]
    fn debug_shows_no_secret() {
        let sign = SigningKey::from_seed(&[0xA5; 32]);
        let wrap = WrappingKey::from_bytes([0xA5; 32]);
        let shown = format!("{sign:?} {wrap:?} {:?}", wrap.prefix_key());
        assert!(!shown.contains("a5a5") && !shown.contains("165"), "{shown}");
    }

    #[test]
    fn small_order_and_non_canonical_keys_are_weak() {
        // RFC 8032 points of order 1, 2, 4 and encodings with y >= p
        let mut one = [0; 32];
        one[0] = 1;
        let mut minus_one = PRIME;
        minus_one[0] = 0xEC;
        let zero = [0; 32];
        let mut prime_plus_one = PRIME;
        prime_plus_one[0] = 0xEE;
        for key in [one, minus_one, zero, PRIME, prime_plus_one] {
            for sign in [0, 0x80] {
                let mut key = key;
                key[31] |= sign;
                let error = PublicKey::from_bytes(&key).unwrap_err();
                assert_eq!(error.code(), Code::KeyWeak, "{key:02x?}");
            }
        }
    }
}
