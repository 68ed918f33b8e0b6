//! Which prompt a state is of (capsule-v1 §6.5).

use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::{
    digest::{Digest, labelled_hasher},
    error::{Code, Error, Result},
    keys::{KeyId, debug_as_id},
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

    /// Checks that `tokens` begin with this prompt.
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
}

/// A tenant's key for prefix commitments (capsule-v1 §6.5). Wiped when dropped.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct PrefixKey {
    bytes: [u8; 32],
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

pub(crate) fn mismatch(what: &'static str) -> Error {
    Error::new(Code::BindingPrefix, what)
}

/// The token ids in a section's bytes, whose number is whole by CAP-S-11.
pub(crate) fn token_ids(bytes: &[u8]) -> Vec<u32> {
    let (ids, _) = bytes.as_chunks::<4>();
    ids.iter().map(|id| u32::from_le_bytes(*id)).collect()
}

debug_as_id! {
    PrefixKey |key| key.id();
}
