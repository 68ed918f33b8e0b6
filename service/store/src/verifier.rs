//! The one verifier: policy as its operator has set it up, and verdicts that say what was not checked.

use std::collections::BTreeSet;

use kvcap::{
    BodyChecked, Chain, Expected, Ledger, MAX_LIFETIME, Manifest, Members, OpenedChain, Policy,
    PublicKey, RESTORE, ReadAt, Result, Step, Terms, Trust, TrustedKey, Untrusted, Usage, Verified,
    Workers,
};

use crate::{Ancestors, LedgerFile, TrustSources, WrapKeys, time};

/// How capsules are verified here: whom to trust, what is remembered, for whom and what.
#[derive(Clone, Debug)]
pub struct Verifier {
    /// Who may have signed.
    pub trust: TrustSources,
    /// What is remembered from one capsule to the next.
    pub ledger: Option<LedgerFile>,
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
    /// The time to judge as of, in seconds since 1970, instead of now: for audits and tests.
    pub at: Option<u64>,
}

/// A verifier at work: trust is loaded, and the time taken. Capsules of one chain are judged alike.
#[derive(Debug)]
pub struct Judge<'a> {
    verifier: &'a Verifier,
    trust: Trust,
    now: u64,
    expected: Expected<'a>,
    as_stated: Option<Terms>,
}

/// An accepted capsule with the ancestors that were found, and what was not checked of it.
#[derive(Debug)]
pub struct Verdict<S = ()> {
    chain: Chain<S>,
    judged_at: u64,
    unchecked: BTreeSet<Unchecked>,
}

/// A capsule that is opened with its ancestors and recorded as used, and what was not checked of it.
#[non_exhaustive]
pub struct Admitted<S> {
    /// The opened capsules.
    pub opened: OpenedChain<S>,
    /// The checks that were left out.
    pub unchecked: BTreeSet<Unchecked>,
}

/// A check that was left out, because its caller did not say what to expect, or has not come to it yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Unchecked {
    /// No model was given to compare with.
    Model,
    /// No prompt was given to compare with.
    Prompt,
    /// No tenant was named.
    Tenant,
    /// No subject was named.
    Subject,
    /// The capsule continues others that were not found.
    Ancestors,
    /// Nothing is remembered: clock, registry versions, uses and sequences may be old ones.
    Freshness,
    /// No version of the runtime was given, or the capsule states none.
    RuntimeVersion,
    /// The state was captured in an unusual way (capsule-v1 §5), which nobody has accepted.
    CaptureFlags,
    /// The body was not read.
    Body,
}

impl Unchecked {
    /// Returns its name: `model`, `runtime-version`, …
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Model => "model",
            Self::Prompt => "prompt",
            Self::Tenant => "tenant",
            Self::Subject => "subject",
            Self::Ancestors => "ancestors",
            Self::Freshness => "freshness",
            Self::RuntimeVersion => "runtime-version",
            Self::CaptureFlags => "capture-flags",
            Self::Body => "body",
        }
    }
}

impl Verifier {
    /// Returns a verifier of the defaults for the audience `local`: scope `kv:restore`, 30 days, no
    /// ledger, no subject, no tenant, the system's clock.
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
            at: None,
        }
    }

    /// Takes the time and loads whom to trust at that time.
    ///
    /// # Errors
    /// KVC-3xx for keys and registries, 412 for the clock, 94x for files.
    pub fn judge(&self) -> Result<Judge<'_>> {
        let held = self.hold()?;
        let remembered = held.as_ref().map(|(_, now)| *now);
        let now = self.at.or(remembered).unwrap_or_else(time::now);
        let ledger = held.as_ref().map(|(ledger, _)| ledger);
        Ok(Judge {
            verifier: self,
            trust: self.trust.load(ledger, now)?,
            now,
            expected: Expected::danger_any_model(),
            as_stated: None,
        })
    }

    /// Holds the ledger, and takes the time since then.
    fn hold(&self) -> Result<Option<(Ledger, u64)>> {
        self.ledger.as_ref().map(LedgerFile::hold).transpose()
    }
}

impl<'a> Judge<'a> {
    /// Expects capsules of this.
    #[must_use]
    pub fn expecting(self, expected: Expected<'a>) -> Self {
        Self { expected, ..self }
    }

