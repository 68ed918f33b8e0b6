//! The life of a session's capsules, through the program: base image, increments, branch, rewind,
//! renewal, rotation of the signing key, revocation. Each result is compared with a state that was
//! sealed at once.

#![allow(
    clippy::unwrap_used,
    reason = "a test that meets what it does not expect fails"
)]

#[path = "cli/support.rs"]
#[allow(dead_code, reason = "shared with the tests of single verbs")]
mod support;

use support::{Folder, KEYS, TRUST};

const SEAL: &str = "--model model --ttl 1h --sign-key issuer.key --wrap-key reader.key";
const ANA: &str = "--subject ana";

/// States of a session after 6, 8, … 16 tokens: the first rows of `state.bin`.
fn session() -> Folder {
    let folder = Folder::new();
    folder.ok(&format!("seal state.bin -o whole.kvcap {SEAL}"));
    for tokens in [6, 8, 9, 10, 12, 14, 16] {
        cut(&folder, "whole.kvcap", tokens, &format!("state.{tokens}"));
    }
    assert!(folder.read("state.16") == folder.read("state.bin"));
    std::fs::remove_file(folder.path("whole.kvcap")).unwrap();
    folder
}

/// A rewind, as a capsule and opened again.
fn cut(folder: &Folder, from: &str, tokens: u64, to: &str) {
    folder.ok(&format!(
        "truncate {from} -f -o cut.bin {TRUST} {KEYS} --tokens {tokens}"
    ));
    folder.ok(&format!(
        "open cut.bin -f -o {to} {TRUST} --wrap-key reader.key {ANA}"
    ));
    std::fs::remove_file(folder.path("cut.bin")).unwrap();
}

/// What a capsule and its ancestors hold.
fn state(folder: &Folder, capsule: &str, trust: &str) -> Vec<u8> {
    folder.ok(&format!(
        "open {capsule} -f -o back {trust} --wrap-key reader.key {ANA} --model model"
    ));
    folder.read("back")
}

/// Base image and five increments.
fn chain(folder: &Folder) {
    folder.ok(&format!(
        "seal state.6 -o base.kvcap {SEAL} --base --public-prefix"
    ));
    let mut parent = "base".to_owned();
    for (turn, tokens) in [8, 10, 12, 14, 16].into_iter().enumerate() {
        let name = format!("t{}", turn + 1);
        let sealed = folder.json(&format!(
            "seal state.{tokens} -o {name}.kvcap {SEAL} {ANA} --parent {parent}.kvcap"
        ));
        assert_eq!(sealed["positions"][1], tokens);
        parent = name;
    }
}

#[test]
fn a_session_from_base_image_to_revocation() {
    let folder = session();
    chain(&folder);
    let seen = folder.json(&format!("verify t5.kvcap {TRUST} {ANA} --model model"));
    assert_eq!(seen["chain"], 6);
    assert_eq!(seen["positions"], serde_json::json!([0, 16]));
    assert!(state(&folder, "t5.kvcap", TRUST) == folder.read("state.bin"));

    // a branch: other rows from the thirteenth token on
    let mut other = folder.read("state.bin");
    let row = other.len() - 4 * 256;
    other[row] ^= 1;
    folder.write("state.b", &other);
    folder.ok(&format!(
        "seal state.b -o b4.kvcap {SEAL} {ANA} --parent t3.kvcap"
    ));
    assert!(state(&folder, "b4.kvcap", TRUST) == other);
    let seal = format!("seal state.b -o no.kvcap {SEAL} {ANA}");
    folder.refused(&format!("{seal} --parent t4.kvcap"), 702, 1);
    let log = folder.json("log");
    let nodes = log["unverified"].as_array().unwrap();
    let of = |name: &str| {
        nodes
            .iter()
            .find(|n| n["path"] == format!("./{name}.kvcap"))
    };
    let t3 = &of("t3").unwrap()["lineage"];
    assert_eq!(&of("t4").unwrap()["parent"], t3);
    assert_eq!(&of("b4").unwrap()["parent"], t3);
    let text = folder.ok("log").out;
    assert!(
        text.contains("└─ ./t1.kvcap") && text.contains("├─ ./b4.kvcap"),
        "{text}"
    );

    // rewinds: an ancestor, and any number of tokens
    assert!(state(&folder, "t2.kvcap", TRUST) == folder.read("state.10"));
    folder.ok(&format!(
        "truncate t5.kvcap -o nine.kvcap {TRUST} {KEYS} --tokens 9"
    ));
    assert!(state(&folder, "nine.kvcap", TRUST) == folder.read("state.9"));
    let open = format!("open nine.kvcap -o no {TRUST} --wrap-key reader.key {ANA}");
    folder.refused(&format!("{open} --tokens prompt.json"), 605, 1);
    let nine: Vec<&str> = support::PROMPT.split(',').take(9).collect();
    folder.write("nine.json", format!("{}]", nine.join(",")).as_bytes());
    folder.ok(&format!("{open} --tokens nine.json"));

    // renewal changes no digest
    let before = folder.json("log base.kvcap")["unverified"][0].clone();
    folder.ok(&format!(
        "renew base.kvcap -f -o base.kvcap {TRUST} --sign-key issuer.key --ttl 2h"
    ));
    let after = folder.json("log base.kvcap")["unverified"][0].clone();
    assert_eq!(before["lineage"], after["lineage"]);
    assert_ne!(before["expires"], after["expires"]);
    assert!(state(&folder, "t5.kvcap", TRUST) == folder.read("state.bin"));

    // a new signing key: the old capsules are signed again, their bodies stay
    std::fs::create_dir(folder.path("old")).unwrap();
    folder.ok("keygen sign -o next.key");
    let both = "--trust issuer.key.pub --trust next.key.pub";
    for name in ["base", "t1", "t2", "t3", "t4", "t5", "b4"] {
        let old = folder.read(&format!("{name}.kvcap"));
        folder.write(&format!("old/{name}.kvcap"), &old);
        folder.ok(&format!(
            "renew {name}.kvcap -f -o {name}.kvcap {both} --sign-key next.key --ttl 1h"
        ));
    }
    assert!(state(&folder, "t5.kvcap", "--trust next.key.pub") == folder.read("state.bin"));
    folder.ok(
        "compact b4.kvcap -o one.kvcap --trust next.key.pub --sign-key next.key --wrap-key reader.key",
    );
    assert!(state(&folder, "one.kvcap", "--trust next.key.pub") == other);

    // the old key is out
    folder.ok("keygen root -o root.key");
    let root = "--root-key root.key";
    folder.ok(&format!("registry init registry {root}"));
    folder.ok(&format!("registry add registry issuer.key.pub {root}"));
    folder.ok(&format!("registry add registry next.key.pub {root}"));
    let registry = "--trust registry --registry-root root.key.pub";
    assert!(state(&folder, "old/t5.kvcap", registry) == folder.read("state.bin"));
    folder.ok(&format!(
        "registry compromise registry issuer.key.pub {root}"
    ));
    folder.refused(&format!("verify old/t5.kvcap {registry} {ANA}"), 304, 1);
    assert!(state(&folder, "t5.kvcap", registry) == folder.read("state.bin"));

    // a capsule that is revoked takes its descendants with it, and nothing else
    folder.ok(&format!("registry revoke registry t4.kvcap {root}"));
    folder.refused(&format!("verify t4.kvcap {registry} {ANA}"), 409, 1);
    folder.refused(&format!("verify t5.kvcap {registry} {ANA}"), 708, 1);
    assert!(state(&folder, "b4.kvcap", registry) == other);
}

