//! The test vectors by the command line: exit status and code.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use kvcap::{Code, Outcome, RecipientKind, WrappingKey, binding::Digest};
use kvcap_states::RuntimeKind;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

/// What the vectors leave out.
const ACCEPTED: &str = "model,speculative-prefill,multi-token-prediction,quantized-attention";

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

/// The files of public keys, by their digests: the same for every run of the tests.
fn keys() -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("vectors_cli_keys");
    fs::create_dir_all(&folder).unwrap();
    folder
}

/// The text of a public key, weak ones too.
fn key_text(tag: &str, key: &[u8; 32]) -> String {
    let check = Digest::labelled("kvcap v1 key file", &[tag.as_bytes(), key]);
    let hex = |bytes: &[u8]| -> String { bytes.iter().map(|b| format!("{b:02x}")).collect() };
    format!("{tag}{}{}", hex(key), hex(&check.0[..4]))
}

/// The file of a public key and its issuer.
fn key_file(key: &[u8; 32], issuer: &str) -> String {
    let text = format!("issuer: {issuer}\n{}\n", key_text("kvcap-pub-1", key));
    let name = Digest::labelled("the name of a test's key file", &[text.as_bytes()]);
    let path = keys().join(format!("{name}.pub"));
    if !path.exists() {
        let new = path.with_extension(format!(
            "{}{:?}",
            std::process::id(),
            std::thread::current().id()
        ));
        fs::write(&new, text).unwrap();
        fs::rename(new, &path).unwrap();
    }
    path.to_str().unwrap().to_owned()
}

/// What is trusted, and why the command line cannot say it.
fn trust(context: &Value) -> Result<Vec<String>, &'static str> {
    let mut list: Vec<String> = Vec::new();
    for trusted in context["trust"].as_array().unwrap() {
        let whole = trusted["for_capsules"] == true
            && trusted["suites"] == json!([1, 2])
            && trusted["not_before"] == 0
            && trusted["sign_until"].is_null()
            && trusted["verify_until"].is_null()
            && trusted["compromised"] == false;
        if !whole {
            return Err("a key's limits stand in a registry, not in an option");
        }
        let path = key_file(&bytes(&trusted["key"]), trusted["issuer"].as_str().unwrap());
        if list.contains(&path) {
            return Err("a key that is named twice is one key");
        }
        list.extend(["--trust".to_owned(), path]);
    }
    if let Some(registry) = context["registry"].as_object() {
        if !list.is_empty() {
            return Err("where a root is given, the program trusts no key beside it");
        }
        if !registry["seen"].is_null() || registry.contains_key("seen_roots") {
            return Err("--ledger judges by the machine's clock alone");
        }
        let newest = registry["files"].as_array().unwrap().last().unwrap();
        list.extend(["--registry".to_owned(), stored(newest)]);
        let root = match registry.get("statement") {
            Some(digest) => key_text("kvcap-roots-1", &bytes(digest)),
            None => key_text("kvcap-root-1", &bytes(&registry["root"])),
        };
        let issuers = registry.get("issuers").and_then(Value::as_array);
        let issuers = issuers.into_iter().flatten();
        let issuers = issuers.map(|issuer| format!("issuer: {}\n", issuer.as_str().unwrap()));
        let root = issuers.collect::<String>() + &root;
        list.extend(["--registry-root".to_owned(), root]);
    }
    match list.is_empty() {
        true => Err("--trust is required"),
        false => Ok(list),
    }
}

/// The path of a file beside the index.
fn stored(name: &Value) -> String {
    let path = Path::new(FOLDER).join(name.as_str().unwrap());
    path.to_str().unwrap().to_owned()
}

/// The arguments that stand for a context, or why there are none. Those that stay out are held to
/// by the library's tests (`testvectors/tests/vectors.rs`), what `--ledger` remembers by
/// `registry_cli`, and models by `cli`.
fn arguments(context: &Value) -> Result<Vec<String>, &'static str> {
    let mut list = trust(context)?;
    let unset = json!({
        "model": null, "runtime": null, "layout": null, "dtypes": null,
        "positions": null, "prefix": null, "banks": [], "capsule": null, "session": null,
    });
    let mut expected = context["expected"].clone();
    let runtime = expected["runtime"].take();
    let session = expected["session"].take();
    let said = [
        (
            expected == unset,
            "--model reads a model; a runtime alone is named",
        ),
        (
            context["limits"] == json!({}),
            "limits are the specification's",
        ),
        (context["suites"] == json!([1, 2]), "all suites are allowed"),
        (context["skew"] == 60, "the skew is the specification's"),
        (context["later"].is_null(), "there is one clock"),
        (
            context["memory"].is_null(),
            "--ledger judges by the machine's clock alone",
        ),
    ];
    if let Some((_, reason)) = said.iter().find(|(said, _)| !said) {
        return Err(reason);
    }
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    if let [name, version] = runtime.as_array().map_or(&[][..], Vec::as_slice) {
        let kind = RuntimeKind::from_runtime(name.as_str().unwrap()).unwrap();
        let version = version.as_str().map_or(String::new(), |v| format!("={v}"));
        list.extend(["--runtime".to_owned(), format!("{}{version}", kind.name())]);
    }
    if let [id, version, cursor] = session.as_array().map_or(&[][..], Vec::as_slice) {
        list.extend(["--session".to_owned(), text(id)]);
        for (option, number) in [("--session-version", version), ("--replay-cursor", cursor)] {
            if !number.is_null() {
                list.extend([option.to_owned(), number.to_string()]);
            }
        }
    }
    for name in context["audiences"].as_array().unwrap() {
        list.extend(["--audience".to_owned(), text(name)]);
    }
    for (option, name) in [
        ("--subject", "subject"),
        ("--tenant", "organisation"),
        ("--scope", "scope"),
    ] {
        if !context[name].is_null() {
            list.extend([option.to_owned(), text(&context[name])]);
        }
    }
    list.extend(["--at".to_owned(), context["now"].to_string()]);
    list.extend([
        "--max-lifetime".to_owned(),
        format!("{}s", context["max_lifetime"]),
    ]);
    // the library's callers accept what the program's have to by name
    list.extend(["--accept-unchecked".to_owned(), ACCEPTED.to_owned()]);
    let parents = context["parents"].as_array().unwrap();
    if !parents.is_empty() {
        list.push("--chain".to_owned());
        list.extend(parents.iter().map(stored));
    }
    Ok(list)
}

