//! What comes back of a session: as much as is the request's, and no more than the runtime has shown.

use std::{fs, path::PathBuf};

use serde_json::{Value, json};

use super::support::{Folder, PROMPT};

/// A folder with a profile, a session of one turn, and its state of 16 tokens.
fn session(state: &str, flags: &str) -> Folder {
    let folder = ready();
    folder.take(state, "state.bin");
    folder.ok(&format!("checkpoint fix state.bin {flags}"));
    folder
}

/// A folder with a profile, and a session of one turn.
fn ready() -> Folder {
    let folder = Folder::new();
    folder.ok("init --yes --issuer lab --model model");
    folder.ok("events append fix hello --kind user");
    folder
}

/// Writes a model whose layers are of unknown kinds, so that it may have kept anything.
fn any_model(folder: &Folder) {
    folder.ok("model-id model -o any.kvid");
    let mut kvid: Value = serde_json::from_slice(&folder.read("any.kvid")).unwrap();
    kvid["geometry"]["layers"] = vec![json!({"kind": "unknown"}); 64].into();
    folder.write("any.kvid", kvid.to_string().as_bytes());
}

/// The capsule of a version.
fn capsule(folder: &Folder, version: u64) -> PathBuf {
    let fix = folder.home().join("state/kvcap/sessions/-/-/fix");
    let mut paths = fs::read_dir(fix)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let begin = format!("{version}-");
    let is_it = |path: &PathBuf| {
        path.file_name()
            .unwrap()
            .to_str()
            .unwrap()
            .starts_with(&begin)
    };
    paths.find(is_it).unwrap()
}

/// Token ids of a prompt of 31, which the one of 16 begins.
fn ids() -> Vec<u32> {
    let mut ids: Vec<u32> = serde_json::from_str(PROMPT).unwrap();
    ids.extend(100..115);
    ids
}

/// Writes a request that has its first `same` tokens from the prompt, and four others.
fn request(folder: &Folder, name: &str, same: usize) {
    let mut ids = ids();
    ids.truncate(same);
    ids.extend([7, 7, 7, 7]);
    folder.write(name, json!(ids).to_string().as_bytes());
}

/// Rung, reason and positions.
fn outcome(resumed: &Value) -> (&str, Option<u64>, Option<u64>) {
    let rung = resumed["rung"].as_str().unwrap();
    (
        rung,
        resumed["reason"].as_u64(),
        resumed["positions"].as_u64(),
    )
}

/// The steps of one rung, as codes.
fn codes(resumed: &Value, rung: &str) -> Vec<Option<u64>> {
    let steps = resumed["steps"].as_array().unwrap().iter();
    let of_rung = steps.filter(|step| step["rung"] == rung);
    of_rung.map(|step| step["code"].as_u64()).collect()
}

#[test]
fn an_edited_transcript_is_shorter_and_no_failure() {
    for (state, flags) in [
        ("llama_ggsq3_f16_fa.bin", ""),
        ("mlx032_f16.safetensors", "--tokens prompt.json"),
        ("hf_f16.safetensors", "--tokens prompt.json"),
    ] {
        let folder = session(state, flags);
        request(&folder, "same.json", 16);
        request(&folder, "edited.json", 10);
        request(&folder, "other.json", 0);
        let same = folder.json("resume fix --tokens same.json -o same");
        assert_eq!(outcome(&same), ("exact", None, Some(16)), "{state}");
        assert_eq!(same["events_after"], 0);
        assert_eq!(folder.read("same"), folder.read("state.bin"));

        let planned = folder.json("resume fix --tokens edited.json");
        let edited = folder.json("resume fix --tokens edited.json -o edited");
        assert_eq!(
            outcome(&edited),
            ("shorter", Some(960), Some(10)),
            "{state}"
        );
        assert_eq!(outcome(&planned), outcome(&edited));
        assert_eq!(edited["version"], 1);
        assert_eq!(edited["events_after"], Value::Null);
        // what a capsule of these ten tokens opens to
        let whole = capsule(&folder, 1).display().to_string();
        folder.ok(&format!("truncate {whole} -o ten.kvcap --tokens 10"));
        folder.ok("open ten.kvcap -o ten");
        assert_eq!(folder.read("edited"), folder.read("ten"), "{state}");

        let other = folder.json("resume fix --tokens other.json");
        assert_eq!(outcome(&other), ("history-only", Some(960), None));
        folder.refused("resume fix --tokens other.json -o none", 960, 1);
    }
}

