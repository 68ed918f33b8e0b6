//! The one verifier: policy as its operator has set it up, and verdicts that say what was not checked.

use std::{collections::BTreeSet, sync::Arc};

use kvcap::{
    Chain, Code, Error, Expected, Ledger, MAX_LIFETIME, Manifest, Members, Policy, RESTORE, ReadAt,
    Result, Stated, Step, Terms, Trust, TrustedKey, Unchecked, Untrusted, Verified, Workers,
};

use crate::{
    Accepted, Admitted, Ancestors, LedgerSource, TrustSources, Verdict, WrapKeys,
    ancestors::no_ancestor,
    budget::{self, default_budget},
    time, unchecked,
};

/// Settings by which capsules are verified: whom to trust, what is remembered, for whom and what.
#[derive(Clone, Debug)]
pub struct Verifier {
    /// Keys that may have signed.
    pub trust: TrustSources,
    /// Memory from one capsule to the next.
    pub ledger: Option<Arc<dyn LedgerSource>>,
    /// Names under which this verifier is known; the capsule's audience must be one of them.
    pub audiences: Vec<String>,
    /// The caller on whose behalf it verifies.
    pub subject: Option<String>,
    /// The caller's tenant.
    pub tenant: Option<String>,
    /// The word that the scope must grant.
    pub scope: String,
    /// Longest accepted lifetime, in seconds.
    pub max_lifetime: u64,
    /// Bytes of memory that opening a capsule may take. Banks pass through and do not count, and verifying
    /// holds nothing of a capsule's sections.
    pub budget: u64,
    /// The time to judge as of, in seconds since 1970, instead of now: for audits and tests.
    pub at: Option<u64>,
}

/// A verifier at work: trust is loaded, and the time taken. Capsules of one chain are judged alike.
#[derive(Debug)]
pub struct Judge<'a> {
    verifier: &'a Verifier,
    trust: Trust,
    now: u64,
    /// The caller's own key, which is trusted beside the verifier's sources.
    own: Option<TrustedKey>,
    expected: Expected<'a>,
    as_stated: Option<Terms>,
    accepted: BTreeSet<Unchecked>,
    /// Refuses a capsule without the names that the verifier has.
    named: bool,
}

impl Verifier {
    /// Returns a verifier of the defaults for the audience `local`: scope `kv:restore`, 30 days, no
    /// ledger, no subject, no tenant, [`default_budget`], the system's clock.
    #[must_use]
    pub fn new(trust: TrustSources) -> Self {
        Self {
            trust,
            ledger: None,
            audiences: vec!["local".to_owned()],
            subject: None,
            tenant: None,
            scope: RESTORE.to_owned(),
            max_lifetime: MAX_LIFETIME,
            budget: default_budget(),
            at: None,
        }
    }

    /// Takes the time and loads whom to trust at that time.
    ///
    /// # Errors
    /// KVC-3xx for keys and registries, 412 for the clock, 94x for files.
    pub fn judge(&self) -> Result<Judge<'_>> {
        let (trust, now) = self.load()?;
        Ok(Judge {
            verifier: self,
            trust,
            now,
            own: None,
            expected: Expected::danger_any_model(),
            as_stated: None,
            accepted: BTreeSet::new(),
            named: false,
        })
    }

    /// Takes the time, and loads whom to trust at that time.
    fn load(&self) -> Result<(Trust, u64)> {
        let held = self.hold()?;
        let remembered = held.as_ref().map(|(_, now)| *now);
        let now = self.at.or(remembered).unwrap_or_else(time::now);
        let ledger = held.as_ref().map(|(ledger, _)| ledger);
        Ok((self.trust.load(ledger, now)?, now))
    }

    /// Holds the ledger, and takes the time since then.
    fn hold(&self) -> Result<Option<(Ledger, u64)>> {
        self.ledger.as_ref().map(|ledger| ledger.hold()).transpose()
    }
}

impl<'a> Judge<'a> {
    /// Expects capsules of this.
    #[must_use]
    pub fn expecting(self, expected: Expected<'a>) -> Self {
        Self { expected, ..self }
    }

