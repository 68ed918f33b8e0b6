//! Outputs and key files: nothing half-written, nothing overwritten, no secret shown.

use std::fs;

use super::support::{Folder, KEYS, SEAL, TRUST};

#[test]
fn nothing_is_overwritten_unless_asked() {
    let folder = Folder::sealed();
    let open =
        format!("open a.kvcap --accept-unchecked model -o state.bin {TRUST} --wrap-key reader.key");
    for line in [
        format!("seal state.bin {SEAL}"),
        open.clone(),
        "keygen sign -o issuer.key".to_owned(),
        "keygen wrap -o reader.key".to_owned(),
        "model-id model -o a.kvcap".to_owned(),
    ] {
        let before = folder.read("a.kvcap");
        folder.refused(&line, 941, 4);
        assert_eq!(folder.read("a.kvcap"), before);
    }
    folder.ok(&format!("{open} -f"));
    folder.ok(&format!("seal state.bin -f {SEAL}"));
    // a public key in the way keeps the secret from being made as well
    folder.write("new.key.pub", b"");
    folder.refused("keygen sign -o new.key", 941, 4);
    assert!(!folder.has("new.key"));
}

#[test]
fn a_refusal_keeps_what_was_there() {
    let folder = Folder::sealed();
    let mut bytes = folder.read("a.kvcap");
    *bytes.last_mut().unwrap() ^= 1;
    folder.write("b.kvcap", &bytes);
    folder.write("back", b"the old content");
    folder.refused(
        &format!("open b.kvcap --accept-unchecked model -f -o back {TRUST} --wrap-key reader.key"),
        805,
        1,
    );
    assert_eq!(folder.read("back"), b"the old content");
    folder.write("bad", b"garbage");
    let before = folder.read("a.kvcap");
    folder.refused(&format!("seal bad -f {SEAL}"), 920, 3);
    assert_eq!(folder.read("a.kvcap"), before);
}

#[cfg(unix)]
#[test]
fn modes_of_outputs() {
    use std::os::unix::fs::PermissionsExt;
    let folder = Folder::sealed();
    folder.ok(&format!(
        "open a.kvcap --accept-unchecked model -o back {TRUST} --wrap-key reader.key"
    ));
    let mode = |name: &str| {
        fs::metadata(folder.path(name))
            .unwrap()
            .permissions()
            .mode()
            & 0o777
    };
    for secret in ["issuer.key", "reader.key", "back"] {
        assert_eq!(mode(secret), 0o600, "{secret}");
    }
    // as the umask has it, like the file that this test wrote itself
    for public in ["issuer.key.pub", "a.kvcap"] {
        assert_eq!(mode(public), mode("prompt.json"), "{public}");
    }
}

#[cfg(unix)]
#[test]
fn keys_that_others_can_read_are_refused() {
    use std::os::unix::fs::PermissionsExt;
    let folder = Folder::sealed();
    for (key, line) in [
        (
            "issuer.key",
            format!("seal state.bin -o b.kvcap --model model --ttl 1h {KEYS}"),
        ),
        (
            "reader.key",
            format!("open a.kvcap --accept-unchecked model -o back {TRUST} --wrap-key reader.key"),
        ),
    ] {
        for mode in [0o640, 0o604, 0o620] {
            fs::set_permissions(folder.path(key), fs::Permissions::from_mode(mode)).unwrap();
            let ran = folder.refused(&line, 943, 2);
            assert!(ran.err.contains(&format!("{mode:04o}")), "{}", ran.err);
        }
        fs::set_permissions(folder.path(key), fs::Permissions::from_mode(0o600)).unwrap();
        folder.ok(&line);
    }
}

