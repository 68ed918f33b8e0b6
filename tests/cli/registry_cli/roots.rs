//! Registries under several roots, by the program as their holders run it (registry-v1 §8).

use std::fs;

use crate::support::Folder;

const TWO: &str = "--root-key a.key --root-key b.key --registry-root a.key.pub";

/// A folder with three roots, a key for timestamps, and a registry of the first that lists the issuer's key.
fn folder() -> Folder {
    let folder = Folder::sealed();
    for name in ["a", "b", "c", "t"] {
        folder.ok(&format!("keygen root -o {name}.key"));
    }
    folder.ok("registry init keys.reg --root-key a.key");
    folder.ok("registry add keys.reg issuer.key.pub --root-key a.key");
    folder
}

/// The same under two of the three.
fn several() -> Folder {
    let folder = folder();
    folder.ok(&format!(
        "registry roots keys.reg {TWO} --root a.key.pub --root b.key.pub --root c.key.pub --threshold 2 --yes"
    ));
    folder
}

fn verify(by: &str) -> String {
    format!("verify a.kvcap --registry keys.reg --registry-root {by}")
}

#[test]
fn a_threshold_signs_one_after_the_other() {
    let folder = several();
    folder.ok(&verify("a.key.pub"));
    // one of two alone proposes
    let proposed =
        folder.json("registry renew keys.reg --root-key b.key --registry-root a.key.pub");
    assert_eq!(proposed["output"], "keys.reg.proposed");
    folder.refused(
        "registry renew keys.reg --root-key b.key --registry-root a.key.pub",
        941,
        4,
    );
    let version = |folder: &Folder| {
        let shown = folder.json("registry show keys.reg --registry-root a.key.pub");
        shown["version"].as_u64().unwrap()
    };
    assert_eq!(version(&folder), 3);
    // nobody has said yes, and a stranger does not count
    let sign =
        |key: &str| format!("registry sign keys.reg --root-key {key} --registry-root a.key.pub");
    folder.refused(&sign("c.key"), 944, 2);
    folder.ok("keygen root -o stranger.key");
    folder.refused(&format!("{} --yes", sign("stranger.key")), 308, 1);
    // the same root twice is one signature
    let again = folder.json(&format!("{} --yes", sign("b.key")));
    assert_eq!(again["output"], "keys.reg.proposed");
    folder.ok(&format!("{} --yes", sign("c.key")));
    assert_eq!(version(&folder), 4);
    assert!(!folder.path("keys.reg.proposed").exists());
    folder.ok(&verify("a.key.pub"));
    // what is proposed can be taken back
    folder.ok("registry renew keys.reg --root-key b.key --registry-root a.key.pub");
    folder.ok(&format!("{} --withdraw --yes", sign("b.key")));
    assert_eq!(version(&folder), 4);
}

#[test]
fn roots_are_replaced_and_verifiers_follow() {
    let folder = folder();
    let at = "--ledger memory";
    folder.ok(&format!("{} {at}", verify("a.key.pub")));
    folder.ok(&format!(
        "registry roots keys.reg {TWO} --root a.key.pub --root b.key.pub --threshold 2 --yes"
    ));
    folder.ok(&format!("{} {at}", verify("a.key.pub")));
    let old = fs::read(folder.path("keys.reg")).unwrap();
    // b and c from now on: a and b agree, and so does c
    folder.ok(&format!(
        "registry roots keys.reg {TWO} --root-key c.key --root b.key.pub --root c.key.pub --threshold 2 --yes"
    ));
    folder.ok(&format!("{} {at}", verify("a.key.pub")));
    folder.refused("registry renew keys.reg --root-key a.key", 308, 1);
    let shown = folder.json("registry show keys.reg --registry-root a.key.pub");
    assert_eq!(shown["roots"]["version"], 2);
    let digest = shown["roots"]["statement"].as_str().unwrap().to_owned();
    folder.ok(&verify(&digest));
    // what was published before is older than what was seen
    let new = fs::read(folder.path("keys.reg")).unwrap();
    fs::write(folder.path("keys.reg"), &old).unwrap();
    folder.refused(&format!("{} {at}", verify("a.key.pub")), 309, 1);
    folder.refused(&verify(&digest), 314, 1);
    fs::write(folder.path("keys.reg"), &new).unwrap();
    folder.ok(&format!("{} {at}", verify(&digest)));
}

/// Lets a root speak for an issuer alone, or for one more.
fn name(folder: &Folder, key: &str, issuer: &str) {
    let path = folder.path(&format!("{key}.key.pub"));
    let text = fs::read_to_string(&path).unwrap();
    fs::write(path, format!("issuer: {issuer}\n{text}")).unwrap();
}

