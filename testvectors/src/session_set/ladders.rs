//! Ladders: each rung, each line of the judgement, and what a code leads to.

use kvcap::Code;
use serde_json::{Value, json};

use super::Case;

const STEPS: &[&str] = &["SES-L-1", "SES-L-2"];

fn state(name: &str, positions: u64, more: Value) -> Value {
    let mut state = json!({ "name": name, "positions": positions, "whole": false });
    for (member, value) in more.as_object().unwrap() {
        state[member] = value.clone();
    }
    state
}

fn facts(states: Value, more: Value) -> (&'static str, Value) {
    let mut facts = json!({
        "context": 0, "reserve": 256, "states": states, "bases": [], "history": { "messages": 6 },
    });
    for (member, value) in more.as_object().unwrap() {
        facts[member] = value.clone();
    }
    ("plan", facts)
}

fn case(name: &str, what: &'static str, states: Value, more: Value) -> Case {
    Case::new(name, what, STEPS, facts(states, more), 0)
}

pub(super) fn cases() -> Vec<Case> {
    let newest = |more| state("v3", 900, more);
    let older = || state("v2", 600, json!({}));
    let base = || state("base", 200, json!({}));
    let mut cases = vec![
        case(
            "exact",
            "nothing refuses the newest state",
            json!([newest(json!({})), older()]),
            json!({}),
        ),
        case(
            "exact_common",
            "the request goes on from all of its tokens",
            json!([newest(json!({ "common": 900 }))]),
            json!({}),
        ),
        case(
            "exact_room",
            "it fits to the position",
            json!([newest(json!({}))]),
            json!({ "context": 1156 }),
        ),
        case(
            "diverged",
            "an edited transcript: cut to what is common",
            json!([newest(json!({ "common": 850 })), older()]),
            json!({}),
        ),
        case(
            "diverged_whole",
            "it cannot be cut, and an earlier state serves",
            json!([newest(json!({ "common": 850, "whole": true })), older()]),
            json!({}),
        ),
        case(
            "diverged_at_once",
            "nothing is common, and a base image serves",
            json!([
                newest(json!({ "common": 0 })),
                state("v2", 600, json!({ "common": 0 }))
            ]),
            json!({ "bases": [base()] }),
        ),
        case(
            "no_room",
            "the newest state and the answer are more than the context",
            json!([newest(json!({})), older()]),
            json!({ "context": 1155 }),
        ),
        case(
            "no_room_at_all",
            "no state fits, and history does",
            json!([newest(json!({}))]),
            json!({ "context": 300 }),
        ),
        case(
            "most_of_equal",
            "of those that restore the same the first",
            json!([
                newest(json!({ "code": 402 })),
                state("v2", 600, json!({})),
                state("v1", 700, json!({ "common": 600 }))
            ]),
            json!({}),
        ),
        case(
            "longer_base",
            "a base image that restores more than an earlier state",
            json!([newest(json!({ "code": 402 })), older()]),
            json!({ "bases": [state("base", 700, json!({}))] }),
        ),
        case(
            "expired",
            "all states have expired",
            json!([
                newest(json!({ "code": 402 })),
                state("v2", 600, json!({ "code": 402 }))
            ]),
            json!({}),
        ),
        case(
            "no_state",
            "no checkpoint has a state",
            json!([]),
            json!({}),
        ),
        case(
            "empty",
            "the session has no turns yet",
            json!([]),
            json!({ "history": { "messages": 0 } }),
        ),
        case(
            "nothing",
            "history is refused too",
            json!([newest(json!({ "code": 301 }))]),
            json!({ "history": { "messages": 6, "code": 950 } }),
        ),
        Case::new(
            "plan_limit",
            "more states than a plan takes",
            &["SES-L-1", "SES-J-5"],
            facts(
                (0..257)
                    .map(|n| state(&n.to_string(), 1, json!({})))
                    .collect(),
                json!({}),
            ),
            951,
        ),
    ];
    for code in Code::ALL.iter().map(|code| code.number()) {
        let input = facts(
            json!([newest(json!({})), older()]),
            json!({ "bases": [base()], "failed": [{ "name": "v3", "code": code }] }),
        );
        let stops = matches!(code, 907 | 940..=948 | 952..=955);
        cases.push(Case::new(
            format!("code_{code}"),
            "the newest state fails with this code after the plan",
            &["SES-L-3", "SES-L-4"],
            input,
            if stops { code } else { 0 },
        ));
    }
    cases
}
