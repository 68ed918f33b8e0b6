//! Every vector of what lies beside capsules, by the library.

#![allow(
    clippy::unwrap_used,
    reason = "a test that meets what it does not expect fails"
)]

use std::{collections::BTreeSet, path::Path};

use kvcap_testvectors::{beside_set, generate::load};
use serde_json::Value;

fn vectors() -> Vec<Value> {
    let all: Value = serde_json::from_slice(&load(Path::new(beside_set::FILE))).unwrap();
    assert_eq!(all["format"], 1);
    all["vectors"].as_array().unwrap().clone()
}

/// What the library makes of a vector: code and output.
fn found(vector: &Value) -> (u64, Option<Value>) {
    let made = beside_set::run(vector["operation"].as_str().unwrap(), &vector["input"]);
    match made {
        Ok(output) => (0, Some(output)),
        Err(error) => (u64::from(error.code().number()), None),
    }
}

fn agrees(found: &(u64, Option<Value>), vector: &Value) -> bool {
    vector["code"].as_u64() == Some(found.0) && vector.get("output") == found.1.as_ref()
}

/// Each gives what it states, and would not pass for another.
#[test]
fn every_vector() {
    let vectors = vectors();
    let names: BTreeSet<String> = vectors.iter().map(|one| one["name"].to_string()).collect();
    assert_eq!(names.len(), vectors.len(), "a name twice");
    let mut faults = Vec::new();
    for vector in &vectors {
        let found = found(vector);
        if !agrees(&found, vector) {
            faults.push(format!("{}: {found:?}", vector["name"]));
        }
        let mut wrong = vector.clone();
        wrong["code"] = 999.into();
        assert!(!agrees(&found, &wrong), "{}", vector["name"]);
        wrong.clone_from(vector);
        wrong["output"] = "another".into();
        assert!(!agrees(&found, &wrong), "{}", vector["name"]);
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn the_file_is_fresh() {
    assert!(
        load(Path::new(beside_set::FILE)) == beside_set::text().as_bytes(),
        "beside/vectors.json is stale: run the generator"
    );
}
