//! The envelope by a COSE library that nobody here wrote: what we accept is a COSE_Sign1 of RFC 9052
//! whose signature verifies with a generic tool.

#![allow(
    clippy::unwrap_used,
    reason = "a test that meets what it does not expect fails"
)]

use std::path::Path;

use coset::{
    AsCborValue as _, CoseSign1, RegisteredLabelWithPrivate, TaggedCborSerializable as _,
    cwt::ClaimsSet, iana::Algorithm,
};
use ed25519_dalek::{Signature, VerifyingKey};
use kvcap_testvectors::{
    context::Context,
    generate::{load, manifest},
    hex::unhex,
    parts::lengths,
};
use serde_json::Value;

fn envelope(file: &[u8]) -> CoseSign1 {
    CoseSign1::from_tagged_slice(&file[64..64 + lengths(file).0]).unwrap()
}

fn verifies(sign1: &CoseSign1, key: &str) -> bool {
    let key = VerifyingKey::from_bytes(&unhex(key)).unwrap();
    let check = |signature: &[u8], message: &[u8]| {
        let signature = Signature::from_slice(signature)?;
        key.verify_strict(message, &signature)
    };
    sign1.verify_signature(b"", check).is_ok()
}

fn vectors() -> (Context, Vec<Value>) {
    let manifest = manifest();
    let default = serde_json::from_value(manifest["default_context"].clone()).unwrap();
    (default, manifest["vectors"].as_array().unwrap().clone())
}

#[test]
fn every_accepted_envelope_is_a_cose_sign1() {
    let (default, vectors) = vectors();
    let mut count = 0;
    for vector in vectors.iter().filter(|vector| vector["code"] == 0) {
        let name = &vector["name"];
        let file = load(Path::new(vector["file"].as_str().unwrap()));
        let context = Context::merged(&default, &vector["context"]);
        let sign1 = envelope(&file);
        // a vector that trusts a registry names no key: its registry lists the default ones
        let mut keys = context.trust.iter().chain(&default.trust);
        assert!(keys.any(|trusted| verifies(&sign1, &trusted.key)), "{name}");
        let header = &sign1.protected.header;
        let algorithm = RegisteredLabelWithPrivate::Assigned(Algorithm::Ed25519);
        assert_eq!(header.alg, Some(algorithm), "{name}");
        assert!(header.crit.is_empty(), "{name}");
        assert!(sign1.unprotected.is_empty(), "{name}");
        assert_eq!(header.key_id.len(), 16, "{name}");
        // label 15, CWT claims in the header (RFC 9597)
        let (_, claims) = header
            .rest
            .iter()
            .find(|(label, _)| *label == coset::Label::Int(15))
            .unwrap();
        let claims = ClaimsSet::from_cbor_value(claims.clone()).unwrap();
        assert!(
            context
                .audiences
                .contains(claims.audience.as_ref().unwrap()),
            "{name}"
        );
        assert_eq!(claims.cwt_id.unwrap().len(), 16, "{name}");
        count += 1;
    }
    assert!(count > 50, "{count} vectors");
}

/// The oracle sees a changed byte too.
#[test]
fn a_changed_envelope_does_not_verify() {
    let (default, vectors) = vectors();
    let key = &default.trust[0].key;
    let file = |name: &str| {
        let vector = vectors
            .iter()
            .find(|vector| vector["name"] == name)
            .unwrap();
        load(Path::new(vector["file"].as_str().unwrap()))
    };
    assert!(verifies(&envelope(&file("base")), key));
    for name in [
        "sig_bitflip",
        "payload_bitflip",
        "exp_bitflip",
        "sig_external_aad",
        "sig_raw_payload",
    ] {
        assert!(!verifies(&envelope(&file(name)), key), "{name}");
    }
}