/// A state with a window cannot be cut: an earlier one is taken that the request does not leave, or a base image.
#[test]
fn what_cannot_be_cut_leads_to_an_earlier_state_and_to_a_base_image() {
    let folder = ready();
    any_model(&folder);
    folder.take("mlx032_rotating.safetensors", "ring.bin");
    folder.write("ring.json", json!(ids()).to_string().as_bytes());
    folder.ok("checkpoint fix ring.bin --tokens ring.json --model any.kvid");
    request(&folder, "same.json", 31);
    request(&folder, "edited.json", 10);
    let resume = "resume fix --model any.kvid";
    let same = folder.json(&format!("{resume} --tokens same.json"));
    assert_eq!(outcome(&same), ("exact", None, Some(31)));
    let edited = format!("{resume} --tokens edited.json");
    let whole = folder.json(&edited);
    assert_eq!(outcome(&whole), ("history-only", Some(960), None));
    assert_eq!(codes(&whole, "shorter"), [Some(961)]);

    folder.take("llama_ggsq3_f16_fa.bin", "start.bin");
    folder.ok("seal start.bin --base -o start.kvcap");
    let based = folder.json(&format!("{edited} --base start.kvcap -o based"));
    assert_eq!(outcome(&based), ("shorter", Some(960), Some(10)));
    assert_eq!(
        (&based["version"], &based["events_after"]),
        (&Value::Null, &1.into())
    );
    let told = folder.ok(&format!("{edited} --base start.kvcap --explain"));
    for line in [
        "KVC-961: ",
        "shorter start.kvcap, 10 tokens: taken",
        "history-only: can be taken",
        "fresh: can be taken",
    ] {
        assert!(told.out.contains(line), "{line}\n{}", told.out);
    }
    // what is no base image is none, and one that is gone is for its user to mend
    folder.ok("seal start.bin -o own.kvcap");
    let none = folder.json(&format!("{edited} --base own.kvcap"));
    assert_eq!(codes(&none, "shorter"), [Some(961), Some(957)]);
    folder.refused(&format!("{edited} --base gone.kvcap"), 940, 4);

    // an earlier state that the request does not leave, whole
    folder.ok("truncate own.kvcap -o ten.kvcap --tokens 10");
    folder.ok("open ten.kvcap -o ten.bin");
    folder.ok("checkpoint old ten.bin");
    folder.ok("events append old more --kind user");
    folder.ok("checkpoint old ring.bin --tokens ring.json --model any.kvid");
    request(&folder, "later.json", 12);
    let earlier = "resume old --model any.kvid --tokens later.json -o earlier";
    let earlier = folder.json(earlier);
    assert_eq!(outcome(&earlier), ("shorter", Some(960), Some(10)));
    assert_eq!(
        (&earlier["version"], &earlier["events_after"]),
        (&1.into(), &1.into())
    );
    assert_eq!(folder.read("earlier"), folder.read("ten.bin"));
}

