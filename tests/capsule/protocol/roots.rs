//! A registry under several roots, and a verifier of it: the steps of registry-v1 §8 in the order of REG-M-13, with
//! their codes.

use crate::{
    rules::{Rule, Rules},
    terms::{Name, Signer, Time, hash},
};

/// A key that signs registries, statements about roots, or timestamps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Root {
    /// The one that the registry began with.
    A,
    B,
    C,
    D,
    E,
    /// Named in proposals alone.
    F,
    /// Signs timestamps.
    Stamps,
    /// The attacker's own, which nobody names.
    Thief,
}

/// A signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Mark {
    pub(crate) by: Root,
    /// Whether the key was not there when this was made.
    pub(crate) forged: bool,
}

/// What several sign.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Document<T> {
    pub(crate) says: T,
    pub(crate) marks: Vec<Mark>,
}

/// A statement about roots.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Statement {
    pub(crate) version: u8,
    pub(crate) expires: Time,
    /// The root that its registry began with.
    pub(crate) chain: Root,
    pub(crate) threshold: usize,
    /// Each with the only issuer that it speaks for, if it does not for all.
    pub(crate) roots: Vec<(Root, Option<Name>)>,
    /// The key that signs timestamps.
    pub(crate) stamps: Option<Root>,
    pub(crate) previous: Option<u64>,
}

/// What a registry lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Listing {
    pub(crate) version: u8,
    pub(crate) expires: Time,
    /// One key, and the issuer that it signs for.
    pub(crate) key: Option<(Name, Signer)>,
    /// Whether the honest capsule is revoked.
    pub(crate) revokes: bool,
    pub(crate) previous: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Timestamp {
    pub(crate) mark: Mark,
    pub(crate) expires: Time,
    pub(crate) chain: Root,
    /// Version and digest of the listing.
    pub(crate) of: (u8, u64),
}

/// What a verifier was given of a registry's root.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Anchor {
    Key(Root),
    Statement(u64),
}

/// Versions and digests that a verifier remembers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Memory {
    pub(crate) roots: Option<(u8, u64)>,
    pub(crate) listing: Option<(u8, u64)>,
}

pub(crate) fn digest<T: std::hash::Hash>(of: &T) -> u64 {
    hash("registry", of)
}

impl<T> Document<T> {
    /// REG-M-2: signatures ascend strictly.
    pub(crate) fn check_form(&self, rules: Rules) -> Result<(), u16> {
        let ascend = self.marks.is_sorted_by(|a, b| a.by < b.by);
        refuse(rules, Rule::SignsOnce, !ascend, 313)
    }

    /// REG-M-4: those of `roots` that have signed.
    fn signers(&self, roots: &[Root], rules: Rules) -> Result<Vec<Root>, u16> {
        let theirs = self.marks.iter().filter(|mark| roots.contains(&mark.by));
        let signers = theirs.map(|mark| {
            refuse(rules, Rule::RootSignature, mark.forged, 308)?;
            Ok(mark.by)
        });
        signers.collect()
    }

    /// REG-M-4: signed by these roots.
    fn check_signed(&self, by: &Statement, rules: Rules) -> Result<Vec<Root>, u16> {
        let roots: Vec<Root> = by.roots.iter().map(|(root, _)| *root).collect();
        let signers = self.signers(&roots, rules)?;
        // without the rule one root is as good as all
        let enough = match rules.have(Rule::Threshold) {
            true => by.threshold,
            false => 1,
        };
        match signers.len() < enough {
            true => Err(308),
            false => Ok(signers),
        }
    }
}

impl Statement {
    /// How many of these roots speak for an issuer, each counted once; for nobody's where there is none.
    pub(crate) fn speaking(&self, roots: &[Root], issuer: Option<Name>) -> usize {
        let speaks = |only: &Option<Name>| only.is_none() || issuer.is_none() || *only == issuer;
        let named = self.roots.iter();
        named
            .filter(|(root, only)| roots.contains(root) && speaks(only))
            .count()
    }

    /// How many of these roots are not limited.
    fn unlimited(&self, roots: &[Root]) -> usize {
        let named = self.roots.iter();
        named
            .filter(|(root, only)| roots.contains(root) && only.is_none())
            .count()
    }

    /// REG-M-14: what it gives that the one before did not, by those that have signed it.
    fn check_given(&self, before: &Self, signers: &[Root], rules: Rules) -> Result<(), u16> {
        let all = before.unlimited(signers) >= before.threshold;
        for (root, only) in &self.roots {
            let had = before.roots.iter().find(|(old, _)| old == root);
            let few = match (had, only) {
                (Some((_, None)), _) => false,
                (Some((_, old)), new) if old == new => false,
                (_, None) => !all,
                (_, Some(_)) => before.speaking(signers, *only) < before.threshold,
            };
            refuse(rules, Rule::RootsGiven, few, 316)?;
        }
        let lower = self.threshold < before.threshold;
        refuse(rules, Rule::ThresholdGiven, lower && !all, 316)?;
        let other = self.stamps != before.stamps;
        refuse(rules, Rule::StampsGiven, other && !all, 316)
    }
}

