//! The content key of a verified capsule, for who has a wrapping key (capsule-v1 §11.3).

use crate::{
    crypto::{
        recipient::{Of, unwrap},
        schedule::{self, ContentKey, Root},
        wrapping_key::WrappingKey,
    },
    error::{Code, Error, Result},
    manifest::WrappedKey,
    verify::untrusted::Verified,
};

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
