//! What an error says: whose input it is, what is wrong with it, and a next step that helps.

use std::fs;

use super::support::{Folder, KEYS, Ran, SEAL, TRUST};

#[test]
fn an_error_says_what_helps() {
    let folder = Folder::sealed();
    folder.write("three.json", b"[1, 2, 3]");
    fs::create_dir(folder.path("folder")).unwrap();
    let seal = format!("seal state.bin -o b.kvcap --model model --ttl 1h {KEYS}");
    let open = "open a.kvcap -o back --model model --wrap-key reader.key";
    for (line, code, exit, says) in [
        (
            format!("seal state.bin -o no/b.kvcap --model model --ttl 1h {KEYS}"),
            940,
            4,
            ["no/b.kvcap: no such file", "make the output's folder first"],
        ),
        (
            format!("seal folder -o b.kvcap --model model --ttl 1h {KEYS}"),
            940,
            4,
            ["folder: is a directory", "check that the input is there"],
        ),
        (
            format!("{seal} --tokens three.json"),
            923,
            1,
            ["(expected 3 tokens, found 16 tokens)", "--tokens"],
        ),
        (
            "seal state.bin".to_owned(),
            944,
            2,
            ["--sign-key <KEY>", "kvcap init makes a profile"],
        ),
        (
            "open a.kvcap".to_owned(),
            944,
            2,
            ["--wrap-key <KEY>", "kvcap init makes a profile"],
        ),
        (
            "verify a.kvcap".to_owned(),
            944,
            2,
            ["say who may have signed", "kvcap init"],
        ),
        (
            format!("{open} --trust reader.key"),
            942,
            2,
            [
                "(expected a public signing key, found a secret wrapping key)",
                "kvcap keygen",
            ],
        ),
        (
            format!("{open} {TRUST} --wrap-key issuer.key"),
            942,
            2,
            [
                "(expected a secret wrapping key, found a secret signing key)",
                "kvcap keygen",
            ],
        ),
        (
            format!("{open} {TRUST} --at 2100-01-01T00:00:00Z"),
            402,
            1,
            [
                "(expected an end after 2100-01-01T00:00:00Z, found 20",
                "--ttl",
            ],
        ),
        (
            format!("{open} {TRUST} --runtime mlx-lm"),
            608,
            1,
            ["(expected mlx-lm, found llama.cpp)", "the runtime"],
        ),
    ] {
        let ran = folder.refused(&line, code, exit);
        for says in says {
            assert!(ran.err.contains(says), "kvcap {line}\n{}", ran.err);
        }
    }
}

#[test]
fn a_use_that_nobody_records_and_one_that_is_over_are_told_apart() {
    let folder = Folder::new();
    folder.ok(&format!("seal state.bin {SEAL} --single-use"));
    let open = format!("open a.kvcap -f -o back --model model --wrap-key reader.key {TRUST}");
    let ran = folder.run(&open);
    assert!(ran.err.contains("where its use is recorded"), "{}", ran.err);
    folder.ok(&format!("{open} --ledger memory"));
    let ran = folder.run(&format!("{open} --ledger memory"));
    assert!(ran.err.contains("one use is over"), "{}", ran.err);
    assert!(ran.err.contains("take a newer capsule"), "{}", ran.err);
}

/// A ledger that is misspelt must not be no ledger.
#[test]
fn a_misspelt_variable_is_refused() {
    let folder = Folder::sealed();
    for line in [
        &format!("verify a.kvcap {TRUST} --model model"),
        "profile show",
    ] {
        let mut command = folder.command(line);
        let ran = Ran::of(command.env("KVCAP_LEGDER", "memory").output().unwrap());
        ran.check_refused(line, 945, 2);
        assert!(ran.err.contains("expected KVCAP_LEDGER"), "{}", ran.err);
        let mut command = folder.command(line);
        let ran = Ran::of(command.env("KVCAP_WEATHER", "fine").output().unwrap());
        assert_eq!(ran.exit, 0, "{}", ran.err);
    }
}
