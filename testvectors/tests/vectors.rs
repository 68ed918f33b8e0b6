//! Every vector through every way into the library.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that meets what it does not expect fails"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use kvcap::{Fed, PrefixValue, PushHeader, SectionKind, Stream, Untrusted, Workers};
use kvcap_testvectors::{
    cases,
    context::Context,
    example,
    generate::{FOLDER, files, load, manifest, sha256},
    parts::regions,
    reader::{Entry, run},
    rows::rows,
};
use serde_json::Value;

/// The file by itself: where it is stored by gzip, its content in a file beside the build.
fn on_disk(name: &Path, file: &[u8]) -> PathBuf {
    if name.extension().is_none_or(|extension| extension != "gz") {
        return Path::new(FOLDER).join(name);
    }
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name.with_extension(""));
    if fs::read(&path).is_ok_and(|found| found == file) {
        return path;
    }
    // whole or not at all: another run of the tests may read it
    let new = path.with_extension(std::process::id().to_string());
    fs::write(&new, file).unwrap();
    fs::rename(new, &path).unwrap();
    path
}

/// The code, the released bytes, and for readers that check the body first the stage too.
fn check(entry: Entry, vector: &Value, default: &Context) -> Result<(), String> {
    let name = Path::new(vector["file"].as_str().unwrap());
    let file = load(name);
    let path = on_disk(name, &file);
    assert_eq!(vector["sha256"], sha256(&file), "{}", vector["name"]);
    let context = Context::merged(default, &vector["context"]);
    let outcome = run(entry, &file, &path, &context);
    let same = |what: &str, want: &Value, found: Value| {
        let name = vector["name"].as_str().unwrap();
        (*want == found)
            .then_some(())
            .ok_or_else(|| format!("{name} by {entry:?}: {what} {found}, expected {want}"))
    };
    let stage = outcome.stage.unwrap().name();
    same("code", &vector["code"], outcome.code.into())?;
    same("public", &vector["public"], outcome.public.into())?;
    let early = ["trust", "header", "verify", "accept"].contains(&stage);
    if early || entry.checks_body() || vector["stage"] != "body" {
        same("stage", &vector["stage"], stage.into())?;
    }
    // who checks the body first gives out nothing of a body that is not right
    if entry.checks_body() && stage == "body" {
        return same("released bytes", &0.into(), outcome.released.len().into());
    }
    let released = &vector["released"];
    same(
        "released bytes",
        &released["len"],
        outcome.released.len().into(),
    )?;
    same(
        "released",
        &released["sha256"],
        sha256(&outcome.released).into(),
    )?;
    for (bank, stream) in outcome
        .banks
        .iter()
        .zip(vector["streams"].as_array().into_iter().flatten())
    {
        let found = bank
            .as_ref()
            .map_or(Value::Null, |bank| sha256(bank).into());
        same("bank", &stream["bank"], found)?;
    }
    Ok(())
}

