//! The content key for each recipient, and back (capsule-v1 §8.3).

use crate::{
    aead,
    error::{Code, Error, Result},
    hazmat::Entropy,
    keys::{CapsuleId, KeyId, WrappingKey},
    manifest::WrappedKey,
    schedule::{self, ContentKey, Root},
    verify::Verified,
};

const WRAP: &[u8] = b"kvcap v1 wrap";

/// The entry by which `key` opens the capsule.
pub(crate) fn wrap(
    content: &ContentKey,
    key: &WrappingKey,
    capsule: CapsuleId,
    entropy: &mut Entropy,
) -> Result<WrappedKey> {
    let mut nonce = [0; 24];
    entropy.fill(&mut nonce)?;
    let id = key.id();
    let wrapped = aead::wrap(key.bytes(), &nonce, &aad(id, capsule), content.bytes())
        .map_err(|_| Error::new(Code::BodyUnwrap, "the content key could not be wrapped"))?;
    Ok(WrappedKey {
        key: id,
        nonce,
        wrapped,
    })
}

fn unwrap(entry: &WrappedKey, key: &WrappingKey, capsule: CapsuleId) -> Result<ContentKey> {
    let aad = aad(entry.key, capsule);
    aead::unwrap(key.bytes(), &entry.nonce, &aad, &entry.wrapped)
        .map(ContentKey::from_bytes)
        .map_err(|_| Error::new(Code::BodyUnwrap, "the content key could not be unwrapped"))
}

fn aad(key: KeyId, capsule: CapsuleId) -> Vec<u8> {
    [WRAP, &key.0, &capsule.0].concat()
}

impl Verified {
    /// the content key, which is the one committed to, and the root of the streams' keys.
    pub(crate) fn unlock(&self, key: &WrappingKey) -> Result<(ContentKey, Root)> {
        let keys = &self.manifest.keys;
        let id = key.id();
        let entry = keys.recipients.iter().find(|entry| entry.key == id);
        let entry = entry.ok_or_else(|| {
            let known: Vec<String> = keys.recipients.iter().map(|r| r.key.to_string()).collect();
            Error::new(Code::BodyNoKey, "the capsule is not wrapped for this key")
                .sides(known.join(" or "), id)
        })?;
        let content = unwrap(entry, key, self.manifest.claims.id)?;
        let (commitment, root) = content.derive(&keys.salt, &self.ctx);
        schedule::check_commitment(&commitment, &keys.commitment)?;
        Ok((content, root))
    }
}
