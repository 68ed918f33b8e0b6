//! Registries under several roots (registry-v1 §8), by whomever and of whatever form.

use std::ops::Range;

use ciborium::Value;
use kvcap::RootPublic;

use crate::{
    parts::{self, sig_structure, sign},
    raw::{encode, int, text},
    schedule::b3,
};

/// Seed of a key.
pub type Seed = [u8; 32];

/// Statement about roots.
#[derive(Clone)]
#[allow(missing_docs, reason = "registry-v1 §8.3 describes each field")]
pub struct Says {
    pub version: u64,
    pub issued: u64,
    pub expires: u64,
    pub chain: Vec<u8>,
    pub threshold: u64,
    pub roots: Vec<(Seed, Option<Vec<&'static str>>)>,
    pub stamps: Vec<Seed>,
    pub previous: Option<Vec<u8>>,
}

/// Id of a root.
#[must_use]
pub fn id(seed: &Seed) -> Vec<u8> {
    let root = RootPublic::from_bytes(&parts::public(seed)).unwrap();
    root.id().0.to_vec()
}

fn bytes(part: &[u8]) -> Value {
    Value::Bytes(part.to_vec())
}

fn number(value: u64) -> Value {
    Value::Integer(value.into())
}

/// Payload of a statement.
#[must_use]
pub fn payload(says: &Says) -> Vec<u8> {
    let mut roots = says.roots.clone();
    roots.sort_by_cached_key(|(seed, _)| id(seed));
    let mut stamps = says.stamps.clone();
    stamps.sort_by_cached_key(id);
    let root = |(seed, issuers): &(Seed, Option<Vec<&'static str>>)| {
        let mut entry = vec![(int(1), bytes(&parts::public(seed)))];
        if let Some(issuers) = issuers {
            let names = issuers.iter().map(|name| text(name)).collect();
            entry.push((int(2), Value::Array(names)));
        }
        Value::Map(entry)
    };
    let stamp = |seed: &Seed| bytes(&parts::public(seed));
    let mut entries = vec![
        (int(1), int(1)),
        (int(2), number(says.version)),
        (int(3), number(says.issued)),
        (int(4), number(says.expires)),
        (int(5), bytes(&says.chain)),
        (int(6), number(says.threshold)),
        (int(7), Value::Array(roots.iter().map(root).collect())),
        (int(8), Value::Array(stamps.iter().map(stamp).collect())),
    ];
    if let Some(previous) = &says.previous {
        entries.push((int(9), bytes(previous)));
    }
    encode(&Value::Map(entries))
}

/// Digest of a statement.
#[must_use]
pub fn digest(says: &Says) -> Vec<u8> {
    b3("kvcap v1 roots", &[&payload(says)]).to_vec()
}

/// Content type and type of a statement.
pub const ROOTS: [&str; 2] = [
    "application/vnd.kvcap.roots+cbor",
    "application/vnd.kvcap.roots",
];
/// Content type and type of a listing.
pub const LISTING: [&str; 2] = [
    "application/vnd.kvcap.keys+cbor",
    "application/vnd.kvcap.registry",
];

const STAMP: [&str; 2] = [
    "application/vnd.kvcap.timestamp+cbor",
    "application/vnd.kvcap.timestamp",
];

/// Header of a document.
#[must_use]
pub fn header([content, typ]: [&str; 2]) -> Vec<u8> {
    encode(&Value::Map(vec![
        (int(3), text(content)),
        (int(16), text(typ)),
    ]))
}

fn signature_header(seed: &Seed) -> Vec<u8> {
    encode(&Value::Map(vec![
        (int(1), int(-19)),
        (int(4), bytes(&id(seed))),
    ]))
}

/// A COSE_Sign by these, in their order: each in the name of a root, by a key.
#[must_use]
pub fn in_order(header: &[u8], payload: &[u8], signers: &[(Seed, Seed)]) -> Vec<u8> {
    let signature = |(name, seed): &(Seed, Seed)| {
        let own = signature_header(name);
        let structure = encode(&Value::Array(vec![
            text("Signature"),
            bytes(header),
            bytes(&own),
            bytes(b""),
            bytes(payload),
        ]));
        Value::Array(vec![
            bytes(&own),
            Value::Map(Vec::new()),
            bytes(&sign(seed, &structure)),
        ])
    };
    encode(&Value::Tag(
        98,
        Box::new(Value::Array(vec![
            bytes(header),
            Value::Map(Vec::new()),
            bytes(payload),
            Value::Array(signers.iter().map(signature).collect()),
        ])),
    ))
}

/// A COSE_Sign by these roots, in the order of their ids.
#[must_use]
pub fn document(kind: [&str; 2], payload: &[u8], signers: &[Seed]) -> Vec<u8> {
    let mut signers: Vec<(Seed, Seed)> = signers.iter().map(|seed| (*seed, *seed)).collect();
    signers.sort_by_cached_key(|(name, _)| id(name));
    in_order(&header(kind), payload, &signers)
}

/// A registry's file.
#[must_use]
pub fn bundle(statements: &[Vec<u8>], listing: &[u8], stamps: &[Vec<u8>]) -> Vec<u8> {
    let all = |parts: &[Vec<u8>]| Value::Array(parts.iter().map(|part| bytes(part)).collect());
    encode(&Value::Array(vec![
        all(statements),
        bytes(listing),
        all(stamps),
    ]))
}

/// A timestamp from and until these times, of a listing of this chain, version and digest.
#[must_use]
pub fn stamp(seed: &Seed, times: Range<u64>, chain: &[u8], version: u64, of: &[u8]) -> Vec<u8> {
    let payload = encode(&Value::Map(vec![
        (int(1), int(1)),
        (int(2), number(times.start)),
        (int(3), number(times.end)),
        (int(4), bytes(chain)),
        (int(5), number(version)),
        (int(6), bytes(of)),
    ]));
    sign1(seed, STAMP, &id(seed), &payload)
}

/// A COSE_Sign1 without claims, of a content type and type, in the name of a key's id.
#[must_use]
pub fn sign1(seed: &Seed, [content, typ]: [&str; 2], id: &[u8], payload: &[u8]) -> Vec<u8> {
    let header = encode(&Value::Map(vec![
        (int(1), int(-19)),
        (int(3), text(content)),
        (int(4), bytes(id)),
        (int(16), text(typ)),
    ]));
    let signature = sign(seed, &sig_structure("Signature1", &header, b"", payload));
    let body = encode(&Value::Array(vec![
        bytes(&header),
        Value::Map(Vec::new()),
        bytes(payload),
        bytes(&signature),
    ]));
    [&[0xD2][..], &body].concat()
}
