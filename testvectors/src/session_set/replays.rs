//! Replay: next, duplicate, gap, another order, two devices, forks, reverts.

use serde_json::{Value, json};

use super::{Case, Log};

const ORDER: &[&str] = &["SES-R-1", "SES-E-4"];
const REVERT: &[&str] = &["SES-R-2"];
const FOLD: &[&str] = &["SES-R-4", "SES-R-5", "SES-R-7"];

fn replay(record: &Value, events: Value) -> (&'static str, Value) {
    ("replay", json!({ "record": record, "events": events }))
}

fn joined(parts: &[Value]) -> Value {
    let parts = parts
        .iter()
        .flat_map(|part| part.as_array().unwrap().clone());
    parts.collect()
}

pub(super) fn cases() -> Vec<Case> {
    [orders(), reverts(), folds()].concat()
}

fn orders() -> Vec<Case> {
    let log = Log::turns(4);
    let record = log.record(4);
    let all = log.json(4);
    let [five, six, seven, eight] = [4, 5, 6, 7].map(|at| log.json(0)[at].clone());
    let case =
        |name, what, events, code| Case::new(name, what, ORDER, replay(&record, events), code);
    let mut other = Log::turns(3);
    other.say("user", json!("another question"));
    let other = other.json(6)[0].clone();
    let mut broken = six.clone();
    broken["body"] = json!("an answer that was changed");
    let mut zero = five.clone();
    zero["seq"] = json!(0);
    vec![
        Case::new(
            "replay_next",
            "events after the record",
            &["SES-R-1", "SES-R-3", "SES-E-2", "SES-E-4"],
            replay(&record, all.clone()),
            0,
        ),
        case("replay_none", "no events", json!([]), 0),
        case(
            "replay_covered",
            "events that the record covers, and those after it",
            log.json(0),
            0,
        ),
        case(
            "replay_twice",
            "all events twice",
            joined(&[all.clone(), all.clone()]),
            0,
        ),
        case(
            "replay_duplicate",
            "an event twice in a row",
            json!([five, five, six]),
            0,
        ),
        case(
            "replay_gap",
            "an event is missing",
            json!([five, seven]),
            952,
        ),
        case(
            "replay_gap_first",
            "the first event is missing",
            json!([six]),
            952,
        ),
        case(
            "replay_reordered",
            "two events in each other's place",
            json!([six, five]),
            952,
        ),
        case(
            "replay_reordered_later",
            "two later events in each other's place",
            json!([five, seven, six, eight]),
            952,
        ),
        case(
            "replay_two_devices",
            "two devices' events, one after the other",
            joined(&[json!([five, six]), all.clone()]),
            0,
        ),
        case(
            "replay_two_devices_fork",
            "a device that went on by itself",
            json!([five, six, other]),
            0,
        ),
        Case::new(
            "replay_fork",
            "two devices went on from one event",
            &["SES-R-1", "SES-R-6"],
            replay(&record, json!([five, six, seven, eight, other])),
            953,
        ),
        case(
            "replay_fork_at_cursor",
            "another event in the cursor's place",
            {
                let mut log = Log::turns(1);
                log.say("user", json!("another"));
                log.say("assistant", json!("another answer"));
                log.json(3)
            },
            953,
        ),
        case(
            "replay_fork_next",
            "the next event goes on from another",
            {
                let mut log = Log::turns(1);
                log.say("user", json!("another"));
                log.say("assistant", json!("another answer"));
                log.say("user", json!("question 3"));
                log.json(4)
            },
            953,
        ),
        case(
            "replay_changed",
            "an event was changed after it was appended",
            json!([five, broken, seven]),
            953,
        ),
        case("replay_zero", "an event of number 0", json!([zero]), 950),
    ]
}

