//! Which session is meant, which version stays, and where else its capsule may be.

use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf, time::SystemTime};

use serde_json::Value;

use super::support::Folder;

fn ready() -> Folder {
    let folder = Folder::new();
    folder.ok("init --yes --issuer lab --model model");
    folder.take("llama_ggsq3_f16_fa.bin", "state.bin");
    folder
}

fn files(folder: &Folder, session: &str) -> PathBuf {
    folder.home().join("state/kvcap/sessions/-/-").join(session)
}

/// The only capsule in a session's folder.
fn capsule(folder: &Folder, session: &str) -> PathBuf {
    let entries = fs::read_dir(files(folder, session)).unwrap();
    let mut paths = entries.map(|entry| entry.unwrap().path());
    paths
        .find(|path| path.extension().is_some_and(|end| end == "kvcap"))
        .unwrap()
}

#[test]
fn a_session_is_meant_by_the_beginning_of_its_id_or_as_the_last() {
    let folder = ready();
    for name in ["fix", "fix-login", "fix-logout", "Übung"] {
        folder.ok(&format!("events append {name} hello --kind user"));
    }
    let meant = |line: &str| folder.json(line)["session"].clone();
    assert_eq!(meant("status fix"), "fix");
    assert_eq!(meant("status fix-logi"), "fix-login");
    assert_eq!(meant("events list Ü"), "Übung");
    let refused = folder.refused("status fix-", 944, 2);
    assert!(
        ["fix-login", "fix-logout"]
            .iter()
            .all(|name| refused.err.contains(name)),
        "{}",
        refused.err
    );
    folder.refused("status login", 955, 1);
    folder.refused("events list fix-log", 944, 2);
    for n in 0..9 {
        folder.ok(&format!("events append many-{n} hello --kind user"));
    }
    let refused = folder.refused("gc many --dry-run", 944, 2);
    assert!(refused.err.contains("1 more"), "{}", refused.err);
    // what makes a session has its whole id
    folder.ok("checkpoint man state.bin");
    assert_eq!(meant("events append f bye --kind note"), "f");

    // the last one, in the place of an id
    let made = SystemTime::now() + std::time::Duration::from_secs(60);
    fs::File::open(files(&folder, "fix-login"))
        .unwrap()
        .set_modified(made)
        .unwrap();
    for line in [
        "status",
        "status --last",
        "checkpoint --last state.bin",
        "checkpoint --last",
        "resume --last",
        "resume --last -o out",
        "events append --last there --kind assistant",
        "events list --last",
        "revert --last --to-turn 1",
        "pin --last --at 1",
        "unpin --last --at 1",
    ] {
        // a checkpoint makes files of its own time
        fs::File::open(files(&folder, "fix-login"))
            .unwrap()
            .set_modified(made)
            .unwrap();
        assert_eq!(meant(line), "fix-login", "{line}");
    }
    assert_eq!(
        folder.json("gc --last --keep 1 --dry-run")["files"][0]["session"],
        "fix-login"
    );
    fs::File::open(files(&folder, "fix-login"))
        .unwrap()
        .set_modified(made)
        .unwrap();
    assert_eq!(meant("branch --last twig --at 1"), "twig");
    assert_eq!(folder.json("status twig")["checkpoint"]["cause"], "branch");
    folder.refused("branch --last", 944, 2);
    folder.refused("status fix --last", 944, 2);
    folder.refused("resume fix --last", 944, 2);
    folder.refused("branch fix other --last", 944, 2);
    folder.refused("resume", 944, 2);
    folder.refused("status --subject nobody", 955, 1);
}

#[test]
fn a_pinned_version_is_never_removed() {
    let folder = ready();
    folder.ok("events append fix hello --kind user");
    for _ in 0..4 {
        folder.ok("checkpoint fix state.bin");
    }
    let pinned = folder.json("pin fix --at 2");
    assert_eq!(
        (&pinned["version"], &pinned["pinned"]),
        (&2.into(), &vec![2].into())
    );
    assert_eq!(folder.json("pin fix --at 2")["pinned"], pinned["pinned"]);
    assert_eq!(folder.json("pin fix")["pinned"], Value::from(vec![2, 4]));
    assert_eq!(folder.json("unpin fix")["pinned"], Value::from(vec![2]));
    folder.refused("pin fix --at 9", 955, 1);
    folder.refused("pin nothing", 955, 1);
    folder.ok("events append new hello --kind user");
    folder.refused("pin new", 944, 2);
    let gone = folder.json("gc fix --keep 1 --yes");
    let versions: Vec<&Value> = gone["files"]
        .as_array()
        .unwrap()
        .iter()
        .map(|file| &file["version"])
        .collect();
    assert!(
        !versions.contains(&&2.into()) && versions.contains(&&3.into()),
        "{gone}"
    );
    let status = folder.json("status fix");
    assert_eq!(
        (&status["checkpoints"], &status["pinned"]),
        (&2.into(), &vec![2].into())
    );
    assert!(folder.ok("status fix").out.contains("versions 2"));
    folder.ok("unpin fix --at 2");
    folder.ok("gc fix --keep 1 --yes");
    assert_eq!(folder.json("status fix")["checkpoints"], 1);
}

