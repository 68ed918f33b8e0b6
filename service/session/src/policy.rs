//! Saving without being asked (session-v1 §8).

use crate::{event::Kind, record::Cause};

/// Causes for which a session is saved without being asked. Times are in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SavePolicy {
    /// At the end: when the tool ends, or is told to.
    pub on_exit: bool,
    /// Before an expiry: when the capsule or the runtime's cache expires within this time.
    pub before_expiry: Option<u64>,
    /// At milestones: when one was appended.
    pub at_milestones: bool,
    /// After tools: when one answered.
    pub after_tools: bool,
    /// After turns: when so many turns have ended since the last checkpoint.
    pub every_turns: Option<u64>,
    /// At rest: when nothing was appended for this time.
    pub idle: Option<u64>,
}

impl Default for SavePolicy {
    /// Every 3 turns, at milestones, after 5 idle minutes, 15 minutes before an expiry, and at the end.
    fn default() -> Self {
        Self {
            on_exit: true,
            before_expiry: Some(900),
            at_milestones: true,
            after_tools: false,
            every_turns: Some(3),
            idle: Some(300),
        }
    }
}

/// State of a living session is at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moment {
    /// The tool ends of itself.
    pub exiting: bool,
    /// The tool was told to end.
    pub signalled: bool,
    /// Events since the last checkpoint.
    pub events: u64,
    /// Turns that have ended since then.
    pub turns: u64,
    /// A milestone is among those events.
    pub milestone: bool,
    /// Kind of the last event.
    pub last: Option<Kind>,
    /// Seconds since the last event.
    pub idle: u64,
    /// Seconds until the capsule or the runtime's cache expires.
    pub expires_in: Option<u64>,
}

impl SavePolicy {
    /// Returns the reason to save now, if there is one.
    #[must_use]
    pub fn due(&self, moment: &Moment) -> Option<Cause> {
        let expires = self.before_expiry.zip(moment.expires_in);
        let expires = expires.is_some_and(|(within, left)| left <= within);
        let reached = |limit: Option<u64>, value: u64| limit.is_some_and(|limit| value >= limit);
        let new = moment.events > 0;
        let causes = [
            (new && self.on_exit && moment.signalled, Cause::Signal),
            (new && self.on_exit && moment.exiting, Cause::Exit),
            (expires, Cause::Expiry),
            (
                new && self.at_milestones && moment.milestone,
                Cause::Milestone,
            ),
            (
                new && self.after_tools && moment.last == Some(Kind::Tool),
                Cause::Tool,
            ),
            (new && reached(self.every_turns, moment.turns), Cause::Turns),
            (new && reached(self.idle, moment.idle), Cause::Idle),
        ];
        causes
            .into_iter()
            .find_map(|(holds, cause)| holds.then_some(cause))
    }

    /// Returns true where a capsule is renewed rather than sealed again: it expires soon and nothing was
    /// appended.
    #[must_use]
    pub fn renews(&self, moment: &Moment) -> bool {
        moment.events == 0 && self.due(moment) == Some(Cause::Expiry)
    }
}