#[test]
fn limited_roots_give_no_more_than_they_have() {
    let folder = Folder::sealed();
    for key in ["a", "b", "c", "d", "e"] {
        folder.ok(&format!("keygen root -o {key}.key"));
    }
    name(&folder, "c", "somebody else");
    name(&folder, "d", "somebody else");
    folder.ok("registry init keys.reg --root-key a.key");
    let roots = |keys: &str, named: &str, threshold: u8| {
        let list = |flag: &str, of: &str, end: &str| -> String {
            of.chars()
                .map(|one| format!(" --{flag} {one}.key{end}"))
                .collect()
        };
        let (keys, named) = (list("root-key", keys, ""), list("root", named, ".pub"));
        format!(
            "registry roots keys.reg{keys}{named} --threshold {threshold} --registry-root a.key.pub --yes"
        )
    };
    let version = || {
        let shown = folder.json("registry show keys.reg --registry-root a.key.pub");
        (
            shown["version"].as_u64().unwrap(),
            shown["roots"]["version"].as_u64().unwrap(),
        )
    };
    folder.ok(&roots("ab", "abcd", 2));
    assert_eq!(version(), (2, 1));
    // two that are limited renew the statement: it gives nothing
    folder.ok(&roots("cd", "abcd", 2));
    assert_eq!(version(), (3, 2));
    // they reach the threshold, and it is not enough for a lower one, nor is one more of the others
    let proposed = folder.json(&roots("cd", "abcd", 1));
    assert_eq!(proposed["output"], "keys.reg.proposed");
    let sign = |key| {
        format!("registry sign keys.reg --root-key {key}.key --registry-root a.key.pub --yes")
    };
    let still = folder.json(&sign("a"));
    assert_eq!(still["output"], "keys.reg.proposed");
    assert_eq!(version(), (3, 2));
    folder.ok(&sign("b"));
    assert_eq!(version(), (4, 3));
    folder.ok(&roots("abc", "acd", 2));
    assert_eq!(version(), (5, 4));
    // of three one is not limited: nobody is named for all any more, whoever signs
    folder.refused(&roots("acd", "acde", 2), 316, 1);
    assert!(!folder.path("keys.reg.proposed").exists());
    name(&folder, "e", "somebody else");
    folder.ok(&roots("cd", "acde", 2));
    assert_eq!(version(), (6, 5));
}

#[test]
fn a_root_speaks_for_the_issuers_that_its_file_names() {
    let folder = folder();
    let name = |key, issuer: &str| name(&folder, key, issuer);
    let shown = folder.json("registry show keys.reg --registry-root a.key.pub");
    let issuer = shown["keys"][0]["issuer"].as_str().unwrap().to_owned();
    // the verifier's own limit, of one root
    name("a", "somebody else");
    folder.refused(&verify("a.key.pub"), 316, 1);
    name("a", &issuer);
    folder.ok(&verify("a.key.pub"));
    // the roots' limit
    name("b", "somebody else");
    folder.refused(
        &format!(
            "registry roots keys.reg {TWO} --root a.key.pub --root b.key.pub --threshold 2 --yes"
        ),
        316,
        1,
    );
    assert!(!folder.path("keys.reg.proposed").exists());
    name("b", &issuer);
    folder.ok(&format!(
        "registry roots keys.reg {TWO} --root a.key.pub --root b.key.pub --threshold 2 --yes"
    ));
    folder.ok(&verify("a.key.pub"));
}

#[test]
fn a_timestamp_is_wanted_once_roots_name_a_key_for_it() {
    let folder = folder();
    folder.ok(
        "registry roots keys.reg --root-key a.key --root a.key.pub --threshold 1 --timestamp-key t.key.pub --yes",
    );
    folder.refused(&verify("a.key.pub"), 315, 1);
    let stamp = |key: &str, ttl: &str| {
        format!("registry timestamp keys.reg --key {key} --registry-root a.key.pub --ttl {ttl}")
    };
    folder.refused(&stamp("a.key", "1h"), 308, 1);
    folder.refused(&stamp("t.key", "8d"), 313, 3);
    let stamped = folder.json(&stamp("t.key", "6h"));
    assert!(stamped["fresh_until"].as_u64().is_some());
    folder.ok(&verify("a.key.pub"));
    // at its end it is stale, though the registry lives for weeks
    let at = stamped["fresh_until"].as_u64().unwrap();
    folder.refused(
        &format!("registry verify keys.reg --registry-root a.key.pub --at {at}"),
        315,
        1,
    );
    // a next version has none yet, and what follows it goes on
    folder.ok("registry renew keys.reg --root-key a.key");
    folder.refused(&verify("a.key.pub"), 315, 1);
    folder.ok(&stamp("t.key", "6h"));
    folder.ok("registry renew keys.reg --root-key a.key");
    folder.ok(&stamp("t.key", "6h"));
    folder.ok(&verify("a.key.pub"));
}

#[test]
fn notes_of_one_version_that_differ_are_a_split_view() {
    let folder = several();
    let note = "registry note keys.reg --key a.key --registry-root a.key.pub -o";
    folder.ok(&format!("{note} one.note"));
    let check = "registry verify keys.reg --registry-root a.key.pub --note";
    folder.ok(&format!("{check} one.note"));
    // another version 3, shown to somebody else
    let shown = fs::read(folder.path("keys.reg")).unwrap();
    fs::write(
        folder.path("keys.reg"),
        fs::read(folder.path("keys.reg.2")).unwrap(),
    )
    .unwrap();
    fs::rename(folder.path("keys.reg.2"), folder.path("kept")).unwrap();
    folder.ok(&format!(
        "registry roots keys.reg {TWO} --root a.key.pub --root b.key.pub --threshold 2 --ttl 9d --yes"
    ));
    folder.ok(&format!("{note} two.note"));
    folder.refused(&format!("{check} one.note"), 309, 1);
    fs::write(folder.path("keys.reg"), shown).unwrap();
    folder.refused(&format!("{check} two.note"), 309, 1);
    folder.refused(
        "registry note keys.reg --key t.key --registry-root a.key.pub -o t.note",
        308,
        1,
    );
}
