//! Judging, by the one verifier and for the caller (http-v1 §5, steps 3 and 6).

use std::time::Instant;

use kvcap::{CapsuleId, Expected, Manifest, Untrusted};
use kvcap_store::{Judge, Verdict, Verifier};

use super::{Relay, space};
use crate::{
    refusal::{Answer, Refusal},
    tokens::Token,
};

impl Relay {
    fn verifier_for(&self, caller: &Token) -> Verifier {
        Verifier {
            tenant: caller.tenant.clone(),
            subject: caller.subject.clone(),
            ..(*self.verifier()).clone()
        }
    }

    /// Judges a header, and the ancestors of its capsule that are kept.
    pub(super) fn judge_header(
        &self,
        caller: &Token,
        untrusted: Untrusted,
        wanted: Option<CapsuleId>,
    ) -> Answer<Verdict> {
        let since = Instant::now();
        let verifier = self.verifier_for(caller);
        let judged = judge(&verifier, wanted).and_then(|judge| {
            let verdict = judge.verify(untrusted)?;
            self.with_ancestors(caller, &judge, verdict)
        });
        let code = judged.as_ref().err().and_then(Refusal::code);
        self.metrics
            .verdict(code.map_or(0, kvcap::Code::number), since.elapsed());
        judged
    }

    fn with_ancestors(
        &self,
        caller: &Token,
        judge: &Judge<'_>,
        verdict: Verdict,
    ) -> Answer<Verdict> {
        let manifest: &Manifest = verdict.tip().manifest();
        let Some(parent) = &manifest.context.parent else {
            return Ok(verdict);
        };
        let (space, most) = (space(caller), self.policy().limits.reader().chain);
        let limits = self.policy().limits.reader();
        let mut headers = Vec::new();
        for id in self.store.ancestors(space, parent.digest, most)? {
            // one that has just gone is not at hand
            let Some((_, file)) = self.store.open((space, id))? else {
                break;
            };
            headers.push((Untrusted::read_at(&*file, &limits)?, ()));
        }
        Ok(judge.with_given_ancestors(verdict, headers)?)
    }

    /// Judges again what has arrived.
    pub(super) fn conclude(
        &self,
        caller: &Token,
        wanted: Option<CapsuleId>,
        verdict: Verdict,
    ) -> Answer<Verdict> {
        let verifier = self.verifier_for(caller);
        let accepted = judge(&verifier, wanted)?.conclude(verdict)?;
        Ok(accepted.into_verdict())
    }
}

/// A judge of capsules that are kept for others. The capsule that is wanted is the one by its id.
fn judge(verifier: &Verifier, wanted: Option<CapsuleId>) -> Answer<Judge<'_>> {
    let mut expected = Expected::danger_any_model();
    expected.capsule = wanted;
    let judge = verifier.judge().map_err(Refusal::Unready)?;
    Ok(judge.expecting(expected).for_keeping())
}
