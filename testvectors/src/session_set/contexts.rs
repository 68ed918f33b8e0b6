//! Contexts: stable part, delta, bounds.

use serde_json::{Value, json};

use super::{Case, Log};

fn context(record: &Value, events: Value, seen: Option<u64>, most: u64) -> (&'static str, Value) {
    let mut input = json!({ "record": record, "events": events, "most": most });
    if let Some(seen) = seen {
        input["seen"] = seen.into();
    }
    ("context", input)
}

pub(super) fn cases() -> Vec<Case> {
    const PARTS: &[&str] = &["SES-X-1", "SES-X-2"];
    const HEAD: &[&str] = &["SES-X-3"];
    const BOUND: &[&str] = &["SES-X-4"];
    let log = Log::turns(4);
    let long = Log::turns(10);
    let record = log.record(4);
    let mut state = Log::turns(9);
    state.say("milestone", json!({ "agent_state": { "objective": "é \" \u{1}", "plan": [{ "step": "s" }], "b": 1, "aa": 2 } }));
    state.say("user", json!({ "content": "next", "name": "ana" }));
    let mut reverted = Log::turns(3);
    reverted.say("revert", json!({ "to": 4 }));
    reverted.say("user", json!("again"));
    let mut behind = Log::turns(3);
    behind.say("revert", json!({ "to": 2 }));
    vec![
        Case::new(
            "context_plain",
            "a record and the events after it",
            PARTS,
            context(&record, log.json(4), None, 1 << 20),
            0,
        ),
        Case::new(
            "context_none",
            "nothing after the record",
            PARTS,
            context(&record, json!([]), None, 1 << 20),
            0,
        ),
        Case::new(
            "context_seen",
            "a state of an earlier checkpoint",
            PARTS,
            context(&record, log.json(4), Some(2), 1 << 20),
            0,
        ),
        Case::new(
            "context_seen_nothing",
            "no state",
            PARTS,
            context(&record, log.json(4), Some(0), 1 << 20),
            0,
        ),
        Case::new(
            "context_seen_more",
            "a state that has seen more than the record",
            PARTS,
            context(&record, log.json(4), Some(5), 1 << 20),
            950,
        ),
        Case::new(
            "context_behind_summary",
            "a state that has seen less than what was summarized",
            PARTS,
            context(&long.record(20), json!([]), Some(3), 1 << 20),
            958,
        ),
        Case::new(
            "context_gap",
            "an event is missing",
            PARTS,
            context(&record, log.json(5), None, 1 << 20),
            952,
        ),
        Case::new(
            "context_reverted",
            "what was taken back is in no context",
            PARTS,
            context(&reverted.record(4), reverted.json(4), None, 1 << 20),
            0,
        ),
        Case::new(
            "context_reverted_behind",
            "a revert to before the record",
            PARTS,
            context(&behind.record(4), behind.json(4), None, 1 << 20),
            958,
        ),
        Case::new(
            "context_summary",
            "a summary",
            HEAD,
            context(&long.record(20), json!([]), None, 1 << 20),
            0,
        ),
        Case::new(
            "context_state",
            "a summary and the agent state of a later milestone",
            HEAD,
            context(&state.record(18), state.json(18), None, 1 << 20),
            0,
        ),
        Case::new(
            "context_state_alone",
            "an agent state without a summary",
            HEAD,
            context(
                &{
                    let mut record = record.clone();
                    record["agent_state"] = json!({ "objective": "x" });
                    record
                },
                json!([]),
                None,
                1 << 20,
            ),
            0,
        ),
        Case::new(
            "context_bound",
            "the oldest turn does not fit",
            BOUND,
            context(&record, log.json(4), None, 300),
            0,
        ),
        Case::new(
            "context_bound_exact",
            "all fit to the byte",
            BOUND,
            context(&record, log.json(4), None, 324),
            0,
        ),
        Case::new(
            "context_bound_delta",
            "nothing of the stable part fits",
            BOUND,
            context(&record, log.json(4), None, 170),
            0,
        ),
        Case::new(
            "context_bound_over",
            "what is to be evaluated does not fit",
            BOUND,
            context(&record, log.json(4), None, 150),
            951,
        ),
    ]
}
