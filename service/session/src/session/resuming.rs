//! Resuming: the states that there are, and the best rung that holds (session-v1 §7).

use std::{collections::BTreeSet, path::PathBuf};

use kvcap::{Code, Error, ExpectedSession, Result};

use super::Session;
use crate::{
    event::Event,
    ladder::{Facts, MAX_STATES, Plan, StateFacts},
    record::{CapsuleEntry, Record},
};

/// Judges a state, or restores it.
pub type OfState<'a> = &'a mut dyn FnMut(&SavedState) -> Result<()>;

/// A state that a session may resume from.
#[derive(Clone, Debug)]
pub struct SavedState {
    /// Version of the newest checkpoint that has it.
    pub version: u64,
    /// Entry of it in the record.
    pub capsule: CapsuleEntry,
    /// Path of its capsule.
    pub path: PathBuf,
    /// The session that its capsule has to name.
    pub expected: ExpectedSession,
}

/// Outcome of resuming a session.
#[derive(Clone, Debug)]
pub struct Resumed {
    /// Every rung with its reason, and the one that was taken.
    pub plan: Plan,
    /// The state that was restored.
    pub state: Option<SavedState>,
    /// The session as it is now.
    pub current: Record,
}

impl Session {
    /// Returns the states that the session may resume from, the newest checkpoint's first.
    ///
    /// # Errors
    /// As [`Self::record`].
    pub fn states(&self) -> Result<Vec<SavedState>> {
        let mut seen = BTreeSet::new();
        let mut states = Vec::new();
        for version in self.versions()?.into_iter().rev() {
            let Some(capsule) = self.record(version)?.capsule else {
                continue;
            };
            if seen.insert(capsule.id.clone()) {
                states.push(self.state(version, capsule)?);
            }
        }
        // what a revert took back is in the state all the same; what another one brought back is live again
        let mut live = Vec::new();
        let (events, mut end) = (self.events()?, u64::MAX);
        while let Some((seq, to)) = last_revert(&events, end) {
            live.push(seq..=end);
            end = to;
        }
        live.push(0..=end);
        states.retain(|state| live.iter().any(|part| part.contains(&state.capsule.cursor)));
        Ok(states)
    }

    /// Resumes at the best rung that holds: `judge` accepts a state by its header, and `restore` restores it, where that
    /// is wanted. A state that fails to is left, and the rungs below are tried.
    ///
    /// # Errors
    /// Those of a state that its user has to mend, as for a key's passphrase or a full disk; 95x; 94x.
    pub fn resume(&self, judge: OfState<'_>, mut restore: Option<OfState<'_>>) -> Result<Resumed> {
        let mut states = self.states()?;
        states.truncate(MAX_STATES);
        let current = self.current()?;
        let mut facts = Facts {
            messages: current.messages,
            ..Facts::default()
        };
        for state in &states {
            facts.states.push(StateFacts {
                name: state.capsule.id.clone(),
                positions: state.capsule.positions,
                common: None,
                whole: true,
                refused: None,
            });
        }
        for state in &states {
            let judged = match state.path.try_exists() {
                Ok(false) => {
                    let what = "the checkpoint's capsule is not there";
                    Err(Error::new(Code::SessionNoState, what).at(state.path.display()))
                }
                _ => judge(state),
            };
            if let Err(error) = judged {
                facts.failed(&state.capsule.id, error)?;
            }
        }
        loop {
            let plan = Plan::of(&facts)?;
            let name = plan.taken().and_then(|step| step.state.clone());
            let state = states
                .iter()
                .find(|state| Some(&state.capsule.id) == name.as_ref());
            if let (Some(state), Some(restore)) = (state, &mut restore)
                && let Err(error) = restore(state)
            {
                facts.failed(&state.capsule.id, error)?;
                continue;
            }
            return Ok(Resumed {
                plan,
                state: state.cloned(),
                current,
            });
        }
    }

    pub(super) fn state(&self, version: u64, capsule: CapsuleEntry) -> Result<SavedState> {
        Ok(SavedState {
            version,
            path: self.place(&capsule)?,
            expected: ExpectedSession {
                id: match &capsule.session {
                    Some(branched_from) => branched_from.clone(),
                    None => self.description.session.clone(),
                },
                version: Some(capsule.version),
                replay_cursor: Some(capsule.cursor),
            },
            capsule,
        })
    }
}

/// The last revert up to an event: its own number, and the one that it goes back to.
fn last_revert(events: &[Event], end: u64) -> Option<(u64, u64)> {
    let mut before = events.iter().rev().filter(|event| event.seq <= end);
    before.find_map(|event| Some((event.seq, event.reverts_to()?)))
}
