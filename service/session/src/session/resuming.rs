//! Resuming: the facts that a plan is made of, and the best rung that holds (session-v1 §7).

use std::{collections::BTreeSet, path::PathBuf};

use kvcap::{Code, Error, Result};

use super::{Session, confirming::Claim, states::Candidate};
use crate::{
    ladder::{Facts, MAX_STATES, Plan, StateFacts},
    record::Record,
};

/// A request that a session is resumed for, as far as it is known.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// Token ids of the request, the whole conversation among them.
    pub tokens: Option<Vec<u32>>,
    /// Positions that the runtime has room for, 0 where unknown.
    pub context: u64,
    /// Positions that the answer needs.
    pub reserve: u64,
    /// Files of base images.
    pub bases: Vec<PathBuf>,
    /// Names of states whose restore the runtime has shown to have no effect.
    pub ineffective: Vec<String>,
}

/// Facts of a state that its verified header gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Position at which the state ends.
    pub positions: u64,
    /// It cannot be cut.
    pub whole: bool,
}

/// A reader of states for the ladder. What it refuses leads as the page's table says.
pub trait Restorer {
    /// Verifies the header of a state.
    ///
    /// # Errors
    /// What refuses the state.
    fn judge(&mut self, state: &Candidate) -> Result<Header>;

    /// Returns how many of a request's tokens are the state's first, which may take opening it; `None` where that
    /// cannot be told here.
    ///
    /// # Errors
    /// What refuses the state: KVC-605 where it does not hold what could be compared.
    fn common(&mut self, state: &Candidate, request: &[u32]) -> Result<Option<u64>>;

    /// Restores the first positions of a state.
    ///
    /// # Errors
    /// What refuses the state.
    fn restore(&mut self, state: &Candidate, positions: u64) -> Result<()>;
}

/// Outcome of resuming a session, or of planning to.
#[derive(Clone, Debug)]
pub struct Resumed {
    /// Every rung with its reason, and the one that was taken.
    pub plan: Plan,
    /// The state that was restored, or would be.
    pub state: Option<Candidate>,
    /// The session as it is now.
    pub current: Record,
    /// Error that the claim could not be kept for: the restore stands, and cannot be confirmed.
    pub unkept: Option<Error>,
}

impl Resumed {
    /// Returns how many events after the state are to be read again; `None` where it was cut, so that no event says how
    /// far it has seen.
    #[must_use]
    pub fn events_after(&self) -> Option<u64> {
        let positions = self.plan.taken().map_or(0, |step| step.positions);
        let seen = match &self.state {
            Some(Candidate::Saved(state)) if positions < state.capsule.positions => return None,
            state => state.as_ref().map_or(0, Candidate::cursor),
        };
        Some(self.current.replay_cursor.saturating_sub(seen))
    }
}

impl Session {
    /// Plans how to resume, without restoring anything.
    ///
    /// # Errors
    /// Those of a state that its user has to mend, as for a key's passphrase; 95x; 94x.
    pub fn plan(&self, request: &Request, reader: &mut dyn Restorer) -> Result<Resumed> {
        self.climb(request, reader, false)
    }

    /// Resumes at the best rung that holds, and keeps what it claims until [`Self::confirm`] is told the runtime's own
    /// count. A state that fails is left, and the ladder is planned again without it.
    ///
    /// # Errors
    /// As [`Self::plan`], and for a full disk.
    pub fn resume(
        &self,
        request: &Request,
        reader: &mut dyn Restorer,
        milliseconds: u64,
    ) -> Result<Resumed> {
        let mut resumed = self.climb(request, reader, true)?;
        let claim = Claim::of(&resumed.plan, &request.ineffective, milliseconds);
        resumed.unkept = self.claim(&claim).err();
        Ok(resumed)
    }

    fn climb(
        &self,
        request: &Request,
        reader: &mut dyn Restorer,
        restores: bool,
    ) -> Result<Resumed> {
        let current = self.current()?;
        let candidates = self.candidates(request)?;
        let mut facts = gathered(request, &candidates, reader)?;
        facts.messages = current.messages;
        let mut untold = BTreeSet::new();
        loop {
            let plan = Plan::of(&facts)?;
            let taken = plan.taken();
            let name = taken.and_then(|step| step.state.clone());
            let positions = taken.map_or(0, |step| step.positions);
            let mut all = candidates.iter();
            let state = all.find(|state| Some(state.name()) == name);
            if let Some(state) = state {
                let name = state.name();
                // a plan takes what is not known for the same, so it is made known first
                let asked = request.tokens.as_deref();
                if let Some(tokens) = asked.filter(|_| !untold.contains(&name)) {
                    untold.insert(name.clone());
                    match reader.common(state, tokens) {
                        Ok(common) => facts.learn(&name, common),
                        Err(error) => facts.failed(&name, error)?,
                    }
                    continue;
                }
                if restores && let Err(error) = reader.restore(state, positions) {
                    facts.failed(&name, error)?;
                    continue;
                }
            }
            let state = state.cloned();
            return Ok(Resumed {
                plan,
                state,
                current,
                unkept: None,
            });
        }
    }

    fn candidates(&self, request: &Request) -> Result<Vec<Candidate>> {
        let bases = request.bases.iter().cloned().map(Candidate::Base);
        let room = MAX_STATES.saturating_sub(request.bases.len());
        let saved = self.states()?.into_iter().take(room);
        let saved = saved.map(|state| Candidate::Saved(Box::new(state)));
        Ok(saved.chain(bases).collect())
    }
}

/// What the headers tell.
fn gathered(
    request: &Request,
    candidates: &[Candidate],
    reader: &mut dyn Restorer,
) -> Result<Facts> {
    let mut facts = Facts {
        context: request.context,
        reserve: request.reserve,
        ..Facts::default()
    };
    for candidate in candidates {
        let unread = |positions| StateFacts {
            name: candidate.name(),
            positions,
            common: None,
            whole: true,
            refused: None,
        };
        match candidate {
            Candidate::Saved(state) => facts.states.push(unread(state.capsule.positions)),
            Candidate::Base(_) | Candidate::Handed { .. } => facts.bases.push(unread(0)),
        }
    }
    for candidate in candidates {
        let name = candidate.name();
        match present(candidate).and_then(|()| reader.judge(candidate)) {
            Ok(header) => facts.describe(&name, header.positions, header.whole),
            Err(error) => facts.failed(&name, error)?,
        }
        if request.ineffective.contains(&name) {
            let what = "the runtime evaluated again what was restored";
            facts.failed(&name, Error::new(Code::StateRestoreIneffective, what))?;
        }
    }
    Ok(facts)
}

/// A capsule that is gone is no failure of its disk's.
fn present(candidate: &Candidate) -> Result<()> {
    match candidate {
        Candidate::Saved(state) if matches!(state.path.try_exists(), Ok(false)) => {
            let what = "the checkpoint's capsule is not there";
            Err(Error::new(Code::SessionNoState, what).at(state.path.display()))
        }
        _ => Ok(()),
    }
}
