//! The files of `vectors/` and their `manifest.json`.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Read as _, Write as _},
    path::Path,
};

use flate2::{Compression, read::GzDecoder, write::GzEncoder};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::{
    case::{Case, Made, Stage},
    cases,
    context::Context,
    fixture,
    hex::hex,
    reader::{self, Entry},
    rows,
};

/// Folder of the files.
pub const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/vectors");
/// Files longer than this are stored by gzip, under a name that ends in `.gz`.
const PLAIN: usize = 32 << 10;

/// The content of a file of the folder, or of a file elsewhere; of none, nothing.
#[must_use]
pub fn load(name: &Path) -> Vec<u8> {
    let stored = fs::read(Path::new(FOLDER).join(name)).unwrap_or_default();
    if stored.is_empty() || name.extension().is_none_or(|extension| extension != "gz") {
        return stored;
    }
    let mut bytes = Vec::new();
    GzDecoder::new(&stored[..]).read_to_end(&mut bytes).unwrap();
    bytes
}

/// The index.
#[must_use]
pub fn manifest() -> Value {
    serde_json::from_slice(&load(Path::new("manifest.json"))).unwrap()
}

/// SHA-256 in hexadecimal.
#[must_use]
pub fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// What a reader gives out, by what the capsule's maker put in.
fn released(case: &Case, made: &Made) -> Vec<u8> {
    let all = made.plain.concat();
    if case.stage != Stage::Accept {
        return all[..made.released].to_vec();
    }
    if made.context.wrapping_key.is_none() {
        return Vec::new();
    }
    if made.context.reads.is_empty() {
        return all;
    }
    let part = |range: &crate::context::Range| {
        &made.plain[range.stream][range.start as usize..range.end as usize]
    };
    made.context.reads.iter().flat_map(part).copied().collect()
}

/// The code that a remote caller sees (CAP-A-3).
fn public(code: u16) -> u16 {
    match code {
        803 | 804 | 806 | 901..=905 => 806,
        other => other,
    }
}

fn entry(group: &str, case: &Case, made: &Made, file: &str, flag: &str) -> Value {
    let released = released(case, made);
    let mut entry = json!({
        "name": case.name,
        "group": group,
        "what": case.what,
        "file": file,
        "sha256": sha256(&made.file),
        "kind": case.kind.letter(),
        "flags": if flag.is_empty() { json!([]) } else { json!([flag]) },
        "rules": case.rules,
        "context": made.context.difference(&Context::default()),
        "code": case.code,
        "public": public(case.code),
        "stage": case.stage.name(),
        "released": { "len": released.len(), "sha256": sha256(&released) },
    });
    let short = made.plain.len() <= 64; // the largest are told by `released` alone
    let whole = short && made.context.reads.is_empty() && made.context.wrapping_key.is_some();
    if case.stage == Stage::Accept && whole {
        let outcome = reader::run(Entry::Slice, &made.file, Path::new(""), &made.context);
        let banks = |index: usize| match outcome.banks.get(index) {
            Some(Some(bank)) => json!(sha256(bank)),
            _ => Value::Null,
        };
        entry["streams"] = made
            .plain
            .iter()
            .enumerate()
            .map(|(n, bytes)| json!({ "len": bytes.len(), "sha256": sha256(bytes), "bank": banks(n) }))
            .collect();
    }
    entry
}

/// Every file of the folder by its name, as it must be.
#[must_use]
pub fn files() -> BTreeMap<String, Vec<u8>> {
    let flags: BTreeMap<_, _> = rows::rows()
        .into_iter()
        .map(|row| (row.name, row.flag))
        .collect();
    let mut files = BTreeMap::new();
    let mut names: BTreeMap<String, String> = BTreeMap::new();
    let mut entries = Vec::new();
    for (group, case) in cases::all() {
        let made = (case.make)();
        let name = names
            .entry(sha256(&made.file))
            .or_insert_with(|| {
                let packed = if made.file.len() > PLAIN { ".gz" } else { "" };
                format!("{}.kvcap{packed}", case.name)
            })
            .clone();
        let flag = flags.get(case.name).copied().unwrap_or_default();
        entries.push(entry(group, case, &made, &name, flag).to_string());
        files.entry(name).or_insert(made.file);
        files.extend(made.context.held);
    }
    let text = format!(
        "{{\n\"format\": 1,\n\"secrets\": {},\n\"default_context\": {},\n\"vectors\": [\n{}\n]\n}}\n",
        json!({
            "sign_seed": hex(&fixture::SIGN_SEED),
            "other_sign_seed": hex(&fixture::OTHER_SEED),
            "wrap_key": hex(&fixture::WRAP_KEY),
            "other_wrap_key": hex(&fixture::OTHER_WRAP),
            "hpke_key": hex(&fixture::HPKE_KEY),
            "xwing_key": hex(&fixture::XWING_KEY),
        }),
        json!(Context::default()),
        entries.join(",\n"),
    );
    files.insert("manifest.json".to_owned(), text.into_bytes());
    files
}

/// Writes a file, by gzip where its name ends in `.gz`.
///
/// # Errors
/// As the file system.
pub fn store(path: &Path, bytes: &[u8]) -> io::Result<()> {
    if path.extension().is_none_or(|extension| extension != "gz") {
        return fs::write(path, bytes);
    }
    let mut packer = GzEncoder::new(fs::File::create(path)?, Compression::best());
    packer.write_all(bytes)?;
    packer.finish().map(drop)
}

/// Writes the folder beside itself and puts it in place.
///
/// # Errors
/// As the file system.
pub fn write(folder: &Path) -> io::Result<usize> {
    let (new, old) = (folder.with_extension("new"), folder.with_extension("old"));
    for leftover in [&new, &old] {
        if leftover.exists() {
            fs::remove_dir_all(leftover)?;
        }
    }
    fs::create_dir_all(&new)?;
    let files = files();
    for (name, bytes) in &files {
        store(&new.join(name), bytes)?;
    }
    if folder.exists() {
        fs::rename(folder, &old)?;
    }
    fs::rename(&new, folder)?;
    if old.exists() {
        fs::remove_dir_all(old)?;
    }
    Ok(files.len())
}
