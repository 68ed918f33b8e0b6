//! Sessions: after `init`, a checkpoint and a resume in another process take a name and a file.

use std::{fs, path::PathBuf};

use super::support::Folder;

fn ready(state: &str) -> Folder {
    let folder = Folder::new();
    folder.ok("init --yes --issuer lab --model model");
    folder.take(state, "state.bin");
    folder
}

/// The files of the one session that is there.
fn files(folder: &Folder, session: &str) -> PathBuf {
    folder.home().join("state/kvcap/sessions/-/-").join(session)
}

#[test]
fn what_was_saved_resumes_in_another_process_with_the_same_bytes() {
    for state in ["llama_ggsq3_f16_fa.bin", "mlx032_f16.safetensors"] {
        let folder = ready(state);
        let tokens = match state.starts_with("mlx") {
            true => " --tokens prompt.json",
            false => "",
        };
        folder.ok("events append fix hello --kind user");
        folder.ok("events append fix done --kind assistant");
        let saved = folder.json(&format!("checkpoint fix state.bin{tokens}"));
        assert_eq!(saved["checkpoint"]["version"], 1);
        assert_eq!(saved["checkpoint"]["state"]["positions"], 16);
        folder.ok("events append fix more --kind user");

        let resumed = folder.json("resume fix -o out");
        assert_eq!(resumed["rung"], "exact");
        assert_eq!(resumed["positions"], 16);
        assert_eq!(resumed["events_after"], 1);
        assert_eq!(folder.read("out"), folder.read("state.bin"));
        folder.refused("resume fix -o out", 941, 4);

        let status = folder.json("status fix");
        assert_eq!(status["events"], 3);
        assert_eq!(status["events_after"], 1);
        assert_eq!(status["checkpoint"]["turns"], 1);
        assert_eq!(status["current"]["turns"], 2);
        assert_eq!(folder.json("status")["session"], "fix");
        let list = folder.json("sessions");
        assert_eq!(list["sessions"][0]["session"], "fix");
        assert_eq!(list["sessions"][0]["turns"], 2);
    }
}

/// The ladder says what it does: a newest capsule that is gone or damaged leads to the one before, and then to history.
#[test]
fn what_cannot_be_restored_is_said() {
    let folder = ready("llama_ggsq3_f16_fa.bin");
    folder.ok("events append fix hello --kind user");
    folder.ok("checkpoint fix state.bin");
    folder.ok("checkpoint fix state.bin");
    let capsule = |version: &str| {
        let entries = fs::read_dir(files(&folder, "fix")).unwrap();
        let names = entries.map(|entry| entry.unwrap().path());
        let is_it = |path: &PathBuf| {
            let name = path.file_name().unwrap().to_str().unwrap();
            name.starts_with(&format!("{version}-"))
        };
        names.into_iter().find(is_it).unwrap()
    };
    let second = capsule("2");
    let mut bytes = fs::read(&second).unwrap();
    let middle = bytes.len() - 100;
    bytes[middle] ^= 1;
    fs::write(&second, bytes).unwrap();
    // the header is as it was: only opening tells
    assert_eq!(folder.json("resume fix")["rung"], "exact");
    let resumed = folder.json("resume fix -o out");
    assert_eq!(resumed["rung"], "shorter");
    assert_eq!(resumed["version"], 1);
    assert_eq!(resumed["reason"], 805);
    assert_eq!(folder.read("out"), folder.read("state.bin"));

    fs::remove_file(second).unwrap();
    assert_eq!(folder.json("resume fix")["reason"], 957);
    fs::remove_file(capsule("1")).unwrap();
    let resumed = folder.json("resume fix");
    assert_eq!(resumed["rung"], "history-only");
    let told = folder.ok("resume fix --explain").out;
    assert!(told.contains("may miss details"), "{told}");
    assert!(told.contains("KVC-957"), "{told}");
    folder.refused("resume fix -o none", 957, 1);
    assert!(!folder.has("none"));
}

/// Nobody swaps one session's state for another's, and another model's is not restored.
#[test]
fn a_capsule_is_its_sessions_alone() {
    let folder = ready("llama_ggsq3_f16_fa.bin");
    folder.ok("checkpoint one state.bin");
    folder.ok("checkpoint two state.bin");
    let only = |session: &str| {
        let entries = fs::read_dir(files(&folder, session)).unwrap();
        let mut paths = entries.map(|entry| entry.unwrap().path());
        paths
            .find(|path| path.extension().is_some_and(|end| end == "kvcap"))
            .unwrap()
    };
    fs::copy(only("one"), only("two")).unwrap();
    folder.refused("resume two -o out", 413, 1);
    assert!(!folder.has("out"));
    folder.refused("resume three -o out", 955, 1);
    folder.refused("status three", 955, 1);
}

