//! A capsule and the ancestors that it continues, verified and opened together (lineage-v1 §2).

use std::ops::Range;

use crate::{
    crypto::wrapping_key::WrappingKey,
    error::{Code, Error, Result},
    io::ReadAt,
    manifest::{BankEntry, Manifest, Parent, Stream},
    open::{
        lineage::parent_absent,
        opened::Opened,
        unlocked::{check_unlimited, record},
    },
    trust::ledger::Ledger,
    verify::{
        policy::Policy,
        untrusted::{Untrusted, Verified},
    },
};

/// A verified capsule and as many of its ancestors as are known, each verified by the same policy and
/// held against its child. Once the oldest has no parent, it can be opened.
#[derive(Debug)]
pub struct Chain<S> {
    tip: (Verified, S),
    /// From the tip's parent to the oldest.
    ancestors: Vec<(Verified, S)>,
    /// Plain bytes of all members.
    plain: u64,
}

/// An opened chain: capsules that together hold one state.
pub struct OpenedChain<S> {
    /// From the root to the tip's parent.
    ancestors: Vec<Opened<S>>,
    tip: Opened<S>,
}

/// A chain whose members are unlocked. It gives nothing out before somebody has answered for the use of its tip,
/// which alone is used and counted (REG-U-6): see [`crate::Unlocked`].
pub struct UnlockedChain<S>(OpenedChain<S>);

/// Rows of a bank: those of one stream of one capsule.
#[non_exhaustive]
pub struct Part<'a, S> {
    /// The capsule.
    pub capsule: &'a Opened<S>,
    /// The stream's place in it.
    pub stream: usize,
    /// Its entry for the bank.
    pub bank: &'a BankEntry,
}

impl<S> Copy for Part<'_, S> {}

impl<S> Clone for Part<'_, S> {
    fn clone(&self) -> Self {
        *self
    }
}

/// The capsules that hold a state: one that has no parent, or a chain.
pub trait Members {
    /// Source of the capsules' bytes.
    type Source: ReadAt;

    /// The capsule that describes the state.
    fn tip(&self) -> &Opened<Self::Source>;

    /// Those that it continues, from the root.
    fn ancestors(&self) -> &[Opened<Self::Source>];

    /// Positions that they hold together.
    fn positions(&self) -> Range<u64> {
        let own = &self.tip().manifest().context.positions;
        let root = self.ancestors().first().map(Opened::manifest);
        root.map_or(own.start, |root| root.context.positions.start)..own.end
    }

    /// Bytes of tables and bodies read from all sources so far.
    fn bytes_read(&self) -> u64 {
        let ancestors = self.ancestors().iter().map(Opened::bytes_read);
        ancestors.sum::<u64>() + self.tip().bytes_read()
    }

    /// Finds a bank of the tip: the capsules and streams whose rows, one after the other, are the
    /// bank's. An increment continues the banks that keep every position and holds all others
    /// whole.
    ///
    /// # Errors
    /// KVC-704 where an ancestor has no such bank.
    fn parts(&self, bank: &BankEntry) -> Result<Vec<Part<'_, Self::Source>>> {
        let mut parts = Vec::new();
        for member in std::iter::once(self.tip()).chain(self.ancestors().iter().rev()) {
            let context = &member.manifest().context;
            let (stream, bank) = context
                .banks()
                .find(|(_, entry)| entry.identity() == bank.identity())
                .ok_or_else(|| {
                    let what = "an ancestor does not hold a bank of the capsule";
                    Error::new(Code::LineageBinding, what)
                })?;
            parts.push(Part {
                capsule: member,
                stream,
                bank,
            });
            if context.parent.is_none() || !bank.is_by_position() {
                break;
            }
        }
        parts.reverse();
        Ok(parts)
    }
}

impl<S: ReadAt> Members for Opened<S> {
    type Source = S;

    fn tip(&self) -> &Self {
        self
    }

    fn ancestors(&self) -> &[Self] {
        &[]
    }
}

impl<S: ReadAt> Members for OpenedChain<S> {
    type Source = S;

    fn tip(&self) -> &Opened<S> {
        &self.tip
    }

    fn ancestors(&self) -> &[Opened<S>] {
        &self.ancestors
    }
}