fn reverts() -> Vec<Case> {
    let case = |name, what, record: &Value, events, code| {
        Case::new(name, what, REVERT, replay(record, events), code)
    };
    let mut log = Log::turns(4);
    log.say("revert", json!({ "to": 6 }));
    log.say("user", json!("question 4 again"));
    let mut twice = Log::turns(4);
    twice.say("revert", json!({ "to": 6 }));
    twice.say("user", json!("another way"));
    twice.say("revert", json!({ "to": 4 }));
    let mut undone = Log::turns(4);
    undone.say("revert", json!({ "to": 4 }));
    undone.say("user", json!("another way"));
    undone.say("revert", json!({ "to": 8 }));
    undone.say("user", json!("on"));
    let mut state = Log::turns(2);
    state.say(
        "milestone",
        json!({ "agent_state": { "objective": "one" } }),
    );
    state.say(
        "milestone",
        json!({ "agent_state": { "objective": "two" } }),
    );
    state.say("revert", json!({ "to": 5 }));
    vec![
        case(
            "revert_within",
            "back over events after the record, and on",
            &log.record(4),
            log.json(4),
            0,
        ),
        case(
            "revert_to_cursor",
            "back to the record itself",
            &log.record(6),
            log.json(6),
            0,
        ),
        case(
            "revert_twice",
            "back, on, and back further",
            &twice.record(4),
            twice.json(4),
            0,
        ),
        case(
            "revert_undone",
            "back, and back to before that: what was taken back is there again",
            &undone.record(4),
            undone.json(4),
            0,
        ),
        case(
            "revert_behind",
            "back to before the record",
            &log.record(7),
            log.json(7),
            958,
        ),
        case(
            "revert_state",
            "back over a milestone with an agent state",
            &state.record(4),
            state.json(4),
            0,
        ),
        case(
            "revert_to_nothing",
            "back to the beginning",
            &{
                let mut origin = Log::turns(1).record(2);
                for (member, value) in [
                    ("replay_cursor", json!(0)),
                    ("recent", json!([])),
                    ("turns", json!(0)),
                    ("messages", json!(0)),
                ] {
                    origin[member] = value;
                }
                origin["head"] = json!(Log::new().head.digest.to_string());
                origin
            },
            {
                let mut log = Log::turns(1);
                log.say("revert", json!({ "to": 0 }));
                log.json(0)
            },
            0,
        ),
    ]
}

fn folds() -> Vec<Case> {
    let case = |name, what, log: &Log, covered: usize| {
        Case::new(
            name,
            what,
            FOLD,
            replay(&log.record(covered), log.json(covered)),
            0,
        )
    };
    let mut tools = Log::new();
    tools.say("assistant", json!("an answer to nothing"));
    for turn in 0..9 {
        tools.say(
            "user",
            json!({ "content": format!("do\nthis\r{turn}"), "name": "ana" }),
        );
        tools.say("assistant", json!({ "tool_calls": [{ "id": "c", "type": "function", "function": { "name": "f", "arguments": "{\"x\":1.5}" } }] }));
        tools.say("tool", json!({ "content": "done", "tool_call_id": "c" }));
        tools.say("note", json!("for people"));
        tools.say("assistant", json!("é".repeat(300)));
    }
    let mut long = Log::new();
    for turn in 0..130 {
        long.say("user", json!(format!("{turn} {}", "w".repeat(250))));
    }
    let mut milestones = Log::turns(1);
    milestones.say("milestone", json!("half"));
    milestones.say(
        "milestone",
        json!({ "text": "more", "agent_state": { "objective": "x", "own": [1] } }),
    );
    milestones.say("milestone", json!("done"));
    vec![
        case("turns_eight", "eight turns stay", &Log::turns(8), 4),
        case(
            "turns_nine",
            "five leave before the ninth begins",
            &Log::turns(9),
            4,
        ),
        case(
            "turns_nine_from_eight",
            "the same from a record of eight",
            &Log::turns(9),
            16,
        ),
        case("turns_twenty", "five leave three times", &Log::turns(20), 2),
        case(
            "turns_tools",
            "turns with tools, notes, names and long texts",
            &tools,
            3,
        ),
        case(
            "summary_full",
            "the oldest lines of a full summary are dropped",
            &long,
            0,
        ),
        case(
            "milestones",
            "the last milestone with an agent state counts",
            &milestones,
            2,
        ),
    ]
}
