//! The content key for each recipient, and back (capsule-v1 §9.3).

use crate::{
    binding::PrefixKey,
    crypto::{
        aead::{self, Refused},
        external::WrappedContent,
        hpke::{self, Bound},
        recipient_key::RecipientPublicKey,
        schedule::ContentKey,
        wrapping_key::{Unwraps, WrappingKey},
    },
    error::{Code, Error, Result},
    hazmat::Entropy,
    keys::{CapsuleId, KeyId},
    manifest::WrappedKey,
    suite::Suite,
};

/// For whom a content key is wrapped.
#[derive(Clone, Copy, Debug)]
pub enum Recipient<'k> {
    /// Holder of this secret key.
    Key(&'k WrappingKey),
    /// Holder of the secret half of this key.
    Public(&'k RecipientPublicKey),
}

impl Recipient<'_> {
    /// The prefix key that belongs to it; nobody but its holder has that of a public key.
    ///
    /// # Errors
    /// As [`WrappingKey::prefix_key`].
    pub fn prefix_key(&self) -> Result<Option<PrefixKey>> {
        match self {
            Self::Key(key) => key.prefix_key(),
            Self::Public(_) => Ok(None),
        }
    }
}

impl<'k> From<&'k WrappingKey> for Recipient<'k> {
    fn from(key: &'k WrappingKey) -> Self {
        Self::Key(key)
    }
}

impl<'k> From<&'k RecipientPublicKey> for Recipient<'k> {
    fn from(key: &'k RecipientPublicKey) -> Self {
        Self::Public(key)
    }
}

/// The capsule that an entry belongs to.
#[derive(Clone, Copy)]
pub(crate) struct Of {
    pub(crate) capsule: CapsuleId,
    pub(crate) suite: Suite,
}

impl Of {
    fn aad(self, key: KeyId) -> Vec<u8> {
        [&b"kvcap v1 wrap"[..], &key.0, &self.capsule.0].concat()
    }

    fn info(self) -> Vec<u8> {
        [&b"kvcap v1 hpke"[..], &self.suite.number().to_le_bytes()].concat()
    }
}

/// The entry by which `to` opens the capsule.
pub(crate) fn wrap(
    content: &ContentKey,
    to: Recipient<'_>,
    of: Of,
    entropy: &mut Entropy,
) -> Result<WrappedKey> {
    match to {
        Recipient::Public(key) => wrap_for(content, key, of, entropy),
        Recipient::Key(key) => match (key.public(), key.unwraps()) {
            (None, Unwraps::Secret(secret)) => wrap_under(content, key, secret, of, entropy),
            (Some(key), _) => wrap_for(content, &key, of, entropy),
            (None, Unwraps::External(_)) => Err(unwrapped("the content key could not be wrapped")),
        },
    }
}

fn wrap_under(
    content: &ContentKey,
    key: &WrappingKey,
    secret: &[u8; 32],
    of: Of,
    entropy: &mut Entropy,
) -> Result<WrappedKey> {
    let mut nonce = [0; 24];
    entropy.fill(&mut nonce)?;
    let id = key.id();
    let wrapped = aead::wrap(secret, &nonce, &of.aad(id), content.bytes())
        .map_err(|_| unwrapped("the content key could not be wrapped"))?;
    Ok(WrappedKey {
        kind: key.kind(),
        key: id,
        enc: nonce.to_vec(),
        wrapped,
    })
}

fn wrap_for(
    content: &ContentKey,
    key: &RecipientPublicKey,
    of: Of,
    entropy: &mut Entropy,
) -> Result<WrappedKey> {
    let id = key.id();
    let (info, aad) = (of.info(), of.aad(id));
    let bound = Bound {
        info: &info,
        aad: &aad,
    };
    let (enc, wrapped) = hpke::seal(key.kem(), key.as_bytes(), bound, content.bytes(), entropy)?
        .map_err(|_| Error::new(Code::KeyWeak, "the recipient's public key is not sound: its point is of small order, or malformed").at(id))?;
    Ok(WrappedKey {
        kind: key.kind(),
        key: id,
        enc,
        wrapped,
    })
}

pub(crate) fn unwrap(entry: &WrappedKey, key: &WrappingKey, of: Of) -> Result<ContentKey> {
    let (info, aad) = (of.info(), of.aad(entry.key));
    let bound = Bound {
        info: &info,
        aad: &aad,
    };
    let content = match (key.unwraps(), key.kind().kem()) {
        (Unwraps::External(holder), _) => Ok(holder.unwrap(&WrappedContent {
            kind: key.kind(),
            info: &info,
            aad: &aad,
            enc: &entry.enc,
            wrapped: &entry.wrapped,
        })?),
        (Unwraps::Secret(secret), Some(kem)) => {
            hpke::open(kem, secret, bound, &entry.enc, &entry.wrapped)
        }
        (Unwraps::Secret(secret), None) => match entry.enc.first_chunk() {
            Some(nonce) => aead::unwrap(secret, nonce, &aad, &entry.wrapped),
            None => Err(Refused),
        },
    };
    content
        .map(ContentKey::from_bytes)
        .map_err(|_| unwrapped("the content key could not be unwrapped"))
}

fn unwrapped(what: &'static str) -> Error {
    Error::new(Code::BodyUnwrap, what)
}