impl<S> Chain<S> {
    /// The chain of one: a verified capsule, and where its bytes are.
    #[must_use]
    pub fn new(tip: Verified, source: S) -> Self {
        Self {
            plain: plain_len(&tip.manifest),
            tip: (tip, source),
            ancestors: Vec::new(),
        }
    }

    /// The capsule that is verified, the last of the chain.
    #[must_use]
    pub fn tip(&self) -> &Verified {
        &self.tip.0
    }

    /// Gives the capsule that is verified, without its ancestors.
    #[must_use]
    pub fn into_tip(self) -> Verified {
        self.tip.0
    }

    /// The members, from the tip to the oldest that is known.
    pub fn members(&self) -> impl Iterator<Item = (&Verified, &S)> {
        std::iter::once(&self.tip)
            .chain(&self.ancestors)
            .map(|(verified, source)| (verified, source))
    }

    /// The parent that is still to be found; `None` where the chain is whole.
    #[must_use]
    pub fn wanted(&self) -> Option<&Parent> {
        self.oldest().manifest.context.parent.as_ref()
    }

    /// Returns the expiry of the member that expires first, in seconds since 1970: no increment
    /// outlives its ancestors.
    #[must_use]
    pub fn expires(&self) -> u64 {
        let expires = |verified: &Verified| verified.manifest.claims.terms.expires;
        let ancestors = self.ancestors.iter().map(|member| expires(&member.0));
        ancestors.fold(expires(&self.tip.0), u64::min)
    }

    fn oldest(&self) -> &Verified {
        &self.ancestors.last().unwrap_or(&self.tip).0
    }

    /// Verifies the parent that is wanted, by the policy that the tip was verified by, and adds it. What
    /// the policy expects of positions, prompt, banks and capsule id is said of the tip alone.
    ///
    /// # Errors
    /// KVC-702 where another capsule is wanted, or none; 706 beyond [`crate::Limits::chain`] members; 708
    /// where it has expired or is revoked; 410 where it is for one use; 703, 704, 705, 707 where the two do not belong together; 910
    /// where the chain is over the budget; otherwise as [`Untrusted::verify`].
    pub fn extend(self, parent: Untrusted, source: S, policy: &Policy<'_>) -> Result<Self> {
        self.extend_with_one_of([(parent, source)], policy)
    }

    /// Verifies copies of the parent that is wanted, one after the other, and adds the first that passes.
    ///
    /// # Errors
    /// That of the first copy where none passes, as [`Self::extend`]; 701 where there are none.
    pub fn extend_with_one_of(
        mut self,
        copies: impl IntoIterator<Item = (Untrusted, S)>,
        policy: &Policy<'_>,
    ) -> Result<Self> {
        let mut refused = None;
        for (copy, source) in copies {
            match self.parent(copy, policy) {
                Ok((parent, plain)) => {
                    self.plain = plain;
                    self.ancestors.push((parent, source));
                    return Ok(self);
                }
                Err(error) => refused = refused.or(Some(error)),
            }
        }
        let absent = || {
            let what = "the parent capsule is missing";
            Error::new(Code::LineageParentAbsent, what)
        };
        Err(refused.unwrap_or_else(absent))
    }

    /// Repeats of every member what time changes, by the trust and the time of `policy` now
    /// ([`Verified::verify_again`]).
    ///
    /// # Errors
    /// As [`Verified::verify_again`]; 708 where an ancestor has expired or is revoked.
    pub fn verify_again(&self, policy: &Policy<'_>) -> Result<()> {
        self.tip.0.verify_again(policy)?;
        for (ancestor, _) in &self.ancestors {
            ancestor.verify_again(policy).map_err(of_parent)?;
        }
        Ok(())
    }

