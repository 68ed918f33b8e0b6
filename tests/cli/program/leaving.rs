//! What a session seals beside a state, and its history on its way to another model and device.

use std::fs;

use super::support::Folder;

const GREEDY: &str = "only where the most likely word is always taken";

fn ready() -> Folder {
    let folder = Folder::new();
    folder.ok("init --yes --issuer lab --model model");
    folder
}

/// The keys of one folder's profile, in another home.
fn elsewhere(from: &Folder) -> Folder {
    let folder = Folder::empty();
    for part in ["", "default"] {
        let place = |home: &Folder| home.home().join("config/kvcap").join(part);
        fs::create_dir_all(place(&folder)).unwrap();
        for entry in fs::read_dir(place(from)).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                fs::copy(&path, place(&folder).join(path.file_name().unwrap())).unwrap();
            }
        }
    }
    folder
}

#[test]
fn a_controller_goes_with_its_state() {
    let folder = ready();
    folder.ok("checkpoint fix state.bin");
    let resumed = folder.json("resume fix -o plain");
    assert_eq!(resumed["controller"], false);
    assert!(resumed["sentence"].as_str().unwrap().contains(GREEDY));
    assert!(folder.ok("resume fix").out.contains(GREEDY));
    // asked for and not there: the state comes, and it is said
    folder.ok("resume fix -o again --controller-out none.json");
    assert!(!folder.has("none.json"));

    let controller = br#"{"form":1,"runtime":"llama.cpp","sampler":{"top_k":40},"random":"00ff"}"#;
    folder.write("controller.json", controller);
    let saved = folder.json("checkpoint fix state.bin --controller controller.json");
    assert_eq!(saved["checkpoint"]["state"]["controller"], true);
    let resumed = folder.json("resume fix -o out --controller-out got.json");
    assert_eq!(resumed["controller"], true);
    assert!(!resumed["sentence"].as_str().unwrap().contains(GREEDY));
    let read =
        |name: &str| -> serde_json::Value { serde_json::from_slice(&folder.read(name)).unwrap() };
    assert_eq!(read("got.json"), read("controller.json"));
    assert!(folder.read("out") == folder.read("state.bin"));

    // another runtime's, and one that is none
    for text in [
        r#"{"form":1,"runtime":"mlx-lm"}"#,
        r#"{"form":1,"runtime":"llama.cpp","random":"seed"}"#,
        r#"{"form":1,"runtime":"llama.cpp","seed":1}"#,
    ] {
        folder.write("odd.json", text.as_bytes());
        folder.refused("checkpoint fix state.bin --controller odd.json", 950, 3);
    }
    folder.refused("checkpoint fix --controller controller.json", 944, 2);
    assert_eq!(folder.json("status fix")["checkpoints"], 2);
}

#[test]
fn history_goes_to_another_device_and_model() {
    let folder = ready();
    for turn in 0..12 {
        folder.ok(&format!("events append fix question{turn} --kind user"));
        folder.ok(&format!("events append fix answer{turn} --kind assistant"));
    }
    folder.ok("checkpoint fix state.bin");
    folder.ok("events append fix last --kind user");
    let exported = folder.json("export fix -o history.kvcap");
    assert_eq!(exported["checkpoint"]["turns"], 13);
    folder.refused("export fix -o history.kvcap", 941, 4);
    folder.refused("export none -o none.kvcap", 955, 1);

    let other = elsewhere(&folder);
    other.write("history.kvcap", &folder.read("history.kvcap"));
    let imported = other.json("import next history.kvcap");
    assert_eq!(imported["checkpoint"]["version"], 2);
    assert_eq!(imported["checkpoint"]["turns"], 13);
    assert_eq!(imported["checkpoint"]["messages"], 25);
    assert_eq!(imported["checkpoint"]["state"], serde_json::Value::Null);
    let record = |folder: &Folder, session: &str, version: u64| -> serde_json::Value {
        let path = format!("state/kvcap/sessions/-/-/{session}/{version}.json");
        serde_json::from_slice(&fs::read(folder.home().join(path)).unwrap()).unwrap()
    };
    let came = record(&other, "next", 2);
    assert_eq!(came["summary"], record(&folder, "fix", 1)["summary"]);
    assert_eq!(record(&other, "next", 1)["branch_of"]["session"], "fix");
    let bodies = came["recent"].as_array().unwrap();
    assert_eq!(bodies.last().unwrap()["body"], "last");

    // it goes on there, back within what came along, and under a model of its own
    other.ok("events append next more --kind assistant");
    assert_eq!(other.json("resume next")["rung"], "history-only");
    assert_eq!(other.json("resume next")["reason"], 957);
    let back = other.json("revert next --to-turn 12");
    assert_eq!(back["checkpoint"]["turns"], 12);
    // to where the summary ends, and not into it; a clean-up leaves that alone
    let first = record(&other, "next", 1)["turns"].as_u64().unwrap();
    assert!(first > 0);
    other.ok("gc --keep 1 --yes");
    let back = other.json(&format!("revert next --to-turn {first}"));
    assert_eq!(back["checkpoint"]["turns"], first);
    let newest = back["checkpoint"]["version"].as_u64().unwrap();
    assert_eq!(record(&other, "next", newest)["summary"], came["summary"]);
    other.refused(&format!("revert next --to-turn {}", first - 1), 955, 1);
    // once, and what is no history not at all
    other.refused("import next history.kvcap", 954, 1);
    folder.ok("seal state.bin -o plain.kvcap --model model");
    folder.refused("import more plain.kvcap", 956, 1);
    // as a state it is none of this model, and of no other either
    folder.refused("open history.kvcap -o state", 601, 1);
    let key = |name: &str| folder.home().join("config/kvcap/default").join(name);
    let (trust, wrap) = (key("sign.key.pub"), key("wrap.key"));
    let (trust, wrap) = (trust.display(), wrap.display());
    let line = format!("open history.kvcap -o state --trust {trust} --wrap-key {wrap}");
    let bare = Folder::empty();
    bare.write("history.kvcap", &folder.read("history.kvcap"));
    bare.refused(&format!("{line} --accept-unchecked model"), 957, 1);
    assert!(!folder.home().join("state/kvcap/sessions/-/-/more").exists());
}

/// The history that a checkpoint seals beside its state opens under any model too.
#[test]
fn a_checkpoints_own_capsule_brings_its_history() {
    let folder = ready();
    folder.ok("events append fix hello --kind user");
    folder.ok("checkpoint fix state.bin --beside notes");
    let imported = folder.json("import next notes.kvcap");
    assert_eq!(imported["checkpoint"]["turns"], 1);
    folder.ok("open notes.kvcap --section history -o record.cbor --model model");
    assert!(!folder.read("record.cbor").is_empty());
}

#[test]
fn a_session_with_nothing_in_it_is_not_exported() {
    let folder = ready();
    folder.ok("checkpoint fix state.bin");
    folder.refused("export fix -o history.kvcap", 956, 1);
    folder.ok("events append fix hello --kind user");
    folder.ok("export fix -o history.kvcap");
}