/// One that is damaged hides no other, and holds up no clean-up of others; what a stopped writer has left is no session.
#[test]
fn a_damaged_session_hides_no_other() {
    let folder = ready();
    for name in ["good", "bad-log", "bad-record", "bad-description"] {
        folder.ok(&format!("events append {name} hello --kind user"));
        folder.ok(&format!("checkpoint {name} state.bin"));
        folder.ok(&format!("checkpoint {name} state.bin"));
    }
    let damage = |session: &str, file: &str| {
        fs::write(files(&folder, session).join(file), "no JSON\n").unwrap();
    };
    damage("bad-log", "log.jsonl");
    damage("bad-record", "2.json");
    damage("bad-description", "session.json");
    let left = files(&folder, "left-behind");
    fs::create_dir(&left).unwrap();
    fs::write(left.join("lock"), "").unwrap();

    let list = folder.json("sessions");
    let codes: std::collections::BTreeMap<String, Value> = list["sessions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| {
            (
                one["session"].as_str().unwrap().to_owned(),
                one["code"].clone(),
            )
        })
        .collect();
    let wanted = [
        ("bad-description", 950.into()),
        ("bad-log", 950.into()),
        ("bad-record", 950.into()),
        ("good", Value::Null),
    ];
    assert_eq!(
        codes,
        wanted.map(|(name, code)| (name.to_owned(), code)).into()
    );
    let shown = folder.ok("sessions").out;
    assert!(
        shown.contains("KVC-950") && shown.contains("good"),
        "{shown}"
    );
    assert_eq!(folder.json("sessions --limit 4")["left"], 0);

    let cleared = folder.json("gc --keep 1 --yes");
    let unreadable: Vec<&Value> = cleared["unreadable"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| &one["session"])
        .collect();
    assert_eq!(unreadable.len(), 2, "{cleared}");
    assert!(!unreadable.contains(&&"good".into()) && !unreadable.contains(&&"bad-log".into()));
    assert_eq!(folder.json("status good")["checkpoints"], 1);
    folder.refused("gc bad-record --dry-run", 950, 3);
    folder.refused("gc left-behind --dry-run", 955, 1);
    assert!(files(&folder, "bad-record").join("1.json").exists());
    assert_eq!(folder.json("resume good -o out")["rung"], "exact");
}

/// The capsule also stands beside the tool's own file, and a session resumes from there when its own is gone or
/// damaged; another session's is neither replaced nor taken.
#[test]
fn a_capsule_stands_beside_the_tools_own_file() {
    let folder = ready();
    folder.write("chat.jsonl", b"{}\n");
    folder.ok("events append fix hello --kind user");
    let none = folder.json("checkpoint fix --beside chat.jsonl");
    assert_eq!(none["beside"], Value::Null);
    let saved = folder.json("checkpoint fix state.bin --beside chat.jsonl");
    assert_eq!(saved["beside"], "chat.jsonl.kvcap");
    let own = capsule(&folder, "fix");
    assert_eq!(folder.read("chat.jsonl.kvcap"), fs::read(&own).unwrap());
    let mode = fs::metadata(folder.path("chat.jsonl.kvcap"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);

    // gone, and damaged so that its header shows it
    fs::remove_file(&own).unwrap();
    assert_eq!(folder.json("resume fix")["rung"], "history-only");
    let beside = "resume fix --beside chat.jsonl";
    assert_eq!(folder.json(&format!("{beside} -o out"))["rung"], "exact");
    assert_eq!(folder.read("out"), folder.read("state.bin"));
    fs::write(&own, "no capsule").unwrap();
    fs::set_permissions(&own, fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(folder.json(beside)["rung"], "exact");
    // what is there is verified all the same
    let mut bytes = folder.read("chat.jsonl.kvcap");
    let last = bytes.len() - 100;
    bytes[last] ^= 1;
    folder.write("chat.jsonl.kvcap", &bytes);
    folder.refused(&format!("{beside} -o none"), 805, 1);

    // the next checkpoint's is put in its place, and the last one's again by a checkpoint without a state
    folder.ok("checkpoint fix state.bin --beside chat.jsonl");
    let second = folder.read("chat.jsonl.kvcap");
    assert_ne!(second, bytes);
    folder.ok("checkpoint fix --beside chat.jsonl");
    assert_eq!(folder.read("chat.jsonl.kvcap"), second);
    // a branch begins with the capsule of the session that it comes from, and goes on with its own
    folder.ok("branch fix twig");
    folder.ok("checkpoint twig --beside chat.jsonl");
    folder.ok("checkpoint twig state.bin --beside chat.jsonl");
    assert_ne!(folder.read("chat.jsonl.kvcap"), second);

    // what is another's stays
    let before = folder.read("chat.jsonl.kvcap");
    folder.refused("checkpoint fix state.bin --beside chat.jsonl", 941, 4);
    assert_eq!(folder.json("status fix")["checkpoints"], 4);
    assert_eq!(folder.read("chat.jsonl.kvcap"), before);
    folder.write("notes.kvcap", b"mine");
    folder.refused("checkpoint fix state.bin --beside notes", 941, 4);
    assert_eq!(folder.read("notes.kvcap"), b"mine");
    fs::remove_file(&own).unwrap();
    fs::remove_file(capsule(&folder, "fix")).unwrap();
    for other in ["chat.jsonl", "notes"] {
        let resumed = folder.json(&format!("resume fix --beside {other}"));
        assert_eq!(resumed["rung"], "history-only");
    }
    folder.refused("checkpoint fix state.bin --beside nowhere/chat", 940, 4);
    assert_eq!(folder.json("status fix")["checkpoints"], 4);
}
