//! Versions sealed for a relay, opened again, and their headers renewed: by who seals the session's states.

use std::{io::Cursor, path::PathBuf, sync::Mutex};

use kvcap::{
    CapsuleId, Code, Error, Expected, ExpectedSession, Members, ReadAt, Recipient, Reissued,
    Reissuer, Renewal, Result, Rewrap, Suite, Terms, TrustedKey, Untrusted, Verified, Workers,
};
use kvcap_store::{Admitted, Judge, Parties, Passphrases, Unchecked, Verifier, WrapKeys, time};

use crate::{names::Names, sealed_version::SealedVersion};

/// Time for which a sealed version is valid, in seconds: an hour less than a reader lets it, so that what is wrapped again
/// soon after can live longer and take its place.
const LIFETIME: u64 = 30 * 24 * 3600 - 3600;

/// Keys of a session's owner, and whom he trusts: devices of his that sign with keys of their own.
pub struct Keys<'a> {
    /// Signer, recipients and terms of what is sealed; who has none takes, and puts nothing.
    pub parties: Option<Parties>,
    /// Algorithms of what is sealed.
    pub suite: Suite,
    /// Whom to trust, and on whose behalf.
    pub verifier: Verifier,
    /// Paths of wrapping keys and of key folders, which open what was sealed.
    pub open_with: Vec<PathBuf>,
    /// Passphrases of those keys.
    pub passphrases: &'a Passphrases<'a>,
}

/// A version of another device, opened.
#[derive(Clone, Debug)]
pub(super) struct Foreign {
    pub(super) version: SealedVersion,
    /// Who signed it.
    pub(super) issuer: String,
}

