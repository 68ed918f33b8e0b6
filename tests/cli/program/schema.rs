//! Every verb's object was compared with the schema: the verbs of the program, of the schema and of
//! this story are the same.

use std::collections::BTreeSet;

use super::support::{Folder, KEYS, SEAL, TRUST};

const ROOT: &str = "--root-key root.key";

/// One line of every verb, in an order in which each can succeed.
fn story() -> Vec<String> {
    let seen = "--registry-root root.key.pub";
    [
        "init --yes --issuer me".to_owned(),
        "profile show".to_owned(),
        "keygen root -o root.key".to_owned(),
        "keygen root -o second.key".to_owned(),
        "keygen root -o clock.key".to_owned(),
        "keygen wrap -o other.key".to_owned(),
        "model-id model -o any.kvid".to_owned(),
        format!("seal state.bin {SEAL} --tokens prompt.json"),
        format!("verify a.kvcap {TRUST} --model model --ledger ledger"),
        format!("validate-session a.kvcap {TRUST} --model model"),
        "inspect a.kvcap".to_owned(),
        "log a.kvcap".to_owned(),
        format!("open a.kvcap -o opened --wrap-key reader.key {TRUST} --model model"),
        format!("check-restore a.kvcap {TRUST} --model model --prompt 17 --evaluated 1"),
        format!("renew a.kvcap -o renewed.kvcap {TRUST} --sign-key issuer.key --ttl 30m"),
        format!("rewrap a.kvcap -o rewrapped.kvcap {TRUST} {KEYS} --to other.key"),
        format!("truncate a.kvcap -o short.kvcap --tokens 7 {TRUST} {KEYS}"),
        format!("compact a.kvcap -o one.kvcap {TRUST} {KEYS}"),
        "diff a.kvcap renewed.kvcap".to_owned(),
        "events append fix hello --kind user".to_owned(),
        "checkpoint fix state.bin --model model".to_owned(),
        "resume fix -o resumed --model model".to_owned(),
        "export fix -o history.kvcap".to_owned(),
        "import next history.kvcap".to_owned(),
        "status fix".to_owned(),
        "sessions".to_owned(),
        "pin fix".to_owned(),
        "unpin --last".to_owned(),
        "branch fix other".to_owned(),
        "revert fix --to-turn 0".to_owned(),
        "gc --keep 1 --dry-run --codec-profiles".to_owned(),
        "erase next --yes".to_owned(),
        "codec-profile add own.kvtc".to_owned(),
        "codec-profile list".to_owned(),
        format!("prune . {TRUST} --dry-run"),
        "ledger show ledger".to_owned(),
        "ledger set-clock ledger --to now --yes".to_owned(),
        format!("registry init keys.reg {ROOT}"),
        format!("registry add keys.reg issuer.key.pub {ROOT}"),
        format!("registry revoke keys.reg renewed.kvcap {ROOT}"),
        format!("registry renew keys.reg {ROOT}"),
        format!("registry verify keys.reg {seen}"),
        format!("registry show keys.reg {seen}"),
        format!("registry retire keys.reg issuer.key.pub {ROOT} --yes"),
        format!("registry compromise keys.reg issuer.key.pub {ROOT} --yes"),
        format!(
            "registry roots keys.reg {ROOT} --root-key second.key --root root.key.pub --root second.key.pub \
             --threshold 2 --timestamp-key clock.key.pub --yes"
        ),
        format!("registry renew keys.reg {ROOT} {seen}"),
        format!("registry sign keys.reg --root-key second.key {seen} --yes"),
        format!("registry timestamp keys.reg --key clock.key {seen}"),
        format!("registry note keys.reg --key clock.key {seen} -o version.note"),
        "shred --tenant acme --wrap-key keys --yes".to_owned(),
        "scale --model model --windows 1K --calibrate 1048576".to_owned(),
        "bench suites --rounds 1 --bytes 1048576".to_owned(),
        "selftest".to_owned(),
        "demo".to_owned(),
        "completions bash".to_owned(),
        "man pages".to_owned(),
    ]
    .into()
}

#[test]
fn every_verb_was_compared_with_the_schema() {
    let folder = Folder::new();
    let seal = "-o tenant.kvcap --model model --ttl 1h --sign-key issuer.key --tokens prompt.json";
    std::fs::create_dir(folder.path("keys")).unwrap();
    folder.ok(&format!(
        "seal state.bin {seal} --wrap-key keys --tenant acme"
    ));
    folder.write("own.kvtc", &super::codec_profiles::whole([9; 32]));
    // `json` compares
    let told = |line: String| folder.json(&line)["verb"].as_str().unwrap().to_owned();
    let seen: BTreeSet<String> = story().into_iter().map(told).collect();
    assert_eq!(
        seen,
        in_schema(),
        "the schema has other verbs than this story"
    );
    assert_eq!(
        seen,
        in_help(&folder),
        "the program has other verbs than this story"
    );
}

fn in_schema() -> BTreeSet<String> {
    let kinds = super::support::schema()["$defs"]
        .as_object()
        .unwrap()
        .values();
    let names = kinds.filter_map(|kind| kind["properties"]["verb"]["const"].as_str());
    // which not every program has: `serve.rs` and `sync.rs` compare them
    names
        .filter(|name| !["serve", "sync"].contains(name) && !name.starts_with("base "))
        .map(str::to_owned)
        .collect()
}

/// Every verb that has a page of the manual, and the one that is not shown.
fn in_help(folder: &Folder) -> BTreeSet<String> {
    let mut verbs = BTreeSet::from(["validate-session".to_owned()]);
    let mut left = vec![String::new()];
    while let Some(verb) = left.pop() {
        let help = folder.ok(&format!("{verb} --help")).out;
        let below = help
            .split_once("\nCommands:\n")
            .map_or("", |(_, below)| below);
        let below = below.lines().take_while(|line| !line.is_empty());
        let names = below.filter_map(|line| line.strip_prefix("  ")?.split(' ').next());
        let below: Vec<String> = names
            .filter(|name| !["", "serve", "base", "sync"].contains(name))
            .map(|name| format!("{verb} {name}").trim().to_owned())
            .collect();
        match below.is_empty() {
            true => _ = verbs.insert(verb),
            false => left.extend(below),
        }
    }
    verbs
}
