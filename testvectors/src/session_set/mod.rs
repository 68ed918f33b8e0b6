//! Session vectors: events, replay, contexts, ladders, resumes, headers, keeping and sealed versions
//! (`session/README.md`).

mod contexts;
mod headers;
mod keeping;
mod ladders;
mod logs;
mod replays;
mod resumes;
mod values;
mod versions;

use kvcap::{Code, Error, Result, binding::Digest};
use kvcap_session::{
    AgentState, Event, Facts, Names, Plan, Record, StateFacts, context, replay_plainly,
};
use serde_json::{Map, Value, json};

pub use crate::operations::Case;
use crate::{
    hex::{hex, unhex_any},
    operations,
};

/// File in which they are stored.
pub const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/session/vectors.json.gz");

/// Every case, in order.
#[must_use]
pub fn cases() -> Vec<Case> {
    [
        values::cases(),
        logs::cases(),
        replays::cases(),
        contexts::cases(),
        ladders::cases(),
        resumes::cases(),
        headers::cases(),
        keeping::cases(),
        versions::cases(),
    ]
    .concat()
}

/// Text of the file.
#[must_use]
pub fn text() -> String {
    operations::text(&cases(), run)
}

/// Does what a vector says by the library.
///
/// # Errors
/// The library's.
pub fn run(operation: &str, input: &Value) -> Result<Value> {
    let text = |name: &str| input[name].as_str().unwrap_or_default().as_bytes().to_vec();
    match operation {
        "event" => event_output(&Event::from_json(&text("line"))?),
        "event-cbor" => event_output(&Event::from_cbor(&unhex_any(
            input["cbor"].as_str().unwrap(),
        ))?),
        "agent-state" => {
            let state = AgentState::from_json(&text("json"))?;
            Ok(json!({ "cbor": hex(&state.to_cbor()?), "empty": state.is_empty() }))
        }
        "record" => {
            let record = Record::from_json(&text("json"))?;
            let again = Record::from_cbor(&record.to_cbor()?)?;
            assert_eq!(again, record);
            Ok(json!({ "cbor": hex(&record.to_cbor()?) }))
        }
        "put" => {
            let there = record(&input["there"])?;
            there.check_put(&record(&input["put"])?)?;
            Ok(json!({}))
        }
        "origin" => {
            let names: Names = serde_json::from_value(input["names"].clone()).unwrap();
            Ok(json!({ "head": names.origin()?.to_string() }))
        }
        "replay" => {
            let next = replay_plainly(&record(&input["record"])?, events(&input["events"])?)?;
            Ok(shown(&next.to_json()?))
        }
        "context" => {
            let context = context(
                &record(&input["record"])?,
                events(&input["events"])?,
                input["seen"].as_u64(),
                usize::try_from(input["most"].as_u64().unwrap()).unwrap(),
            )?;
            Ok(
                json!({ "stable": context.stable, "delta": context.delta, "left_out": context.left_out }),
            )
        }
        "plan" => plan(input),
        "confirm" => resumes::confirm(input),
        "observations" => resumes::observations(input),
        "whole" => headers::whole(input),
        "continued" => Ok(keeping::continued(input)),
        "kept" => keeping::kept(input),
        "version" => versions::version(input),
        other => panic!("no operation {other}"),
    }
}

fn shown(json: &str) -> Value {
    serde_json::from_str(json).unwrap()
}

fn event_output(event: &Event) -> Result<Value> {
    Ok(json!({ "cbor": hex(&event.to_cbor()?), "digest": event.digest()?.to_string() }))
}

fn record(value: &Value) -> Result<Record> {
    Record::from_json(value.to_string().as_bytes())
}

fn events(value: &Value) -> Result<Vec<Event>> {
    let events = value.as_array().unwrap();
    events
        .iter()
        .map(|event| Event::from_json(event.to_string().as_bytes()))
        .collect()
}

fn code_of(value: &Value) -> Option<Code> {
    let number = value.as_u64()?;
    Code::from_number(u16::try_from(number).unwrap())
}

fn plan(facts: &Value) -> Result<Value> {
    let states = |value: &Value| -> Vec<StateFacts> {
        let states = value.as_array().unwrap().iter();
        states
            .map(|state| StateFacts {
                name: state["name"].as_str().unwrap().to_owned(),
                positions: state["positions"].as_u64().unwrap(),
                common: state["common"].as_u64(),
                whole: state["whole"].as_bool().unwrap(),
                refused: code_of(&state["code"]),
            })
            .collect()
    };
    let mut of = Facts {
        context: facts["context"].as_u64().unwrap(),
        reserve: facts["reserve"].as_u64().unwrap(),
        states: states(&facts["states"]),
        bases: states(&facts["bases"]),
        history_refused: code_of(&facts["history"]["code"]),
        messages: facts["history"]["messages"].as_u64().unwrap(),
    };
    for failed in facts["failed"].as_array().into_iter().flatten() {
        let code = code_of(&failed["code"]).unwrap();
        let name = failed["name"].as_str().unwrap();
        of.failed(name, Error::new(code, "it failed"))?;
    }
    let plan = Plan::of(&of)?;
    let step = |step: &kvcap_session::Step| {
        let mut shown = Map::new();
        shown.insert("rung".to_owned(), step.rung.name().into());
        if let Some(state) = &step.state {
            shown.insert("state".to_owned(), state.as_str().into());
            shown.insert("positions".to_owned(), step.positions.into());
        }
        if let Some(code) = step.refused {
            shown.insert("code".to_owned(), code.number().into());
        }
        Value::from(shown)
    };
    let steps: Vec<Value> = plan.steps.iter().map(step).collect();
    let taken = plan.taken().unwrap();
    Ok(json!({
        "steps": steps,
        "taken": step(taken),
        "reason": plan.reason().map_or(0, Code::number),
        "sentence": taken.rung.sentence(),
    }))
}

/// A log by hand: events one after the other.
struct Log {
    head: kvcap_session::Head,
    events: Vec<Event>,
}

impl Log {
    fn new() -> Self {
        Self {
            head: kvcap_session::Head::origin(&names()).unwrap(),
            events: Vec::new(),
        }
    }

    /// A log of so many turns: a question and an answer each.
    fn turns(count: u64) -> Self {
        let mut log = Self::new();
        for turn in 1..=count {
            log.say("user", json!(format!("question {turn}")));
            log.say("assistant", json!(format!("answer {turn}")));
        }
        log
    }

    fn say(&mut self, kind: &str, body: Value) -> Event {
        let kind = kvcap_session::Kind::named(kind).unwrap();
        let body = serde_json::from_value(body).unwrap();
        let at = 1_800_000_000 + self.head.seq;
        let event = self.head.next(at, kind, body).unwrap();
        self.head = self.head.follow(&event).unwrap();
        self.events.push(event.clone());
        event
    }

    fn json(&self, from: usize) -> Value {
        let lines = self.events[from..].iter();
        lines
            .map(|event| shown(&event.to_json().unwrap()))
            .collect()
    }

    /// The record after its first `count` events.
    fn record(&self, count: usize) -> Value {
        let mut origin = Record::origin(&names(), &names()).unwrap();
        origin.version = 1;
        origin.at = 1_800_000_000;
        let record = replay_plainly(&origin, self.events[..count].to_vec()).unwrap();
        shown(&record.to_json().unwrap())
    }
}

fn names() -> Names {
    Names {
        tenant: Some("example".to_owned()),
        subject: Some("ana".to_owned()),
        session: "build-42".to_owned(),
    }
}

fn digest(of: &str) -> String {
    Digest::labelled("a vector", &[of.as_bytes()]).to_string()
}
