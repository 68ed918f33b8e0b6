//! Every codec vector on every path of this machine.

#![allow(
    clippy::unwrap_used,
    reason = "a test that meets what it does not expect fails"
)]

use std::path::Path;

use kvcap_codecs::Scratch;
use kvcap_testvectors::{
    codec_set::{self, Vector},
    generate::load,
};
use serde_json::Value;

fn vectors() -> Vec<Vector> {
    let all: Value = serde_json::from_slice(&load(Path::new(codec_set::FILE))).unwrap();
    assert_eq!(all["format"], 1);
    serde_json::from_value(all["vectors"].clone()).unwrap()
}

#[test]
fn every_vector_on_every_path() {
    let vectors = vectors();
    assert!(vectors.len() > 300, "{} vectors", vectors.len());
    let mut failures = Vec::new();
    for path in Scratch::paths() {
        let mut scratch = Scratch::with_path(path).unwrap();
        for vector in &vectors {
            if let Err(error) = vector.check(&mut scratch) {
                failures.push(format!("{} on {path}: {error}", vector.name));
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// A vector that states other bytes than the right ones is not passed over.
#[test]
fn a_wrong_vector_fails() {
    let mut scratch = Scratch::with_path("reference").unwrap();
    let short = |vector: &Vector| vector.code == 0 && vector.name.contains("edges");
    for vector in vectors().into_iter().filter(short) {
        let other = Some(codec_set::bytes::Bytes::Hex("00".to_owned()));
        let mut wrong = vector.clone();
        wrong.encoded.clone_from(&other);
        assert!(wrong.check(&mut scratch).is_err(), "{}", vector.name);
        wrong.clone_from(&vector);
        wrong.decoded = other;
        assert!(wrong.check(&mut scratch).is_err(), "{}", vector.name);
        wrong.clone_from(&vector);
        wrong.code = 902;
        assert!(wrong.check(&mut scratch).is_err(), "{}", vector.name);
    }
}

#[test]
fn the_file_is_fresh() {
    assert!(
        load(Path::new(codec_set::FILE)) == codec_set::text().as_bytes(),
        "codec/vectors.json.gz is stale: run the generator"
    );
}