impl Keys<'_> {
    /// Seals a version.
    ///
    /// # Errors
    /// As [`SealedVersion::seal`].
    pub(super) fn seal(&self, version: &SealedVersion) -> Result<(CapsuleId, Vec<u8>)> {
        let parties = self.parties()?;
        let to = parties.recipients();
        let now = time::now();
        let mut terms: Terms = parties.terms.clone();
        (terms.not_before, terms.issued_at, terms.single_use) = (now, now, false);
        terms.expires = now.saturating_add(LIFETIME.min(self.verifier.max_lifetime));
        let out = Mutex::new(Vec::new());
        let (out, sealed) = version.seal(out, self.suite, terms, &parties.signer, &to)?;
        let bytes = out.into_inner();
        Ok((
            sealed.id,
            bytes.unwrap_or_else(std::sync::PoisonError::into_inner),
        ))
    }

    /// Verifies and opens a version.
    ///
    /// # Errors
    /// KVC-413 for another session's or another version; those of verifying and opening; as [`SealedVersion::opened`].
    pub(super) fn open(&self, bytes: &[u8], names: &Names, version: u64) -> Result<Foreign> {
        let mut expected = Expected::danger_any_model();
        expected.session = Some(ExpectedSession {
            id: names.session.clone(),
            version: Some(version),
            replay_cursor: None,
        });
        let verifier = Verifier {
            tenant: names.tenant.clone(),
            subject: names.subject.clone(),
            // a use is of a state: versions are read as often as one likes
            ledger: None,
            ..self.verifier.clone()
        };
        // history is of no model
        let judge = self.trusting_own(&verifier)?.expecting(expected);
        let mut judge = judge.danger_without(&[Unchecked::Model]);
        let untrusted = Untrusted::read_at(bytes, &kvcap::Limits::default())?;
        let verdict = judge.verify(untrusted)?;
        let issuer = verdict.tip().manifest().claims.terms.issuer.clone();
        let accepted = judge.conclude(verdict.with_source(bytes))?;
        let keys = WrapKeys::read(&self.open_with, self.passphrases)?;
        let Admitted { opened, .. } = judge.open(accepted, keys, None, Workers::ONE)?;
        let version = SealedVersion::opened(opened.tip(), names)?;
        Ok(Foreign { version, issuer })
    }

    /// Signs a header over a sealed version that lives as long as a new one.
    ///
    /// # Errors
    /// Those of [`Verified::renew`].
    pub(super) fn renewed(&self, bytes: &[u8]) -> Result<Vec<u8>> {
        let (verified, judge) = self.own(bytes)?;
        let terms = &verified.manifest().claims.terms;
        let longer = terms.expires.saturating_add(1);
        let until = judge.now().saturating_add(LIFETIME).max(longer);
        let until = until.min(terms.renew_until);
        let header = verified.renew(&Renewal::until(until), &self.by(&judge)?)?;
        joined(bytes, &header)
    }

    /// Wraps a sealed version for those that are sealed for now, and renews it so that it takes the place of the old one.
    /// `None` where it is wrapped for them, and nobody else, already.
    ///
    /// # Errors
    /// Those of [`Verified::rewrap`] and [`Verified::renew`].
    pub(super) fn rewrapped(&self, bytes: &[u8]) -> Result<Option<Vec<u8>>> {
        let (verified, judge) = self.own(bytes)?;
        let to = self.parties()?.recipients();
        let ids = |all: Vec<String>| {
            let mut all = all;
            all.sort();
            all
        };
        let now = verified.recipients().map(|(id, _)| id.to_string());
        let wanted = to.iter().map(|to| match to {
            Recipient::Key(key) => key.id().to_string(),
            Recipient::Public(key) => key.id().to_string(),
        });
        if ids(now.collect()) == ids(wanted.collect()) {
            return Ok(None);
        }
        let keys = WrapKeys::read(&self.open_with, self.passphrases)?.opening([&verified])?;
        let own: Vec<String> = verified
            .recipients()
            .map(|(id, _)| id.to_string())
            .collect();
        let key = keys.iter().find(|key| own.contains(&key.id().to_string()));
        let Some(key) = key else {
            let what = "none of the keys opens this version";
            return Err(Error::new(Code::BodyNoKey, what));
        };
        let header = verified.rewrap(key, &Rewrap::to(&to), &self.by(&judge)?)?;
        // what takes another one's place lives longer
        self.renewed(&joined(bytes, &header)?).map(Some)
    }

    /// A sealed version as its issuer sees it.
    fn own(&self, bytes: &[u8]) -> Result<(Verified, Judge<'_>)> {
        let judge = self.trusting_own(&self.verifier)?;
        let untrusted = Untrusted::read_at(bytes, &kvcap::Limits::default())?;
        let mut judge = judge.danger_as_stated(&untrusted.claims().terms);
        let verdict = judge.verify(untrusted)?;
        let verified = judge.conclude(verdict)?.into_tip();
        Ok((verified, judge))
    }

    fn by<'j>(&'j self, judge: &'j Judge<'_>) -> Result<Reissuer<'j>> {
        let signer = &self.parties()?.signer;
        Ok(Reissuer::new(signer, judge.trust(), judge.now()))
    }

    fn parties(&self) -> Result<&Parties> {
        let what = "nobody is named who signs what the relay is to keep";
        let none = || Error::new(Code::LocalUsage, what);
        self.parties.as_ref().ok_or_else(none)
    }

    fn trusting_own<'v>(&self, verifier: &'v Verifier) -> Result<Judge<'v>> {
        let Some(parties) = &self.parties else {
            return verifier.judge();
        };
        verifier.judge()?.trusting(TrustedKey {
            issuer: parties.terms.issuer.clone(),
            ..TrustedKey::from(&parties.signer)
        })
    }
}

/// A header before the body that it is of.
fn joined(old: &[u8], header: &Reissued) -> Result<Vec<u8>> {
    let mut new = Cursor::new(Vec::new());
    header.write(&mut Cursor::new(old), &mut new)?;
    Ok(new.into_inner())
}

/// The end of a file, by its own header.
pub(super) fn expires(source: &(impl ReadAt + ?Sized)) -> Result<u64> {
    let untrusted = Untrusted::read_at(source, &kvcap::Limits::default())?;
    Ok(untrusted.claims().terms.expires)
}
