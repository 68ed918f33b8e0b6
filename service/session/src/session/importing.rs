//! A session's history in another session, of another device or model (session-v1 §9).

use kvcap::{Code, Error, Result, text::printable};
use serde_json::{Map, Value};

use super::{Session, saving::put_record};
use crate::{
    agent_state::AgentState,
    description::Description,
    event::{Body, Event, Kind},
    files::{Artefact, DeviceTier, Write},
    log::Head,
    names::Names,
    record::{BranchOf, Cause, Record},
    replay::replay_plainly,
};

/// Member of the note that tells where an imported history is from.
const IMPORTED: &str = "imported";

impl Session {
    /// Returns the session as it is, to leave the device: without its capsule, which stays.
    ///
    /// # Errors
    /// KVC-956 where nothing was said or done yet; as [`Self::record`] and [`Self::events`].
    pub fn portable(&self, now: u64) -> Result<Record> {
        let mut record = self.current()?;
        if record.messages == 0 && record.agent_state == AgentState::default() {
            let what = "the session holds no message and no agent state yet";
            return Err(Error::new(Code::SessionEmpty, what).at(printable(&record.session)));
        }
        record.capsule = None;
        if record.version == 0 {
            (record.version, record.at) = (1, now);
        }
        Ok(record)
    }

    /// Begins a session of these names with a history of another one: what its summary covers is version 1, and its
    /// latest turns are events of the new log, which version 2 has seen.
    ///
    /// # Errors
    /// KVC-954 where the session is there already; 947, 95x, 94x.
    pub fn import(tier: &DeviceTier, names: &Names, history: &Record) -> Result<Self> {
        let mut writer = tier.writer(names)?;
        Self::check_absent(tier, names)?;
        // times are the history's own: who is stopped and begins again puts the same
        let at = history.at;
        let mut head = Head::origin(names)?;
        let mut events = Vec::new();
        let origin = Body::Members(imported(history));
        let begun = [(at, Kind::Note, origin)].into_iter();
        let recent = history.recent.iter();
        let recent = recent.map(|event| (event.at, event.kind, event.body.clone()));
        for (at, kind, body) in begun.chain(recent) {
            let event = head.next(at, kind, body)?;
            head = head.follow(&event)?;
            writer.put(Artefact::Event(event.seq), &event.to_json()?.into_bytes())?;
            events.push(event);
        }
        let first = summarized(history, names, &events)?;
        let mut second = replay_plainly(&first, events)?;
        (second.version, second.parent_version) = (2, Some(1));
        second.branch_of = None;
        for record in [&first, &second] {
            put_record(&mut writer, record)?;
        }
        let mut description = Description::new(names, at);
        // without it a revert would lose what the summary covers
        description.pinned.insert(1);
        // last: before it there is no session
        writer.put(Artefact::Session, &description.to_json()?.into_bytes())?;
        Self::load(tier, names)
    }
}

/// The note that a log of an imported history begins with.
fn imported(history: &Record) -> Map<String, Value> {
    let of = Map::from_iter([
        ("session".to_owned(), Value::from(history.session.as_str())),
        ("version".to_owned(), Value::from(history.version)),
        (
            "replay_cursor".to_owned(),
            Value::from(history.replay_cursor),
        ),
        ("head".to_owned(), Value::from(history.head.to_string())),
    ]);
    Map::from_iter([(IMPORTED.to_owned(), Value::Object(of))])
}

impl Event {
    /// Whether a log begins so that has another one's history before it.
    pub(super) fn is_import(&self) -> bool {
        matches!(&self.body, Body::Members(members) if members.contains_key(IMPORTED))
    }
}

/// The first version: a history without its latest turns, at the note that the log begins with.
fn summarized(history: &Record, names: &Names, events: &[Event]) -> Result<Record> {
    let note = events.first().map(Event::digest).transpose()?;
    let messages = u64::try_from(history.recent.len()).unwrap_or(u64::MAX);
    let turns = history
        .recent
        .iter()
        .filter(|event| event.kind == Kind::User);
    let turns = u64::try_from(turns.count()).unwrap_or(u64::MAX);
    let mut first = Record::origin(names, names)?;
    first.version = 1;
    first.branch_of = Some(BranchOf {
        session: history.session.clone(),
        version: history.version,
    });
    (first.at, first.cause) = (history.at, Cause::Branch);
    first.replay_cursor = 1;
    first.head = note.unwrap_or(first.head);
    first.turns = history.turns.saturating_sub(turns);
    first.messages = history.messages.saturating_sub(messages);
    first.summary.clone_from(&history.summary);
    first.summary_cursor = u64::from(!history.summary.is_empty());
    first.agent_state = history.agent_state.clone();
    Ok(first)
}
