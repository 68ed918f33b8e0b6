//! What the program says: labels, help, JSON, completions, manual pages, the demo.

use super::support::{Folder, SEAL, TRUST};

const VERBS: [&str; 16] = [
    "keygen",
    "model-id",
    "seal",
    "verify",
    "open",
    "renew",
    "rewrap",
    "inspect",
    "demo",
    "completions",
    "man",
    "selftest",
    "check-restore",
    "registry",
    "shred",
    "ledger",
];

#[test]
fn claims_are_labelled_until_someone_vouches_for_them() {
    let folder = Folder::new();
    folder.ok("keygen sign -o acme.key --issuer acme");
    let [seal, trust] = [SEAL, TRUST].map(|flags| flags.replace("issuer.key", "acme.key"));
    folder.ok(&format!(
        "seal state.bin {seal} --tenant acme --subject ana --audience kv"
    ));
    let text = folder.ok("inspect a.kvcap").out;
    assert!(text.starts_with("UNVERIFIED"), "{text}");
    let plain = folder.json("inspect a.kvcap");
    assert_eq!(plain["verified"], "nothing");
    assert!(plain.get("signed").is_none());
    assert_eq!(plain["unverified"]["claims"]["issuer"], "acme");

    let text = folder.ok(&format!("inspect a.kvcap {trust}")).out;
    assert!(
        text.starts_with("signature good") && !text.contains("UNVERIFIED"),
        "{text}"
    );
    let signed = folder.json(&format!("inspect a.kvcap {trust}"));
    assert_eq!(signed["verified"], "signature");
    assert!(signed.get("unverified").is_none());
    assert_eq!(signed["signed"], plain["unverified"]);
    folder.ok("keygen sign -o stranger.key");
    folder.refused("inspect a.kvcap --trust stranger.key.pub", 301, 1);

    // what has expired can still be looked at
    let expires = plain["unverified"]["claims"]["expires"].as_u64().unwrap();
    let late = folder
        .ok(&format!("inspect a.kvcap {trust} --at {}", expires + 90))
        .out;
    assert!(late.contains("1 min 30 s ago"), "{late}");

    // a changed claim is shown as the file has it, until the signature is asked for
    let mut bytes = folder.read("a.kvcap");
    let at = bytes
        .windows(4)
        .position(|window| window == b"acme")
        .unwrap();
    bytes[at] = b'x';
    folder.write("forged.kvcap", &bytes);
    let forged = folder.json("inspect forged.kvcap");
    assert!(forged["unverified"]["claims"].to_string().contains("xcme"));
    folder.refused(&format!("inspect forged.kvcap {trust}"), 307, 1);
}

#[test]
fn banks_that_are_alike_are_one_line() {
    let folder = Folder::sealed();
    let seen = folder.json("inspect a.kvcap");
    let seen = &seen["unverified"];
    let banks = seen["banks"].as_array().unwrap();
    assert_eq!(banks.len(), 2, "keys and values");
    assert_eq!(banks[0]["layers"].as_array().unwrap().len(), 6);
    assert_eq!(banks[0]["codec"], "raw");
    // 6 layers, keys and values of 2 heads, 64 elements of two bytes
    assert_eq!(seen["banks_total"]["bytes_per_token"], 6 * 2 * 2 * 64 * 2);
    assert_eq!(seen["banks_total"]["ratio"], 1.0);
    let all = folder.json("inspect a.kvcap --all");
    assert_eq!(all["unverified"]["banks"].as_array().unwrap().len(), 12);
    let text = folder.ok("inspect a.kvcap").out;
    assert!(text.contains("0-5") && text.lines().count() < 45, "{text}");
    assert!(
        text.contains("6 layers, 64 dims of each head rotated in halves, base 10000"),
        "{text}"
    );
}

#[test]
fn quiet_says_nothing() {
    let folder = Folder::sealed();
    for line in [
        format!("verify a.kvcap {TRUST} -q"),
        format!(
            "open a.kvcap --accept-unchecked model -o back {TRUST} --wrap-key reader.key --quiet"
        ),
        "keygen wrap -q -o k".to_owned(),
    ] {
        assert_eq!(folder.ok(&line).out, "", "{line}");
    }
}

#[test]
fn notes_say_what_was_not_sealed() {
    let folder = Folder::new();
    // an mlx-lm 0.32 cache of 16 tokens is padded to 256 rows: put something into the last one
    folder.take("mlx032_f16.safetensors", "state");
    let mut state = folder.read("state");
    *state.last_mut().unwrap() = 0x3C;
    folder.write("state", &state);
    let sealed = folder.json(&format!("seal state -f {SEAL} --tokens prompt.json"));
    assert_eq!(sealed["padding_nonzero"]["tokens"], 1);
    let text = folder
        .ok(&format!("seal state -f {SEAL} --tokens prompt.json"))
        .out;
    assert!(text.contains("rolled-back tokens"), "{text}");
    folder.ok(&format!(
        "open a.kvcap --accept-unchecked model -o back {TRUST} --wrap-key reader.key"
    ));
    *state.last_mut().unwrap() = 0;
    assert!(folder.read("back") == state);
}

