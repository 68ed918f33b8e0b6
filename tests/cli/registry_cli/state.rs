//! `--ledger`: single use, sequence numbers, clock and registry versions, by one process and by many.

use std::{
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use kvcap_store::{LedgerFile, LedgerSource};

use crate::support::{Folder, KEYS, TRUST};

const OPEN: &str = "--trust issuer.key.pub --model model --wrap-key reader.key --ledger memory";

fn seal(folder: &Folder, name: &str, how: &str) {
    folder.ok(&format!(
        "seal state.bin -o {name} --model model --ttl 1h {KEYS} {how}"
    ));
}

fn only_mine(folder: &Folder, name: &str) {
    #[cfg(unix)]
    {
        use std::{fs, os::unix::fs::PermissionsExt};
        fs::set_permissions(folder.path(name), fs::Permissions::from_mode(0o600)).unwrap();
    }
}

fn quiet(mut command: Command) -> Child {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

#[test]
fn a_capsule_for_one_use_opens_once() {
    let folder = Folder::new();
    seal(&folder, "once", "--single-use");
    // who keeps no record does not open it, but may verify it
    folder.ok(&format!("verify once {TRUST}"));
    folder.refused(
        &format!("open once {TRUST} --model model --wrap-key reader.key -o back"),
        410,
        1,
    );
    // what fails before it is used does not use it up
    folder.ok("keygen wrap -o stranger.key");
    folder.ok(&format!("verify once {TRUST} --ledger memory"));
    let wrong = OPEN.replace("reader.key", "stranger.key");
    folder.refused(&format!("open once {wrong} -o back"), 809, 1);
    folder.write("other.json", b"[1, 2, 3]");
    folder.refused(
        &format!("open once {OPEN} -o back --tokens other.json"),
        605,
        1,
    );
    let mut cut = folder.read("once");
    *cut.last_mut().unwrap() ^= 1;
    folder.write("damaged", &cut);
    folder.refused(&format!("open damaged {OPEN} -o back"), 805, 1);

    let opened = folder.json(&format!("open once {OPEN} -o back"));
    assert_eq!(opened["single_use"], true);
    assert!(folder.read("back") == folder.read("state.bin"));
    folder.refused(&format!("open once {OPEN} -o again"), 410, 1);
    folder.refused(&format!("verify once {TRUST} --ledger memory"), 410, 1);
    // a copy is the same capsule; another of the same state is not
    folder.write("copy", &folder.read("once"));
    folder.refused(&format!("open copy {OPEN} -o again"), 410, 1);
    seal(&folder, "second", "--single-use");
    folder.ok(&format!("open second {OPEN} -o again"));
}

#[test]
fn a_session_does_not_go_back() {
    let folder = Folder::new();
    for number in [1, 2, 3] {
        seal(
            &folder,
            &format!("turn{number}"),
            &format!("--seq {number} --subject ana"),
        );
    }
    let open = |turn| format!("open turn{turn} {OPEN} --subject ana -o back -f");
    folder.ok(&open(2));
    folder.refused(&open(1), 411, 1);
    folder.ok(&open(2));
    folder.ok(&open(3));
    folder.refused(&open(2), 411, 1);
    folder.refused(
        &format!("verify turn1 {TRUST} --ledger memory --subject ana"),
        411,
        1,
    );
    // without a memory nobody can tell
    folder.ok(&open(1).replace("--ledger memory", ""));
}

#[test]
fn the_clock_and_the_registry_do_not_go_back() {
    let folder = Folder::sealed();
    let root = "--root-key root.key";
    folder.ok("keygen root -o root.key");
    folder.ok(&format!("registry init keys.reg {root}"));
    folder.ok(&format!("registry add keys.reg issuer.key.pub {root}"));
    let by = "--registry-root root.key.pub --ledger memory";
    folder.ok(&format!("verify a.kvcap --registry keys.reg {by}"));
    // the version before is refused, though its signature is good and it has not expired
    folder.refused(
        &format!("verify a.kvcap --registry keys.reg.1 {by}"),
        309,
        1,
    );
    folder.refused(&format!("registry verify keys.reg.1 {by}"), 309, 1);
    // versions between are stepped over where they are kept, and missed where they are not
    for _ in 0..3 {
        folder.ok(&format!("registry renew keys.reg {root}"));
    }
    folder.write("alone.reg", &folder.read("keys.reg"));
    folder.refused(&format!("verify a.kvcap --registry alone.reg {by}"), 309, 1);
    folder.ok(&format!("verify a.kvcap --registry keys.reg {by}"));
    folder.ok(&format!("verify a.kvcap --registry alone.reg {by}"));
    // another version 5 of the same root
    folder.write("fork.reg", &folder.read("keys.reg.4"));
    folder.ok(&format!(
        "registry revoke fork.reg {} {root}",
        "ab".repeat(16)
    ));
    folder.refused(&format!("registry verify fork.reg {by}"), 309, 1);
    folder.ok("registry verify fork.reg --registry-root root.key.pub");

    // a time that nobody has reached yet
    let store = LedgerFile::at(folder.path("memory")).open().unwrap();
    store.confirm(4_000_000_000).unwrap();
    drop(store);
    folder.refused(&format!("verify a.kvcap {TRUST} --ledger memory"), 412, 1);
    folder.refused(&format!("registry verify keys.reg {by}"), 412, 1);
    folder.ok(&format!("verify a.kvcap {TRUST}"));
    // judging as of another time is for audits, and remembers nothing
    folder.refused(
        &format!("verify a.kvcap {TRUST} --ledger memory --at 1"),
        944,
        2,
    );
    folder.write("rubbish", b"not a memory");
    folder.write("rubbish.lock", b"");
    for name in ["rubbish", "rubbish.lock"] {
        only_mine(&folder, name);
    }
    folder.refused(&format!("verify a.kvcap {TRUST} --ledger rubbish"), 940, 4);
    assert_eq!(folder.read("rubbish"), b"not a memory");
}

#[test]
fn of_many_at_once_one_opens() {
    let folder = Folder::new();
    seal(&folder, "once", "--single-use");
    let openers: Vec<Child> = (0..12)
        .map(|n| quiet(folder.command(&format!("open once {OPEN} -o back{n}"))))
        .collect();
    let exits: Vec<i32> = openers
        .into_iter()
        .map(|mut child| child.wait().unwrap().code().unwrap())
        .collect();
    assert_eq!(
        exits.iter().filter(|exit| **exit == 0).count(),
        1,
        "{exits:?}"
    );
    assert!(exits.iter().all(|exit| [0, 1].contains(exit)), "{exits:?}");
    let outputs = folder
        .names()
        .into_iter()
        .filter(|name| name.starts_with("back"));
    assert_eq!(outputs.count(), 1);
}

/// Whenever the process is killed: an output means that the use is recorded, and a memory that was
/// there before is there afterwards.
#[test]
fn kill_9_at_any_time_gives_no_second_use() {
    let folder = Folder::new();
    seal(&folder, "first", "--single-use");
    folder.ok(&format!("open first {OPEN} -o first.back"));
    let mut survived = 0;
    for round in 0..24_u32 {
        let name = format!("c{round}");
        seal(&folder, &name, "--single-use");
        let mut child = quiet(folder.command(&format!("open {name} {OPEN} -o {name}.back")));
        thread::sleep(Duration::from_millis(u64::from(round) * 3));
        child.kill().unwrap();
        child.wait().unwrap();
        let came_out = folder.has(&format!("{name}.back"));
        let again = folder.run(&format!("open {name} {OPEN} -o {name}.again"));
        match again.exit {
            0 => assert!(!came_out, "used twice in round {round}"),
            _ => again.check_refused("open", 410, 1),
        }
        survived += i32::from(came_out);
        // nothing that was remembered is lost
        folder.refused(&format!("open first {OPEN} -o first.again"), 410, 1);
    }
    assert!(survived < 24, "nothing was killed in time");
    // also while a memory is being made
    seal(&folder, "last", "--single-use");
    for round in 0..12_u64 {
        let line =
            format!("open last {OPEN} -o back{round}").replace("memory", &format!("m{round}"));
        let mut child = quiet(folder.command(&line));
        thread::sleep(Duration::from_millis(round * 2));
        child.kill().unwrap();
        child.wait().unwrap();
        folder
            .ok(&format!("verify a {TRUST} --ledger m{round}").replace("verify a", "verify first"));
    }
}

/// A clock that was wrong by a year locks nobody out, and one that a capsule was verified by is repaired.
#[test]
fn the_clock_is_repaired_and_uses_are_kept() {
    let folder = Folder::new();
    seal(&folder, "once", "--single-use");
    folder.ok(&format!("open once {OPEN} -o back"));
    let ledger = LedgerFile::at(folder.path("memory"));
    let now = folder.json("ledger show memory")["latest"]
        .as_u64()
        .unwrap();
    let year = now + 365 * 86_400;
    assert_eq!(ledger.open().unwrap().observe(year).unwrap(), year);
    seal(&folder, "second", "--single-use");
    folder.ok(&format!("verify second {TRUST} --ledger memory"));
    ledger.open().unwrap().confirm(year).unwrap();
    folder.refused(&format!("verify second {TRUST} --ledger memory"), 412, 1);
    folder.refused("ledger set-clock memory --to now", 944, 2);
    folder.refused("ledger set-clock memory --to 4000000000 --yes", 944, 2);
    folder.refused("ledger set-clock nothing --to now --yes", 940, 4);
    let repaired = folder.json("ledger set-clock memory --to now --yes");
    assert!(repaired["latest"].as_u64().unwrap() < year);
    assert_eq!(repaired["uses"], 1);
    folder.ok(&format!("verify second {TRUST} --ledger memory"));
    folder.refused(&format!("open once {OPEN} -o again"), 410, 1);
}

/// Nobody but the ledger's owner can roll it back, and no link leads to another file.
#[cfg(unix)]
#[test]
fn a_ledger_is_its_owners_alone() {
    use std::{
        fs,
        os::unix::fs::{PermissionsExt, symlink},
    };
    let folder = Folder::sealed();
    let verify = format!("verify a.kvcap {TRUST} --ledger memory");
    folder.ok(&verify);
    let set = |name: &str, mode| {
        fs::set_permissions(folder.path(name), fs::Permissions::from_mode(mode)).unwrap();
    };
    for name in ["memory", "memory.lock"] {
        let mode = fs::metadata(folder.path(name))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
        for open in [0o644, 0o602, 0o660] {
            set(name, open);
            folder.refused(&verify, 943, 2);
        }
        set(name, 0o600);
        // through a link, also one that leads nowhere
        let aside = format!("{name}.aside");
        fs::rename(folder.path(name), folder.path(&aside)).unwrap();
        symlink(folder.path(&aside), folder.path(name)).unwrap();
        folder.refused(&verify, 940, 4);
        fs::remove_file(folder.path(name)).unwrap();
        symlink(folder.path("nowhere"), folder.path(name)).unwrap();
        folder.refused(&verify, 940, 4);
        assert!(!folder.has("nowhere"));
        fs::remove_file(folder.path(name)).unwrap();
        fs::rename(folder.path(&aside), folder.path(name)).unwrap();
    }
    folder.ok(&verify);
    // two names would be two memories from the next change on
    fs::hard_link(folder.path("memory"), folder.path("other")).unwrap();
    folder.refused(&verify, 940, 4);
    fs::remove_file(folder.path("other")).unwrap();
    folder.ok(&verify);
}

/// Whatever happens to the file, the program says so and gives no second use.
#[test]
fn a_damaged_ledger_is_refused_by_the_program() {
    let folder = Folder::new();
    seal(&folder, "once", "--single-use");
    folder.ok(&format!("open once {OPEN} -o back"));
    let whole = folder.read("memory");
    for at in (0..whole.len()).step_by(whole.len() / 12) {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x40;
        folder.write("memory", &damaged);
        folder.refused(&format!("open once {OPEN} -o again"), 940, 4);
        folder.write("memory", &whole[..at]);
        folder.refused(&format!("open once {OPEN} -o again"), 940, 4);
    }
    folder.write("memory", &whole);
    folder.refused(&format!("open once {OPEN} -o again"), 410, 1);
}