    /// Trusts one key more: the caller's own.
    ///
    /// # Errors
    /// KVC-3xx where it contradicts the keys that are there.
    pub fn trusting(mut self, own: PublicKey) -> Result<Self> {
        if self.trust.ids().all(|id| id != own.id()) {
            self.trust.add(TrustedKey::new(own))?;
        }
        Ok(self)
    }

    /// Takes from `terms` for whom and what a capsule is, and asks no ledger for its use: for its issuer,
    /// who renews it or seals it again. Whoever restores states his own names.
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
    /// As [`Untrusted::verify`]; 410 and 411 for what is remembered.
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
        if self.as_stated.is_none()
            && let Some((ledger, now)) = self.verifier.hold()?
        {
            ledger.check(&Usage::of(&verified.manifest().claims, now))?;
        }
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
    /// As [`Chain::extend`]; 702 for a capsule that is given and no ancestor; 940, 944.
    pub fn with_ancestors<S>(
        &self,
        verdict: Verdict<S>,
        ancestors: &Ancestors<'_>,
        source: impl Fn(kvcap::SourceFile) -> S,
    ) -> Result<Verdict<S>> {
        let chain = ancestors.complete(verdict.chain, &self.policy(), source)?;
        let mut unchecked = verdict.unchecked;
        if chain.wanted().is_none() {
            unchecked.remove(&Unchecked::Ancestors);
        }
        Ok(Verdict {
            chain,
            unchecked,
            ..verdict
        })
    }

    /// Opens an accepted capsule with its ancestors: for `prompt`, if one is given, and recorded in the
    /// ledger before anything that it holds is given out. The body of a capsule for one use is checked
    /// before, so that a damaged copy does not use it up.
    ///
    /// # Errors
    /// KVC-605 for another prompt; 701 where an ancestor is missing; 8xx for keys and body; 402, 410, 411
    /// for what is remembered.
    pub fn open<S: ReadAt>(
        &self,
        verdict: Verdict<S>,
        keys: WrapKeys<'_>,
        prompt: Option<&[u32]>,
        workers: Workers,
    ) -> Result<Admitted<S>> {
        let Verdict {
            chain,
            mut unchecked,
            ..
        } = verdict;
        if let Some((tip, source)) = chain.members().next()
            && tip.manifest().claims.terms.single_use
            && self.as_stated.is_none()
        {
            tip.check_body_at(source, workers, &mut |_| {})?;
        }
        let keys = keys.opening(chain.members().map(|(member, _)| member))?;
        let opened = chain.open(&keys)?;
        if let Some(prompt) = prompt {
            opened.tip().check_prompt(prompt)?;
            unchecked.remove(&Unchecked::Prompt);
        }
        // each chunk is checked when it is read
        unchecked.remove(&Unchecked::Body);
        let opened = match self.verifier.hold()? {
            Some((ledger, now)) if self.as_stated.is_none() => opened.record(&ledger, now)?,
            _ => opened,
        };
        Ok(Admitted { opened, unchecked })
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

    fn unchecked(&self, manifest: &Manifest) -> BTreeSet<Unchecked> {
        let context = &manifest.context;
        let (expected, verifier) = (&self.expected, self.verifier);
        let version = expected.runtime.as_ref().and_then(|named| named.1.as_ref());
        let flags = context.flags;
        [
            (Unchecked::Model, !expected.names_model()),
            (Unchecked::Prompt, expected.prefix.is_none()),
            (Unchecked::Tenant, verifier.tenant.is_none()),
            (Unchecked::Subject, verifier.subject.is_none()),
            (Unchecked::Ancestors, context.parent.is_some()),
            (Unchecked::Freshness, verifier.ledger.is_none()),
            (
                Unchecked::RuntimeVersion,
                version.is_none() || context.runtime.version.is_empty(),
            ),
            (
                Unchecked::CaptureFlags,
                flags.speculative_prefill
                    || flags.multi_token_prediction
                    || flags.quantized_attention,
            ),
            (Unchecked::Body, true),
        ]
        .into_iter()
        .filter_map(|(check, left_out)| left_out.then_some(check))
        .collect()
    }
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

    /// Gives the verified capsule.
    #[must_use]
    pub fn into_tip(self) -> Verified {
        self.chain.into_tip()
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

    /// Gives the capsule and the ancestors that were found.
    #[must_use]
    pub fn into_chain(self) -> Chain<S> {
        self.chain
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
