//! Records, and what is put once.

use serde_json::{Value, json};

use super::{Case, Log, digest};

fn with(record: &Value, changes: &[(&str, Value)]) -> Value {
    let mut record = record.clone();
    for (member, value) in changes {
        record[*member] = value.clone();
    }
    record
}

pub(super) fn cases() -> Vec<Case> {
    [records(), puts()].concat()
}

fn capsule(version: u64, cursor: u64) -> Value {
    json!({
        "id": "00112233445566778899aabbccddeeff", "lineage": digest("lineage"), "version": version, "cursor": cursor,
        "positions": 700, "bytes": 123_456, "expires": 1_800_003_600, "model": digest("model"),
        "ancestors": ["ffeeddccbbaa99887766554433221100"], "controller": false,
    })
}

fn records() -> Vec<Case> {
    let record = Log::turns(2).record(4);
    let case = |name, what, changes: &[(&str, Value)], code| {
        let text = with(&record, changes).to_string();
        Case::new(
            name,
            what,
            &["SES-C-1"],
            ("record", json!({ "json": text })),
            code,
        )
    };
    let mut recent = record["recent"].clone();
    recent[1] = recent[2].clone();
    let mut other = capsule(7, 4);
    other["session"] = json!("s");
    let mut capsule_upper = capsule(1, 4);
    capsule_upper["id"] = json!("00112233445566778899AABBCCDDEEFF");
    let note = Log::new().say("note", json!("x"));
    vec![
        case("record", "a record", &[], 0),
        Case::new(
            "record_capsule",
            "a record with the capsule of an earlier checkpoint",
            &["SES-C-1", "SES-C-2"],
            (
                "record",
                json!({ "json": with(&record, &[("version", json!(2)), ("parent_version", json!(1)), ("capsule", capsule(1, 2))]).to_string() }),
            ),
            0,
        ),
        case(
            "record_branch",
            "a record of a branch",
            &[("branch_of", json!({ "session": "s", "version": 3 }))],
            0,
        ),
        case(
            "record_branch_capsule",
            "a branch with the capsule of the session that it is from",
            &[
                ("branch_of", json!({ "session": "s", "version": 7 })),
                ("capsule", other),
            ],
            0,
        ),
        case("record_form", "another form", &[("form", json!(2))], 950),
        case(
            "record_extra",
            "a member that no record has",
            &[("mode", json!("x"))],
            950,
        ),
        case("record_version", "version 0", &[("version", json!(0))], 950),
        case(
            "record_parent",
            "a parent that is not before it",
            &[("parent_version", json!(1))],
            950,
        ),
        case(
            "record_cause",
            "a cause that there is not",
            &[("cause", json!("whim"))],
            950,
        ),
        case(
            "record_order",
            "recent messages that do not ascend",
            &[("recent", recent)],
            950,
        ),
        case(
            "record_cursor",
            "a recent message after the cursor",
            &[("replay_cursor", json!(3))],
            950,
        ),
        case(
            "record_summarized",
            "a recent message that was summarized",
            &[("summary_cursor", json!(1))],
            950,
        ),
        case(
            "record_note",
            "a recent event that is no message",
            &[("recent", json!([note]))],
            950,
        ),
        case(
            "record_messages",
            "fewer messages than turns",
            &[("messages", json!(1))],
            950,
        ),
        case(
            "record_later_capsule",
            "a capsule of a later version",
            &[("capsule", capsule(2, 4))],
            950,
        ),
        case(
            "record_later_cursor",
            "a capsule that has seen more",
            &[("capsule", capsule(1, 5))],
            950,
        ),
        case(
            "record_id",
            "a capsule's id in upper case",
            &[("capsule", capsule_upper)],
            950,
        ),
        case(
            "record_name",
            "a session with a line feed in its name",
            &[("session", json!("a\nb"))],
            950,
        ),
        Case::new(
            "record_summary",
            "a summary over its limit",
            &["SES-J-5"],
            (
                "record",
                json!({ "json": with(&record, &[("summary", json!("x".repeat((256 << 10) + 1)))]).to_string() }),
            ),
            951,
        ),
    ]
}

fn puts() -> Vec<Case> {
    let there = Log::turns(2).record(4);
    let next = with(
        &there,
        &[("version", json!(2)), ("parent_version", json!(1))],
    );
    let case = |name, what, put: Value, code| {
        let input = json!({ "there": there, "put": put });
        Case::new(name, what, &["SES-C-4"], ("put", input), code)
    };
    vec![
        case("put_next", "the next version", next.clone(), 0),
        case("put_again", "the same bytes again", there.clone(), 0),
        case(
            "put_other",
            "other bytes of the same version",
            with(&there, &[("at", json!(1))]),
            954,
        ),
        case(
            "put_gap",
            "a version further on",
            with(&next, &[("version", json!(3))]),
            954,
        ),
    ]
}
