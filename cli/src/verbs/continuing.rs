//! States that go on from a capsule: the chain before them, and a session's states.

use kvcap::{CapsuleId, Code, Error, OpenedChain, Result, SourceFile};
use kvcap_session::{Controller, NewState, SavedState, Sealing, open_to_continue};
use kvcap_states::Continued;
use kvcap_store::{Ancestors, Parties, Passphrases, TrustSources, Verifier, output::Output};

use super::sealing::{How, Prepared};
use crate::flags::Common;

impl How {
    /// Opens the chain whose tip a state goes on from, for whom the new capsule will be.
    ///
    /// # Errors
    /// Those of a capsule that is verified and opened.
    pub(super) fn opened(
        &self,
        ancestors: &Ancestors<'_>,
        trust: TrustSources,
        parties: &Parties,
        passphrases: &Passphrases<'_>,
    ) -> Result<OpenedChain<SourceFile>> {
        open_to_continue(
            &self.budget.of(Verifier::new(trust)),
            ancestors,
            &parties.terms,
            &parties.signer,
            &self.sealed_for.wrap_key,
            passphrases,
            self.threads.workers(),
        )
    }
}

/// A state of the command line, as a session saves it.
pub(super) struct StateFile<'a> {
    pub(super) how: &'a How,
    pub(super) prepared: &'a Prepared,
    pub(super) controller: Option<Controller>,
    pub(super) trust: TrustSources,
    pub(super) passphrases: &'a Passphrases<'a>,
    pub(super) common: &'a Common,
    /// That it goes on from the session's latest state.
    pub(super) continued: Option<Continued>,
    /// Why it does not.
    pub(super) refused: Option<Code>,
    /// It has to stand by itself.
    pub(super) whole: bool,
}

impl NewState for StateFile<'_> {
    fn expires(&self) -> u64 {
        self.prepared.parties.terms.expires
    }

    fn controller(&self) -> Option<&Controller> {
        self.controller.as_ref()
    }

    fn continues(&mut self, parent: &SavedState) -> Result<()> {
        if self.whole {
            let what = "the capsule has to stand by itself";
            return Err(Error::new(Code::LineageParentAbsent, what));
        }
        let compared = self.compare(parent);
        self.refused = compared.as_ref().err().map(|error| error.code());
        self.continued = Some(compared?);
        Ok(())
    }

    fn seal(&mut self, output: &Output, sealing: Sealing<'_>) -> Result<CapsuleId> {
        let mut capture = self.prepared.capture(self.how, sealing.sections)?;
        capture.lineage.continued = self.continued.take().filter(|_| sealing.parent.is_some());
        let mut terms = self.prepared.parties.terms.clone();
        terms.session = Some(sealing.claims);
        let sealed = self
            .prepared
            .seal(self.how, capture, terms, output, self.common);
        if sealing.parent.is_some() {
            self.refused = sealed.as_ref().err().map(|error| error.code());
        }
        Ok(sealed?.sealed.id)
    }
}

impl StateFile<'_> {
    fn compare(&self, parent: &SavedState) -> Result<Continued> {
        let ancestors = Ancestors {
            tip: &parent.path,
            given: &[],
        };
        let (parties, trust) = (&self.prepared.parties, self.trust.clone());
        let opened = self
            .how
            .opened(&ancestors, trust, parties, self.passphrases)?;
        let Prepared { state, source, .. } = self.prepared;
        let workers = self.how.threads.workers();
        let continued = Continued::check(state, source, &opened, workers, &mut |_| {})?;
        match continued.leaves_rows_out() {
            true => Ok(continued),
            false => {
                let what = "every bank of the state is whole: an increment would save nothing";
                Err(Error::new(Code::LineageBinding, what))
            }
        }
    }
}