#[test]
fn help_is_there_for_every_verb() {
    let folder = Folder::empty();
    let top = folder.ok("--help").out;
    for verb in VERBS {
        assert!(top.contains(&format!("\n  {verb} ")), "{verb} in\n{top}");
        let short = folder.ok(&format!("{verb} -h")).out;
        let long = folder.ok(&format!("{verb} --help")).out;
        assert!(
            short.contains("Usage: kvcap") && long.contains("--json"),
            "{long}"
        );
        assert!(!short.lines().next().unwrap().ends_with('.'), "{short}");
    }
    assert!(top.contains("Exit status"), "{top}");
    assert!(folder.ok("--version").out.starts_with("kvcap "));
    let bare = folder.run("");
    assert_eq!(bare.exit, 2);
    assert!(bare.err.contains("Usage: kvcap"), "{}", bare.err);
}

#[test]
fn the_self_test_says_where_the_codecs_are_done() {
    let folder = Folder::empty();
    let text = folder.ok("selftest").out;
    assert!(text.starts_with("mlx: "), "{text}");
    let report = folder.json("selftest");
    let here = report["device"].is_string();
    assert_eq!(report["available"], here, "{report}");
    assert_eq!(text.contains("not in this build"), !here, "{text}");
}

#[test]
fn completions_and_manual_pages() {
    let folder = Folder::empty();
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let script = folder.ok(&format!("completions {shell}")).out;
        assert!(
            script.contains("keygen") && script.contains("wrap-key"),
            "{shell}"
        );
        assert_eq!(
            folder.json(&format!("completions {shell}"))["script"],
            script.as_str()
        );
    }
    folder.ok("man pages");
    let names = Folder::names(&folder);
    assert_eq!(names, ["pages"]);
    let page = |name: &str| String::from_utf8(folder.read(&format!("pages/{name}.1"))).unwrap();
    assert!(page("kvcap").contains("kvcap") && page("kvcap-seal").contains("ttl"));
    for verb in VERBS {
        assert!(page(&format!("kvcap-{verb}")).starts_with(".ie"), "{verb}");
    }
    assert!(page("kvcap-registry-add").contains("root\\-key"));
    // every page that a page refers to is there: kvcap\-registry\-add(1)
    let mut referred = 0;
    for entry in std::fs::read_dir(folder.path("pages")).unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        for (before, _) in text.match_indices("(1)").map(|(at, _)| text.split_at(at)) {
            let start = before.rfind([' ', '\n', '\t', '"']).map_or(0, |at| at + 1);
            let name = before[start..].replace("\\-", "-");
            let name = name.trim_start_matches("\\fB");
            assert!(folder.has(&format!("pages/{name}.1")), "{name}(1)");
            referred += 1;
        }
    }
    assert!(referred > 30, "{referred}");
    folder.refused("man pages", 941, 4);
    folder.ok("man pages --force");
}

#[test]
fn the_demo_tells_the_story() {
    let folder = Folder::empty();
    let text = folder.ok("demo").out;
    assert!(text.contains("identical: yes"), "{text}");
    for code in [301, 402, 601, 605, 805, 809] {
        assert!(text.contains(&format!("KVC-{code}")), "{text}");
    }
    assert!(text.lines().count() < 40, "one screen:\n{text}");
    assert!(folder.names().is_empty());
    let story = folder.json("demo");
    assert_eq!(story["identical"], true);
    let codes: Vec<u64> = story["refusals"]
        .as_array()
        .unwrap()
        .iter()
        .map(|refusal| refusal["error"]["code"].as_u64().unwrap())
        .collect();
    assert_eq!(codes, [402, 601, 805, 805, 301, 809, 605]);
}

#[test]
fn control_characters_never_reach_the_terminal() {
    let folder = Folder::sealed();
    let name = "bad\u{1b}[2Jname\u{202e}";
    let ran = folder.run(&format!("verify {name} {TRUST}"));
    assert_eq!(ran.exit, 4);
    assert!(
        !ran.err.contains('\u{1b}') && !ran.err.contains('\u{202e}'),
        "{:?}",
        ran.err
    );
    let ran = folder.run(&format!("keygen wrap -o {name}"));
    assert_eq!(ran.exit, 0);
    assert!(!ran.out.contains('\u{1b}'), "{:?}", ran.out);
    let ran = folder.run("nonsense\u{1b}[2J");
    assert_eq!(ran.exit, 2);
    assert!(!ran.err.contains('\u{1b}'), "{:?}", ran.err);
}

