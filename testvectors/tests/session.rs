//! Every session vector by the library.

#![allow(
    clippy::unwrap_used,
    reason = "a test that meets what it does not expect fails"
)]

use std::{collections::BTreeSet, path::Path};

use kvcap_testvectors::{generate::load, session_set};
use serde_json::Value;

fn vectors() -> Vec<Value> {
    let all: Value = serde_json::from_slice(&load(Path::new(session_set::FILE))).unwrap();
    assert_eq!(all["format"], 1);
    all["vectors"].as_array().unwrap().clone()
}

/// What the library does instead of what the vector states.
fn fault(vector: &Value) -> Option<String> {
    let found = session_set::run(vector["operation"].as_str().unwrap(), &vector["input"]);
    let stated = vector["code"].as_u64().unwrap();
    let (code, output) = match &found {
        Ok(output) => (0, Some(output)),
        Err(error) => (u64::from(error.code().number()), None),
    };
    (code != stated || output != vector.get("output"))
        .then(|| format!("{}: {stated} stated, {found:?}", vector["name"]))
}

#[test]
fn every_vector() {
    let vectors = vectors();
    assert!(vectors.len() > 200, "{} vectors", vectors.len());
    let names: BTreeSet<_> = vectors
        .iter()
        .map(|vector| vector["name"].to_string())
        .collect();
    assert_eq!(names.len(), vectors.len(), "a name twice");
    let faults: Vec<String> = vectors.iter().filter_map(fault).collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// A vector that states another outcome than the right one is not passed over.
#[test]
fn a_wrong_vector_fails() {
    for vector in vectors() {
        let mut wrong = vector.clone();
        wrong["code"] = 999.into();
        assert!(fault(&wrong).is_some(), "{}", vector["name"]);
        wrong.clone_from(&vector);
        wrong["output"] = "another".into();
        assert!(fault(&wrong).is_some(), "{}", vector["name"]);
    }
}

#[test]
fn the_file_is_fresh() {
    assert!(
        load(Path::new(session_set::FILE)) == session_set::text().as_bytes(),
        "session/vectors.json.gz is stale: run the generator"
    );
}
