//! The rules that can be taken out, one at a time.

/// A rule of the specification. What it says stands in `spec/`, under the name that follows it here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Rule {
    /// CAP-K-1: a trusted key.
    Trusted,
    /// CAP-E-11: the signature.
    Signature,
    /// CAP-K-4: a key speaks for one issuer.
    OneIssuer,
    /// REG-G-10: what is revoked is refused.
    Revoked,
    /// CAP-V-2.
    Expiry,
    /// CAP-V-4, LIN-N-4: not past the cap.
    Cap,
    /// CAP-V-5.
    Audience,
    /// CAP-V-6.
    Tenant,
    /// CAP-V-7.
    Session,
    /// CAP-V-9.
    Model,
    /// §9.1: each claim that enters ctx, and the context.
    BoundIssuer,
    BoundTenant,
    BoundSession,
    BoundOnce,
    BoundCap,
    BoundContext,
    BoundId,
    /// §9.3: an entry names its capsule.
    EntryOfCapsule,
    /// CAP-A-1.
    Commitment,
    /// §9.2: a content key is of one capsule.
    FreshContent,
    /// CAP-R-4: types 2 and 3 never together.
    HybridAlone,
    /// CAP-T-2, CAP-T-3: digests of the tables and of chunks.
    Tables,
    /// §9.4: place in the associated data.
    Place,
    /// §9.4: the mark of the last chunk.
    Last,
    /// §6.5: the prompt under a key.
    KeyedPrompt,
    /// CAP-V-11: judged again when the body has come.
    Again,
    /// REG-U-1.
    Clock,
    /// REG-U-2.
    RegistryNeverBack,
    /// REG-U-4: a use is remembered.
    Use,
    /// REG-U-4: before the first byte is out.
    UseFirst,
    /// LIN-N-1: an expired capsule is not renewed.
    ValidToRenew,
    /// LIN-N-3.
    RenewalToCap,
    /// LIN-N-5.
    NoWiderScope,
    /// LIN-L-2: all ancestors are there.
    ParentThere,
    /// §2.2 step 3: by digest.
    ParentNamed,
    /// §2.2 step 2: an ancestor passes as its child does.
    ParentValid,
    /// LIN-L-7: the issuer.
    ParentIssuer,
    /// LIN-L-7: claims.
    NarrowerClaims,
    /// REG-U-6: an ancestor is not for one use.
    ParentNotOnce,
    /// REG-M-2: a root signs once.
    SignsOnce,
    /// REG-M-4: each signature.
    RootSignature,
    /// REG-M-4: as many as the threshold.
    Threshold,
    /// REG-M-5: the root that the verifier was given signs the first statement.
    FirstRoot,
    /// REG-M-6: the roots before agree.
    OldRoots,
    /// REG-M-6: a statement's own roots agree.
    NewRoots,
    /// REG-M-6: the next version, the one before by its digest, the same chain.
    RootsVersion,
    RootsPrevious,
    RootsChain,
    /// REG-M-14: what a statement gives, by roots that may: issuers to roots, a lower threshold, other timestamp keys.
    RootsGiven,
    ThresholdGiven,
    StampsGiven,
    /// REG-M-8: by the roots of the newest statement.
    NewestRoots,
    /// REG-M-9: a root speaks for its issuers.
    RootIssuers,
    /// REG-M-9: of what the verifier trusts the root with.
    TrustedIssuers,
    /// REG-M-7.
    RootsExpiry,
    /// REG-M-11: there is a timestamp, by its key, of this version, that has not ended.
    Stamp,
    StampSigned,
    StampOf,
    StampExpiry,
    /// REG-M-11: again whenever a capsule is verified.
    StampAgain,
    /// REG-M-12: statements that were seen.
    RootsRemembered,
    /// HLP-A-3: a helper's signature is verified.
    HelperSigned,
    /// HLP-A-4: a helper's content key is the one committed to.
    HelperCommitted,
}

/// All rules but those that are taken out.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Rules {
    without: [Option<Rule>; 2],
}

impl Rules {
    pub(crate) fn without(rule: Rule) -> Self {
        Self {
            without: [Some(rule), None],
        }
    }

    pub(crate) fn without_both(one: Rule, other: Rule) -> Self {
        Self {
            without: [Some(one), Some(other)],
        }
    }

    pub(crate) fn lack(self, rule: Rule) -> bool {
        self.without.contains(&Some(rule))
    }

    pub(crate) fn have(self, rule: Rule) -> bool {
        !self.lack(rule)
    }
}

/// A promise of the threat model, by the words that it begins with there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Promise {
    Authenticity,
    Confidentiality,
    Binding,
    NoSplicing,
    HandOver,
    NoHarvest,
    KeyCommitment,
    LimitedUse,
    Renewal,
    OneLine,
    NoConfirmation,
    Sessions,
    OneUse,
    NoSingleRoot,
    Elsewhere,
}
