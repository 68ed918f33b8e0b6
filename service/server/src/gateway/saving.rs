//! Saving: a slot's state, exported and sealed as a checkpoint of its session (http-v1 HTTP-E-4).

use std::{fs::File, sync::Arc};

use kvcap::{CapsuleId, CaptureFlags, Code, Error, Result, SourceFile, Suite, Workers};
use kvcap_engines::{Slot, StateFile};
use kvcap_session::{
    Cause, Names, NewState, Record, SavedState, Sealing, Session, open_to_continue,
};
use kvcap_states::{
    Capture, Continued, Hints, Lineage, Prompt, SealRequest, State, parse, seal_state,
};
use kvcap_store::{Ancestors, Passphrases, Verifier, output::Output, time};

use super::{Gateway, failed, keys::Parties, slots::Held};
use crate::refusal::{Answer, Refusal};

/// A slot's state that is to be saved.
pub(super) struct SlotState<'a> {
    gateway: &'a Gateway,
    verifier: &'a Verifier,
    parties: Parties,
    state: State,
    source: SourceFile,
    /// Ids that the state is of, where its file does not carry them.
    tokens: Option<Vec<u32>>,
    /// It has to stand by itself.
    whole: bool,
    /// It is a start state of many.
    base: bool,
    continued: Option<Continued>,
}

impl<'a> SlotState<'a> {
    /// Reads what an engine has exported.
    ///
    /// # Errors
    /// KVC-92x for the state, 94x for keys and files.
    pub(super) fn read(
        gateway: &'a Gateway,
        verifier: &'a Verifier,
        names: &Names,
        exported: &StateFile,
        now: u64,
    ) -> Result<Self> {
        let open =
            || -> std::io::Result<SourceFile> { SourceFile::new(File::open(exported.path())?) };
        let source = open().map_err(|error| Error::source(&error, "state"))?;
        let hints = Hints::Model(&gateway.engine.about().profile.geometry);
        let state = parse(gateway.engine.about().kind, &source, hints)?;
        let parties = gateway.keys.parties(names, &verifier.scope, now)?;
        Ok(Self {
            gateway,
            verifier,
            parties,
            tokens: exported.tokens().map(<[u32]>::to_vec),
            state,
            source,
            whole: false,
            base: false,
            continued: None,
        })
    }

    /// Token ids that the state holds.
    pub(super) fn tokens(&self) -> Option<&[u32]> {
        self.state.tokens.as_deref().or(self.tokens.as_deref())
    }

    /// The state as one that everybody may begin with.
    pub(super) fn into_base(self) -> Self {
        Self { base: true, ..self }
    }

    fn capture(&self, sealing: Option<Sealing<'_>>) -> Capture {
        let about = self.gateway.engine.about();
        Capture {
            suite: Suite::ChaCha20Poly1305,
            prompt: match &self.tokens {
                Some(tokens) => Prompt::Tokens(tokens.clone()),
                None => Prompt::FromState,
            },
            public_prefix: self.base,
            sections: sealing.map_or_else(Vec::new, |sealing| sealing.sections),
            runtime_version: about.version.clone(),
            facts: Vec::new(),
            hadamard: about.options.hadamard,
            flags: CaptureFlags::default(),
            context_length: about.context,
            lineage: Lineage {
                continued: None,
                base: self.base,
            },
        }
    }

    /// Seals it into an output.
    ///
    /// # Errors
    /// As [`seal_state`].
    pub(super) fn seal_into(
        &mut self,
        output: &Output,
        sealing: Option<Sealing<'_>>,
    ) -> Result<CapsuleId> {
        let mut terms = self.parties.terms.clone();
        let continues = sealing
            .as_ref()
            .is_some_and(|sealing| sealing.parent.is_some());
        terms.session = sealing.as_ref().map(|sealing| sealing.claims.clone());
        let mut capture = self.capture(sealing);
        capture.lineage.continued = self.continued.take().filter(|_| continues);
        let keys = &self.gateway.keys;
        let request = SealRequest::new(
            &self.state,
            &self.source,
            &self.gateway.engine.about().profile,
            capture,
            terms,
            &keys.sealer.signer,
        );
        let request = request
            .to(&keys.sealer.recipients(&self.parties.wrapping))
            .encoding(keys.encoding);
        Ok(seal_state(output, request, &mut |_| {})?.1.sealed.id)
    }
}

impl NewState for SlotState<'_> {
    fn expires(&self) -> u64 {
        self.parties.terms.expires
    }

    fn continues(&mut self, parent: &SavedState) -> Result<()> {
        let whole = |what| Err(Error::new(Code::LineageBinding, what));
        if self.whole {
            return whole("the capsule has to stand by itself");
        }
        let ancestors = Ancestors {
            tip: &parent.path,
            given: &[],
        };
        let keys = &self.gateway.keys;
        let opened = open_to_continue(
            self.verifier,
            &ancestors,
            &self.parties.terms,
            &keys.sealer.signer,
            &keys.to_open,
            &Passphrases::none(),
            Workers::all(),
        )?;
        let continued = Continued::check(
            &self.state,
            &self.source,
            &opened,
            Workers::all(),
            &mut |_| {},
        )?;
        if !continued.leaves_rows_out() {
            return whole("every bank of the state is whole");
        }
        self.continued = Some(continued);
        Ok(())
    }

    fn seal(&mut self, output: &Output, sealing: Sealing<'_>) -> Result<CapsuleId> {
        self.seal_into(output, Some(sealing))
    }
}

impl Gateway {
    /// Saves what a slot holds as the next checkpoint of its session; by itself where `whole`. What the slot holds is
    /// known exactly then.
    pub(super) async fn save(
        self: &Arc<Self>,
        slot: Slot,
        held: &mut Held,
        whole: bool,
    ) -> Answer<Record> {
        let exported = self.engine.export(slot).await.map_err(failed)?;
        let (gateway, names) = (Arc::clone(self), held.names.clone());
        let saving = move || -> Result<(Record, Option<Vec<u32>>)> {
            let now = time::now();
            let verifier = gateway.verifier_of(&names);
            let mut state = SlotState::read(&gateway, &verifier, &names, &exported, now)?;
            state.whole = whole;
            let mut session = Session::load_or_create(&gateway.sessions, &names, now)?;
            let record = session.checkpoint(now, Cause::Asked, Some(&mut state))?;
            let tokens = state.tokens().map(<[u32]>::to_vec);
            let keep = gateway.setup.keep;
            let clearance = session.clearance(keep)?;
            if !clearance.parts.is_empty() {
                session.clear(&clearance, keep)?;
            }
            Ok((record, tokens))
        };
        let saved = self.aside(saving).await;
        self.relay.metrics.saved(saved.is_ok());
        let (record, tokens) = saved?;
        if let Some(tokens) = tokens {
            held.total = u64::try_from(tokens.len()).unwrap_or(u64::MAX);
            held.tokens = tokens;
        }
        held.unsaved = 0;
        Ok(record)
    }

    /// Runs what computes or waits for the disk, beside the connections.
    pub(super) async fn aside<T: Send + 'static>(
        &self,
        step: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Answer<T> {
        let done = tokio::task::spawn_blocking(step).await;
        done.unwrap_or_else(|_| Err(Error::new(Code::LocalIo, "a step has broken off")))
            .map_err(Refusal::Code)
    }
}
