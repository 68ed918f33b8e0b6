//! What the runtime's own count says of a resume, and the observations that are kept of it.

use std::{io::Write as _, path::Path};

use kvcap::Result;
use kvcap_session::{Confirmed, Names, Observation, Reuse, Session, files::DeviceTier};
use serde_json::{Value, json};
use tempfile::{NamedTempFile, TempDir};

use super::Case;

/// Milliseconds at which the claims of these cases were made.
const THEN: u64 = 1_800_000_000_250;

/// A session without events, whose folder has these files.
struct Held {
    session: Session,
    folder: TempDir,
}

impl Held {
    fn new() -> Result<Self> {
        let folder = TempDir::new().unwrap();
        let tier = DeviceTier::at(folder.path().join("sessions"));
        let session = Session::load_or_create(&tier, &Names::of("s"), 0)?;
        Ok(Self { session, folder })
    }

    fn put(&self, name: &str, bytes: &[u8]) {
        let folder = self.folder.path().join("sessions/-/-/s");
        let mut file = NamedTempFile::new_in(&folder).unwrap();
        file.write_all(bytes).unwrap();
        file.persist(Path::new(&folder).join(name)).unwrap();
    }

    fn confirm(&self, input: &Value) -> Result<Confirmed> {
        self.put("claim.json", input["claim"].to_string().as_bytes());
        let reuse = &input["reuse"];
        let reuse = Reuse {
            restored: reuse["restored"].as_u64().unwrap(),
            evaluated: reuse["evaluated"].as_u64().unwrap(),
            milliseconds: reuse["milliseconds"].as_u64(),
            device: reuse["device"].as_str().map(str::to_owned),
        };
        let now = input["milliseconds"].as_u64().unwrap();
        self.session.confirm(&reuse, now)
    }
}

/// Answers for a resume, and plans again where it had no effect.
pub(super) fn confirm(input: &Value) -> Result<Value> {
    let (states, refusal) = match Held::new()?.confirm(input)? {
        Confirmed::Effective(observation) => return Ok(json!({ "observation": observation })),
        Confirmed::Ineffective { states, refusal } => (states, refusal),
    };
    let mut facts = input["facts"].clone();
    let code = refusal.code().number();
    let failed = states
        .iter()
        .map(|name| json!({ "name": name, "code": code }));
    facts["failed"] = failed.collect();
    Ok(json!({ "refused": code, "ineffective": states, "plan": super::plan(&facts)? }))
}

/// Reads a file of observations, after a resume has been answered for if one is given.
pub(super) fn observations(input: &Value) -> Result<Value> {
    let held = Held::new()?;
    let parts = input["file"].as_array().unwrap().iter();
    let file: String = parts
        .map(|part| {
            let times = usize::try_from(part[1].as_u64().unwrap()).unwrap();
            part[0].as_str().unwrap().repeat(times)
        })
        .collect();
    held.put("observations.jsonl", file.as_bytes());
    if let Some(answered) = input.get("confirm") {
        held.confirm(answered)?;
    }
    let read = held.session.observations()?;
    let runs = read.chunk_by(|one, next| one == next);
    let runs: Vec<Value> = runs.map(|run| json!([run[0], run.len()])).collect();
    Ok(json!({ "observations": runs }))
}

pub(super) fn cases() -> Vec<Case> {
    [confirmed(), kept()].concat()
}

fn claim(more: Value) -> Value {
    let exact = json!({
        "milliseconds": THEN, "rung": "exact", "state": "v3", "positions": 900, "ineffective": [],
    });
    with(exact, more)
}

fn with(mut base: Value, more: Value) -> Value {
    for (member, value) in more.as_object().unwrap() {
        base[member] = value.clone();
    }
    base
}

/// A count of reused and of evaluated tokens, 1.5 seconds after the claim.
fn counted(claim: Value, reused: u64, evaluated: u64, more: Value) -> Value {
    let state = |name, positions| json!({ "name": name, "positions": positions, "whole": false });
    json!({
        "claim": claim,
        "reuse": with(json!({ "restored": reused, "evaluated": evaluated }), more),
        "milliseconds": THEN + 1500,
        "facts": {
            "context": 0, "reserve": 0, "states": [state("v3", 900), state("v2", 600)],
            "bases": [state("base", 200)], "history": { "messages": 6 },
        },
    })
}

