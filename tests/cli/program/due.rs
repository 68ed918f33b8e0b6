//! Saving where it is due, for hooks: what a tool calls after each turn.

use std::fs;

use serde_json::Value;

use super::support::Folder;

fn ready() -> Folder {
    let folder = Folder::new();
    folder.ok("init --yes --issuer lab --model model");
    folder
}

fn turn(folder: &Folder) {
    folder.ok("events append fix question --kind user");
    folder.ok("events append fix answer --kind assistant");
}

#[test]
fn a_hook_saves_every_third_turn() {
    let folder = ready();
    let hook = || folder.json("checkpoint fix state.bin --if-due");
    // a session that is not there has nothing to save, and is not made
    assert_eq!(hook()["saved"], false);
    folder.refused("status fix", 955, 1);
    for _ in 0..2 {
        turn(&folder);
        let told = hook();
        assert_eq!(
            (&told["saved"], &told["checkpoint"]),
            (&false.into(), &Value::Null)
        );
    }
    // the third turn has to end
    folder.ok("events append fix question --kind user");
    assert_eq!(hook()["saved"], false);
    assert!(folder.ok("checkpoint fix --if-due").out.contains("not due"));
    folder.ok("events append fix answer --kind assistant");
    let saved = hook();
    assert_eq!(saved["saved"], true);
    assert_eq!(saved["checkpoint"]["cause"], "turns");
    assert_eq!(saved["checkpoint"]["state"]["positions"], 16);
    let told = hook();
    assert_eq!(told["saved"], false);
    assert_eq!(told["checkpoint"]["version"], 1);

    folder.ok("events append fix merged --kind milestone");
    let saved = folder.json("checkpoint fix --if-due");
    assert_eq!(saved["checkpoint"]["cause"], "milestone");
    assert_eq!(saved["checkpoint"]["state"]["version"], 1);
    // the end saves whatever is new
    assert_eq!(folder.json("checkpoint fix --if-due=exit")["saved"], false);
    folder.ok("events append fix bye --kind user");
    let saved = folder.json("checkpoint fix --if-due=exit");
    assert_eq!(saved["checkpoint"]["cause"], "exit");
    folder.ok("events append fix bye --kind user");
    let saved = folder.json("checkpoint fix --if-due=signal");
    assert_eq!(saved["checkpoint"]["cause"], "signal");
}

/// While a session lives, its capsules do: up to the cap that they were sealed with.
#[test]
fn what_expires_is_renewed_up_to_its_cap() {
    let folder = ready();
    folder.ok("events append fix hello --kind user");
    let saved = folder.json("checkpoint fix state.bin --ttl 10m --renewable-for 2h");
    let first = &saved["checkpoint"]["state"];
    let until = |saved: &Value| saved["checkpoint"]["state"]["expires"].as_u64().unwrap();
    let renewed = folder.json("checkpoint fix --if-due --ttl 1h");
    assert_eq!(renewed["saved"], true);
    assert_eq!(renewed["checkpoint"]["cause"], "expiry");
    assert_eq!(renewed["checkpoint"]["version"], 2);
    assert_eq!(renewed["checkpoint"]["state"]["id"], first["id"]);
    assert_eq!(renewed["checkpoint"]["state"]["version"], 1);
    let gained = until(&renewed) - until(&saved);
    assert!(gained >= 3000, "{gained}");
    assert_eq!(folder.json("status fix")["capsules"], 1);
    assert_eq!(folder.json("resume fix -o out")["rung"], "exact");
    assert!(folder.read("out") == folder.read("state.bin"));
    // it lives long enough now
    assert_eq!(folder.json("checkpoint fix --if-due")["saved"], false);

    // past its cap nothing is renewed, and a new state is sealed
    let saved = folder.json("checkpoint fix state.bin --ttl 5m --renewable-for 6m");
    let cap = until(&saved) + 60;
    assert_eq!(until(&folder.json("checkpoint fix --if-due --ttl 1h")), cap);
    let told = folder.json("checkpoint fix --if-due --ttl 1h");
    assert_eq!(told["saved"], false);
    let saved = folder.json("checkpoint fix state.bin --if-due --ttl 1h");
    assert_eq!(saved["checkpoint"]["cause"], "expiry");
    assert_ne!(saved["checkpoint"]["state"]["version"], 1);
    assert!(until(&saved) > cap);
}

/// A renewal damages nothing: where the capsule is gone there is no new version.
#[test]
fn a_capsule_that_is_gone_is_not_renewed() {
    let folder = ready();
    folder.ok("checkpoint fix state.bin --ttl 10m");
    let files = folder.home().join("state/kvcap/sessions/-/-/fix");
    for entry in fs::read_dir(&files).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|end| end == "kvcap") {
            fs::remove_file(path).unwrap();
        }
    }
    assert_eq!(folder.json("checkpoint fix --if-due")["saved"], false);
    assert_eq!(folder.json("status fix")["checkpoints"], 1);
}
