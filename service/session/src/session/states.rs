//! States that a session may resume from: those of its checkpoints, and base images (session-v1 §7).

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use kvcap::{ExpectedSession, Result};

use super::Session;
use crate::{event::Event, record::CapsuleEntry};

/// A state of one of a session's checkpoints.
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

/// A state that a session may resume from.
#[derive(Clone, Debug)]
pub enum Candidate {
    /// The state of a checkpoint.
    Saved(Box<SavedState>),
    /// The base image in a file.
    Base(PathBuf),
    /// A capsule that was handed in.
    Handed {
        /// Path of it.
        path: PathBuf,
        /// The session that it has to name.
        expected: ExpectedSession,
    },
}

impl Candidate {
    /// Returns its name in a plan: the capsule's id, or the base image's path.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Saved(state) => state.capsule.id.clone(),
            Self::Base(path) | Self::Handed { path, .. } => path.display().to_string(),
        }
    }

    /// Returns the path of its capsule.
    #[must_use]
    pub fn path(&self) -> &Path {
        match self {
            Self::Saved(state) => &state.path,
            Self::Base(path) | Self::Handed { path, .. } => path,
        }
    }

    /// Returns the session that its capsule has to name; a base image names none.
    #[must_use]
    pub fn expected(&self) -> Option<ExpectedSession> {
        match self {
            Self::Saved(state) => Some(state.expected.clone()),
            Self::Base(_) => None,
            Self::Handed { expected, .. } => Some(expected.clone()),
        }
    }

    /// Returns the version of the checkpoint that has it.
    #[must_use]
    pub const fn version(&self) -> Option<u64> {
        match self {
            Self::Saved(state) => Some(state.version),
            Self::Base(_) | Self::Handed { .. } => None,
        }
    }

    /// Returns true where a controller was sealed beside it.
    #[must_use]
    pub const fn has_controller(&self) -> bool {
        match self {
            Self::Saved(state) => state.capsule.controller,
            Self::Base(_) | Self::Handed { .. } => false,
        }
    }

    /// Returns the number of the last event that it has seen, as far as that is known; a base image has seen none.
    #[must_use]
    pub const fn cursor(&self) -> u64 {
        match self {
            Self::Saved(state) => state.capsule.cursor,
            Self::Base(_) | Self::Handed { .. } => 0,
        }
    }
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
