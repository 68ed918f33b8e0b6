//! Which states are saved as increments, and what of a session is kept.

use std::collections::BTreeSet;

use kvcap::Result;
use kvcap_session::{CapsuleEntry, MAX_CHAIN, Record, retained};
use serde_json::{Value, json};

use super::{Case, digest, names};

/// Seconds at which the new states of these cases are saved.
const NOW: u64 = 1_800_000_000;

/// Judges whether a new state may be an increment of a session's latest one.
pub(super) fn continued(input: &Value) -> Value {
    let capsule: CapsuleEntry = serde_json::from_value(input["capsule"].clone()).unwrap();
    let time = |name: &str| input[name].as_u64().unwrap();
    json!({ "continued": capsule.may_be_continued(time("now"), time("expires")) })
}

/// Divides a session's versions and capsules into those that are kept and those that may go.
pub(super) fn kept(input: &Value) -> Result<Value> {
    let mut records = Vec::new();
    for version in input["versions"].as_array().unwrap() {
        let mut record = Record::origin(&names(), &names())?;
        record.version = version["version"].as_u64().unwrap();
        if let Some(capsule) = version.get("capsule") {
            record.capsule = Some(serde_json::from_value(capsule.clone()).unwrap());
        }
        records.push(record);
    }
    let pinned = input["pinned"].as_array().unwrap();
    let pinned: BTreeSet<u64> = pinned.iter().filter_map(Value::as_u64).collect();
    let keep = usize::try_from(input["keep"].as_u64().unwrap()).unwrap();
    let kept = retained(&records, &pinned, keep);
    Ok(json!({
        "versions": kept.versions,
        "capsules": kept.capsules,
        "removable_versions": kept.removable_versions,
        "removable_capsules": kept.removable_capsules,
    }))
}

fn id(number: u64) -> String {
    format!("{number:032x}")
}

/// The capsule of a version, which continues those of others.
fn capsule(version: u64, expires: u64, ancestors: impl IntoIterator<Item = u64>) -> Value {
    let ancestors: Vec<String> = ancestors.into_iter().map(id).collect();
    json!({
        "id": id(version), "lineage": digest("lineage"), "version": version, "cursor": 0,
        "positions": 900, "bytes": 4096, "expires": expires, "model": digest("model"),
        "ancestors": ancestors, "controller": false,
    })
}

pub(super) fn cases() -> Vec<Case> {
    [increments(), retention()].concat()
}

fn increments() -> Vec<Case> {
    let chain = |ancestors: usize| (1..).take(ancestors);
    let table = [
        (
            "continued",
            "as long as the new one",
            capsule(99, NOW + 1000, []),
            1000,
        ),
        (
            "continued_half",
            "for half of its time",
            capsule(99, NOW + 500, []),
            1000,
        ),
        (
            "continued_less",
            "for a second less",
            capsule(99, NOW + 499, []),
            1000,
        ),
        (
            "continued_odd",
            "until the half of an odd time is over",
            capsule(99, NOW + 501, []),
            1001,
        ),
        (
            "continued_odd_less",
            "half a second less than that",
            capsule(99, NOW + 500, []),
            1001,
        ),
        (
            "continued_expired",
            "it has expired",
            capsule(99, NOW - 1, []),
            2,
        ),
        (
            "continued_longer",
            "longer than the new one",
            capsule(99, NOW + 5000, []),
            1000,
        ),
        (
            "continued_sixteen",
            "as the sixteenth capsule of a chain",
            capsule(99, NOW + 1000, chain(MAX_CHAIN - 2)),
            1000,
        ),
        (
            "continued_seventeen",
            "a seventeenth is whole",
            capsule(99, NOW + 1000, chain(MAX_CHAIN - 1)),
            1000,
        ),
    ];
    let mut cases: Vec<Case> = table
        .into_iter()
        .map(|(name, what, capsule, lives)| {
            let input = json!({ "capsule": capsule, "now": NOW, "expires": NOW + lives });
            Case::new(name, what, &["SES-S-3"], ("continued", input), 0)
        })
        .collect();
    let mut branch = capsule(99, NOW + 1000, [1]);
    branch["session"] = "another".into();
    let input = json!({ "capsule": branch, "now": NOW, "expires": NOW + 1000 });
    cases.push(Case::new(
        "continued_in_a_branch",
        "the state of the session that a branch is from",
        &["SES-S-3"],
        ("continued", input),
        0,
    ));
    cases
}

fn retention() -> Vec<Case> {
    let bare = |version: u64| json!({ "version": version });
    let own = |version: u64, ancestors: &[u64]| {
        let capsule = capsule(version, NOW, ancestors.iter().copied());
        json!({ "version": version, "capsule": capsule })
    };
    let carried = |version: u64, of: u64| {
        let capsule = capsule(of, NOW, []);
        json!({ "version": version, "capsule": capsule })
    };
    let eight = || -> Value { (1..=8).map(|version| own(version, &[])).collect() };
    let table = [
        (
            "kept_newest",
            "five of eight",
            json!({ "versions": eight(), "pinned": [], "keep": 5 }),
        ),
        (
            "kept_in_any_order",
            "the same from another order",
            json!({
                "versions": [own(2, &[]), own(4, &[]), own(1, &[]), own(3, &[])], "pinned": [], "keep": 2,
            }),
        ),
        (
            "kept_pinned",
            "one that is pinned, beside the newest",
            json!({ "versions": eight(), "pinned": [2], "keep": 1 }),
        ),
        (
            "kept_pinned_among",
            "one that is pinned and among the newest is no other",
            json!({ "versions": eight(), "pinned": [8], "keep": 2 }),
        ),
        (
            "kept_ancestors",
            "capsules that the newest continues, without their versions",
            json!({
                "versions": [own(1, &[]), own(2, &[1]), own(3, &[]), own(4, &[2, 1])],
                "pinned": [], "keep": 1,
            }),
        ),
        (
            "kept_carried",
            "the capsule of an earlier version, which a later one names",
            json!({
                "versions": [own(1, &[]), carried(2, 1), own(3, &[])], "pinned": [2], "keep": 1,
            }),
        ),
        (
            "kept_with_state",
            "the newest with a state, and the newest",
            json!({
                "versions": [own(1, &[]), own(2, &[]), bare(3), bare(4)], "pinned": [], "keep": 1,
            }),
        ),
        (
            "kept_none",
            "the newest is kept though none is to be",
            json!({ "versions": eight(), "pinned": [], "keep": 0 }),
        ),
        (
            "kept_pin_of_nothing",
            "a pin of a version that there is not",
            json!({ "versions": [own(1, &[]), own(2, &[])], "pinned": [7], "keep": 1 }),
        ),
        (
            "kept_of_nothing",
            "a session without versions",
            json!({ "versions": [], "pinned": [], "keep": 5 }),
        ),
    ];
    table
        .into_iter()
        .map(|(name, what, input)| Case::new(name, what, &["SES-S-4"], ("kept", input), 0))
        .collect()
}
