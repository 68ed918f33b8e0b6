//! Context: messages for the next request (session-v1 §6).

use kvcap::{Code, Error, Result};
use serde_json::{Map, Value};

use crate::{
    event::{Body, Event, Kind},
    record::Record,
    replay, value,
};

/// Messages of a request, as chat APIs take them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Context {
    /// Messages that a state holds which has seen the event `seen`.
    pub stable: Vec<Value>,
    /// Messages to be evaluated after them.
    pub delta: Vec<Value>,
    /// Messages that did not fit.
    pub left_out: u64,
}

/// Returns the messages of a record and the events after it, of at most `most` bytes together. `seen` is the
/// cursor of the state that will be restored, else the record's.
///
/// # Errors
/// KVC-952, 953, 958 as [`replay`](crate::replay()); 958 where `seen` lies in what was summarized; 950 where it lies
/// after the record; 951 where what is to be evaluated does not fit.
pub fn context(
    record: &Record,
    events: impl IntoIterator<Item = Event>,
    seen: Option<u64>,
    most: usize,
) -> Result<Context> {
    let taken = replay::take(record, events)?;
    let seen = seen.unwrap_or(record.replay_cursor);
    if seen < record.summary_cursor {
        let what = "the state has seen less than what was summarized";
        return Err(Error::new(Code::SessionBehind, what).sides(record.summary_cursor, seen));
    }
    if seen > record.replay_cursor {
        let what = "the state has seen more than the record";
        return Err(Error::new(Code::SessionMalformed, what).sides(record.replay_cursor, seen));
    }
    let mut agent_state = record.agent_state.clone();
    for event in &taken.live {
        agent_state = event.agent_state()?.unwrap_or(agent_state);
    }
    let mut parts = Vec::new();
    if !record.summary.is_empty() {
        parts.push(format!(
            "Summary of the conversation so far:\n{}",
            record.summary.trim_end_matches('\n')
        ));
    }
    if !agent_state.is_empty() {
        parts.push(format!(
            "State of the work:\n{}",
            value::to_json(&agent_state)?
        ));
    }
    let first = (!parts.is_empty()).then(|| message("system", &Body::Text(parts.join("\n\n"))));
    let messages = record
        .recent
        .iter()
        .chain(&taken.live)
        .filter(|event| event.kind.is_message());
    let (mut stable, mut delta) = (Vec::new(), Vec::new());
    let mut bytes = first.as_ref().map_or(Ok(0), length)?;
    for event in messages {
        let message = message(event.kind.name(), &event.body);
        let len = length(&message)?;
        bytes = bytes.saturating_add(len);
        match event.seq <= seen {
            true => stable.push((event.kind == Kind::User, len, message)),
            false => delta.push(message),
        }
    }
    let mut left_out = 0;
    while bytes > most {
        if left_out == stable.len() {
            let what = "what is to be evaluated is more than fits";
            return Err(Error::new(Code::SessionLimit, what).sides(most, bytes));
        }
        // a turn: its first message, and on to the next that begins one
        let rest = stable.get(left_out..).unwrap_or_default();
        let later = rest.iter().skip(1).position(|(begins, ..)| *begins);
        let turn = later.map_or(rest.len(), |at| at.saturating_add(1));
        bytes = bytes.saturating_sub(rest.iter().take(turn).map(|(_, len, _)| len).sum());
        left_out = left_out.saturating_add(turn);
    }
    let kept = stable
        .into_iter()
        .skip(left_out)
        .map(|(.., message)| message);
    Ok(Context {
        stable: first.into_iter().chain(kept).collect(),
        delta,
        left_out: u64::try_from(left_out).unwrap_or(u64::MAX),
    })
}

fn message(role: &str, body: &Body) -> Value {
    let mut members = match body {
        Body::Text(text) => Map::from_iter([("content".to_owned(), text.as_str().into())]),
        Body::Members(members) => members.clone(),
    };
    members.insert("role".to_owned(), role.into());
    members.into()
}

fn length(message: &Value) -> Result<usize> {
    Ok(value::to_json(message)?.len())
}