    /// The parent that is wanted, verified, and the plain bytes of all members with it.
    fn parent(&self, parent: Untrusted, policy: &Policy<'_>) -> Result<(Verified, u64)> {
        let members = self.ancestors.len() + 2;
        if members > policy.limits.chain {
            let most = format_args!("at most {} capsules", policy.limits.chain);
            return Err(
                Error::new(Code::LineageDepth, "the chain is too long").sides(most, members)
            );
        }
        let parent = parent.verify(&policy.of_ancestor()).map_err(of_parent)?;
        let stranger = || {
            let what = "the capsule is not the parent that is meant";
            Error::new(Code::LineageParentDigest, what)
        };
        let wanted = self.wanted().ok_or_else(stranger)?.digest;
        if wanted != parent.lineage() {
            return Err(stranger().sides(wanted, parent.lineage()));
        }
        let child = &self.oldest().manifest;
        parent
            .manifest
            .check_child(&child.claims.terms, &child.context)?;
        let plain = self.plain.saturating_add(plain_len(&parent.manifest));
        if plain > policy.limits.budget {
            let most = format_args!("at most {} bytes", policy.limits.budget);
            let what = "the chain is larger than the caller allows";
            return Err(Error::new(Code::ResourceBudget, what).sides(most, plain));
        }
        Ok((parent, plain))
    }
}

impl<S: ReadAt> UnlockedChain<S> {
    /// Records the use of the tip, as [`crate::Unlocked::record`] does.
    ///
    /// # Errors
    /// As [`crate::Unlocked::record`].
    pub fn record(self, ledger: &Ledger, now: u64) -> Result<OpenedChain<S>> {
        record(&self.0.tip, ledger, now)?;
        Ok(self.0)
    }

    /// Releases the tip, as [`crate::Unlocked::release`] does.
    ///
    /// # Errors
    /// As [`crate::Unlocked::release`].
    pub fn release(self) -> Result<OpenedChain<S>> {
        check_unlimited(&self.0.tip)?;
        Ok(self.0)
    }

    /// Releases the tip unrecorded, as [`crate::Unlocked::danger_unrecorded`] does.
    #[must_use]
    pub fn danger_unrecorded(self) -> OpenedChain<S> {
        self.0
    }
}

impl<S: ReadAt> Chain<S> {
    /// Opens every member with the first of `keys` that it is wrapped for, and compares the sealed
    /// prompts: each continues its parent's.
    ///
    /// # Errors
    /// KVC-701 where an ancestor is missing, 704 where a prompt does not continue its parent's; otherwise
    /// as [`Verified::open`].
    pub fn open(self, keys: &[WrappingKey]) -> Result<UnlockedChain<S>> {
        if let Some(parent) = self.wanted() {
            return Err(parent_absent(parent));
        }
        let mut ancestors: Vec<Opened<S>> = Vec::with_capacity(self.ancestors.len());
        for (verified, source) in self.ancestors.into_iter().rev() {
            let opened = open_with(verified, source, keys)?;
            if let Some(parent) = ancestors.last() {
                check_prompt(parent, &opened)?;
            }
            ancestors.push(opened);
        }
        let (verified, source) = self.tip;
        let tip = open_with(verified, source, keys)?;
        if let Some(parent) = ancestors.last() {
            check_prompt(parent, &tip)?;
        }
        Ok(UnlockedChain(OpenedChain { ancestors, tip }))
    }
}

fn open_with<S: ReadAt>(verified: Verified, source: S, keys: &[WrappingKey]) -> Result<Opened<S>> {
    let fits = |key: &&WrappingKey| verified.entry_of(key).is_some();
    let key = keys.iter().find(fits).or(keys.first());
    let key = key.ok_or_else(|| Error::new(Code::BodyNoKey, "no wrapping key is given"))?;
    verified.open_member(source, key)
}

/// LIN-L-9: the child's sealed token ids begin with the parent's prompt.
fn check_prompt<S: ReadAt>(parent: &Opened<S>, child: &Opened<S>) -> Result<()> {
    match parent.prompt()? {
        Some(prompt) => prompt.check_continued(&child.tokens()?.unwrap_or_default()),
        None => Ok(()),
    }
}

/// That a parent is past its time is said of the lineage, not of the tip.
fn of_parent(error: Error) -> Error {
    match error.code() {
        Code::ClaimsExpired | Code::ClaimsRevoked => {
            let what = error.what().to_owned();
            let of = Error::new(Code::LineageParentInvalid, what).at("parent");
            match (error.expected(), error.found()) {
                (Some(expected), Some(found)) => of.sides(expected, found),
                _ => of,
            }
        }
        _ => error,
    }
}

fn plain_len(manifest: &Manifest) -> u64 {
    let streams = manifest.context.streams.iter();
    let plain = streams.map(|stream| Stream::plain_len(stream).unwrap_or(u64::MAX));
    plain.fold(0, u64::saturating_add)
}