#[test]
fn every_vector_by_every_entry() {
    let manifest = manifest();
    let default: Context = serde_json::from_value(manifest["default_context"].clone()).unwrap();
    let vectors = manifest["vectors"].as_array().unwrap();
    assert!(vectors.len() > 300, "{} vectors", vectors.len());
    let failures: Vec<String> = Entry::ALL
        .into_iter()
        .flat_map(|entry| vectors.iter().map(move |vector| (entry, vector)))
        .filter_map(|(entry, vector)| check(entry, vector, &default).err())
        .take(300) // a fault that breaks them all is known by then
        .collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// A prologue is decided with its 64th byte, a header with the last before the tables.
#[test]
fn a_header_is_decided_with_its_last_byte() {
    let manifest = manifest();
    let default: Context = serde_json::from_value(manifest["default_context"].clone()).unwrap();
    let vectors = manifest["vectors"].as_array().unwrap();
    for vector in vectors.iter().filter(|vector| vector["code"] == 0) {
        let file = load(Path::new(vector["file"].as_str().unwrap()));
        let limits = Context::merged(&default, &vector["context"]).limits();
        let envelope_len = u32::from_le_bytes(file[12..16].try_into().unwrap());
        let end = (64 + usize::try_from(envelope_len).unwrap()).next_multiple_of(4096);
        let mut most = &file[..end - 1];
        let Fed::More(header) = PushHeader::new(&limits).feed(&mut most).unwrap() else {
            panic!("{}: a header without its last byte", vector["name"]);
        };
        assert_eq!(header.header_len(), u64::try_from(end).ok());
        let mut rest = &file[end - 1..];
        let fed = header.feed(&mut rest).unwrap();
        assert!(matches!(fed, Fed::Header(_)), "{}", vector["name"]);
        assert_eq!(rest.len(), file.len() - end, "{}", vector["name"]);
    }
    let none = PushHeader::new(&kvcap::Limits::default()).feed(&mut &[0; 63][..]);
    let Fed::More(header) = none.unwrap() else {
        panic!("63 bytes are no prologue");
    };
    assert_eq!(header.header_len(), None);
    let refused = header.feed(&mut &[0][..]).unwrap_err();
    assert_eq!(refused.code().number(), 102);
}

/// What a header says before and after it is verified, of every file that is accepted.
#[test]
fn headers_say_what_files_are() {
    let manifest = manifest();
    let default: Context = serde_json::from_value(manifest["default_context"].clone()).unwrap();
    let vectors = manifest["vectors"].as_array().unwrap();
    for vector in vectors.iter().filter(|vector| vector["code"] == 0) {
        let name = &vector["name"];
        let file = load(Path::new(vector["file"].as_str().unwrap()));
        let context = Context::merged(&default, &vector["context"]);
        let untrusted = Untrusted::read_at(file.as_slice(), &context.limits()).unwrap();
        assert_eq!(untrusted.file_len(), file.len() as u64, "{name}");
        let outline = untrusted.outline().unwrap();
        let (claims, lineage) = (untrusted.claims().clone(), untrusted.lineage().unwrap());
        let trust = context.trust().unwrap();
        let now = context.now;
        let verified = context.with_policy(&trust, now, |policy| untrusted.verify(policy));
        let verified = verified.unwrap();
        let manifest = verified.manifest();
        assert_eq!(verified.file_len(), file.len() as u64, "{name}");
        assert_eq!(verified.lineage(), lineage, "{name}");
        assert_eq!(manifest.claims, claims, "{name}");
        assert_eq!(
            outline.streams.len(),
            manifest.context.streams.len(),
            "{name}"
        );
        let kind = context.key().map(|key| (key.id(), key.kind()));
        assert!(
            kind.is_none_or(|own| verified.recipients().any(|entry| entry == own)),
            "{name}"
        );
    }
}

/// What a reader is told beside the bytes, of every file that is accepted and stands by itself.
#[test]
fn openings_say_what_was_checked_and_read() {
    let manifest = manifest();
    let default: Context = serde_json::from_value(manifest["default_context"].clone()).unwrap();
    let vectors = manifest["vectors"].as_array().unwrap();
    let mut prompts = 0;
    for vector in vectors.iter().filter(|vector| vector["code"] == 0) {
        let name = &vector["name"];
        let file = load(Path::new(vector["file"].as_str().unwrap()));
        let context = Context::merged(&default, &vector["context"]);
        let trust = context.trust().unwrap();
        let untrusted = Untrusted::read_at(file.as_slice(), &context.limits()).unwrap();
        let verified = context.with_policy(&trust, context.now, |policy| untrusted.verify(policy));
        let verified = verified.unwrap();
        let after_header = (file.len() - regions(&file).0) as u64;
        let report = verified.check_body_at(&file, Workers::new(2), &mut |_| {});
        let report = report.unwrap();
        assert_eq!(report.bytes, after_header, "{name}");
        let pushed = verified.push_body().feed(&file[regions(&file).0..]);
        let arrived = pushed.unwrap().finish().unwrap();
        let accepted = context.with_policy(&trust, context.now, |policy| arrived.accept(policy));
        assert_eq!(accepted.unwrap(), report, "{name}");
        let (Some(key), None) = (context.key(), &verified.manifest().context.parent) else {
            continue;
        };
        let opened = verified.open(&file, &key).unwrap().danger_unrecorded();
        let told = &opened.manifest().context;
        let mut reader = opened.stream(0).unwrap();
        for (index, stream) in told.streams.iter().enumerate() {
            let before = opened.bytes_read();
            let bytes = opened.stream_bytes(index).unwrap();
            assert!(opened.bytes_read() >= before + bytes.len() as u64, "{name}");
            if let Some(expected) = vector["streams"].get(index) {
                assert_eq!(expected["sha256"], sha256(&bytes), "{name}");
            }
            reader.go_to(index).unwrap();
            assert_eq!(reader.len(), bytes.len() as u64, "{name}");
            assert_eq!(reader.is_empty(), bytes.is_empty(), "{name}");
            let chunks = reader.len().div_ceil(reader.chunk_len());
            let mut by_chunk = Vec::new();
            for at in 0..chunks {
                by_chunk.extend_from_slice(reader.chunk(at).unwrap());
            }
            assert!(by_chunk == bytes, "{name}");
            let beyond = reader.chunk(chunks).unwrap_err();
            assert_eq!(beyond.code().number(), 810, "{name}");
            // of several of a kind the first; not of thousands
            if index < 64
                && let Stream::Section(section) = stream
                && told.section(&section.kind).map(|(first, _)| first) == Some(index)
            {
                assert_eq!(
                    opened.section(&section.kind).unwrap(),
                    Some(bytes),
                    "{name}"
                );
            }
        }
        let beyond = reader.go_to(told.streams.len()).unwrap_err();
        assert_eq!(beyond.code().number(), 810, "{name}");
        assert!(opened.bytes_read() <= 4 * after_header, "{name}");
        let missing = SectionKind::Other("nobody/nothing".to_owned());
        assert_eq!(opened.section(&missing).unwrap(), None, "{name}");
        if let Some(tokens) = opened.tokens().unwrap() {
            prompts += 1;
            opened.check_prompt(&tokens).unwrap();
            let prompt = PrefixValue::of(&tokens);
            assert_eq!(opened.prompt().unwrap(), Some(prompt), "{name}");
        }
        let other = opened.check_prompt(&[u32::MAX]).unwrap_err();
        assert_eq!(other.code().number(), 605, "{name}");
    }
    assert!(prompts > 0);
}

/// Rows that no stream uses are zero to the last, whether the body is checked first or not.
#[test]
fn unused_rows_are_zero_to_the_end() {
    let manifest = manifest();
    let default: Context = serde_json::from_value(manifest["default_context"].clone()).unwrap();
    let vectors = manifest["vectors"].as_array().unwrap();
    let vector = vectors
        .iter()
        .find(|vector| vector["name"] == "tables_at_limit");
    let context = Context::merged(&default, &vector.unwrap()["context"]);
    let (trust, key) = (context.trust().unwrap(), context.key().unwrap());
    let mut file = load(Path::new("tables_at_limit.kvcap.gz"));
    let (tables_at, body_at) = regions(&file);
    for at in [tables_at + 9000, body_at - 5000, body_at - 1] {
        file[at] = 1;
        let untrusted = Untrusted::read_at(&file, &context.limits()).unwrap();
        let verified = context.with_policy(&trust, context.now, |policy| untrusted.verify(policy));
        let verified = verified.unwrap();
        let checked = verified.check_body_at(&file, Workers::ONE, &mut |_| {});
        assert_eq!(checked.unwrap_err().code().number(), 107, "check, {at}");
        let Err(refused) = verified.open(&file, &key) else {
            panic!("byte {at} is not looked at");
        };
        assert_eq!(refused.code().number(), 107, "open, {at}");
        file[at] = 0;
    }
}

/// Generating again gives what is checked in, and nothing else lies there.
#[test]
fn the_folder_is_fresh() {
    let wanted = files();
    let mut size = 0;
    for (name, bytes) in &wanted {
        let found = load(Path::new(name));
        assert!(found == *bytes, "{name} is stale: run the generator");
        size += fs::metadata(Path::new(FOLDER).join(name)).unwrap().len();
    }
    let there: BTreeSet<String> = fs::read_dir(FOLDER)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(there, wanted.keys().cloned().collect::<BTreeSet<_>>());
    assert!(size < 11 << 20, "{size} bytes");
}

#[test]
fn the_worked_example_is_fresh() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../spec/example.md");
    let found = fs::read_to_string(path).unwrap_or_default();
    assert!(
        found == example::text(),
        "spec/example.md is stale: run the generator"
    );
}

