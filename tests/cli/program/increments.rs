//! Sessions of growing states: what is saved of each, and that all of it comes back.

use std::{fs, path::PathBuf};

use kvcap::Workers;
use kvcap_models::ModelProfile;
use kvcap_states::{Hints, RuntimeKind, parse, truncate_state};
use serde_json::Value;

use super::support::{Folder, fixture};

const LLAMA: &str = "llama_ggsq3_f16_fa.bin";

/// A folder with the first 5, 9, 12 and 16 tokens of a state.
fn growing() -> Folder {
    let folder = Folder::new();
    folder.ok("init --yes --issuer lab --model model");
    let file = fs::read(fixture(LLAMA)).unwrap();
    let profile = kvcap_testkit::model(&fixture("model")).unwrap();
    cut(&folder, RuntimeKind::LlamaCpp, &file, &profile, &[5, 9, 12]);
    folder.write("s16", &file);
    folder
}

/// Writes the first tokens of a state: `s5` and so on.
fn cut(folder: &Folder, kind: RuntimeKind, file: &[u8], profile: &ModelProfile, ends: &[u64]) {
    let state = parse(kind, &file, Hints::Model(&profile.geometry)).unwrap();
    for end in ends {
        let out = fs::File::create(folder.path(&format!("s{end}"))).unwrap();
        truncate_state(kind, &state, &file, *end, &out, Workers::ONE).unwrap();
    }
}

fn files(folder: &Folder, session: &str) -> PathBuf {
    folder.home().join("state/kvcap/sessions/-/-").join(session)
}

/// The capsule of a version.
fn capsule(folder: &Folder, session: &str, version: u64) -> PathBuf {
    let names = fs::read_dir(files(folder, session)).unwrap();
    let start = format!("{version}-");
    let mut paths = names.map(|entry| entry.unwrap().path());
    paths
        .find(|path| {
            path.file_name()
                .unwrap()
                .to_str()
                .unwrap()
                .starts_with(&start)
        })
        .unwrap()
}

fn ancestors(saved: &Value) -> usize {
    let state = &saved["checkpoint"]["state"];
    state["ancestors"].as_array().unwrap().len()
}

#[test]
fn a_growing_state_is_saved_in_parts_and_resumes_whole() {
    let folder = growing();
    folder.ok("events append fix hello --kind user");
    let mut saved = Vec::new();
    for end in [5, 9, 12, 16] {
        saved.push(folder.json(&format!("checkpoint fix s{end}")));
        let resumed = folder.json(&format!("resume fix -o out{end}"));
        assert_eq!(resumed["rung"], "exact");
        assert_eq!(resumed["positions"], end);
        assert!(folder.read(&format!("out{end}")) == folder.read(&format!("s{end}")));
    }
    let depths: Vec<usize> = saved.iter().map(ancestors).collect();
    assert_eq!(depths, [0, 1, 2, 3]);
    assert!(saved.iter().all(|saved| saved["not_continued"].is_null()));
    // each names its parent first, and lives as long as the first of them
    let state = |at: usize| &saved[at]["checkpoint"]["state"];
    assert_eq!(state(3)["ancestors"][0], state(2)["id"]);
    assert_eq!(state(3)["ancestors"][2], state(0)["id"]);
    assert_eq!(state(3)["expires"], state(0)["expires"]);
    let bytes = |saved: &Value| {
        saved["checkpoint"]["state"]["capsule_bytes"]
            .as_u64()
            .unwrap()
    };
    let whole = bytes(&folder.json("checkpoint other s16"));
    assert!(bytes(&saved[3]) < whole, "{} of {whole}", bytes(&saved[3]));

    // what its chain needs stays
    let gone = folder.json("gc --keep 1 --yes");
    let gone = gone["files"].as_array().unwrap();
    assert_eq!(gone.len(), 3, "{gone:?}");
    folder.json("resume fix -o kept");
    assert!(folder.read("kept") == folder.read("s16"));

    // a branch has the whole chain, and goes on from it
    folder.ok("branch fix other2");
    assert_eq!(folder.json("resume other2 -o branched")["rung"], "exact");
    assert!(folder.read("branched") == folder.read("s16"));
}