#[test]
fn chains_that_are_none() {
    let folder = session();
    chain(&folder);
    for name in ["base", "t1", "t2", "t3", "t4"] {
        std::fs::create_dir_all(folder.path("store")).unwrap();
        let bytes = folder.read(&format!("{name}.kvcap"));
        folder.write(&format!("store/{name}.kvcap"), &bytes);
        std::fs::remove_file(folder.path(&format!("{name}.kvcap"))).unwrap();
    }
    let open = format!("open t5.kvcap -o no {TRUST} --wrap-key reader.key {ANA}");
    let verify = format!("verify t5.kvcap {TRUST} {ANA}");
    // nothing at hand: verified alone, and said so; opened not
    folder.refused(&open, 701, 1);
    assert_eq!(folder.json(&verify)["chain_whole"], false);
    let all = "store/base.kvcap store/t1.kvcap store/t2.kvcap store/t3.kvcap store/t4.kvcap";
    let seen = folder.json(&format!("{verify} --chain {all}"));
    assert_eq!(seen["chain"], 6);
    assert_eq!(folder.json(&format!("{verify} --chain store"))["chain"], 6);
    // one lost, and one that does not belong
    let lost = all.replace("store/t2.kvcap ", "");
    folder.refused(&format!("{verify} --chain {lost}"), 702, 1);
    folder.refused(
        &format!("{verify} --chain {}", all.replace("store/base.kvcap ", "")),
        701,
        1,
    );
    folder.ok(&format!(
        "seal state.16 -o fork.kvcap {SEAL} {ANA} --parent store/t3.kvcap"
    ));
    folder.refused(&format!("{verify} --chain {all} fork.kvcap"), 702, 1);
    // a byte of an ancestor
    let mut bytes = folder.read("store/t1.kvcap");
    *bytes.last_mut().unwrap() ^= 1;
    folder.write("store/t1.kvcap", &bytes);
    folder.refused(&format!("{verify} --chain store"), 805, 1);
    folder.refused(&format!("{open} --chain store"), 805, 1);
    *bytes.last_mut().unwrap() ^= 1;
    folder.write("store/t1.kvcap", &bytes);
    // a part of the chain reads a part of its capsules
    let whole = folder.json(&format!("{open} --chain store"));
    std::fs::remove_file(folder.path("no")).unwrap();
    let part = folder.json(&format!(
        "{open} --chain store --layers 0..1 --positions 7..9"
    ));
    std::fs::remove_file(folder.path("no")).unwrap();
    let read = |seen: &serde_json::Value| seen["bytes_read"].as_u64().unwrap();
    assert!(
        read(&part) * 2 < read(&whole),
        "{} of {}",
        read(&part),
        read(&whole)
    );
    // more than the parent grants, another subject, nothing new
    let seal =
        |more: &str| format!("seal state.16 -o no.kvcap {SEAL} --parent store/t3.kvcap {more}");
    folder.refused(
        &seal("--subject ana --scope kv:restore --scope kv:train"),
        705,
        1,
    );
    folder.refused(&seal("--subject eve"), 406, 1);
    folder.refused(&seal("--subject ana --issuer another"), 707, 1);
    folder.refused(
        &format!("seal state.12 -o no.kvcap {SEAL} {ANA} --parent store/t3.kvcap"),
        703,
        1,
    );
    // headers say what differs
    let diff = folder.json("diff store/t2.kvcap store/t3.kvcap");
    assert_eq!(diff["verified"], "nothing");
    assert_eq!(
        diff["unverified_differing"]["positions"],
        serde_json::json!([[8, 10], [10, 12]])
    );
    assert!(diff["unverified_differing"].get("model.id").is_none());
    assert!(diff["same"].as_u64().unwrap() > 50);
}