    /// Trusts one key more: the caller's own, whose secret he holds. What a registry says of it counts all
    /// the same.
    ///
    /// # Errors
    /// KVC-3xx where it contradicts the keys that are there.
    pub fn trusting(mut self, own: TrustedKey) -> Result<Self> {
        self.own = Some(own);
        self.trust_own()?;
        Ok(self)
    }

    fn trust_own(&mut self) -> Result<()> {
        match &self.own {
            Some(own) if self.trust.ids().all(|id| id != own.key.id()) => {
                self.trust.add(own.clone())
            }
            _ => Ok(()),
        }
    }

    /// Accepts capsules of which these were not checked: `model` for opening, `ancestors`, and the flags of
    /// an unusual capture. All others are named and no reason to refuse.
    #[must_use]
    pub fn danger_without(mut self, accepted: &[Unchecked]) -> Self {
        self.accepted.extend(accepted);
        self
    }

    /// Judges for who keeps capsules for others and restores none (http-v1 §5): accepts ancestors that are not at hand
    /// and an unusual capture, and refuses a capsule that does not name the tenant or the subject that the verifier
    /// names.
    #[must_use]
    pub fn for_keeping(mut self) -> Self {
        self.named = true;
        self.danger_without(&[
            Unchecked::Ancestors,
            Unchecked::SpeculativePrefill,
            Unchecked::MultiTokenPrediction,
            Unchecked::QuantizedAttention,
        ])
    }

    /// Takes from `terms` for whom and what a capsule is, compares and misses nothing else, and asks no
    /// ledger for its use: for its issuer, who renews it or seals it again as what it is. Whoever restores
    /// states his own names.
    #[must_use]
    pub fn danger_as_stated(self, terms: &Terms) -> Self {
        Self {
            as_stated: Some(terms.clone()),
            ..self
        }
    }

    /// Returns the time that is judged by, in seconds since 1970.
    #[must_use]
    pub fn now(&self) -> u64 {
        self.now
    }

    /// Returns the keys that are trusted at that time.
    #[must_use]
    pub fn trust(&self) -> &Trust {
        &self.trust
    }

    /// Verifies a header.
    ///
    /// # Errors
    /// As [`Untrusted::verify`]; 410 and 411 for what is remembered; 612 after [`Self::for_keeping`].
    pub fn verify(&self, untrusted: Untrusted) -> Result<Verdict> {
        self.verify_in_steps(untrusted, &mut |_| {})
    }

    /// Verifies a header, and calls `passed` after each completed step.
    ///
    /// # Errors
    /// As [`Self::verify`].
    pub fn verify_in_steps(
        &self,
        untrusted: Untrusted,
        passed: &mut dyn FnMut(Step),
    ) -> Result<Verdict> {
        let verified = untrusted.verify_in_steps(&self.policy(), passed)?;
        self.check_named(&verified.manifest().claims.terms)?;
        self.check_usage(&verified)?;
        Ok(Verdict {
            unchecked: self.unchecked(verified.manifest()),
            chain: Chain::new(verified, ()),
            judged_at: self.now,
        })
    }

    /// Adds the ancestors that are found to a verdict of the capsule at `tip`; `source` says where a
    /// file's bytes are.
    ///
    /// # Errors
    /// As [`Chain::extend`]; 701 where one is missing that nobody does without; 702 for a capsule that is
    /// given and no ancestor; 613 for an unusual capture; 940, 944.
    pub fn with_ancestors<S>(
        &self,
        verdict: Verdict<S>,
        ancestors: &Ancestors<'_>,
        source: impl Fn(kvcap::SourceFile) -> S,
    ) -> Result<Verdict<S>> {
        let chain = ancestors.complete(verdict.chain, &self.policy(), source)?;
        self.extended(chain, verdict.unchecked, verdict.judged_at)
    }