#[test]
fn a_branch_goes_on_from_the_state_that_it_began_with() {
    let folder = growing();
    folder.ok("checkpoint fix s5");
    folder.ok("checkpoint fix s9");
    folder.ok("branch fix other");
    let next = folder.json("checkpoint other s12");
    assert_eq!(ancestors(&next), 2);
    fs::remove_dir_all(files(&folder, "fix")).unwrap();
    assert_eq!(folder.json("resume other -o out")["rung"], "exact");
    assert!(folder.read("out") == folder.read("s12"));
}

/// Whatever keeps a state from being an increment, it is saved.
#[test]
fn what_cannot_be_an_increment_is_whole() {
    let folder = growing();
    folder.ok("keygen wrap -o other.key");
    let second = |session: &str, first: &str, second: &str| {
        folder.ok(&format!("checkpoint {session} {first}"));
        let saved = folder.json(&format!("checkpoint {session} {second}"));
        assert_eq!(ancestors(&saved), 0, "{session}");
        let resumed = folder.json(&format!("resume {session} -o out-{session}"));
        assert_eq!(resumed["rung"], "exact", "{session}");
        assert!(folder.read(&format!("out-{session}")) == folder.read(second));
        saved["not_continued"].clone()
    };
    // the parent dies before half of the new one's life is over
    assert!(second("short", "s5 --ttl 1m", "s9").is_null());
    // it does not grow
    assert_eq!(second("same", "s9", "s9"), 703);
    assert_eq!(second("back", "s9", "s5"), 703);
    // it may be used once; nobody here can open it
    assert_eq!(second("once", "s5 --single-use", "s9"), 410);
    let keyed = "s5 --wrap-key other.key";
    assert_eq!(second("key", keyed, "s9"), 809);
    // its capsule stands by itself beside the tool's own file
    folder.ok("checkpoint beside s5");
    let saved = folder.json("checkpoint beside s9 --beside notes");
    assert_eq!(ancestors(&saved), 0);
    folder.ok("open notes.kvcap -o alone");
    assert!(folder.read("alone") == folder.read("s9"));
    // another conversation
    let mut state = folder.read("s5");
    let end = state.len() - 1;
    state[end] ^= 1;
    folder.write("odd", &state);
    assert_eq!(second("odd", "odd", "s9"), 702);

    for (session, damage) in [("lost", true), ("damaged", false)] {
        folder.ok(&format!("checkpoint {session} s5"));
        let path = capsule(&folder, session, 1);
        match damage {
            true => fs::remove_file(path).unwrap(),
            false => {
                let mut bytes = fs::read(&path).unwrap();
                let at = bytes.len() - 50;
                bytes[at] ^= 1;
                fs::write(&path, bytes).unwrap();
            }
        }
        let saved = folder.json(&format!("checkpoint {session} s9"));
        assert_eq!(ancestors(&saved), 0);
        assert!(saved["not_continued"].is_u64());
        assert_eq!(folder.json(&format!("resume {session}"))["rung"], "exact");
    }
}

/// A chain is never longer than 16 capsules, and nobody has to know.
#[test]
fn the_seventeenth_capsule_is_whole() {
    let folder = Folder::empty();
    folder.made(700_000);
    let file = folder.read("made");
    let profile = kvcap_testkit::profile();
    let ends: Vec<u64> = (1..=18).collect();
    cut(&folder, RuntimeKind::MlxLm, &file, &profile, &ends);
    folder.ok("init --yes --issuer lab --model made.kvid");
    for end in ends {
        folder.ok(&format!("events append fix turn{end} --kind user"));
        let saved = folder.json(&format!("checkpoint fix s{end} --danger-no-prefix"));
        let expected = usize::try_from((end - 1) % 16).unwrap();
        assert_eq!(ancestors(&saved), expected, "{end}");
    }
    for version in [18, 16] {
        folder.ok(&format!("revert fix --to {version}"));
        assert_eq!(folder.json("resume fix -o out -f")["rung"], "exact");
        let (out, state) = (folder.read("out"), folder.read(&format!("s{version}")));
        let first = out.iter().zip(&state).position(|(a, b)| a != b);
        assert!(
            out == state,
            "{version}: {} of {}, {first:?}",
            out.len(),
            state.len()
        );
    }
    // the middle of a chain is gone: what continues it is refused, and the state before it is not
    fs::remove_file(capsule(&folder, "fix", 10)).unwrap();
    folder.ok("revert fix --to 12");
    let resumed = folder.json("resume fix -o out -f");
    assert_eq!(resumed["reason"], 701);
    assert_eq!(resumed["rung"], "shorter");
}
