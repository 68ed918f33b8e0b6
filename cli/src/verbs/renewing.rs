//! Renewal of a session's capsules, by whoever seals them.

use std::path::Path;

use kvcap::{Reissued, Reissuer, Renewal, Result, SourceFile, TrustedKey};
use kvcap_session::Renewer;
use kvcap_store::{TrustSources, Verifier, input::Capsule};

use kvcap_store::Parties;

/// Signer of new headers: the key that a session's states are sealed with.
pub(super) struct Resigned<'a> {
    pub(super) parties: &'a Parties,
    pub(super) trust: TrustSources,
}

impl Renewer for Resigned<'_> {
    fn expires(&self) -> u64 {
        self.parties.terms.expires
    }

    fn renew(&mut self, capsule: &Path, expires: u64) -> Result<(SourceFile, Reissued)> {
        let (terms, signer) = (&self.parties.terms, &self.parties.signer);
        // how long a capsule of his lives was the issuer's to say
        let verifier = Verifier {
            at: Some(terms.issued_at),
            max_lifetime: u64::MAX,
            ..Verifier::new(self.trust.clone())
        };
        let judge = verifier.judge()?.trusting(TrustedKey {
            issuer: terms.issuer.clone(),
            ..TrustedKey::from(signer)
        })?;
        let (untrusted, body) = Capsule::read(capsule)?.split();
        let mut judge = judge.danger_as_stated(&untrusted.claims().terms);
        let verdict = judge.verify(untrusted)?;
        let body = body.fetch(verdict.tip().file_len())?;
        let verified = judge.conclude(verdict)?.into_tip();
        let mut by = Reissuer::new(signer, judge.trust(), judge.now());
        by.max_lifetime = u64::MAX;
        let header = verified.renew(&Renewal::until(expires), &by)?;
        Ok((body, header))
    }
}