    /// The verdict of a chain to which ancestors were added.
    fn extended<S>(
        &self,
        chain: Chain<S>,
        mut unchecked: BTreeSet<Unchecked>,
        judged_at: u64,
    ) -> Result<Verdict<S>> {
        if chain.wanted().is_none() {
            unchecked.remove(&Unchecked::Ancestors);
        }
        for (member, _) in chain.members() {
            unchecked.extend(Unchecked::of_capture(member.manifest()));
        }
        self.check_complete(&chain, &unchecked)?;
        Ok(Verdict {
            chain,
            unchecked,
            judged_at,
        })
    }

    /// Adds ancestors that are at hand, in any order, to a verdict.
    ///
    /// # Errors
    /// As [`Self::with_ancestors`].
    pub fn with_given_ancestors<S>(
        &self,
        verdict: Verdict<S>,
        given: impl IntoIterator<Item = (Untrusted, S)>,
    ) -> Result<Verdict<S>> {
        let (policy, mut chain) = (self.policy(), verdict.chain);
        let mut left = Vec::new();
        for (header, source) in given {
            left.push((header.signed_lineage(&self.trust)?, header, source));
        }
        while let Some(wanted) = chain.wanted()
            && let Some(at) = left
                .iter()
                .position(|(lineage, ..)| *lineage == wanted.digest)
        {
            let (_, header, source) = left.swap_remove(at);
            chain = chain.extend(header, source, &policy)?;
        }
        if let Some((lineage, header, _)) = left.first() {
            return Err(no_ancestor(chain.wanted(), *lineage).at(header.claims().id));
        }
        self.extended(chain, verdict.unchecked, verdict.judged_at)
    }

    /// Accepts a capsule whose body is at hand. Time has passed since its header was verified: whom to trust
    /// is loaded again, the time taken again, and key, revocation, times and use judged again, of the
    /// ancestors too (capsule-v1 §3.2).
    ///
    /// # Errors
    /// As [`Self::verify`] for keys, revocation, times and use; 708 for those of an ancestor; 701 where one
    /// is missing, 613 for an unusual capture, unless somebody does without.
    pub fn conclude<S>(&mut self, verdict: Verdict<S>) -> Result<Accepted<S>> {
        (self.trust, self.now) = self.verifier.load()?;
        self.trust_own()?;
        verdict.chain.verify_again(&self.policy())?;
        self.check_usage(verdict.tip())?;
        self.check_complete(&verdict.chain, &verdict.unchecked)?;
        Ok(Accepted(Verdict {
            judged_at: self.now,
            ..verdict
        }))
    }

    /// Opens an accepted capsule with its ancestors: for `prompt`, if one is given, and recorded in the
    /// ledger before anything that it holds is given out. The body of a capsule for one use is checked
    /// before, so that a damaged copy does not use it up.
    ///
    /// # Errors
    /// KVC-612 where no model was compared, unless somebody does without; 605 for another prompt; 701 where
    /// an ancestor is missing; 8xx for keys and body; 402, 410, 411 for what is remembered; 910 for one that may
    /// take more memory than [`Verifier::budget`].
    pub fn open<S: ReadAt>(
        &self,
        accepted: Accepted<S>,
        keys: WrapKeys<'_>,
        prompt: Option<&[u32]>,
        workers: Workers,
    ) -> Result<Admitted<S>> {
        let Accepted(Verdict {
            chain,
            mut unchecked,
            ..
        }) = accepted;
        if unchecked.contains(&Unchecked::Model) && !self.does_without(Unchecked::Model) {
            let what = "the capsule was not compared with a model, and nobody accepted that";
            return Err(Error::new(Code::BindingUnchecked, what).at(Unchecked::Model));
        }
        for (member, _) in chain.members() {
            budget::check(member.manifest(), self.verifier.budget)?;
        }
        if let Some((tip, source)) = chain.members().next()
            && tip.manifest().claims.terms.single_use
            && self.as_stated.is_none()
        {
            tip.check_body_at(source, workers, &mut |_| {})?;
        }
        let keys = keys.opening(chain.members().map(|(member, _)| member))?;
        if let Some(prompt) = prompt {
            // by the header alone, where a key can tell: another prompt does not use the capsule up
            chain.tip().check_prompt(prompt, &keys)?;
        }
        let unlocked = chain.open(&keys)?;
        let opened = match self.verifier.hold()? {
            _ if self.as_stated.is_some() => unlocked.danger_unrecorded(),
            Some((ledger, now)) => unlocked.record(&ledger, now)?,
            None => unlocked.release()?,
        };
        if let Some(prompt) = prompt {
            opened.tip().check_prompt(prompt)?;
            unchecked.remove(&Unchecked::Prompt);
        }
        // each chunk is checked when it is read
        unchecked.remove(&Unchecked::Body);
        Ok(Admitted { opened, unchecked })
    }

