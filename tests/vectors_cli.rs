//! The test vectors by the command line: exit status and code.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use kvcap::{Code, Outcome, PublicKey, RecipientKind, WrappingKey};
use serde_json::{Value, json};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../testvectors/vectors");

/// The index, each vector with its whole context.
fn vectors() -> Vec<Value> {
    let text = fs::read(Path::new(FOLDER).join("manifest.json")).unwrap();
    let manifest: Value = serde_json::from_slice(&text).unwrap();
    let whole = |vector: &Value| {
        let mut vector = vector.clone();
        let mut context = manifest["default_context"].clone();
        for (name, value) in vector["context"].as_object().unwrap() {
            context[name] = value.clone();
        }
        vector["context"] = context;
        vector
    };
    let vectors = manifest["vectors"].as_array().unwrap();
    vectors.iter().map(whole).collect()
}

fn bytes(hex: &Value) -> [u8; 32] {
    let hex = hex.as_str().unwrap();
    std::array::from_fn(|n| u8::from_str_radix(&hex[2 * n..2 * n + 2], 16).unwrap())
}

/// The file of a vector; one that is stored by gzip is unpacked into `folder`.
fn file(vector: &Value, folder: &Path) -> PathBuf {
    let stored = Path::new(FOLDER).join(vector["file"].as_str().unwrap());
    if stored.extension().is_none_or(|extension| extension != "gz") {
        return stored;
    }
    let path = folder.join("unpacked.kvcap");
    let mut packed = flate2::read::GzDecoder::new(fs::File::open(stored).unwrap());
    std::io::copy(&mut packed, &mut fs::File::create(&path).unwrap()).unwrap();
    path
}

fn folder(name: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::create_dir_all(&folder).unwrap();
    folder
}

/// The arguments that stand for a context, where the command line has them all.
fn arguments(context: &Value) -> Option<Vec<String>> {
    let nothing = json!({
        "model": null, "runtime": null, "layout": null, "dtypes": null,
        "positions": null, "prefix": null, "banks": [], "capsule": null,
    });
    let plain = context["expected"] == nothing
        && context["limits"] == json!({})
        && context["suites"] == json!([1, 2])
        && context["skew"] == 60
        && context["later"].is_null()
        && context["reads"] == json!([])
        && context["parents"] == json!([])
        && context["registry"].is_null()
        && context["memory"].is_null();
    let trust = context["trust"].as_array().unwrap();
    let mut list = Vec::new();
    for trusted in trust {
        let whole = trusted["issuer"].is_null()
            && trusted["for_capsules"] == true
            && trusted["suites"] == json!([1, 2])
            && trusted["not_before"] == 0
            && trusted["sign_until"].is_null()
            && trusted["verify_until"].is_null()
            && trusted["compromised"] == false;
        let key = PublicKey::from_bytes(&bytes(&trusted["key"])).ok()?;
        let text = key.to_text();
        if !whole || list.contains(&text) {
            return None;
        }
        list.extend(["--trust".to_owned(), text]);
    }
    if !plain || list.is_empty() {
        return None;
    }
    let text = |value: &Value| value.as_str().map(str::to_owned);
    for name in context["audiences"].as_array().unwrap() {
        list.extend(["--audience".to_owned(), text(name)?]);
    }
    for (option, name) in [
        ("--subject", "subject"),
        ("--org", "organisation"),
        ("--scope", "scope"),
    ] {
        if let Some(value) = text(&context[name]) {
            list.extend([option.to_owned(), value]);
        }
    }
    list.extend(["--at".to_owned(), context["now"].to_string()]);
    list.extend([
        "--max-lifetime".to_owned(),
        format!("{}s", context["max_lifetime"]),
    ]);
    Some(list)
}

fn kvcap(verb: &str, file: &Path, arguments: &[String]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_kvcap"))
        .arg(verb)
        .arg(file)
        .args(arguments)
        .arg("--json")
        .output()
        .unwrap()
}

fn status(code: u16) -> i32 {
    match Code::from_number(code).map(Code::outcome) {
        None => 0,
        Some(Outcome::Refused) => 1,
        Some(Outcome::Usage) => 2,
        Some(Outcome::Malformed) => 3,
        Some(Outcome::Io) => 4,
    }
}

/// Exit status, and the code on stderr.
fn expect(vector: &Value, code: u16, output: &Output) {
    let name = &vector["name"];
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(status(code)), "{name}: {said}");
    let line = format!("kvcap: error[KVC-{code}]: ");
    assert!(code == 0 || said.starts_with(&line), "{name}: {said}");
}

fn code(vector: &Value) -> u16 {
    u16::try_from(vector["code"].as_u64().unwrap()).unwrap()
}

#[test]
fn verify_says_what_the_vectors_say() {
    let (folder, mut count) = (folder("vectors_cli_verify"), 0);
    for vector in vectors() {
        let Some(arguments) = arguments(&vector["context"]) else {
            continue;
        };
        // what only a key can find is accepted by who has none
        let found = ["header", "verify", "body"].contains(&vector["stage"].as_str().unwrap());
        let file = file(&vector, &folder);
        let output = kvcap("verify", &file, &arguments);
        expect(&vector, if found { code(&vector) } else { 0 }, &output);
        count += 1;
    }
    assert!(count > 250, "{count} vectors");
}

/// Opening one section: what is refused before it is read, and nothing is left behind.
#[test]
fn open_says_what_the_vectors_say() {
    let folder = folder("vectors_cli_open");
    let (key_file, out) = (folder.join("key"), folder.join("out"));
    let mut count = 0;
    for vector in vectors() {
        let context = &vector["context"];
        let Some(mut arguments) = arguments(context).filter(|_| !context["wrapping_key"].is_null())
        else {
            continue;
        };
        let stage = vector["stage"].as_str().unwrap();
        let base = vector["name"] == "base";
        if !base && !["header", "verify", "open"].contains(&stage) {
            continue;
        }
        let kind = RecipientKind::from_number(context["wrapping_type"].as_u64().unwrap());
        let key = WrappingKey::of(kind.unwrap(), bytes(&context["wrapping_key"]));
        let _absent = fs::remove_file(&key_file);
        write_secret(&key_file, &key.to_secret_text());
        let _absent = fs::remove_file(&out);
        for (option, value) in [("--wrap-key", &key_file), ("-o", &out)] {
            arguments.extend([option.to_owned(), value.to_str().unwrap().to_owned()]);
        }
        arguments.extend(["--section".to_owned(), "tokens".to_owned()]);
        let file = file(&vector, &folder);
        expect(&vector, code(&vector), &kvcap("open", &file, &arguments));
        assert_eq!(out.exists(), base, "{}", vector["name"]);
        count += 1;
    }
    assert!(count > 200, "{count} vectors");
}

fn write_secret(path: &Path, text: &str) {
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    std::io::Write::write_all(&mut options.open(path).unwrap(), text.as_bytes()).unwrap();
}
