//! Writes the test vectors as a binding's runner reads them: `cargo run -p kvcap-calls --example vector-settings OUT`.
//!
//! OUT gets the capsules, each with its ancestors in a folder of its own, and `list.tsv`, a line a vector: name, capsule,
//! code of `verify`, whether bytes that come one after another get that code too, accepted checks, ancestors, session, and
//! then settings as `name=value`. Left out are vectors whose context no setting says; the library's own tests hold to
//! these.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a tool of the tests: what it does not expect ends it"
)]

use std::{
    error::Error,
    fs,
    io::Read,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

/// What the vectors leave out.
const ACCEPTED: [&str; 4] = [
    "model",
    "speculative-prefill",
    "multi-token-prediction",
    "quantized-attention",
];
/// Stages that verification does not see.
const LATER: [&str; 4] = ["open", "read", "decode", "accept"];

fn main() -> Result<(), Box<dyn Error>> {
    let out = PathBuf::from(std::env::args_os().nth(1).ok_or("vector-settings OUT")?);
    let vectors = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testvectors/vectors");
    let index: Value = serde_json::from_slice(&fs::read(vectors.join("manifest.json"))?)?;
    let all = index["vectors"].as_array().unwrap();
    let mut lines = Vec::new();
    for vector in all {
        let context = over(&index["default_context"], &vector["context"]);
        if let Some(settings) = settings(&context, &vectors) {
            lines.push(line(vector, &context, &settings, &vectors, &out)?);
        }
    }
    println!("{} of {} vectors", lines.len(), all.len());
    assert!(lines.len() * 10 > all.len() * 7, "most can be said");
    fs::write(out.join("list.tsv"), lines.join("\n") + "\n")?;
    Ok(())
}

/// The default context with what a vector has of its own.
fn over(default: &Value, own: &Value) -> Value {
    let mut context = default.clone();
    for (name, value) in own.as_object().into_iter().flatten() {
        context[name] = value.clone();
    }
    context
}

/// A context as settings; none where a setting cannot say it.
fn settings(context: &Value, vectors: &Path) -> Option<Vec<(&'static str, String)>> {
    let expected = context["expected"].as_object().unwrap();
    let unset = |(name, value): (&String, &Value)| match name.as_str() {
        "runtime" | "session" => true,
        "banks" => value == &json!([]),
        _ => value.is_null(),
    };
    let mut said = expected.iter().all(unset)
        && context["limits"] == json!({})
        && context["suites"] == json!([1, 2])
        && context["skew"] == 60
        && context["later"].is_null()
        && context["memory"].is_null()
        && context["audiences"].as_array().unwrap().len() == 1;
    let mut made = Vec::new();
    let mut trusts = Vec::new();
    for key in context["trust"].as_array().unwrap() {
        said &= key["for_capsules"] == true
            && key["suites"] == json!([1, 2])
            && key["not_before"] == 0
            && key["compromised"] == false
            && key["sign_until"].is_null()
            && key["verify_until"].is_null();
        let text = key_text("kvcap-pub-1", key["key"].as_str().unwrap());
        let text = format!("issuer: {}\\n{text}", key["issuer"].as_str().unwrap());
        said &= !trusts.contains(&text);
        trusts.push(text);
    }
    let registry = &context["registry"];
    if !registry.is_null() {
        said &= trusts.is_empty() && registry["seen"].is_null() && registry["seen_roots"].is_null();
        let file = registry["files"].as_array().unwrap().last().unwrap();
        let file = vectors.join(file.as_str().unwrap());
        made.push(("registry", file.to_str().unwrap().to_owned()));
        let root = match registry["statement"].as_str() {
            Some(digest) => key_text("kvcap-roots-1", digest),
            None => key_text("kvcap-root-1", registry["root"].as_str().unwrap()),
        };
        let issuers = registry["issuers"].as_array().into_iter().flatten();
        let issuers = issuers.map(|issuer| format!("issuer: {}\\n", issuer.as_str().unwrap()));
        let root = issuers.collect::<String>() + &root;
        made.push(("registry_root", root));
    }
    if !said || (trusts.is_empty() && made.is_empty()) {
        return None;
    }
    made.extend(trusts.into_iter().map(|text| ("trust", text)));
    let texts = [
        ("audience", &context["audiences"][0]),
        ("subject", &context["subject"]),
        ("tenant", &context["organisation"]),
        ("runtime", &expected["runtime"][0]),
        ("runtime_version", &expected["runtime"][1]),
        ("scope", &context["scope"]),
        ("at", &context["now"]),
        ("max_lifetime", &context["max_lifetime"]),
    ];
    for (name, value) in texts {
        match value {
            Value::Null => {}
            Value::String(text) => made.push((name, text.clone())),
            number => made.push((name, number.to_string())),
        }
    }
    Some(made)
}

fn line(
    vector: &Value,
    context: &Value,
    settings: &[(&str, String)],
    vectors: &Path,
    out: &Path,
) -> Result<String, Box<dyn Error>> {
    let (name, file) = (text(&vector["name"]), text(&vector["file"]));
    // apart from the other vectors, since ancestors are looked for beside those that are named
    let folder = out.join(&name);
    fs::create_dir_all(&folder)?;
    let capsule = folder.join("capsule.kvcap");
    fs::write(&capsule, content(&vectors.join(&file))?)?;
    let mut chain = Vec::new();
    for parent in context["parents"].as_array().unwrap() {
        let to = folder.join(Path::new(&text(parent)).file_name().unwrap());
        fs::copy(vectors.join(text(parent)), &to)?;
        chain.push(to.to_str().unwrap().to_owned());
    }
    let later = LATER.contains(&text(&vector["stage"]).as_str());
    // what only opening sees is accepted here; of a chain in a wrong order, any order is taken
    let accepted = later || name == "chain_member_left_out";
    let code = if accepted {
        0
    } else {
        vector["code"].as_u64().unwrap()
    };
    let mut accept = ACCEPTED.to_vec();
    if text(&vector["stage"]) == "open" || chain.is_empty() {
        // what of a chain is left out is missed when it is opened
        accept.push("ancestors");
    }
    let session = match &context["expected"]["session"] {
        Value::Array(parts) => parts
            .iter()
            .map(|part| match part {
                Value::Null => String::new(),
                Value::String(text) => text.clone(),
                number => number.to_string(),
            })
            .collect::<Vec<_>>()
            .join(","),
        _ => String::new(),
    };
    let settings = settings
        .iter()
        .map(|(name, value)| format!("{name}={value}"));
    let mut fields = vec![
        name,
        capsule.to_str().unwrap().to_owned(),
        code.to_string(),
        u8::from(chain.is_empty()).to_string(),
        accept.join(","),
        chain.join(","),
        session,
    ];
    fields.extend(settings);
    assert!(fields.iter().all(|field| !field.contains(['\t', '\n'])));
    Ok(fields.join("\t"))
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

fn content(path: &Path) -> Result<Vec<u8>, Box<dyn Error>> {
    let stored = fs::read(path)?;
    if path.extension().is_none_or(|kind| kind != "gz") {
        return Ok(stored);
    }
    let mut plain = Vec::new();
    flate2::read::GzDecoder::new(stored.as_slice()).read_to_end(&mut plain)?;
    Ok(plain)
}

/// A public key as its file has it, whatever its bytes are.
fn key_text(kind: &str, hex: &str) -> String {
    let bytes = |at: usize| u8::from_str_radix(hex.get(at..at + 2).unwrap(), 16).unwrap();
    let key: Vec<u8> = (0..hex.len()).step_by(2).map(bytes).collect();
    let mut hasher = blake3::Hasher::new_derive_key("kvcap v1 key file");
    hasher.update(kind.as_bytes()).update(&key);
    let checksum: String = hasher
        .finalize()
        .to_hex()
        .get(..8)
        .unwrap_or_default()
        .into();
    format!("{kind}{hex}{checksum}")
}