    /// Refuses a state of `len` bytes that is to be opened into memory, where banks do not pass through.
    ///
    /// # Errors
    /// KVC-910 for one that takes more than [`Verifier::budget`].
    pub fn check_state(&self, len: u64) -> Result<()> {
        budget::check_state(len, self.verifier.budget)
    }

    /// Returns the policy that a capsule is verified by.
    fn policy(&self) -> Policy<'_> {
        let verifier = self.verifier;
        let mut policy = match &self.as_stated {
            Some(terms) => Policy::danger_as_stated(&self.trust, self.now, terms),
            None => {
                let mut policy = Policy::new(&self.trust, self.now, "", self.expected.clone());
                policy.audiences.clone_from(&verifier.audiences);
                policy.subject.clone_from(&verifier.subject);
                policy.tenant.clone_from(&verifier.tenant);
                policy.scope.clone_from(&verifier.scope);
                policy
            }
        };
        policy.max_lifetime = verifier.max_lifetime;
        policy
    }

    /// Returns of the checks that were left out those that nobody has accepted: they are to be named.
    #[must_use]
    pub fn unaccepted(&self, unchecked: &BTreeSet<Unchecked>) -> BTreeSet<Unchecked> {
        let mut left = unchecked.clone();
        left.retain(|check| !self.does_without(*check));
        left
    }

    fn does_without(&self, check: Unchecked) -> bool {
        self.as_stated.is_some() || self.accepted.contains(&check)
    }

    /// Refuses what may not be left out without a word.
    fn check_complete<S>(&self, chain: &Chain<S>, unchecked: &BTreeSet<Unchecked>) -> Result<()> {
        let unaccepted = self.unaccepted(unchecked);
        let mut flags = chain
            .members()
            .flat_map(|member| Unchecked::of_capture(member.0.manifest()));
        if let Some(flag) = flags.find(|flag| !self.does_without(*flag)) {
            let what = "the state was captured in an unusual way, and nobody accepted that";
            return Err(Error::new(Code::BindingCapture, what).at(flag));
        }
        match chain.wanted() {
            Some(parent) if unaccepted.contains(&Unchecked::Ancestors) => {
                let what = "the chain lacks the parent of its oldest capsule";
                Err(Error::new(Code::LineageParentAbsent, what).at(parent.digest))
            }
            _ => Ok(()),
        }
    }

    /// Refuses what belongs to nobody, where it has to be somebody's.
    fn check_named(&self, terms: &Terms) -> Result<()> {
        let (tenant, subject) = (&self.verifier.tenant, &self.verifier.subject);
        match unchecked::nobodys(tenant.is_some(), subject.is_some(), terms) {
            Some(name) if self.named => {
                let what = "the capsule does not say whose it is";
                Err(Error::new(Code::BindingUnchecked, what).at(name))
            }
            _ => Ok(()),
        }
    }

    /// Refuses what the ledger says is used up.
    fn check_usage(&self, verified: &Verified) -> Result<()> {
        if self.as_stated.is_some() {
            return Ok(());
        }
        match self.verifier.hold()? {
            Some((ledger, now)) => {
                ledger.confirm(self.now)?;
                ledger.check(&verified.usage(now))
            }
            None => Ok(()),
        }
    }

    fn unchecked(&self, manifest: &Manifest) -> BTreeSet<Unchecked> {
        let stated = Stated {
            expected: &self.expected,
            tenant: self.verifier.tenant.is_some(),
            subject: self.verifier.subject.is_some(),
            memory: self.verifier.ledger.is_some(),
        };
        Unchecked::of_header(manifest, stated)
    }
}