/// The runtime's own count decides: less than was claimed is KVC-926, and the next best is resumed.
#[test]
fn nothing_is_claimed_that_the_runtime_has_not_shown() {
    let folder = session("llama_ggsq3_f16_fa.bin", "");
    folder.ok("checkpoint fix state.bin");
    folder.refused("resume fix --reused 15 --evaluated 5", 955, 1);
    folder.refused("resume fix --reused 15", 944, 2);
    let told = folder.ok("resume fix -o out");
    assert!(
        told.out
            .contains("not known before the runtime has counted")
    );
    // one of the sixteen is always evaluated again
    let shown = folder.json("resume fix --reused 15 --evaluated 5 --milliseconds 120 --device lap");
    assert_eq!(
        (&shown["rung"], &shown["reused"]),
        (&"exact".into(), &15.into())
    );
    assert_eq!(
        (&shown["asked"], &shown["milliseconds"]),
        (&20.into(), &120.into())
    );
    folder.refused("resume fix --reused 15 --evaluated 5", 955, 1);

    folder.ok("resume fix -o out -f");
    folder.refused("resume fix --reused 0 --evaluated 0", 944, 2);
    let planned = folder.json("resume fix --reused 14 --evaluated 6");
    assert_eq!(outcome(&planned), ("shorter", Some(926), Some(16)));
    assert_eq!(planned["version"], 1);
    let note = planned["notes"][0].as_str().unwrap();
    assert!(
        note.contains("KVC-926") || note.contains("evaluated again"),
        "{note}"
    );
    let next = folder.json("resume fix --reused 14 --evaluated 6 -o next");
    assert_eq!(
        (outcome(&next), &next["version"]),
        (outcome(&planned), &1.into())
    );
    let lost = folder.run("resume fix --reused 0 --evaluated 20 -o none");
    lost.check_refused("a state that had no effect", 926, 1);
    assert!(!folder.has("none"));
    let history = folder.json("resume fix --reused 0 --evaluated 20 --milliseconds 900");
    assert_eq!(
        (&history["rung"], &history["reason"]),
        (&"history-only".into(), &926.into())
    );
    // what comes later is judged anew
    assert_eq!(
        outcome(&folder.json("resume fix")),
        ("exact", None, Some(16))
    );
}

