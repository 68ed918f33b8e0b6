//! The content key of a verified capsule, for who has a wrapping key (capsule-v1 §3.3).

use crate::{
    binding::{PrefixValue, prefix::mismatch},
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
    /// CAP-R-2 and CAP-A-1: the content key, which is the one committed to, and the root of the streams' keys.
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

    /// Compares the prompt that the header commits to with `tokens`, where the prefix key of one of `keys` can
    /// tell. Nothing sealed is looked at: whoever opens compares again ([`crate::Opened::check_prompt`]).
    ///
    /// # Errors
    /// KVC-605 where it is another prompt; 948 where a key's holder does not say.
    pub fn check_prompt(&self, tokens: &[u32], keys: &[WrappingKey]) -> Result<()> {
        match self.names_prompt(tokens, keys)? {
            Some(false) => Err(mismatch("the capsule is of another prompt")),
            _ => Ok(()),
        }
    }

    /// Returns whether the header names the prompt of these tokens; `None` where no prompt is named, or by a key of
    /// which none of `keys` is the one.
    ///
    /// # Errors
    /// KVC-948 where a key's holder does not say.
    pub fn names_prompt(&self, tokens: &[u32], keys: &[WrappingKey]) -> Result<Option<bool>> {
        let prefix = &self.manifest.context.prefix;
        let value = PrefixValue::of(tokens).value;
        let mut named = prefix.names(&value, None);
        for key in keys {
            if named.is_none() {
                named = prefix.names(&value, key.prefix_key()?.as_ref());
            }
        }
        Ok(named)
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
