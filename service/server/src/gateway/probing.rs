//! A probe of restoring, once in each life of the engine: whether a state that was saved goes on, restored from its
//! capsule, as it went on before (http-v1 HTTP-E-11).

use std::sync::{Arc, Mutex, PoisonError};

use kvcap::{Code, Error, Result};
use kvcap_engines::{Asked, Event, Slot, StateFile};
use kvcap_session::{Candidate, Names, Record, Session};
use serde_json::{Value, json};

use super::{Gateway, failed, slots::Held};
use crate::refusal::{Answer, Refusal};

/// Tokens that are compared.
const TOKENS: u64 = 8;

/// What a probe has shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// What was restored goes on as before.
    Same,
    /// It goes on otherwise: its encoding or its engine is not exact.
    Differs,
    /// The engine has evaluated again what was restored.
    Ineffective,
    /// There is no answer: the state could not be restored, or the engine has stopped.
    Failed,
}

impl Outcome {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Same => "same",
            Self::Differs => "differs",
            Self::Ineffective => "ineffective",
            Self::Failed => "failed",
        }
    }
}

/// The probe of the engine's life, and what it has shown.
#[derive(Debug, Default)]
pub(super) struct Probes(Mutex<(u64, Option<Outcome>)>);

impl Probes {
    /// Whether a life of the engine is still to be probed; it is not asked twice.
    fn begin(&self, generation: u64) -> bool {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = last.0 != generation;
        if is_new {
            *last = (generation, None);
        }
        is_new
    }

    fn end(&self, generation: u64, outcome: Outcome) {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if last.0 == generation {
            last.1 = Some(outcome);
        }
    }

    /// What the probe of a life has shown, if it has been.
    pub(super) fn outcome(&self, generation: u64) -> Option<Outcome> {
        let last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        last.1.filter(|_| last.0 == generation)
    }
}

impl Gateway {
    /// Probes the engine's life by what a slot holds and a checkpoint has just saved, where that is still to be done.
    /// Returns whether the slot still holds it.
    pub(super) async fn probe(self: &Arc<Self>, slot: Slot, held: &Held, record: &Record) -> bool {
        let room = held.total.saturating_add(TOKENS + 1) <= self.engine.about().context;
        let known = u64::try_from(held.tokens.len()) == Ok(held.total);
        if !(self.setup.probe && room && known && self.probes.begin(slot.generation)) {
            return true;
        }
        let probed = self.compare(slot, held, record).await;
        let outcome = match &probed {
            Ok(outcome) => *outcome,
            Err(_) => Outcome::Failed,
        };
        self.probes.end(slot.generation, outcome);
        self.relay.metrics.probed(outcome.name());
        let left = match outcome {
            Outcome::Failed => Err(Refusal::Lost),
            outcome => self.put_back(slot, held, record, outcome).await,
        };
        if left.is_err() {
            // it comes back from its checkpoint
            let _emptied = self.engine.erase(slot).await;
        }
        left.is_ok()
    }

    async fn compare(
        self: &Arc<Self>,
        slot: Slot,
        held: &Held,
        record: &Record,
    ) -> Answer<Outcome> {
        // one token more than the state has: an engine that cannot go back evaluates it too
        let prompt: Vec<u32> = held
            .tokens
            .iter()
            .chain(held.tokens.first())
            .copied()
            .collect();
        let (_, before) = self.goes_on(slot, &prompt).await?;
        self.restore_saved(slot, &held.names, record).await?;
        let (cached, after) = self.goes_on(slot, &prompt).await?;
        Ok(match (cached >= held.total, before == after) {
            (false, _) => Outcome::Ineffective,
            (true, true) => Outcome::Same,
            (true, false) => Outcome::Differs,
        })
    }

    /// Leaves in the slot what it held.
    async fn put_back(
        self: &Arc<Self>,
        slot: Slot,
        held: &Held,
        record: &Record,
        outcome: Outcome,
    ) -> Answer<()> {
        if self.engine.about().rewinds || outcome == Outcome::Ineffective {
            let evaluated = self.engine.evaluate(slot, &held.tokens).await;
            return evaluated.map(drop).map_err(failed);
        }
        self.restore_saved(slot, &held.names, record).await
    }

    /// The most likely tokens after a prompt, and how many of it were not evaluated.
    async fn goes_on(&self, slot: Slot, prompt: &[u32]) -> Answer<(u64, String)> {
        let body = json!({
            "prompt": prompt, "max_tokens": TOKENS, "temperature": 0, "top_k": 1, "ignore_eos": true,
        });
        let answer = self.engine.answer(slot, Asked::completion(body)).await;
        let mut answer = answer.map_err(failed)?;
        let mut text = Vec::new();
        while let Some(event) = answer.events.next().await {
            if let Event::Bytes(bytes) = event.map_err(failed)? {
                text.extend_from_slice(&bytes);
            }
        }
        let said: Value = serde_json::from_slice(&text).unwrap_or_default();
        let said = said["choices"][0]["text"].as_str().map(str::to_owned);
        Ok((answer.reused.cached, said.ok_or(Refusal::Lost)?))
    }

    /// Brings the state of a checkpoint into the slot, by the way that every state takes.
    async fn restore_saved(
        self: &Arc<Self>,
        slot: Slot,
        names: &Names,
        record: &Record,
    ) -> Answer<()> {
        self.engine.erase(slot).await.map_err(failed)?;
        let (gateway, names) = (Arc::clone(self), names.clone());
        let id = record.capsule.as_ref().map(|own| own.id.clone());
        let opened = self.aside(move || gateway.saved(&names, id.as_deref()));
        let state = opened.await?;
        self.engine.admit(slot, state).await.map_err(failed)
    }

    fn saved(&self, names: &Names, id: Option<&str>) -> Result<StateFile> {
        let states = Session::load(&self.sessions, names)?.states()?;
        let own = states
            .into_iter()
            .find(|state| Some(state.capsule.id.as_str()) == id);
        let what = "the checkpoint has no state";
        let own = own.ok_or_else(|| Error::new(Code::SessionNoState, what))?;
        let positions = own.capsule.positions;
        let state = Candidate::Saved(Box::new(own));
        self.with_opener(names, |opener| {
            Ok(self.opened(&opener, &state, positions)?.0)
        })
    }
}