fn kvcap(verb: &str, file: &Path, arguments: &[String]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kvcap"));
    kvcap_testkit::isolated(&mut command, Path::new(env!("CARGO_TARGET_TMPDIR")))
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
    if vector["name"] == "chain_member_left_out" {
        return 0; // it is the order that is wrong, and `--chain` takes any
    }
    u16::try_from(vector["code"].as_u64().unwrap()).unwrap()
}

#[test]
fn verify_says_what_the_vectors_say() {
    let (folder, mut count) = (TempDir::new().unwrap(), 0);
    let mut left_out = BTreeMap::new();
    for vector in vectors() {
        let mut arguments = match arguments(&vector["context"]) {
            Ok(arguments) => arguments,
            Err(reason) => {
                *left_out.entry(reason).or_insert(0) += 1;
                continue;
            }
        };
        // what only a key can find is accepted by who has none
        let stages = ["trust", "header", "verify", "chain", "body"];
        let found = stages.contains(&vector["stage"].as_str().unwrap())
            || vector["name"] == "chain_ends_early"; // the program misses the parent before it has a key
        let file = file(&vector, folder.path());
        if vector["context"]["parents"].as_array().unwrap().is_empty() {
            arguments.extend(["--accept-unchecked".to_owned(), "ancestors".to_owned()]);
        }
        let output = kvcap("verify", &file, &arguments);
        expect(&vector, if found { code(&vector) } else { 0 }, &output);
        count += 1;
    }
    let without: i32 = left_out.values().sum();
    println!("{count} vectors; {without} without: {left_out:#?}");
    assert!(
        count > 490 && without < 90,
        "{count}, {without}: {left_out:?}"
    );
}

/// Opening one section: what is refused before it is read leaves nothing behind, and what is accepted
/// gives the section's bytes, where there is one.
#[test]
fn open_says_what_the_vectors_say() {
    let home = TempDir::new().unwrap();
    let folder = home.path();
    let (key_file, out) = (folder.join("key"), folder.join("out"));
    let (mut count, mut written) = (0, 0);
    for vector in vectors() {
        let context = &vector["context"];
        let Ok(mut arguments) = arguments(context) else {
            continue;
        };
        let stage = vector["stage"].as_str().unwrap();
        let stages = ["trust", "header", "verify", "chain", "open", "accept"];
        if context["wrapping_key"].is_null() || !stages.contains(&stage) {
            continue;
        }
        let kind = RecipientKind::from_number(context["wrapping_type"].as_u64().unwrap());
        let key = WrappingKey::of(kind.unwrap(), bytes(&context["wrapping_key"]));
        let _absent = fs::remove_file(&key_file);
        write_secret(&key_file, &key.to_secret_text().unwrap());
        let _absent = fs::remove_file(&out);
        for (option, value) in [("--wrap-key", &key_file), ("-o", &out)] {
            arguments.extend([option.to_owned(), value.to_str().unwrap().to_owned()]);
        }
        arguments.extend(["--section".to_owned(), "tokens".to_owned()]);
        let file = file(&vector, folder);
        let output = kvcap("open", &file, &arguments);
        count += 1;
        if code(&vector) != 0 {
            expect(&vector, code(&vector), &output);
            assert!(!out.exists(), "{}", vector["name"]);
            continue;
        }
        let absent = Code::BodyRange.number(); // it has no such section
        if String::from_utf8_lossy(&output.stderr).contains(&format!("KVC-{absent}")) {
            expect(&vector, absent, &output);
            continue;
        }
        expect(&vector, 0, &output);
        let found: String = Sha256::digest(fs::read(&out).unwrap())
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let mut streams = vector["streams"].as_array().into_iter().flatten();
        assert!(
            vector["streams"].is_null() || streams.any(|stream| stream["sha256"] == found),
            "{}",
            vector["name"]
        );
        written += 1;
    }
    assert!(
        count > 380 && written > 60,
        "{count} vectors, {written} accepted"
    );
}

fn write_secret(path: &Path, text: &str) {
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    std::io::Write::write_all(&mut options.open(path).unwrap(), text.as_bytes()).unwrap();
}
