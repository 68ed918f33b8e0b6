//! Full disks, closed pipes and held files: whose fault it is, and nothing spent or left.

use std::{
    fs::File,
    process::{Command, Stdio},
};

use super::support::{Folder, KEYS, Ran, SEAL, TRUST};

impl Folder {
    /// Runs where no file may become longer than so many blocks of the shell: a disk that is full.
    fn cramped(&self, blocks: u32, line: &str) -> Ran {
        let program = self.command(line);
        let mut shell = Command::new("sh");
        shell
            .args(["-c", &format!("ulimit -f {blocks}; exec \"$0\" \"$@\"")])
            .arg(program.get_program())
            .args(program.get_args())
            .current_dir(self.0.path())
            .env("TMPDIR", self.0.path())
            .env(
                "XDG_CACHE_HOME",
                concat!(env!("CARGO_TARGET_TMPDIR"), "/cramped"),
            )
            .stdin(Stdio::null());
        Ran::of(shell.output().unwrap())
    }
}

#[test]
fn a_full_disk_is_the_outputs() {
    let folder = Folder::sealed();
    folder.ok("keygen root -o root.key");
    folder.ok("registry init keys.reg --root-key root.key");
    let issuer = "--trust issuer.key.pub --sign-key issuer.key";
    for (blocks, output, line) in [
        (
            16,
            "out",
            format!("seal state.bin -o out --model model --ttl 1h {KEYS}"),
        ),
        (
            16,
            "out",
            format!("open a.kvcap -o out --model model {TRUST} --wrap-key reader.key"),
        ),
        (
            16,
            "out",
            format!(
                "open a.kvcap -o out --layers 0..6 --model model {TRUST} --wrap-key reader.key"
            ),
        ),
        (16, "out", format!("renew a.kvcap -o out --ttl 2h {issuer}")),
        (
            16,
            "out",
            format!("rewrap a.kvcap -o out --wrap-key reader.key --to reader.key {issuer}"),
        ),
        (
            16,
            ".",
            format!("compact a.kvcap -o out --wrap-key reader.key {issuer}"),
        ),
        (
            16,
            ".",
            format!("truncate a.kvcap -o out --tokens 8 --wrap-key reader.key {issuer}"),
        ),
        (0, "out", "keygen sign -o out".to_owned()),
        (0, "out", "model-id model -o out".to_owned()),
        (
            0,
            "keys.reg",
            "registry add keys.reg issuer.key.pub --root-key root.key".to_owned(),
        ),
        (
            0,
            "memory",
            format!("verify a.kvcap {TRUST} --ledger memory"),
        ),
    ] {
        let mut before = folder.names();
        let ran = folder.cramped(blocks, &line);
        ran.check_refused(&line, 940, 4);
        let named = match output {
            "." => folder.0.path().display().to_string(),
            name => name.to_owned(),
        };
        let wanted = format!("error[KVC-940]: {named}");
        assert!(ran.err.contains(&wanted), "kvcap {line}\n{}", ran.err);
        assert!(ran.err.contains("space on the disk"), "{}", ran.err);
        // a lock stays, so that there are never two
        before.extend(["keys.reg.lock", "memory.lock"].map(str::to_owned));
        let left = folder.names();
        assert!(
            left.iter().all(|name| before.contains(name)),
            "kvcap {line} left {left:?}"
        );
        let told = folder.cramped(blocks, &format!("{line} --json")).json();
        assert_eq!(told["error"]["side"], "output", "{told}");
    }
    let told = folder
        .run(&format!("verify none.kvcap {TRUST} --json"))
        .json();
    assert_eq!(told["error"]["side"], "input");
}

#[test]
fn a_use_is_not_spent_on_a_full_disk() {
    let folder = Folder::new();
    folder.ok(&format!("seal state.bin --single-use {SEAL}"));
    let open =
        format!("open a.kvcap -o back --model model {TRUST} --wrap-key reader.key --ledger memory");
    let ran = folder.cramped(40, &open);
    ran.check_refused(&open, 940, 4);
    assert!(ran.err.contains("error[KVC-940]: back"), "{}", ran.err);
    folder.ok(&open);
    folder.refused(&format!("{open} -f"), 410, 1);
}

#[test]
fn who_closes_a_pipe_has_seen_enough() {
    let folder = Folder::sealed();
    let closed = |line: &str| {
        let mut child = folder
            .command(line)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        Ran::of(child.wait_with_output().unwrap())
    };
    let open = format!(
        "open a.kvcap -q -o - --model model {TRUST} --wrap-key reader.key --tokens prompt.json"
    );
    let ran = closed(&open);
    assert_eq!(ran.exit, 141, "{}", ran.err);
    assert!(!ran.err.contains("error"), "{}", ran.err);
    // a verdict is a verdict, whether it is read or not
    for line in ["inspect a.kvcap".to_owned(), "--help".to_owned()] {
        let ran = closed(&line);
        assert_eq!((ran.exit, ran.err.as_str()), (0, ""), "kvcap {line}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn help_that_cannot_be_printed_is_no_success() {
    let folder = Folder::empty();
    for line in ["--help", "--version", "seal --help", "completions bash"] {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let ran = Ran::of(folder.command(line).stdout(full).output().unwrap());
        ran.check_refused(line, 940, 4);
        assert!(ran.err.contains("stdout"), "{}", ran.err);
    }
}

#[test]
fn a_public_key_is_not_taken_for_a_secret_that_others_can_read() {
    let folder = Folder::new();
    let line = "seal state.bin -o a.kvcap --model model --ttl 1h --wrap-key reader.key";
    let ran = folder.refused(&format!("{line} --sign-key issuer.key.pub"), 942, 2);
    assert!(ran.err.contains("another kind of key"), "{}", ran.err);
    assert!(!ran.err.contains("chmod"), "{}", ran.err);
}

#[test]
fn a_folder_is_no_output() {
    let folder = Folder::sealed();
    for output in [".", "..", "model", "model/", "./"] {
        for line in [
            format!("seal state.bin -o {output} --model model --ttl 1h {KEYS}"),
            format!("seal state.bin -f -o {output} --model model --ttl 1h {KEYS}"),
            format!("keygen sign -o {output}"),
        ] {
            let ran = folder.refused(&line, 944, 2);
            assert!(ran.err.contains("the output is a folder"), "{}", ran.err);
        }
    }
}

#[test]
fn a_length_of_time_has_a_unit() {
    let folder = Folder::new();
    let line = format!("seal state.bin -o a.kvcap --model model --ttl 24 {KEYS}");
    let ran = folder.refused(&line, 944, 2);
    assert!(ran.err.contains("24h or 24s"), "{}", ran.err);
}

#[test]
fn a_ledger_that_another_process_holds_is_waited_for_aloud_and_not_for_ever() {
    let folder = Folder::sealed();
    let verify = format!("verify a.kvcap {TRUST} --ledger memory --wait 1s");
    folder.ok(&verify);
    let held = File::options()
        .write(true)
        .open(folder.path("memory.lock"))
        .unwrap();
    held.lock().unwrap();
    let ran = folder.run(&verify);
    assert_eq!(ran.exit, 4, "{}", ran.err);
    let said: Vec<&str> = ran.err.lines().collect();
    assert_eq!(
        said[0],
        "kvcap: note: waiting for memory, which another process holds"
    );
    assert!(
        said[1].starts_with("kvcap: error[KVC-947]: memory: another process is writing"),
        "{}",
        ran.err
    );
    held.unlock().unwrap();
    folder.ok(&verify);
}
