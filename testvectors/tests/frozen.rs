//! Every capsule that was ever frozen is opened, to the same bytes.

#![allow(
    clippy::unwrap_used,
    reason = "a test that meets what it does not expect fails"
)]

use std::{collections::BTreeSet, fs, path::Path};

use kvcap_testvectors::{
    frozen::{FOLDERS, FROZEN, KINDS, context, index},
    generate::{load, sha256},
    reader::{Entry, run},
};

#[test]
fn every_frozen_capsule_is_opened() {
    for (folder, digest) in FOLDERS {
        let (found, index) = index(folder);
        assert_eq!(found, digest, "{folder} is never written again");
        for vector in index["vectors"].as_array().unwrap() {
            let name = &vector["name"];
            let path = Path::new(FROZEN)
                .join(folder)
                .join(vector["file"].as_str().unwrap());
            let file = load(&path);
            assert_eq!(vector["sha256"], sha256(&file), "{folder}: {name}");
            let context = context(folder, &index, vector);
            for entry in [Entry::Slice, Entry::OneByte] {
                let outcome = run(entry, &file, &path, &context);
                assert_eq!(outcome.code, 0, "{folder}: {name} by {entry:?}");
                assert_eq!(
                    vector["released"]["sha256"],
                    sha256(&outcome.released),
                    "{name}"
                );
                for (bank, stream) in outcome
                    .banks
                    .iter()
                    .zip(vector["streams"].as_array().unwrap())
                {
                    let bank = bank.as_ref().map(|bank| sha256(bank));
                    assert_eq!(stream["bank"].as_str(), bank.as_deref(), "{name}");
                }
            }
        }
    }
}

/// Nothing lies beside the frozen folders, and something of every kind is in them.
#[test]
fn the_corpus_is_whole() {
    let there = fs::read_dir(FROZEN).unwrap();
    let there: BTreeSet<String> = there
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    let wanted = FOLDERS.map(|(folder, _)| folder.to_owned());
    assert_eq!(there, BTreeSet::from(wanted));
    let (_, index) = index("v1.0");
    let vectors = index["vectors"].as_array().unwrap();
    let names: BTreeSet<&str> = vectors
        .iter()
        .map(|v| v["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, BTreeSet::from(KINDS));
}
