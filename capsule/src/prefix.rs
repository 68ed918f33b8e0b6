//! Which prompt a state is of (capsule-v1 §5.5).

use subtle::ConstantTimeEq;

use crate::{
    binding::{Digest, labelled_hasher},
    error::{Code, Error, Result},
    manifest::Prefix,
    wrapping::PrefixKey,
};

/// Token ids in one block of the chain.
const BLOCK: usize = 256;

/// The value that stands for a prompt: a chain over blocks of token ids, closed by their count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PrefixValue {
    /// The 32-byte value P.
    pub value: Digest,
    /// Number of token ids.
    pub tokens: u64,
}

impl PrefixValue {
    /// The value of these token ids.
    #[must_use]
    pub fn of(tokens: &[u32]) -> Self {
        let mut chain = Digest([0; 32]);
        for block in tokens.chunks(BLOCK) {
            let mut hasher = labelled_hasher("kvcap v1 prefix block");
            hasher.update(&chain.0);
            for id in block {
                hasher.update(&id.to_le_bytes());
            }
            chain = Digest(*hasher.finalize().as_bytes());
        }
        let count = u64::try_from(tokens.len()).unwrap_or(u64::MAX);
        let value = Digest::labelled("kvcap v1 prefix", &[&chain.0, &count.to_le_bytes()]);
        Self {
            value,
            tokens: count,
        }
    }

    /// Whether `tokens` begin with this prompt.
    ///
    /// # Errors
    /// KVC-704 where they do not, or are too few to tell.
    pub fn check_continued(&self, tokens: &[u32]) -> Result<()> {
        let refused = |what| Error::new(Code::LineageBinding, what).at("prompt");
        let shared = usize::try_from(self.tokens)
            .ok()
            .and_then(|n| tokens.get(..n));
        match shared {
            Some(shared) if Self::of(shared).value == self.value => Ok(()),
            Some(_) => Err(refused("the prompt does not continue the parent's")),
            None => Err(refused(
                "the token ids that would show whose prompt is continued are not there",
            )
            .sides(format_args!("at least {}", self.tokens), tokens.len())),
        }
    }

    /// How the manifest names it under a tenant's key.
    #[must_use]
    pub fn keyed(&self, key: &PrefixKey) -> Prefix {
        Prefix::Keyed {
            key: key.id(),
            commitment: key.commit(&self.value),
            tokens: self.tokens,
        }
    }

    /// How the manifest names it for everyone.
    #[must_use]
    pub fn public(&self) -> Prefix {
        Prefix::Public {
            value: self.value,
            tokens: self.tokens,
        }
    }
}

impl Prefix {
    /// Whether this names `value`; `None` where only another key could tell.
    pub(crate) fn names(&self, value: &Digest, key: Option<&PrefixKey>) -> Option<bool> {
        match self {
            Self::None => None,
            Self::Public { value: own, .. } => Some(own == value),
            Self::Keyed {
                key: id,
                commitment,
                ..
            } => {
                let key = key.filter(|key| key.id() == *id)?;
                Some(key.commit(value).0.ct_eq(&commitment.0).into())
            }
        }
    }
}

pub(crate) fn mismatch(what: &'static str) -> Error {
    Error::new(Code::BindingPrefix, what)
}

/// The token ids in a section's bytes, whose number is whole by S-11.
pub(crate) fn token_ids(bytes: &[u8]) -> Vec<u32> {
    let (ids, _) = bytes.as_chunks::<4>();
    ids.iter().map(|id| u32::from_le_bytes(*id)).collect()
}
