//! Where a new capsule will stand in a chain, for who seals it.

use kvcap::{CapsuleId, Limits, Members, OpenedChain, ReadAt, Terms, binding::Digest};

/// Depths before the limit at which a sealer is warned.
const WARNED: usize = 8;

/// A chain as it will be once a capsule is added at its end.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Continuation {
    /// Lineage digest of the capsule that is continued.
    pub parent: Digest,
    /// Ids of the capsules that are continued, the newest first.
    pub capsules: Vec<CapsuleId>,
    /// First position that the chain holds.
    pub start: u64,
    /// Position at which the new capsule begins.
    pub parent_end: u64,
    /// Time at which the first of its capsules expires, and the chain with it, in seconds since
    /// 1970.
    pub expires: u64,
}

impl Continuation {
    /// Returns what `chain` will be once a capsule of these terms continues it.
    #[must_use]
    pub fn of<S: ReadAt>(chain: &OpenedChain<S>, terms: &Terms) -> Self {
        let members: Vec<_> = [chain.tip()]
            .into_iter()
            .chain(chain.ancestors().iter().rev())
            .map(|member| member.manifest())
            .collect();
        let ends = members.iter().map(|member| member.claims.terms.expires);
        Self {
            parent: chain.tip().lineage(),
            capsules: members.iter().map(|member| member.claims.id).collect(),
            start: chain.positions().start,
            parent_end: chain.positions().end,
            expires: ends.fold(terms.expires, u64::min),
        }
    }

    /// Returns the number of capsules in the chain, the new one included.
    #[must_use]
    pub fn depth(&self) -> usize {
        self.capsules.len() + 1
    }

    /// Returns the greatest depth of a chain.
    #[must_use]
    pub fn most(&self) -> usize {
        Limits::default().chain
    }

    /// Returns whether few more capsules can be added before the chain has to be made one.
    #[must_use]
    pub fn is_deep(&self) -> bool {
        self.depth() + WARNED >= self.most()
    }
}