#[test]
fn keys_of_another_kind_are_refused() {
    let folder = Folder::sealed();
    for line in [
        "verify a.kvcap --trust reader.key",
        "verify a.kvcap --trust issuer.key",
        "verify a.kvcap --trust state.bin",
        "verify a.kvcap --trust kvcap-pub-100",
        "open a.kvcap --accept-unchecked model -o x --trust issuer.key.pub --wrap-key issuer.key",
        "seal state.bin -o x --model model --ttl 1h --sign-key reader.key --wrap-key reader.key",
    ] {
        folder.refused(line, 942, 2);
    }
    // a public key is no secret: its text may stand on the command line
    let text = folder.json("keygen sign -o third.key")["public_key"]
        .as_str()
        .unwrap()
        .to_owned();
    folder.refused(&format!("verify a.kvcap --trust {text}"), 301, 1);
    folder.ok(&format!("verify a.kvcap --trust {text} {TRUST} {TRUST}"));
}

#[test]
fn no_output_shows_a_secret() {
    let folder = Folder::empty();
    let mut shown = String::new();
    let mut lines = vec!["keygen sign -o issuer.key", "keygen wrap -o reader.key"];
    let ready = Folder::new();
    for name in ["prompt.json", "state.bin"] {
        folder.write(name, &ready.read(name));
    }
    ready.ok("model-id model -o model.kvid");
    folder.write("model.kvid", &ready.read("model.kvid"));
    let seal = SEAL.replace("--model model", "--model model.kvid");
    let seal = format!("seal state.bin {seal}");
    lines.extend([
        seal.as_str(),
        "verify a.kvcap --trust issuer.key.pub",
        "verify a.kvcap --trust issuer.key",
        "inspect a.kvcap",
        "inspect a.kvcap --all --trust issuer.key.pub",
        "open a.kvcap --accept-unchecked model -o back --trust issuer.key.pub --wrap-key reader.key",
        "open a.kvcap --accept-unchecked model -o back2 --trust issuer.key.pub --wrap-key issuer.key",
        "open a.kvcap --accept-unchecked model -o back3 --trust issuer.key.pub --wrap-key issuer.key.pub",
    ]);
    for line in &lines {
        let (text, json) = (folder.run(line), folder.run(&format!("{line} -f --json")));
        shown.push_str(&format!("{}{}{}{}", text.out, text.err, json.out, json.err));
    }
    shown.push_str(&String::from_utf8_lossy(&folder.read("a.kvcap")));
    for key in ["issuer.key", "reader.key"] {
        let file = String::from_utf8(folder.read(key)).unwrap();
        let line = file.lines().find(|line| !line.starts_with('#')).unwrap();
        let digits = line.rsplit('-').next().unwrap();
        assert!(digits.len() >= 64);
        let secret = &digits[1..65];
        assert!(
            !shown.to_ascii_uppercase().contains(secret),
            "{key} was shown"
        );
        assert!(!shown.contains("KVCAP-SECRET"), "{key} was shown");
    }
}

#[cfg(unix)]
#[test]
fn signals_leave_no_output_that_looks_finished() {
    use std::{
        io::Write,
        os::unix::process::ExitStatusExt,
        process::{Command, Stdio},
        time::{Duration, Instant},
    };
    let folder = Folder::sealed();
    let capsule = folder.read("a.kvcap");
    let before = folder.names();
    for (signal, left) in [("TERM", 0), ("INT", 0), ("KILL", 1)] {
        let mut child = folder
            .command(&format!(
                "open - --accept-unchecked model -o back {TRUST} --wrap-key reader.key"
            ))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // all but the last byte: the program waits with its temporary file in place
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(&capsule[..capsule.len() - 1]).unwrap();
        let started = Instant::now();
        while folder.names().len() == before.len() {
            assert!(
                started.elapsed() < Duration::from_secs(60),
                "no temporary file"
            );
            std::thread::sleep(Duration::from_millis(5));
        }
        let id = child.id().to_string();
        assert!(
            Command::new("kill")
                .args(["-s", signal, &id])
                .status()
                .unwrap()
                .success()
        );
        assert!(child.wait().unwrap().signal().is_some());
        drop(stdin);
        let after = folder.names();
        assert_eq!(after.len(), before.len() + left, "{signal}: {after:?}");
        let new = after.iter().filter(|name| !before.contains(name));
        for name in new {
            assert!(
                name.starts_with(".back.") && name.ends_with(".kvcap.tmp"),
                "{name}"
            );
        }
    }
    // and it is in nobody's way
    folder.ok(&format!(
        "open a.kvcap --accept-unchecked model -o back {TRUST} --wrap-key reader.key"
    ));
}