/// Each row of the list has a vector with its code, or a reason.
#[test]
fn every_row_is_accounted_for() {
    let cases: BTreeMap<_, _> = cases::all().map(|(_, case)| (case.name, case)).collect();
    assert_eq!(cases.len(), cases::all().count(), "two cases have one name");
    let rows = rows();
    assert_eq!(rows.len(), 216);
    let names: BTreeSet<_> = rows.iter().map(|row| row.name).collect();
    assert_eq!(names.len(), 216, "a row stands twice");
    for row in rows {
        match (row.code, cases.get(row.name)) {
            (Some(code), Some(case)) => assert_eq!(code, case.code, "{}", row.name),
            (Some(_), None) => panic!("{} has no vector", row.name),
            (None, Some(_)) => panic!("{} has a vector and a reason against it", row.name),
            (None, None) => {}
        }
        let differs = row.code != Some(row.stated);
        assert!(
            !differs || !row.note.is_empty(),
            "{} has no reason",
            row.name
        );
    }
}

/// The tables of the README name vectors that there are, and all that are accepted.
#[test]
fn the_readme_names_vectors() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
    let text = fs::read_to_string(path).unwrap();
    let names: BTreeSet<_> = cases::all().map(|(_, case)| case.name).collect();
    let accepted = text
        .split("\n## ")
        .find(|part| part.starts_with("What must be accepted"));
    for (_, case) in cases::all().filter(|(_, case)| case.code == 0) {
        let named = accepted.unwrap().contains(&format!("`{}`", case.name));
        assert!(named, "{} is accepted and in no table", case.name);
    }
    let (mut tables, mut count) = (false, 0);
    for line in text.lines() {
        if line.starts_with("## ") {
            tables = !["`manifest.json`", "Vector"]
                .iter()
                .any(|head| line.contains(head));
        }
        let words = line.split('`').skip(1).step_by(2);
        let plain = |word: &&str| {
            !word.is_empty() && word.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        };
        if !tables || !line.starts_with('|') {
            continue;
        }
        for word in words.filter(plain).filter(|word| word.contains('_')) {
            assert!(names.contains(word), "no vector {word}: {line}");
            count += 1;
        }
    }
    assert!(count > 100, "{count} names");
}
