//! The course of a session: as it is now, back to an earlier point, on in a branch (session-v1 §4.3).

use kvcap::{Code, Error, Result};
use serde_json::{Map, Value};

use crate::{
    event::{Body, Event, Kind},
    names::Names,
    record::{BranchOf, CapsuleEntry, Cause, Record},
    replay::{self, Summarize, replay as moved_on},
};

/// Most capsules of a session's chain (session-v1 §8).
pub const MAX_CHAIN: usize = 16;

/// Returns a session as it is: its latest record that no later revert goes behind, or else its `origin`, moved
/// on over the events after it. `records` are newest first; `events` are the whole log, or at least from the
/// cursor of the oldest record on.
///
/// # Errors
/// KVC-952 where the log ends before a record's cursor; 953 where it is another one; those of
/// [`replay`](crate::replay()).
pub fn current<'a>(
    origin: &'a Record,
    records: impl IntoIterator<Item = &'a Record>,
    events: &[Event],
    summarize: Summarize<'_>,
) -> Result<Record> {
    let end = events.last().map_or(0, |event| event.seq);
    for record in records.into_iter().chain([origin]) {
        if end < record.replay_cursor {
            let what = "the log ends before its checkpoint";
            return Err(Error::new(Code::SessionGap, what).sides(record.replay_cursor, end));
        }
        // the event at the cursor among them, which has to be the record's
        let after = events
            .iter()
            .skip_while(|event| event.seq < record.replay_cursor);
        match moved_on(record, after.cloned(), summarize) {
            Err(error) if error.code() == Code::SessionBehind => {}
            moved => return moved,
        }
    }
    Err(Error::new(
        Code::SessionBehind,
        "the log goes back to before its origin",
    ))
}

/// Returns the cursor at which a turn has ended: the last live event before the next turn. Turn 0 is the
/// beginning. `events` are the whole log, and `origin` what was before them or their first.
///
/// # Errors
/// KVC-955 where there is no such turn; those of replay.
pub fn end_of_turn(origin: &Record, events: &[Event], turn: u64) -> Result<u64> {
    let live = replay::take(origin, events.iter().cloned())?.live;
    let mut turns = origin.turns;
    let mut end = origin.replay_cursor;
    for event in &live {
        if event.kind == Kind::User {
            if turns == turn {
                return Ok(end);
            }
            turns += 1;
        }
        end = event.seq;
    }
    match turns == turn {
        true => Ok(end),
        false => {
            let what = "the session has no such turn";
            Err(Error::new(Code::SessionMissing, what).sides(format_args!("at most {turns}"), turn))
        }
    }
}

impl Body {
    /// Returns the body of an event that goes back to the event `to`.
    #[must_use]
    pub fn revert(to: u64) -> Self {
        Self::Members(Map::from_iter([("to".to_owned(), Value::from(to))]))
    }
}

impl Record {
    /// Returns the first record of a branch that begins at this one, under other names.
    #[must_use]
    pub fn branch(&self, names: &Names, at: u64) -> Self {
        let mut first = self.clone();
        (first.tenant, first.subject) = (names.tenant.clone(), names.subject.clone());
        first.session.clone_from(&names.session);
        (first.version, first.parent_version) = (1, None);
        first.branch_of = Some(BranchOf {
            session: self.session.clone(),
            version: self.version,
        });
        (first.at, first.cause) = (at, Cause::Branch);
        if let Some(capsule) = &mut first.capsule {
            capsule.session.get_or_insert_with(|| self.session.clone());
        }
        first
    }
}

impl CapsuleEntry {
    /// Returns true where a new state, made at `now` and of use until `expires`, may be sealed as an increment of this
    /// one: the chain stays short, and lives for at least half of that time. Else it is sealed whole.
    #[must_use]
    pub fn may_be_continued(&self, now: u64, expires: u64) -> bool {
        let capsules = self.ancestors.len().saturating_add(2);
        let needed = now.saturating_add(expires.saturating_sub(now).div_ceil(2));
        capsules <= MAX_CHAIN && self.expires >= needed
    }
}
