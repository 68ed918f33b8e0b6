//! Replay: a record moved on over the events after it (session-v1 §5).

use std::collections::BTreeMap;

use kvcap::{Code, Error, Result, binding::Digest};

use crate::{
    event::{Event, Kind},
    log::Head,
    record::Record,
    summary::plain_summary,
};

/// Most turns among the recent ones.
pub const MOST_TURNS: usize = 8;
/// Turns that leave together.
const LEAVING: usize = 5;
/// Most events that are replayed at once.
pub const MAX_REPLAY: usize = 65_536;

/// Puts into words what leaves the recent turns: given the summary so far, returns the next one.
pub type Summarize<'a> = &'a mut dyn FnMut(&str, &[Event]) -> Result<String>;

/// Moves a record on over the events after its cursor. Events that it covers, and those that are given
/// twice, are skipped; `version`, `at`, `cause` and `capsule` stay.
///
/// # Errors
/// KVC-952 where an event is missing; 953 where the log goes on in two ways; 958 for a revert to before the
/// record; 950, 951; what `summarize` refuses. The record is then as it was.
pub fn replay(
    record: &Record,
    events: impl IntoIterator<Item = Event>,
    summarize: Summarize<'_>,
) -> Result<Record> {
    let taken = take(record, events)?;
    let mut next = record.clone();
    (next.replay_cursor, next.head) = (taken.head.seq, taken.head.digest);
    for event in taken.live {
        if let Some(state) = event.agent_state()? {
            next.agent_state = state;
        }
        if !event.kind.is_message() {
            continue;
        }
        if event.kind == Kind::User {
            leave(&mut next, summarize)?;
            next.turns = next.turns.saturating_add(1);
        }
        next.messages = next.messages.saturating_add(1);
        next.recent.push(event);
    }
    Ok(next)
}

/// Replays with the plain summarizer.
///
/// # Errors
/// As [`replay`].
pub fn replay_plainly(record: &Record, events: impl IntoIterator<Item = Event>) -> Result<Record> {
    replay(record, events, &mut |summary, leaving| {
        Ok(plain_summary(summary, leaving))
    })
}

/// Events that a record does not cover yet.
pub(crate) struct Taken {
    /// Those that nothing has taken back.
    pub(crate) live: Vec<Event>,
    /// The head after all of them.
    pub(crate) head: Head,
}

/// What is live after an event: the event that was last appended of it, by its place, and where the rest is.
type Live = Option<usize>;

/// Judges events as replay does.
pub(crate) fn take(record: &Record, events: impl IntoIterator<Item = Event>) -> Result<Taken> {
    let mut head = record.log_head();
    // of each event its digest, and what is live after it
    let mut seen: BTreeMap<u64, (Digest, Live)> = BTreeMap::from([(head.seq, (head.digest, None))]);
    let mut appended: Vec<(Option<Event>, Live)> = Vec::new();
    let mut live = None;
    for event in events {
        if event.seq <= head.seq {
            match seen.get(&event.seq) {
                Some((digest, _)) if event.digest()? != *digest => {
                    let what = "another event of this number was taken before";
                    let error = Error::new(Code::SessionFork, what);
                    return Err(error.at(format_args!("event {}", event.seq)));
                }
                _ => continue,
            }
        }
        if seen.len() > MAX_REPLAY {
            let what = "too many events after the checkpoint";
            return Err(Error::new(Code::SessionLimit, what).sides(MAX_REPLAY, "more"));
        }
        head = head.follow(&event)?;
        match event.reverts_to() {
            Some(to) => {
                let Some((_, then)) = seen.get(&to) else {
                    let what = "the session went back to before this checkpoint";
                    let error = Error::new(Code::SessionBehind, what);
                    return Err(error.sides(record.replay_cursor, to));
                };
                live = *then;
            }
            None => {
                appended.push((Some(event), live));
                live = appended.len().checked_sub(1);
            }
        }
        seen.insert(head.seq, (head.digest, live));
    }
    let mut events = Vec::new();
    while let Some((event, before)) = live.and_then(|at| appended.get_mut(at)) {
        events.extend(event.take());
        live = *before;
    }
    events.reverse();
    Ok(Taken { live: events, head })
}

/// Lets the oldest turns leave before a ninth begins.
fn leave(record: &mut Record, summarize: Summarize<'_>) -> Result<()> {
    let begins = |event: &Event| event.kind == Kind::User;
    if record.recent.iter().filter(|event| begins(event)).count() < MOST_TURNS {
        return Ok(());
    }
    let mut turns = record
        .recent
        .iter()
        .enumerate()
        .filter(|(_, event)| begins(event));
    let stays = turns.nth(LEAVING).map_or(record.recent.len(), |(at, _)| at);
    let summary = summarize(
        &record.summary,
        record.recent.get(..stays).unwrap_or_default(),
    )?;
    if let Some(last) = record.recent.drain(..stays).next_back() {
        record.summary_cursor = last.seq;
    }
    record.summary = summary;
    Ok(())
}