#[cfg(unix)]
#[test]
fn arguments_that_are_not_text_are_no_reason_to_crash() {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt};
    let folder = Folder::sealed();
    let odd = OsStr::from_bytes(b"\xFF\x1B");
    let exit = |line: &str| {
        let output = folder.command(line).arg(odd).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            text.starts_with("kvcap: error[KVC-9") && !text.contains('\u{1b}'),
            "{text:?}"
        );
        output.status.code()
    };
    assert_eq!(exit(""), Some(2));
    assert_eq!(exit("verify --trust issuer.key.pub"), Some(4));
    assert_eq!(exit("verify a.kvcap --trust"), Some(2));
    let made = folder.command("keygen wrap -o").arg(odd).status().unwrap();
    assert!(made.success());
}

#[test]
fn the_bench_of_suites_recommends_the_faster_one() {
    let folder = Folder::new();
    let told = folder.json("bench suites --rounds 1 --bytes 1048576");
    let suites = told["suites"].as_array().unwrap();
    assert_eq!(suites.len(), 2);
    for suite in suites {
        for rate in ["seal_bytes_per_second", "open_bytes_per_second"] {
            assert!(suite[rate].as_f64().unwrap() > 0.0, "{told}");
        }
    }
    assert_eq!(told["recommended"], suites[0]["suite"]);
    assert_eq!(told["provider"], kvcap::Suite::provider());
}

/// Hidden, and good for one version more.
#[test]
fn former_spellings_are_understood() {
    let folder = Folder::new();
    folder.ok(&format!("seal state.bin {SEAL} --org acme"));
    for line in [
        "verify a.kvcap --state memory",
        "validate-session a.kvcap --header-only",
        "receipt a.kvcap --prompt 17 --evaluated 1",
    ] {
        folder.ok(&format!("{line} {TRUST} --org acme"));
    }
    for (verb, former) in [
        ("", "validate-session"),
        ("", "receipt"),
        ("verify", "--org"),
        ("verify", "--state"),
        ("shred", "--no-org"),
    ] {
        let help = folder.ok(&format!("{verb} --help")).out;
        assert!(!help.contains(former), "{help}");
    }
    let secret = format!("verify a.kvcap {TRUST} --tenant acme --wrap-key reader.key");
    folder.refused(&secret, 944, 2);
    folder.refused(&format!("{secret} --timings --chain ."), 944, 2);
}

#[test]
fn a_made_state_has_its_length_and_comes_back() {
    let folder = Folder::new();
    folder.made(123_457);
    assert_eq!(folder.read("made").len(), 123_457);
    folder.ok("keygen sign -o made.key");
    folder.ok("keygen wrap -o made.wrap");
    folder.ok(
        "seal made -o made.kvcap --model made.kvid --sign-key made.key --wrap-key made.wrap \
         --ttl 1h --danger-no-prefix --compress",
    );
    folder
        .ok("open made.kvcap -o back --model made.kvid --trust made.key.pub --wrap-key made.wrap");
    assert_eq!(folder.read("made"), folder.read("back"));
}

/// A name out of a file ends where it ends, and hides nothing, in text and in JSON.
#[test]
fn names_out_of_files_are_not_words_of_ours() {
    let folder = Folder::new();
    folder.ok("model-id model -o model.kvid");
    let profile = String::from_utf8(folder.read("model.kvid")).unwrap();
    let at = profile.rfind("\"name\": \"").unwrap() + 9;
    let end = at + profile[at..].find('"').unwrap();
    let name = "tiny): the expected one\u{200b}\u{2060}\u{e0041}";
    folder.write(
        "model.kvid",
        format!("{}{name}{}", &profile[..at], &profile[end..]).as_bytes(),
    );
    folder.ok(&format!(
        "seal state.bin {}",
        SEAL.replace("--model model", "--model model.kvid")
    ));
    let shown = "(\"tiny): the expected one\\u{200b}\\u{2060}\\u{e0041}\")";
    for line in [
        format!("verify a.kvcap {TRUST}"),
        "inspect a.kvcap".to_owned(),
    ] {
        let out = folder.ok(&line).out;
        assert!(out.contains(shown), "{out}");
    }
    let out = folder.ok("inspect a.kvcap --json").out;
    assert!(
        !out.contains('\u{200b}') && !out.contains('\u{e0041}'),
        "{out}"
    );
    assert!(out.contains("\\u200b\\u2060\\udb40\\udc41"), "{out}");
    // the name of a file that is not there
    let ran = folder.run("verify no\u{9b}such --trust issuer.key.pub --json");
    assert!(ran.err.contains("no\\u{9b}such") && !ran.out.contains('\u{9b}'));
    assert!(ran.out.contains("no\\u009bsuch"), "{}", ran.out);
}

/// Whom a verifier trusts is not told to whoever sends it a capsule.
#[test]
fn a_stranger_learns_no_trusted_key() {
    let folder = Folder::sealed();
    let made = folder.json("keygen sign -o stranger.key");
    let id = made["key_id"].as_str().unwrap();
    let refused = folder.refused("verify a.kvcap --trust stranger.key.pub", 301, 1);
    assert!(!refused.err.contains(id), "{}", refused.err);
    let json = folder.run("verify a.kvcap --trust stranger.key.pub --json");
    assert!(!json.out.contains(id), "{}", json.out);
}
