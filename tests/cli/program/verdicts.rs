//! Verdicts that are complete, or say what is missing; bodies that arrive late.

use std::{
    io::Write,
    process::{Output, Stdio},
    thread::sleep,
    time::Duration,
};

use super::support::{Folder, KEYS, SEAL, TRUST};

/// What stderr says was not checked.
fn named(said: &str) -> Vec<&str> {
    let line = said
        .lines()
        .find_map(|line| line.strip_prefix("kvcap: not checked: "));
    line.map_or(Vec::new(), |names| names.split(", ").collect())
}

#[test]
fn what_was_not_checked_is_named_even_to_who_asks_for_silence() {
    let folder = Folder::sealed();
    let verify = format!("verify a.kvcap {TRUST}");
    let ran = folder.ok(&format!("{verify} -q"));
    assert_eq!(ran.out, "");
    let all = [
        "model",
        "prompt",
        "tenant",
        "subject",
        "freshness",
        "runtime-version",
    ];
    assert!(
        all.iter().all(|name| named(&ran.err).contains(name)),
        "{}",
        ran.err
    );
    assert!(!named(&ran.err).contains(&"body"));
    let json = folder.json(&verify);
    let listed: Vec<&str> = json["unchecked"]
        .as_array()
        .unwrap()
        .iter()
        .map(|name| name.as_str().unwrap())
        .collect();
    assert_eq!(listed, named(&ran.err));
    let header = folder.ok(&format!("{verify} --header-only -q"));
    assert!(named(&header.err).contains(&"body"), "{}", header.err);
    // what is compared is not named, and what is accepted by name is not named on stderr
    let stated = folder.ok(&format!(
        "{verify} --model model --subject ana --ledger memory --accept-unchecked prompt,tenant"
    ));
    for name in ["model", "freshness", "prompt", "tenant"] {
        assert!(!named(&stated.err).contains(&name), "{}", stated.err);
    }
    // the capsule names no subject, so that none was compared
    assert!(named(&stated.err).contains(&"subject"), "{}", stated.err);
    folder.refused(&format!("{verify} --accept-unchecked all"), 944, 2);
}

#[test]
fn plaintext_comes_out_for_a_model_that_was_compared() {
    let folder = Folder::sealed();
    let open = format!("open a.kvcap -o back {TRUST} --wrap-key reader.key");
    folder.refused(&open, 612, 1);
    folder.refused(&format!("{open} -q --accept-unchecked prompt"), 612, 1);
    folder.refused(&format!("{open} --section tokens"), 612, 1);
    folder.ok(&format!("{open} --model model"));
    folder.ok(&format!("{open} -f --accept-unchecked model"));
}

#[test]
fn an_unusual_capture_is_shown_and_refused() {
    let folder = Folder::new();
    let line = "seal state.bin -o a.kvcap --model model --ttl 1h --captured-with";
    for flag in [
        "speculative-prefill",
        "multi-token-prediction",
        "quantized-attention",
    ] {
        folder.ok(&format!("{line} {flag} {KEYS} -f"));
        let shown = folder.json("inspect a.kvcap");
        assert_eq!(shown["unverified"]["captured_with"][0], flag);
        assert!(folder.ok("inspect a.kvcap").out.contains(flag));
        let verify = format!("verify a.kvcap {TRUST} --model model");
        let open = format!("open a.kvcap -f -o back {TRUST} --model model --wrap-key reader.key");
        folder.refused(&verify, 613, 1);
        folder.refused(&open, 613, 1);
        folder.refused(&format!("{verify} --header-only"), 613, 1);
        folder.refused(&format!("{verify} --accept-unchecked body"), 613, 1);
        let accepted = format!("--accept-unchecked {flag}");
        let seen = folder.json(&format!("{verify} {accepted}"));
        assert_eq!(seen["captured_with"][0], flag);
        folder.ok(&format!("{open} {accepted}"));
        std::fs::remove_file(folder.path("back")).unwrap();
    }
}

