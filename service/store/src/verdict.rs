//! What a judge says of a capsule: before its body is at hand, and after.

use std::collections::BTreeSet;

use kvcap::{BodyChecked, Chain, OpenedChain, Unchecked, Verified};

/// A capsule whose header was verified, with the ancestors that were found, and what was not checked of it.
/// It becomes [`Accepted`] by [`crate::Judge::conclude`].
#[derive(Debug)]
pub struct Verdict<S = ()> {
    pub(crate) chain: Chain<S>,
    pub(crate) judged_at: u64,
    pub(crate) unchecked: BTreeSet<Unchecked>,
}

/// A capsule that is accepted as of the time when its body was at hand. What was not checked of it, and may
/// not go unsaid, its caller has accepted by name.
#[derive(Debug)]
pub struct Accepted<S = ()>(pub(crate) Verdict<S>);

/// A capsule that is opened with its ancestors and recorded as used, and what was not checked of it.
#[non_exhaustive]
pub struct Admitted<S> {
    /// The opened capsules.
    pub opened: OpenedChain<S>,
    /// The checks that were left out.
    pub unchecked: BTreeSet<Unchecked>,
}

impl Verdict {
    /// Says where the capsule's bytes are.
    #[must_use]
    pub fn with_source<S>(self, source: S) -> Verdict<S> {
        Verdict {
            chain: Chain::new(self.chain.into_tip(), source),
            judged_at: self.judged_at,
            unchecked: self.unchecked,
        }
    }
}

impl<S> Verdict<S> {
    /// Returns the capsule itself.
    #[must_use]
    pub fn tip(&self) -> &Verified {
        self.chain.tip()
    }

    /// Returns the capsule and the ancestors that were found.
    #[must_use]
    pub fn chain(&self) -> &Chain<S> {
        &self.chain
    }

    /// Takes note that the capsule's body and those of its ancestors were checked, of which `_checked` is the
    /// evidence.
    pub fn body_checked(&mut self, _checked: &BodyChecked) {
        self.unchecked.remove(&Unchecked::Body);
    }

    /// Returns the time that it was judged by, in seconds since 1970.
    #[must_use]
    pub fn judged_at(&self) -> u64 {
        self.judged_at
    }

    /// Returns the checks that were left out.
    #[must_use]
    pub fn unchecked(&self) -> &BTreeSet<Unchecked> {
        &self.unchecked
    }

    /// Returns whether a check was made.
    #[must_use]
    pub fn has_checked(&self, check: Unchecked) -> bool {
        !self.unchecked.contains(&check)
    }
}

impl<S> Accepted<S> {
    /// Returns the capsule and the ancestors that were found.
    #[must_use]
    pub fn chain(&self) -> &Chain<S> {
        &self.0.chain
    }

    /// Gives the verdict, as it is after it was judged again.
    #[must_use]
    pub fn into_verdict(self) -> Verdict<S> {
        self.0
    }

    /// Gives the capsule and the ancestors that were found.
    #[must_use]
    pub fn into_chain(self) -> Chain<S> {
        self.0.chain
    }

    /// Gives the capsule itself.
    #[must_use]
    pub fn into_tip(self) -> Verified {
        self.0.chain.into_tip()
    }

    /// Returns the checks that were left out.
    #[must_use]
    pub fn unchecked(&self) -> &BTreeSet<Unchecked> {
        &self.0.unchecked
    }
}