#[test]
fn old_checkpoints_go_once_that_was_said() {
    let folder = ready("llama_ggsq3_f16_fa.bin");
    folder.ok("events append fix hello --kind user");
    for _ in 0..4 {
        folder.ok("checkpoint fix state.bin");
    }
    let planned = folder.json("gc --keep 2 --dry-run");
    assert_eq!(planned["files"].as_array().unwrap().len(), 4);
    folder.refused("gc --keep 2", 944, 2);
    assert_eq!(folder.json("status fix")["checkpoints"], 4);
    assert_eq!(folder.json("gc --keep 2 --yes")["files"], planned["files"]);
    let status = folder.json("status fix");
    assert_eq!(
        (&status["checkpoints"], &status["capsules"]),
        (&2.into(), &2.into())
    );
    assert_eq!(status["events"], 1);
    assert!(
        folder.json("gc --keep 2 --yes")["files"]
            .as_array()
            .unwrap()
            .is_empty()
    );
    assert_eq!(folder.json("resume fix -o out")["version"], 4);
}

#[test]
fn sessions_are_their_owners() {
    let folder = ready("llama_ggsq3_f16_fa.bin");
    folder.ok("events append fix mine --kind user");
    folder.ok("events append fix hers --kind user --subject ann");
    let first = |line: &str| folder.json(line)["events"][0]["body"].clone();
    assert_eq!(first("events list fix"), "mine");
    assert_eq!(first("events list fix --subject ann"), "hers");
    assert_eq!(
        folder.json("sessions")["sessions"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    assert_eq!(
        folder.json("sessions --all")["sessions"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
    folder.refused("events append fix --kind user", 944, 2);
    folder.refused("events list fix --kind user", 944, 2);
}

/// A session goes back with the state from before, never with one that has seen what was taken back; a branch goes on by
/// itself, with the same state.
#[test]
fn a_session_goes_back_and_branches() {
    let folder = ready("llama_ggsq3_f16_fa.bin");
    folder.ok("events append fix one --kind user");
    folder.ok("checkpoint fix state.bin");
    folder.ok("events append fix two --kind user");
    folder.ok("checkpoint fix state.bin");
    let branch = folder.json("branch fix other --at 1");
    assert_eq!(branch["checkpoint"]["version"], 1);
    assert_eq!(branch["checkpoint"]["turns"], 1);
    folder.refused("branch fix other --at 1", 954, 1);
    // one that cannot be read is there all the same
    let description = files(&folder, "other").join("session.json");
    let text = fs::read(&description).unwrap();
    fs::write(&description, "{}").unwrap();
    folder.refused("branch fix other --at 1", 950, 3);
    assert_eq!(fs::read(&description).unwrap(), b"{}");
    fs::write(&description, text).unwrap();
    folder.refused("branch fix more --at 9", 955, 1);
    assert_eq!(folder.json("resume other -o branched")["rung"], "exact");
    assert_eq!(folder.read("branched"), folder.read("state.bin"));
    folder.ok("events append other three --kind user");
    assert_eq!(folder.json("status other")["events"], 2);

    let back = folder.json("revert fix --to 1");
    assert_eq!(back["checkpoint"]["version"], 3);
    assert_eq!(back["checkpoint"]["parent_version"], 1);
    assert_eq!(back["checkpoint"]["turns"], 1);
    assert_eq!(back["checkpoint"]["state"]["version"], 1);
    let resumed = folder.json("resume fix -o back");
    assert_eq!(
        (&resumed["rung"], &resumed["version"]),
        (&"exact".into(), &3.into())
    );
    // the state of version 2 has seen what was taken back
    let states: Vec<_> = resumed["steps"].as_array().unwrap().iter().collect();
    assert_eq!(
        states
            .iter()
            .filter(|step| step["rung"] == "shorter")
            .count(),
        1
    );
    folder.ok("events append fix again --kind user");
    assert_eq!(folder.json("status fix")["current"]["turns"], 2);
    let back = folder.json("revert fix --to-turn 0");
    assert_eq!(back["checkpoint"]["turns"], 0);
    assert_eq!(back["checkpoint"]["state"], serde_json::Value::Null);
    assert_eq!(folder.json("resume fix")["rung"], "fresh");
    // what was taken back is brought back, with its state
    let again = folder.json("revert fix --to 2");
    assert_eq!(again["checkpoint"]["turns"], 2);
    assert_eq!(folder.json("resume fix")["rung"], "exact");
    folder.refused("revert fix --to-turn 7", 955, 1);
    folder.refused("revert fix --to 99", 955, 1);
}