fn confirmed() -> Vec<Case> {
    let none = || json!({});
    let shorter = || claim(json!({ "rung": "shorter", "code": 960, "positions": 10 }));
    let again = || {
        let before = json!({
            "rung": "shorter", "code": 926, "state": "v2", "positions": 600, "ineffective": ["v3"],
        });
        claim(before)
    };
    let last = || {
        let all =
            json!({ "state": "base", "rung": "shorter", "code": 926, "ineffective": ["v3", "v2"] });
        with(claim(all), json!({ "positions": 200 }))
    };
    let history = || {
        let nothing =
            json!({ "milliseconds": THEN, "rung": "history-only", "code": 957, "positions": 0 });
        with(nothing, json!({ "ineffective": [] }))
    };
    let mut clock = counted(claim(none()), 900, 1, none());
    clock["milliseconds"] = json!(THEN - 1);
    let table = [
        (
            "reused_all",
            "as many as were restored",
            counted(claim(none()), 900, 40, none()),
        ),
        (
            "reused_one_less",
            "the state's last is evaluated again",
            counted(claim(none()), 899, 41, none()),
        ),
        (
            "reused_two_less",
            "two of them are: the next best is planned",
            counted(claim(none()), 898, 42, none()),
        ),
        (
            "reused_none",
            "everything was evaluated again",
            counted(claim(none()), 0, 940, none()),
        ),
        (
            "reused_more",
            "a cache of the runtime's own had more",
            counted(claim(none()), 920, 20, none()),
        ),
        (
            "request_shorter",
            "all but the last token of a request that ends before the state",
            counted(claim(none()), 499, 1, none()),
        ),
        (
            "request_shorter_two",
            "one fewer of that request",
            counted(claim(none()), 498, 2, none()),
        ),
        (
            "request_of_one",
            "a request of one token is evaluated",
            counted(claim(none()), 0, 1, none()),
        ),
        (
            "cut_confirmed",
            "nine of ten that were restored of a state",
            counted(shorter(), 9, 11, none()),
        ),
        (
            "cut_ineffective",
            "eight of ten",
            counted(shorter(), 8, 12, none()),
        ),
        (
            "refused_before",
            "with this state, the one that was refused before",
            counted(again(), 598, 342, none()),
        ),
        (
            "refused_all",
            "no state and no base image is left",
            counted(last(), 0, 940, none()),
        ),
        (
            "refused_before_confirmed",
            "the second one had its effect",
            counted(again(), 599, 341, none()),
        ),
        (
            "history_confirmed",
            "nothing was restored, and nothing is due",
            counted(history(), 0, 80, none()),
        ),
        (
            "time_and_device",
            "the runtime's own time and a device's name",
            counted(
                claim(none()),
                900,
                40,
                json!({ "milliseconds": 7, "device": "laptop" }),
            ),
        ),
        (
            "clock_went_back",
            "a clock that went back since the claim: no time",
            clock,
        ),
    ];
    let mut cases: Vec<Case> = table
        .into_iter()
        .map(|(name, what, input)| Case::new(name, what, &["SES-L-8"], ("confirm", input), 0))
        .collect();
    for (name, what, broken) in [
        (
            "claim_rung",
            "a claim of a rung that there is not",
            json!({ "rung": "longer" }),
        ),
        (
            "claim_member",
            "a claim with a member that there is not",
            json!({ "cursor": 1 }),
        ),
    ] {
        let input = counted(claim(broken), 900, 40, json!({}));
        cases.push(Case::new(
            name,
            what,
            &["SES-J-3", "SES-L-8"],
            ("confirm", input),
            950,
        ));
    }
    cases
}

fn observed(restored: u64) -> String {
    let observation = Observation {
        at: 1_800_000_000,
        rung: kvcap_session::Rung::Exact,
        code: None,
        milliseconds: 250,
        asked: restored + 1,
        restored,
        evaluated: 1,
        device: None,
    };
    observation.to_json().unwrap() + "\n"
}

fn kept() -> Vec<Case> {
    let (one, two) = (observed(1), observed(2));
    let torn = &two[..20];
    let lost = format!("{}\0\0\0\n", &two[..20]);
    let answer = || counted(claim(json!({})), 900, 40, json!({}));
    let table = [
        ("none_observed", "an empty file", json!([]), true, 0),
        (
            "observed",
            "two lines and one more",
            json!([[one, 1], [two, 1]]),
            true,
            0,
        ),
        (
            "observed_torn",
            "the last line has no end",
            json!([[one, 2], [torn, 1]]),
            false,
            0,
        ),
        (
            "observed_torn_replaced",
            "what has no end is removed by the next",
            json!([[one, 2], [torn, 1]]),
            true,
            0,
        ),
        (
            "observed_lost_blocks",
            "the last line has a byte 0",
            json!([[one, 2], [lost, 1]]),
            true,
            0,
        ),
        (
            "observed_lost_within",
            "a line with a byte 0 that is not the last",
            json!([[lost, 1], [one, 1]]),
            false,
            950,
        ),
        (
            "observed_other",
            "a line that is no observation",
            json!([["{}\n", 1], [one, 1]]),
            false,
            950,
        ),
        (
            "observed_empty_line",
            "a line of nothing",
            json!([[one, 1], ["\n", 1]]),
            false,
            950,
        ),
        (
            "observed_2047",
            "the 2,048th is appended",
            json!([[one, 1023], [two, 1024]]),
            true,
            0,
        ),
        (
            "observed_2048",
            "another one: the older half goes",
            json!([[one, 1025], [two, 1023]]),
            true,
            0,
        ),
        (
            "observed_2048_torn",
            "what has no end is not counted",
            json!([[one, 1024], [two, 1024], [torn, 1]]),
            true,
            0,
        ),
        (
            "observed_2047_torn",
            "2,047 and what has no end: all of them stay",
            json!([[one, 2047], [torn, 1]]),
            true,
            0,
        ),
    ];
    table
        .into_iter()
        .map(|(name, what, file, appends, code)| {
            let mut input = json!({ "file": file });
            if appends {
                input["confirm"] = answer();
            }
            Case::new(name, what, &["SES-F-7"], ("observations", input), code)
        })
        .collect()
}
