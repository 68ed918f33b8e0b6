//! Profiles through the program: `init`, what needs no flag after it, what outranks what, and what is refused.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use super::support::{Folder, KEYS, PROMPT, Ran, SEAL, TRUST};

const VERSION: &str = "9870 (0c1e57098)";

/// Puts a program of this name, which prints this, on the path that [`with_path`] gives.
fn program(folder: &Folder, name: &str, script: &str) {
    let bin = folder.path("bin");
    fs::create_dir_all(&bin).unwrap();
    let path = bin.join(name);
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// Runs with variables, and with the folder's own programs alone on the path.
fn with(folder: &Folder, line: &str, variables: &[(&str, &str)]) -> Ran {
    let mut command = folder.command(line);
    command.env(
        "PATH",
        format!("{}:/usr/bin:/bin", folder.path("bin").display()),
    );
    command.envs(variables.iter().copied());
    Ran::of(command.stdin(std::process::Stdio::null()).output().unwrap())
}

fn config(folder: &Folder) -> std::path::PathBuf {
    folder.home().join("config/kvcap/config.toml")
}

fn configure(folder: &Folder, text: &str) {
    fs::create_dir_all(config(folder).parent().unwrap()).unwrap();
    fs::write(config(folder), text).unwrap();
    fs::set_permissions(config(folder), fs::Permissions::from_mode(0o600)).unwrap();
}

#[test]
fn after_init_the_daily_commands_need_no_flag() {
    let folder = Folder::new();
    program(
        &folder,
        "llama-server",
        &format!("echo 'version: {VERSION}' >&2"),
    );
    let made = with(
        &folder,
        "init --model model --runtime llama-cpp --issuer lab --json",
        &[],
    )
    .json();
    assert_eq!(made["runtime_version"], VERSION);
    let context = made["context_size"].as_u64().unwrap();
    assert!(context > 0);
    folder.ok("seal state.bin");
    let verified = folder.json("verify state.bin.kvcap");
    let unchecked = verified["unchecked"].to_string();
    for named in ["model", "freshness", "runtime-version", "context-size"] {
        assert!(!unchecked.contains(&format!("\"{named}\"")), "{unchecked}");
    }
    assert_eq!(verified["issuer"], "lab");
    // the state is still there, and stays
    folder.refused("open state.bin.kvcap", 941, 4);
    fs::rename(folder.path("state.bin"), folder.path("original")).unwrap();
    folder.ok("open state.bin.kvcap");
    assert_eq!(folder.read("state.bin"), folder.read("original"));
    // the other verbs, too
    folder.ok("renew state.bin.kvcap -o renewed.kvcap");
    folder.ok("compact state.bin.kvcap -o compact.kvcap");
    folder.ok("check-restore state.bin.kvcap --prompt 20 --evaluated 4");
    // another runtime's version is not expected of what flags name
    folder.ok("verify state.bin.kvcap --runtime llama-cpp");
    folder.refused("verify state.bin.kvcap --runtime mlx-lm", 608, 1);
    folder.refused("verify state.bin.kvcap --profile none", 944, 2);
    folder.refused("verify state.bin.kvcap --trust issuer.key.pub", 301, 1);
    folder.refused("verify state.bin.kvcap --audience else", 405, 1);
}

#[test]
fn a_second_init_is_refused_or_adds_a_profile() {
    let folder = Folder::new();
    folder.ok("init --yes --issuer one --model model");
    let before = fs::read_to_string(config(&folder)).unwrap();
    folder.refused("init --yes", 941, 4);
    assert_eq!(fs::read_to_string(config(&folder)).unwrap(), before);
    let said = folder
        .ok("init --yes --profile two --issuer second --ttl 2h --key-folder")
        .out;
    assert!(said.contains("kvcap seal STATE --profile two"), "{said}");
    assert!(
        fs::read_to_string(config(&folder))
            .unwrap()
            .starts_with(&before)
    );
    let sealed = folder.json("seal state.bin -o b.kvcap --profile two --model model");
    assert_eq!(sealed["ok"], true);
    let verified = folder.json("verify b.kvcap --profile two");
    assert_eq!(verified["issuer"], "second");
    // the first does not trust the second
    folder.refused("verify b.kvcap", 301, 1);
    folder.ok("verify b.kvcap --profile two");
    folder.refused("init --profile none --yes", 945, 2);
    folder.refused("init --profile ../x --yes", 945, 2);
}

#[test]
fn settings_are_shown_with_where_they_come_from() {
    let folder = Folder::new();
    configure(
        &folder,
        "[profiles.default]\nissuer = \"lab\"\naudience = \"gpu\"\nttl = \"1h\"\n",
    );
    let line = "profile show --issuer me --json";
    let shown = with(&folder, line, &[("KVCAP_AUDIENCE", "cpu")]).json();
    let of = |key: &str| {
        let settings = shown["settings"].as_array().unwrap();
        let found = settings.iter().find(|setting| setting["key"] == key);
        found.unwrap().clone()
    };
    assert_eq!(
        (
            of("issuer")["values"][0].as_str(),
            of("issuer")["origin"].as_str()
        ),
        (Some("me"), Some("flag"))
    );
    assert_eq!(of("audience")["variable"], "KVCAP_AUDIENCE");
    assert_eq!(of("audience")["values"][0], "cpu");
    assert_eq!(of("ttl")["line"], 4);
    // and what is shown is what is sealed with
    let mut seal = folder.command(&format!(
        "seal state.bin -o a.kvcap --model model --issuer lab {KEYS} --json"
    ));
    let sealed = Ran::of(seal.env("KVCAP_AUDIENCE", "cpu").output().unwrap());
    assert_eq!(sealed.json()["ok"], true, "{}", sealed.err);
    folder.ok(&format!("verify a.kvcap {TRUST} --audience cpu"));
    folder.refused(&format!("verify a.kvcap {TRUST}"), 405, 1);
}

#[test]
fn a_faulty_configuration_names_the_line_and_hides_nothing() {
    let folder = Folder::sealed();
    configure(&folder, "[profiles.default]\n\nisuer = \"lab\"\n");
    let refused = folder.refused("verify a.kvcap", 945, 2);
    assert!(
        refused.err.contains("config.toml:3: the key is not known"),
        "{}",
        refused.err
    );
    // without a profile, and where none is taken
    folder.ok(&format!("verify a.kvcap {TRUST} --profile none"));
    folder.ok("inspect a.kvcap");
    folder.ok("verify --help");
    folder.ok("demo");
    // a value that its flag refuses
    configure(&folder, "[profiles.default]\nencoding = \"q9\"\n");
    let refused = folder.refused(&format!("seal state.bin {SEAL} --force"), 945, 2);
    assert!(
        refused
            .err
            .contains("config.toml:2: encoding cannot be this"),
        "{}",
        refused.err
    );
    folder.ok(&format!("seal state.bin {SEAL} --force --encoding q8"));
    // others can write it
    configure(&folder, "[profiles.default]\n");
    folder.ok(&format!("verify a.kvcap {TRUST}"));
    fs::set_permissions(config(&folder), fs::Permissions::from_mode(0o666)).unwrap();
    folder.refused(&format!("verify a.kvcap {TRUST}"), 945, 2);
}

#[test]
fn no_profile_trusts_beside_a_root() {
    let folder = Folder::sealed();
    folder.ok("keygen root -o root.key");
    folder.ok("registry init r.kvreg --root-key root.key --ttl 30d");
    let here = folder.path("");
    let text = format!(
        "[profiles.default]\nregistry = \"{0}r.kvreg\"\nregistry-root = \"{0}root.key.pub\"\n",
        here.display()
    );
    fs::set_permissions(
        folder.path("root.key.pub"),
        fs::Permissions::from_mode(0o644),
    )
    .unwrap();
    fs::set_permissions(
        folder.path("issuer.key.pub"),
        fs::Permissions::from_mode(0o644),
    )
    .unwrap();
    configure(&folder, &text);
    // the registry lists nobody
    folder.refused("verify a.kvcap", 301, 1);
    // a flag's key replaces the registry, as it is said
    folder.ok(&format!("verify a.kvcap {TRUST}"));
    // and never stands beside it
    let both = format!("{text}trust = \"{}issuer.key.pub\"\n", here.display());
    configure(&folder, &both);
    folder.refused("verify a.kvcap", 944, 2);
}

#[test]
fn a_public_keys_whole_file_is_its_text() {
    let folder = Folder::sealed();
    let text = fs::read_to_string(folder.path("issuer.key.pub")).unwrap();
    assert!(text.starts_with('#') && text.contains("issuer: lab"));
    let mut command = folder.command("verify a.kvcap");
    let ran = Ran::of(
        command
            .arg("--trust")
            .arg(text.trim_end())
            .output()
            .unwrap(),
    );
    assert_eq!(ran.exit, 0, "{}", ran.err);
}

#[test]
fn keys_under_a_passphrase_need_it() {
    let folder = Folder::new();
    folder.write("pass", b"correct horse\n");
    folder.write("wrong", b"incorrect horse\n");
    for name in ["pass", "wrong"] {
        fs::set_permissions(folder.path(name), fs::Permissions::from_mode(0o600)).unwrap();
    }
    let (pass, wrong) = (
        ("KVCAP_PASSPHRASE_FILE", "pass"),
        ("KVCAP_PASSPHRASE_FILE", "wrong"),
    );
    // nobody to ask
    folder.refused("init --yes --passphrase --model model", 946, 2);
    let made = with(
        &folder,
        "init --yes --passphrase --model model --issuer lab --json",
        &[pass],
    )
    .json();
    assert_eq!(made["passphrase"], true);
    let secret = fs::read_to_string(made["sign_key"].as_str().unwrap()).unwrap();
    assert!(secret.contains("KVCAP-SECRET-LOCKED-1") && !secret.contains("KVCAP-SECRET-SIGN"));
    folder.refused("seal state.bin", 946, 2);
    with(&folder, "seal state.bin", &[wrong]).check_refused("seal", 946, 2);
    assert!(!folder.has("state.bin.kvcap"));
    assert_eq!(with(&folder, "seal state.bin", &[pass]).exit, 0);
    folder.ok("verify state.bin.kvcap");
    folder.refused("open state.bin.kvcap -o out", 946, 2);
    assert_eq!(
        with(&folder, "open state.bin.kvcap -o out", &[pass]).exit,
        0
    );
    assert_eq!(folder.read("out"), folder.read("state.bin"));
    fs::set_permissions(folder.path("pass"), fs::Permissions::from_mode(0o644)).unwrap();
    with(&folder, "open state.bin.kvcap -o out2", &[pass]).check_refused("open", 943, 2);
}

#[test]
fn outputs_have_names_of_their_own() {
    let folder = Folder::new();
    let rest = format!("--model model --ttl 1h {KEYS}");
    folder.ok(&format!("seal state.bin {rest}"));
    assert!(folder.has("state.bin.kvcap"));
    folder.refused(&format!("seal state.bin {rest}"), 941, 4);
    folder.refused(&format!("seal - {rest}"), 944, 2);
    folder.refused(&format!("seal state.bin --force {rest}"), 944, 2);
    let open = format!("{TRUST} --wrap-key reader.key --model model");
    folder.refused(
        &format!("open state.bin.kvcap {open} --section tokens"),
        944,
        2,
    );
    folder.refused(&format!("open - {open}"), 944, 2);
    fs::copy(folder.path("state.bin.kvcap"), folder.path("other")).unwrap();
    folder.refused(&format!("open other {open}"), 944, 2);
    folder.write("prompt2.json", PROMPT.as_bytes());
    folder.refused(
        "seal state.bin -o x.kvcap --model model --ttl 1h --sign-key issuer.key",
        944,
        2,
    );
}

/// Every test that runs the program does so without its user's own settings.
#[test]
fn no_test_reads_the_users_configuration() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/cli");
    let (mut waiting, mut found) = (vec![folder], 0);
    while let Some(folder) = waiting.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                waiting.push(path);
                continue;
            }
            let text = fs::read_to_string(&path).unwrap_or_default();
            if text.contains(concat!("CARGO_BIN_EXE", "_kvcap\"")) {
                found += 1;
                assert!(text.contains("isolated("), "{}", path.display());
            }
        }
    }
    assert!(found >= 4, "{found}");
}
