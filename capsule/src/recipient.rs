//! The content key for each recipient, and back (capsule-v1 §8.3).

use crate::{
    aead::{self, Refused},
    error::{Code, Error, Result},
    hazmat::Entropy,
    hpke::{self, Bound, Kem},
    keys::{CapsuleId, KeyId},
    manifest::{Suite, WrappedKey},
    schedule::{self, ContentKey, Root},
    verify::Verified,
    wrapping::{Recipient, RecipientKey, WrappingKey},
};

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
        Recipient::Key(key) => match key.public() {
            Some(key) => wrap_for(content, &key, of, entropy),
            None => wrap_under(content, key, of, entropy),
        },
    }
}

fn wrap_under(
    content: &ContentKey,
    key: &WrappingKey,
    of: Of,
    entropy: &mut Entropy,
) -> Result<WrappedKey> {
    let mut nonce = [0; 24];
    entropy.fill(&mut nonce)?;
    let id = key.id();
    let wrapped = aead::wrap(key.bytes(), &nonce, &of.aad(id), content.bytes())
        .map_err(|_| Error::new(Code::BodyUnwrap, "the content key could not be wrapped"))?;
    Ok(WrappedKey {
        kind: key.kind(),
        key: id,
        enc: nonce.to_vec(),
        wrapped,
    })
}

fn wrap_for(
    content: &ContentKey,
    key: &RecipientKey,
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
        .map_err(|_| Error::new(Code::KeyWeak, "no secret can be agreed with the key").at(id))?;
    Ok(WrappedKey {
        kind: key.kind(),
        key: id,
        enc,
        wrapped,
    })
}

fn unwrap(entry: &WrappedKey, key: &WrappingKey, of: Of) -> Result<ContentKey> {
    let (info, aad) = (of.info(), of.aad(entry.key));
    let bound = Bound {
        info: &info,
        aad: &aad,
    };
    let content = match Kem::of(key.kind()) {
        Some(kem) => hpke::open(kem, key.bytes(), bound, &entry.enc, &entry.wrapped),
        None => match entry.enc.first_chunk() {
            Some(nonce) => aead::unwrap(key.bytes(), nonce, &aad, &entry.wrapped),
            None => Err(Refused),
        },
    };
    content
        .map(ContentKey::from_bytes)
        .map_err(|_| Error::new(Code::BodyUnwrap, "the content key could not be unwrapped"))
}

impl Verified {
    /// the content key, which is the one committed to, and the root of the streams' keys.
    pub(crate) fn unlock(&self, key: &WrappingKey) -> Result<(ContentKey, Root)> {
        let keys = &self.manifest.keys;
        let entry = self.entry_of(key).ok_or_else(|| {
            let known: Vec<String> = keys.recipients.iter().map(|r| r.key.to_string()).collect();
            Error::new(Code::BodyNoKey, "the capsule is not wrapped for this key")
                .sides(known.join(" or "), key.id())
        })?;
        let content = unwrap(entry, key, self.content_of())?;
        let (commitment, root) = content.derive(&keys.salt, &self.ctx);
        schedule::check_commitment(&commitment, &keys.commitment)?;
        Ok((content, root))
    }

    /// The entry that `key` opens: its id, and its kind.
    pub(crate) fn entry_of(&self, key: &WrappingKey) -> Option<&WrappedKey> {
        let is_its = |entry: &&WrappedKey| entry.key == key.id() && entry.kind == key.kind();
        self.manifest.keys.recipients.iter().find(is_its)
    }

    pub(crate) fn content_of(&self) -> Of {
        Of {
            capsule: self.manifest.claims.id,
            suite: self.manifest.context.suite,
        }
    }
}