/// What runtimes have answered is counted, of one session and of all.
#[test]
fn what_came_of_resumes_is_measured() {
    let folder = session("llama_ggsq3_f16_fa.bin", "");
    folder.ok("events append other hello --kind user");
    let empty = folder.json("status --metrics")["metrics"].clone();
    assert_eq!(
        (&empty["sessions"], &empty["resumes"]),
        (&2.into(), &0.into())
    );
    assert_eq!(empty["checkpoint_coverage_ratio"], 0.5);
    assert_eq!(empty.get("replay_overhead_ratio"), None);
    for (edit, reused, rung) in [(16, 15, "exact"), (10, 9, "shorter")] {
        request(&folder, "asked.json", edit);
        folder.ok("resume fix --tokens asked.json -o out -f");
        let count = format!("--reused {reused} --evaluated 15 --milliseconds 40 --device {rung}");
        assert_eq!(folder.json(&format!("resume fix {count}"))["rung"], rung);
    }
    let one = folder.json("status fix --metrics")["metrics"].clone();
    assert_eq!(one["tokens_restored"], 24);
    assert_eq!(one["degradation_ratio"]["shorter"], 0.5);
    assert_eq!(one["replay_overhead_ratio"], 30.0 / 54.0);
    let each = &one["each"][0];
    assert_eq!(
        (&each["devices"], &each["positions"]),
        (&2.into(), &16.into())
    );
    let text = folder.ok("status fix --metrics").out;
    for line in [
        "kvcap_recovery_seconds_bucket{rung=\"exact\",le=\"0.100\"} 1",
        "kvcap_tokens_evaluated_total 30",
        "kvcap_open_outcome_total{rung=\"shorter\",code=\"960\"} 1",
        "kvcap_checkpoint_coverage_ratio 1",
        "kvcap_session_tokens{session=\"fix\"} 16",
        "kvcap_session_devices{session=\"fix\"} 2",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
    let all = folder.ok("status --metrics --quiet").out;
    assert!(all.contains("kvcap_tokens_restored_total 24") && !all.contains("session="));
    folder.refused("status none --metrics", 955, 1);
    // one that is damaged hides no other
    let log = folder
        .home()
        .join("state/kvcap/sessions/-/-/other/log.jsonl");
    fs::write(log, "{}\n").unwrap();
    let told = folder.run("status --metrics");
    let line = "kvcap_checkpoint_coverage_ratio 1";
    assert!(told.exit == 0 && told.out.lines().any(|found| found == line));
    assert!(
        told.err.contains("session other is left out"),
        "{}",
        told.err
    );
}

/// A use is not spent to find out how much is the same: its header names the prompt, or it is left.
#[test]
fn a_capsule_for_one_use_is_not_opened_to_be_compared() {
    let folder = session("llama_ggsq3_f16_fa.bin", "--single-use");
    request(&folder, "edited.json", 10);
    request(&folder, "same.json", 16);
    let edited = folder.json("resume fix --tokens edited.json");
    assert_eq!(outcome(&edited), ("history-only", Some(605), None));
    folder.refused("resume fix --tokens edited.json -o none", 605, 1);
    let same = folder.json("resume fix --tokens same.json -o same");
    assert_eq!(outcome(&same), ("exact", None, Some(16)));
    // used
    let used = folder.json("resume fix");
    assert_eq!(outcome(&used), ("history-only", Some(410), None));
}

/// Each failure that has a name, and where it leads.
#[test]
fn named_failures_are_told() {
    let folder = session("llama_ggsq3_f16_fa.bin", "");
    let told = |line: &str, rung: &str, code: u64| {
        let planned = folder.json(line);
        assert_eq!(outcome(&planned), (rung, Some(code), None), "{line}");
        assert!(!planned["sentence"].as_str().unwrap().is_empty());
        let told = folder.ok(&format!("{line} --explain")).out;
        for begin in ["  exact", "  shorter", "  history-only", "  fresh"] {
            assert!(told.lines().any(|line| line.starts_with(begin)), "{told}");
        }
        assert!(told.contains(&format!("KVC-{code}: ")), "{told}");
    };
    // no turns yet, which is not the absence of a session
    folder.ok("events append new hello --kind note");
    told("resume new", "fresh", 957);
    folder.refused("resume none", 955, 1);
    // positions and reserve beyond the runtime's context, as the profile knows it, and as it is said
    told("resume fix --reserve 1000000", "history-only", 959);
    told(
        "resume fix --context-size 20 --reserve 5",
        "history-only",
        959,
    );
    let within = folder.json("resume fix --context-size 20 --reserve 4");
    assert_eq!(outcome(&within), ("exact", None, Some(16)));
    // another model
    fs::create_dir(folder.path("other")).unwrap();
    for entry in fs::read_dir(folder.path("model")).unwrap() {
        let from = entry.unwrap();
        let mut bytes = fs::read(from.path()).unwrap();
        if from
            .path()
            .extension()
            .is_some_and(|end| end == "safetensors")
        {
            *bytes.last_mut().unwrap() ^= 1;
        }
        fs::write(folder.path("other").join(from.file_name()), bytes).unwrap();
    }
    told("resume fix --model other", "history-only", 601);
    // revoked
    let whole = capsule(&folder, 1).display().to_string();
    folder.ok("keygen root -o root.key");
    folder.ok("registry init keys.reg --root-key root.key");
    let key = public_key(&folder).display().to_string();
    folder.ok(&format!("registry add keys.reg {key} --root-key root.key"));
    folder.ok(&format!(
        "registry revoke keys.reg {whole} --root-key root.key"
    ));
    let registry = "--registry keys.reg --registry-root root.key.pub";
    told(&format!("resume fix {registry}"), "history-only", 409);
    // missing
    fs::remove_file(whole).unwrap();
    told("resume fix", "history-only", 957);
}

#[test]
fn what_has_expired_leads_to_history() {
    let folder = session("llama_ggsq3_f16_fa.bin", "");
    let key = public_key(&folder).display().to_string();
    let at = |time: &str| {
        let line = format!("resume fix --profile none --trust {key} --model model --at {time}");
        folder.json(&line)
    };
    let late = at("2060-01-01T00:00:00Z");
    assert_eq!(outcome(&late), ("history-only", Some(402), None));
    let early = at("2020-01-01T00:00:00Z");
    assert_eq!(outcome(&early).0, "history-only");
}

/// The public half of the profile's signing key.
fn public_key(folder: &Folder) -> PathBuf {
    let mut found = vec![folder.home().join("config/kvcap")];
    loop {
        let path = found.pop().unwrap();
        if path.is_dir() {
            let entries = fs::read_dir(path).unwrap();
            found.extend(entries.map(|entry| entry.unwrap().path()));
        } else if path.extension().is_some_and(|end| end == "pub") {
            return path;
        }
    }
}