fn refuse(rules: Rules, rule: Rule, wrong: bool, code: u16) -> Result<(), u16> {
    match rules.have(rule) && wrong {
        true => Err(code),
        false => Ok(()),
    }
}

/// Looks at statements from the one that the verifier was given on (REG-M-5, REG-M-6, REG-M-14), and gives these.
pub(crate) fn walk<'a>(
    statements: &[&'a Document<Statement>],
    anchor: Anchor,
    rules: Rules,
) -> Result<Vec<&'a Document<Statement>>, u16> {
    let mut rest = statements.iter().copied();
    let first = match anchor {
        Anchor::Key(key) => {
            let begins =
                |one: &&Document<Statement>| one.says.version == 1 && one.says.chain == key;
            let first = rest.next().filter(begins).ok_or(314_u16)?;
            let signed = !first.signers(&[key], rules)?.is_empty();
            refuse(rules, Rule::FirstRoot, !signed, 308)?;
            first
        }
        Anchor::Statement(given) => rest.find(|one| digest(&one.says) == given).ok_or(314_u16)?,
    };
    let agreed = |one: &Document<Statement>, by: &Statement, rule: Rule| match rules.have(rule) {
        true => one.check_signed(by, rules),
        false => Ok(Vec::new()),
    };
    agreed(first, &first.says, Rule::NewRoots)?;
    let mut walked = vec![first];
    let mut last = first;
    for next in rest {
        let (old, new) = (&last.says, &next.says);
        refuse(
            rules,
            Rule::RootsVersion,
            new.version != old.version + 1,
            314,
        )?;
        let follows = new.previous == Some(digest(old));
        refuse(rules, Rule::RootsPrevious, !follows, 314)?;
        refuse(rules, Rule::RootsChain, new.chain != old.chain, 314)?;
        let signers = agreed(next, old, Rule::OldRoots)?;
        agreed(next, new, Rule::NewRoots)?;
        if rules.have(Rule::OldRoots) {
            new.check_given(old, &signers, rules)?;
        }
        walked.push(next);
        last = next;
    }
    Ok(walked)
}

/// Judges a listing under the statements that were walked over (REG-M-8, REG-M-9), for a verifier that trusts its
/// root with one issuer, or with all.
pub(crate) fn list(
    listing: &Document<Listing>,
    walked: &[&Document<Statement>],
    limit: Option<Name>,
    rules: Rules,
) -> Result<(), u16> {
    let newest = &walked[walked.len() - 1].says;
    let signers = listing.check_signed(newest, rules);
    let earlier = || {
        let mut all = walked.iter().rev();
        all.find_map(|one| listing.check_signed(&one.says, rules).ok())
    };
    let signers = match rules.have(Rule::NewestRoots) {
        true => signers?,
        false => earlier().ok_or(308_u16)?,
    };
    let Some((issuer, _)) = listing.says.key else {
        return Ok(());
    };
    let few = newest.speaking(&signers, Some(issuer)) < newest.threshold;
    refuse(rules, Rule::RootIssuers, few, 316)?;
    let other = limit.is_some_and(|name| name != issuer);
    refuse(rules, Rule::TrustedIssuers, other, 316)
}

/// Judges times and the timestamp (REG-M-7, REG-M-11, REG-G-6).
pub(crate) fn current(
    newest: &Statement,
    stamp: Option<&Timestamp>,
    listing: &Listing,
    now: Time,
    rules: Rules,
) -> Result<(), u16> {
    refuse(rules, Rule::RootsExpiry, now >= newest.expires, 310)?;
    match (stamp, newest.stamps) {
        (None, None) => {}
        (None, Some(_)) => refuse(rules, Rule::Stamp, true, 315)?,
        (Some(_), None) => return Err(308),
        (Some(stamp), Some(key)) => {
            let signed = stamp.mark.by == key && !stamp.mark.forged;
            refuse(rules, Rule::StampSigned, !signed, 308)?;
            let of = (stamp.chain, stamp.of) == (newest.chain, (listing.version, digest(listing)));
            refuse(rules, Rule::StampOf, !of, 315)?;
            refuse(rules, Rule::StampExpiry, now >= stamp.expires, 315)?;
        }
    }
    match now >= listing.expires {
        true => Err(310),
        false => Ok(()),
    }
}

/// Judges by what is remembered (REG-G-7, REG-M-12).
pub(crate) fn follows(
    walked: &[&Document<Statement>],
    listing: &Listing,
    memory: &Memory,
    rules: Rules,
) -> Result<(), u16> {
    if let Some((seen, of)) = memory.listing {
        let follows = match listing.version.checked_sub(seen) {
            Some(0) => digest(listing) == of,
            Some(1) => listing.previous == Some(of),
            _ => false,
        };
        refuse(rules, Rule::RegistryNeverBack, !follows, 309)?;
    }
    if let Some((seen, of)) = memory.roots {
        let there = walked.iter().find(|one| one.says.version == seen);
        let same = match there {
            Some(one) => digest(&one.says) == of,
            None => walked[0].says.version > seen,
        };
        refuse(rules, Rule::RootsRemembered, !same, 314)?;
    }
    Ok(())
}