/// Of which checkpoint a state is, is compared in full or named.
#[test]
fn a_session_that_is_half_named_is_said() {
    let folder = Folder::new();
    let session = "--session s --session-version 3 --replay-cursor 9";
    folder.ok(&format!("seal state.bin {SEAL} {session}"));
    let verify = format!("verify a.kvcap -q {TRUST} --model model");
    for (named, said) in [
        ("", true),
        ("--session s", true),
        ("--session s --session-version 3", true),
        (session, false),
    ] {
        let shown = folder.json(&format!("{verify} {named}"));
        let unchecked = shown["unchecked"].as_array().unwrap();
        assert_eq!(
            unchecked.iter().any(|name| name == "session"),
            said,
            "{named}"
        );
    }
}

/// What an ancestor was captured with lives on in what is joined of it.
#[test]
fn an_unusual_capture_survives_a_compaction() {
    let folder = Folder::new();
    let flag = "--captured-with speculative-prefill";
    folder.ok(&format!("seal state.bin {SEAL} {flag}"));
    folder.ok(&format!(
        "truncate a.kvcap -o base.kvcap --tokens 7 {TRUST} {KEYS}"
    ));
    let plain = SEAL.replace("a.kvcap", "tip.kvcap");
    folder.ok(&format!(
        "seal state.bin {plain} --parent base.kvcap {TRUST}"
    ));
    folder.ok(&format!("compact tip.kvcap -o one.kvcap {TRUST} {KEYS}"));
    for capsule in ["tip.kvcap", "one.kvcap"] {
        let open = format!("open {capsule} -o back {TRUST} --model model --wrap-key reader.key");
        folder.refused(&open, 613, 1);
    }
    let shown = folder.json("inspect one.kvcap");
    assert_eq!(
        shown["unverified"]["captured_with"][0],
        "speculative-prefill"
    );
}

/// Runs with a capsule on stdin of which the rest comes once `meanwhile` is done.
fn late(folder: &Folder, line: &str, file: &[u8], meanwhile: impl FnOnce()) -> Output {
    let mut child = folder
        .command(line)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (first, rest) = file.split_at(file.len() - 1000);
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(first).unwrap();
    stdin.flush().unwrap();
    meanwhile();
    // who has refused does not read on
    let _refused = stdin.write_all(rest);
    drop(stdin);
    child.wait_with_output().unwrap()
}

fn refused(output: &Output, code: u16) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.contains(&format!("kvcap: error[KVC-{code}]")),
        "{said}"
    );
    assert_eq!(output.status.code(), Some(1), "{said}");
}

#[test]
fn a_body_that_arrives_after_the_capsule_has_expired_is_refused() {
    let folder = Folder::new();
    folder.ok(&format!(
        "seal state.bin {}",
        SEAL.replace("--ttl 1h", "--ttl 2s")
    ));
    let file = folder.read("a.kvcap");
    let open = format!("open - -o back {TRUST} --model model --wrap-key reader.key");
    let verify = format!("verify - {TRUST}");
    let renew = format!("renew - -o new {TRUST} --sign-key issuer.key --ttl 1h");
    let lines = [open, verify, renew];
    // all at once, so that the capsule is valid when each begins
    let (folder, file) = (&folder, &file);
    let outputs: Vec<Output> = std::thread::scope(|scope| {
        let pause = || sleep(Duration::from_millis(2500));
        let runs = lines
            .each_ref()
            .map(|line| scope.spawn(move || late(folder, line, file, pause)));
        runs.into_iter().map(|run| run.join().unwrap()).collect()
    });
    for output in &outputs {
        refused(output, 402);
    }
    assert!(!folder.has("back") && !folder.has("new"));
}

#[test]
fn a_capsule_that_is_revoked_while_it_arrives_is_refused() {
    let folder = Folder::sealed();
    let root = "--root-key root.key";
    folder.ok("keygen root -o root.key");
    folder.ok(&format!("registry init keys.reg {root}"));
    folder.ok(&format!("registry add keys.reg issuer.key.pub {root}"));
    let by = "--registry keys.reg --registry-root root.key.pub";
    let file = folder.read("a.kvcap");
    let open = format!("open - -o back {by} --model model --wrap-key reader.key");
    let output = late(&folder, &open, &file, || {
        // the header is verified by then
        sleep(Duration::from_millis(1000));
        folder.ok(&format!("registry revoke keys.reg a.kvcap {root}"));
    });
    refused(&output, 409);
    assert!(!folder.has("back"));
}
