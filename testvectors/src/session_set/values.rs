//! Values: JSON and CBOR of events, records and agent states.

use serde_json::{Value, json};

use super::{Case, Log, digest, names};
use crate::hex::hex;

fn line(body: &str) -> (&'static str, Value) {
    let previous = digest("before");
    let text = format!(
        r#"{{"seq":7,"at":1800000000,"kind":"user","body":{body},"previous":"{previous}"}}"#
    );
    ("event", json!({ "line": text }))
}

fn event(text: &str) -> (&'static str, Value) {
    (
        "event",
        json!({ "line": text.replace("PREVIOUS", &digest("before")) }),
    )
}

fn state(text: &str) -> (&'static str, Value) {
    ("agent-state", json!({ "json": text }))
}

pub(super) fn cases() -> Vec<Case> {
    [bodies(), shapes(), cbor(), states()].concat()
}

fn bodies() -> Vec<Case> {
    const RULES: &[&str] = &["SES-J-1", "SES-J-2"];
    let nested =
        |levels: usize| format!("{}{}", "{\"a\":".repeat(levels) + "1", "}".repeat(levels));
    let case = |name, what, body: &str, code| Case::new(name, what, RULES, line(body), code);
    vec![
        case("body_text", "a text", r#""hello""#, 0),
        case(
            "body_escapes",
            "escapes and characters beyond ASCII",
            r#""\u00e9\n\t\"\\ \ud83d\ude00 é""#,
            0,
        ),
        case(
            "body_members",
            "members of two lengths, an array, a boolean, integers",
            r#"{"bb":1,"a":[true,-5,9007199254740991],"c":{}}"#,
            0,
        ),
        case("body_null", "a null", r#"{"a":null}"#, 950),
        case(
            "body_fraction",
            "a number with a fraction",
            r#"{"a":1.5}"#,
            950,
        ),
        case(
            "body_whole_fraction",
            "a number with a fraction of nothing",
            r#"{"a":1.0}"#,
            950,
        ),
        case(
            "body_exponent",
            "a number with an exponent",
            r#"{"a":1e3}"#,
            950,
        ),
        case("body_minus_zero", "a zero with a sign", r#"{"a":-0}"#, 950),
        case(
            "body_large",
            "an integer beyond 53 bits",
            r#"{"a":9007199254740992}"#,
            950,
        ),
        case(
            "body_small",
            "an integer beyond 53 bits below zero",
            r#"{"a":-9007199254740992}"#,
            950,
        ),
        case(
            "body_surrogate",
            "half of a pair of surrogates",
            r#""\ud800""#,
            950,
        ),
        case("body_twice", "a member twice", r#"{"a":1,"a":1}"#, 950),
        case(
            "body_twice_deep",
            "a member twice, further in, once escaped",
            r#"{"x":[{"a":1,"\u0061":2}]}"#,
            950,
        ),
        case("body_levels", "five levels", &nested(5), 0),
        case("body_levels_over", "six levels", &nested(6), 204),
        case("body_number", "a body that is a number", "7", 950),
        case("body_list", "a body that is a list", "[1]", 950),
    ]
}

fn shapes() -> Vec<Case> {
    const RULES: &[&str] = &["SES-J-3", "SES-J-4"];
    const KINDS: &[&str] = &["SES-E-1"];
    let case = |name, what, text: &str, code| Case::new(name, what, RULES, event(text), code);
    let kind = |name, what, kind: &str, body: &str, code| {
        let text =
            format!(r#"{{"seq":7,"at":0,"kind":"{kind}","body":{body},"previous":"PREVIOUS"}}"#);
        Case::new(name, what, KINDS, event(&text), code)
    };
    vec![
        case(
            "event_extra",
            "a member that no event has",
            r#"{"seq":7,"at":0,"kind":"note","body":"","previous":"PREVIOUS","x":1}"#,
            950,
        ),
        case(
            "event_missing",
            "an event without its time",
            r#"{"seq":7,"kind":"note","body":"","previous":"PREVIOUS"}"#,
            950,
        ),
        case(
            "event_kind",
            "a kind that there is not",
            r#"{"seq":7,"at":0,"kind":"system","body":"","previous":"PREVIOUS"}"#,
            950,
        ),
        case(
            "event_zero",
            "number 0",
            r#"{"seq":0,"at":0,"kind":"note","body":"","previous":"PREVIOUS"}"#,
            950,
        ),
        case(
            "event_negative",
            "a time before 1970",
            r#"{"seq":1,"at":-1,"kind":"note","body":"","previous":"PREVIOUS"}"#,
            950,
        ),
        case(
            "event_upper",
            "a digest in upper case",
            &format!(
                r#"{{"seq":7,"at":0,"kind":"note","body":"","previous":"{}"}}"#,
                digest("before").to_uppercase()
            ),
            950,
        ),
        case(
            "event_short",
            "a digest of 62 digits",
            &format!(
                r#"{{"seq":7,"at":0,"kind":"note","body":"","previous":"{}"}}"#,
                &digest("before")[2..]
            ),
            950,
        ),
        case(
            "event_cut",
            "a line that is cut",
            r#"{"seq":7,"at":0,"kind":"note","bo"#,
            950,
        ),
        case(
            "event_two",
            "two events on a line",
            r#"{"seq":7,"at":0,"kind":"note","body":"","previous":"PREVIOUS"} {}"#,
            950,
        ),
        kind(
            "message_role",
            "a message that names its role",
            "tool",
            r#"{"role":"tool","content":"x"}"#,
            950,
        ),
        kind(
            "message_members",
            "a message of an API",
            "tool",
            r#"{"content":"x","tool_call_id":"c1"}"#,
            0,
        ),
        kind(
            "milestone_state",
            "a milestone with an agent state",
            "milestone",
            r#"{"text":"half","agent_state":{"objective":"x"}}"#,
            0,
        ),
        kind(
            "milestone_state_malformed",
            "a milestone whose agent state is none",
            "milestone",
            r#"{"agent_state":{"objective":7}}"#,
            950,
        ),
        kind("revert_to", "a revert", "revert", r#"{"to":3}"#, 0),
        kind(
            "revert_to_itself",
            "a revert to its own number",
            "revert",
            r#"{"to":7}"#,
            950,
        ),
        kind("revert_text", "a revert in words", "revert", r#""3""#, 950),
        kind(
            "revert_more",
            "a revert with another member",
            "revert",
            r#"{"to":3,"why":"x"}"#,
            950,
        ),
        Case::new(
            "event_large",
            "an event over its limit",
            &["SES-J-5"],
            line(&format!("\"{}\"", "x".repeat(1 << 20))),
            951,
        ),
    ]
}

fn cbor() -> Vec<Case> {
    const RULES: &[&str] = &["SES-J-1"];
    let good = Log::turns(1).events[0].to_cbor().unwrap();
    let with = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = good.clone();
        change(&mut bytes);
        ("event-cbor", json!({ "cbor": hex(&bytes) }))
    };
    let case = |name, what, input, code| Case::new(name, what, RULES, input, code);
    vec![
        case("cbor_event", "an event in CBOR", with(&|_| {}), 0),
        case(
            "cbor_trailing",
            "a byte more",
            with(&|bytes| bytes.push(0)),
            206,
        ),
        case(
            "cbor_cut",
            "a byte less",
            with(&|bytes| bytes.truncate(bytes.len() - 1)),
            201,
        ),
        case(
            "cbor_indefinite",
            "a map of indefinite length",
            with(&|bytes| {
                bytes[0] = 0xbf;
                bytes.push(0xff);
            }),
            202,
        ),
        case(
            "cbor_order",
            "keys out of order",
            ("event-cbor", json!({ "cbor": "a262626201616101" })),
            202,
        ),
        case(
            "cbor_twice",
            "a key twice",
            ("event-cbor", json!({ "cbor": "a2616101616101" })),
            203,
        ),
        case(
            "cbor_float",
            "a float",
            ("event-cbor", json!({ "cbor": "a16161f93c00" })),
            205,
        ),
        case(
            "cbor_bytes",
            "a byte string",
            ("event-cbor", json!({ "cbor": "a1616141ff" })),
            950,
        ),
        case(
            "cbor_key",
            "a key that is a number",
            ("event-cbor", json!({ "cbor": "a10102" })),
            950,
        ),
        case(
            "cbor_large_integer",
            "an integer beyond 53 bits",
            ("event-cbor", json!({ "cbor": "a161611b0020000000000000" })),
            950,
        ),
        Case::new(
            "origin",
            "the head of an empty log",
            &["SES-E-3"],
            ("origin", json!({ "names": names() })),
            0,
        ),
        Case::new(
            "origin_absent",
            "the head of a log without tenant and subject",
            &["SES-E-3"],
            ("origin", json!({ "names": { "session": "s" } })),
            0,
        ),
    ]
}

fn states() -> Vec<Case> {
    const RULES: &[&str] = &["SES-C-6"];
    let case = |name, what, text: &str, code| Case::new(name, what, RULES, state(text), code);
    let whole = r#"{"objective":"ship","repository":{"remote":"r","branch":"b","commit":"c","dirty":true,"fork":1},
        "plan":[{"step":"one","status":"done"},{"step":"two","owner":"ana"}],
        "jobs":[{"id":"7","what":"train","where":"queue","submitted":1800000000,"status":"running"}],
        "artifacts":[{"path":"out/a","digest":"d","what":"report"}],
        "decisions":["use sqlite"],"known_issues":["slow"],"next_actions":["retry"],"editor":{"tab":4}}"#;
    vec![
        case("state_empty", "an agent state that says nothing", "{}", 0),
        Case::new(
            "state_whole",
            "every member, and some of the tool's own, which stay",
            &["SES-C-6", "SES-J-3"],
            state(whole),
            0,
        ),
        case(
            "state_objective",
            "an objective that is a number",
            r#"{"objective":1}"#,
            950,
        ),
        case(
            "state_status",
            "a status that there is not",
            r#"{"plan":[{"step":"x","status":"maybe"}]}"#,
            950,
        ),
        case(
            "state_step",
            "a step without its words",
            r#"{"plan":[{"status":"done"}]}"#,
            950,
        ),
        case(
            "state_job",
            "a job without its id",
            r#"{"jobs":[{"what":"x"}]}"#,
            950,
        ),
        case(
            "state_artifact",
            "an artifact without its path",
            r#"{"artifacts":[{"what":"x"}]}"#,
            950,
        ),
        case(
            "state_decision",
            "a decision that is an object",
            r#"{"decisions":[{}]}"#,
            950,
        ),
        case("state_list", "an agent state that is a list", "[]", 950),
        case("state_levels", "six levels", r#"{"a":[[[[{}]]]]}"#, 0),
        case(
            "state_levels_over",
            "seven levels",
            r#"{"a":[[[[[{}]]]]]}"#,
            204,
        ),
    ]
}