/// Whatever its caller allows, the program allows itself no core dump: 1 byte is what stops one to a program too.
#[cfg(target_os = "linux")]
#[test]
fn a_crash_leaves_no_image_of_memory() {
    use std::{
        process::{Command, Stdio},
        time::{Duration, Instant},
    };
    let folder = Folder::sealed();
    let waiting = folder.command("inspect -");
    let mut child = Command::new("sh")
        .args([
            "-c",
            "ulimit -S -c \"$(ulimit -H -c)\"; exec \"$0\" inspect -",
        ])
        .arg(waiting.get_program())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let started = Instant::now();
    let limits = || {
        let text = fs::read_to_string(format!("/proc/{}/limits", child.id())).unwrap();
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("Max core file size"));
        let mut words = line.unwrap().split_whitespace();
        [
            words.next().unwrap().to_owned(),
            words.next().unwrap().to_owned(),
        ]
    };
    // until the shell has become the program, and that has set it
    while limits()
        .iter()
        .any(|limit| !["0", "1"].contains(&limit.as_str()))
    {
        assert!(
            started.elapsed() < Duration::from_secs(60),
            "{:?}",
            limits()
        );
        std::thread::sleep(Duration::from_millis(5));
    }
    drop(child.stdin.take());
    assert_eq!(
        child.wait().unwrap().code(),
        Some(3),
        "an empty file is refused"
    );
}

#[cfg(unix)]
#[test]
fn devices_and_folders_are_never_replaced() {
    let folder = Folder::sealed();
    let open = format!("open a.kvcap --accept-unchecked model {TRUST} --wrap-key reader.key");
    folder.refused(&format!("{open} -f -o model"), 944, 2);
    folder.refused(&format!("{open} -f -o /dev/null"), 944, 2);
    folder.refused(&format!("{open} -o /dev/full"), 944, 2);
    assert!(!fs::metadata("/dev/null").unwrap().is_file());
}

/// Digests of weights are kept for who wants that, and for nobody else.
#[test]
fn the_weights_cache_has_a_switch() {
    let folder = Folder::new();
    // what has changed a moment ago is not kept in any case
    std::thread::sleep(std::time::Duration::from_millis(2_100));
    let kept = |line: &str, switch: &str| {
        let _absent = fs::remove_dir_all(folder.path("cache"));
        let mut command = folder.command(line);
        command.env("XDG_CACHE_HOME", folder.path("cache"));
        let done = command.env("KVCAP_NO_CACHE", switch).output().unwrap();
        assert!(done.status.success(), "{done:?}");
        folder.has("cache")
    };
    assert!(kept("model-id model", ""));
    assert!(!kept("model-id model", "1"));
    assert!(!kept("model-id model --no-cache", ""));
}

/// A key that somebody else put there is not one's own. Only root can hand a file over.
#[cfg(unix)]
#[test]
fn keys_of_another_user_are_refused() {
    let folder = Folder::new();
    let key = folder.path("reader.key");
    if std::os::unix::fs::chown(&key, Some(1234), None).is_err() {
        return;
    }
    folder.refused(&format!("seal state.bin {SEAL}"), 943, 2);
    std::os::unix::fs::chown(&key, Some(0), None).unwrap();
    folder.ok(&format!("seal state.bin {SEAL}"));
}

/// Even `--force` loses no secret key.
#[test]
fn force_replaces_no_secret_key() {
    let folder = Folder::sealed();
    let before = folder.read("reader.key");
    for line in [
        "keygen wrap -o reader.key -f".to_owned(),
        format!("open a.kvcap -f -o reader.key {TRUST} --wrap-key reader.key"),
    ] {
        folder.refused(&line, 941, 4);
        assert_eq!(folder.read("reader.key"), before);
    }
}
