//! Key folders, and what is left when a key is destroyed.

use std::{
    fs,
    process::{Child, Stdio},
};

use crate::support::{Folder, TRUST};

const SEAL: &str = "--model model --ttl 1h --sign-key issuer.key --wrap-key keys";
const OPEN: &str = "--trust issuer.key.pub --model model --wrap-key keys";

fn folder() -> Folder {
    let folder = Folder::new();
    fs::create_dir(folder.path("keys")).unwrap();
    folder
}

fn seal(folder: &Folder, name: &str, how: &str) {
    folder.ok(&format!("seal state.bin -o {name} {SEAL} {how}"));
}

/// Files of the key folder that end so.
fn files(folder: &Folder, end: &str) -> Vec<String> {
    let names = fs::read_dir(folder.path("keys")).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter(|name| name.ends_with(end)).collect();
    names.sort();
    names
}

fn id(name: &str) -> String {
    name.rsplit('.').nth(1).unwrap().to_owned()
}

#[test]
fn a_destroyed_key_takes_its_capsules_along() {
    let folder = folder();
    seal(&folder, "acme", "--tenant acme");
    seal(&folder, "acme2", "--tenant acme");
    seal(&folder, "other", "--tenant Other/..");
    seal(&folder, "nobody", "");
    // a key a tenant and day, and no name is a path
    let keys = files(&folder, ".key");
    assert_eq!(keys.len(), 3, "{keys:?}");
    assert!(keys.iter().any(|name| name.contains(".acme.")));
    assert!(
        keys.iter().any(|name| name.contains(".%4fther%2f%2e%2e.")),
        "{keys:?}"
    );
    let open = |name: &str, org: &str| format!("open {name} -f {OPEN} {org} -o back");
    folder.ok(&open("acme", "--tenant acme"));
    assert!(folder.read("back") == folder.read("state.bin"));
    folder.ok(&open("other", "--tenant Other/.."));

    let acme = id(keys.iter().find(|name| name.contains(".acme.")).unwrap());
    folder.write("copy", &folder.read("acme"));
    let kept = folder.read(&format!(
        "keys/{}",
        keys.iter().find(|n| n.contains(".acme.")).unwrap()
    ));
    let shred = folder.json(&format!("shred {acme} --wrap-key keys --yes"));
    assert_eq!(shred["keys"][0]["key_id"], acme);
    assert_eq!(shred["keys"][0]["destroyed_before"], false);
    for name in ["acme", "acme2", "copy"] {
        folder.refused(&open(name, "--tenant acme"), 811, 1);
        // it still tells what it was
        folder.ok(&format!(
            "verify {name} {TRUST} --tenant acme --model model"
        ));
        folder.ok(&format!("inspect {name} {TRUST}"));
    }
    folder.refused(
        "rewrap acme -o out --trust issuer.key.pub --wrap-key keys --to reader.key --sign-key issuer.key",
        811,
        1,
    );
    // without the record nobody knows more than that there is no key
    folder.refused(
        &open("acme", "--tenant acme").replace("keys", "reader.key"),
        809,
        1,
    );
    folder.ok(&open("other", "--tenant Other/.."));
    folder.ok(&open("nobody", ""));
    assert_eq!(files(&folder, ".destroyed").len(), 1);
    assert_eq!(files(&folder, ".key").len(), 2);
    // once more changes nothing; a key that the folder never had is named
    let again = folder.json(&format!("shred {acme} --wrap-key keys --yes"));
    assert_eq!(again["keys"][0]["destroyed_before"], true);
    folder.refused(
        &format!("shred {} --wrap-key keys --yes", "0".repeat(32)),
        809,
        1,
    );
    // the record outlives a file that comes back, and a killed run is finished
    folder.write(
        &format!(
            "keys/{}",
            keys.iter().find(|n| n.contains(".acme.")).unwrap()
        ),
        &kept,
    );
    folder.refused(&open("acme", "--tenant acme"), 811, 1);
    folder.ok(&format!("shred {acme} --wrap-key keys --yes"));
    assert_eq!(files(&folder, ".key").len(), 2);
    // what is sealed now has another key
    seal(&folder, "new", "--tenant acme");
    folder.ok(&open("new", "--tenant acme"));
    assert_eq!(files(&folder, ".key").len(), 3);
}

#[test]
fn a_tenant_is_erased_by_name() {
    let folder = folder();
    seal(&folder, "acme", "--tenant acme");
    seal(&folder, "other", "--tenant other");
    // keys of days before
    let key = files(&folder, ".key")
        .into_iter()
        .find(|name| name.contains(".acme."))
        .unwrap();
    let old = format!("2020-01-01.{}", key.split_once('.').unwrap().1);
    fs::rename(
        folder.path("keys").join(&key),
        folder.path("keys").join(&old),
    )
    .unwrap();
    seal(&folder, "acme2", "--tenant acme");
    let open = |name: &str, org: &str| format!("open {name} -f {OPEN} --tenant {org} -o back");
    folder.ok(&open("acme", "acme"));
    let early = folder.json("shred --tenant acme --before 2020-01-02 --wrap-key keys --yes");
    assert_eq!(early["keys"].as_array().unwrap().len(), 1);
    folder.refused(&open("acme", "acme"), 811, 1);
    folder.ok(&open("acme2", "acme"));
    folder.ok("shred --tenant acme --wrap-key keys --yes");
    folder.refused(&open("acme2", "acme"), 811, 1);
    folder.ok(&open("other", "other"));
    folder.refused("shred --wrap-key keys", 944, 2);
    // a capsule with another recipient still opens for that one
    let both = SEAL.replace("--wrap-key keys", "--wrap-key keys --wrap-key reader.key");
    folder.ok(&format!("seal state.bin -o both {both} --tenant third"));
    folder.ok("shred --tenant third --wrap-key keys --yes");
    folder.refused(&open("both", "third"), 811, 1);
    folder.ok(&format!("{} --wrap-key reader.key", open("both", "third")));
}

#[test]
fn sealers_at_once_share_the_key_of_the_day() {
    let folder = folder();
    let sealers: Vec<Child> = (0..8)
        .map(|number| {
            let line = format!("seal state.bin -o c{number} {SEAL} --tenant acme");
            let mut command = folder.command(&line);
            command.stdout(Stdio::null()).spawn().unwrap()
        })
        .collect();
    for mut sealer in sealers {
        assert!(sealer.wait().unwrap().success());
    }
    // two, if midnight has passed
    assert!(files(&folder, ".key").len() <= 2);
    for number in 0..8 {
        folder.ok(&format!("open c{number} -f {OPEN} --tenant acme -o back"));
    }
}

/// The key's own blocks are overwritten before its name goes: another name of the file shows zeros.
#[test]
fn the_bytes_of_a_destroyed_key_are_gone() {
    let folder = folder();
    seal(&folder, "acme", "--tenant acme");
    let key = files(&folder, ".key").remove(0);
    let before = folder.read(&format!("keys/{key}"));
    fs::hard_link(folder.path("keys").join(&key), folder.path("other name")).unwrap();
    folder.ok("shred --tenant acme --wrap-key keys --yes");
    assert!(files(&folder, ".key").is_empty());
    assert_eq!(folder.read("other name"), vec![0; before.len()]);
}

/// Today's keys, and those of a tenant whose name is written wrong, stay.
#[test]
fn a_slip_of_the_pen_destroys_nothing() {
    let folder = folder();
    seal(&folder, "acme", "--tenant acme");
    let before = files(&folder, "");
    let shred = "shred --tenant acme --wrap-key keys --yes";
    let days = [
        "28.11.2026",
        "tomorrow",
        "2027",
        "2026-11-3",
        "2026-02-30",
        "7d",
        "2099-01-01",
    ];
    for day in days {
        folder.refused(&format!("{shred} --before {day}"), 944, 2);
    }
    // days are compared as days: this one is later than the key's
    let key = before.iter().find(|name| name.ends_with(".key")).unwrap();
    let later = format!("2020-12-05.{}", key.split_once('.').unwrap().1);
    fs::rename(
        folder.path("keys").join(key),
        folder.path("keys").join(&later),
    )
    .unwrap();
    folder.refused(&format!("{shred} --before 2020-12-1"), 944, 2);
    folder.refused(&format!("{shred} --before 2020-12-01"), 944, 2);
    // a tenant that has no keys is no success, and the answer says who has
    let none = folder.refused("shred --tenant acmee --wrap-key keys --yes", 944, 2);
    assert!(none.err.contains("acme 2020-12-05"), "{}", none.err);
    // nobody has said yes
    folder.refused("shred --tenant acme --wrap-key keys", 944, 2);
    let dry = folder.json("shred --tenant acme --before 2020-12-06 --wrap-key keys --dry-run");
    assert_eq!(dry["dry_run"], true);
    assert_eq!(dry["keys"][0]["day"], "2020-12-05");
    assert_eq!(files(&folder, ".destroyed").len(), 0);
    folder.ok(&format!("open acme {OPEN} --tenant acme -o back"));
    folder.ok(&format!("{shred} --before 2099-01-01 --including-today"));
    folder.refused(
        &format!("open acme -f {OPEN} --tenant acme -o back"),
        811,
        1,
    );
}

/// What was not there is not destroyed, and neither is another key.
#[cfg(unix)]
#[test]
fn only_the_key_that_was_there_is_destroyed() {
    let folder = folder();
    seal(&folder, "acme", "--tenant acme");
    let name = files(&folder, ".key").remove(0);
    let key = folder.path("keys").join(&name);
    let shred = "shred --tenant acme --wrap-key keys --yes";
    let nothing_destroyed = || assert_eq!(files(&folder, ".destroyed").len(), 0);
    // on a volume that is not mounted, and on one that is
    let vault = folder.path("vault");
    fs::create_dir(&vault).unwrap();
    fs::rename(&key, vault.join("key")).unwrap();
    std::os::unix::fs::symlink(folder.path("elsewhere"), &key).unwrap();
    folder.refused(shred, 940, 4);
    nothing_destroyed();
    fs::remove_file(&key).unwrap();
    std::os::unix::fs::symlink(vault.join("key"), &key).unwrap();
    folder.refused(shred, 940, 4);
    nothing_destroyed();
    fs::remove_file(&key).unwrap();
    // under another key's name
    let wrong = key.with_file_name(name.replace(&id(&name), &"0".repeat(32)));
    fs::rename(vault.join("key"), &wrong).unwrap();
    folder.refused(shred, 942, 2);
    nothing_destroyed();
    folder.refused(&format!("seal state.bin -o b {SEAL} --tenant acme"), 942, 2);
    fs::rename(&wrong, &key).unwrap();
    folder.ok(&format!("open acme {OPEN} --tenant acme -o back"));
    // under a name that is nearly a key's
    let near = key.with_file_name(format!("2020-1-1.acme.{}.key", id(&name)));
    fs::rename(&key, &near).unwrap();
    folder.refused(shred, 942, 2);
    fs::rename(&near, &key).unwrap();
    folder.refused("shred --tenant acme --wrap-key nowhere --yes", 940, 4);
    // a run that was killed in the middle is finished
    let record = key.with_extension("destroyed");
    fs::write(&record, "destroyed").unwrap();
    let len = fs::read(&key).unwrap().len();
    fs::write(&key, vec![0; len]).unwrap();
    folder.ok(shred);
    assert!(!key.exists() && record.exists());
}
