//! Registries of keys and revocations (registry-v1): which of them a verifier goes by.

use ciborium::Value;
use kvcap::{CapsuleId, Change, PublicKey, Registry, RootKey, TrustedKey, UntrustedRegistry};

use super::chain::chain;
use crate::{
    case::{Made, keys},
    cases,
    context::{RegistryFiles, Trusted},
    fixture::{self, Capsule, ISSUED, NOW, OTHER_SEED, SIGN_SEED},
    hex::hex,
    lineage::three,
    parts::{self, Parts, sig_structure, sign},
    raw::{byte_string, edit_map, encode, int},
    schedule::b3,
};

pub(super) const ROOT: [u8; 32] = [0x71; 32];
const OTHER_ROOT: [u8; 32] = [0x72; 32];
/// Each version lives for a day.
pub(super) const DAY: u64 = 86_400;

fn root() -> RootKey {
    RootKey::from_seed(&ROOT)
}

fn key(seed: &[u8; 32]) -> TrustedKey {
    TrustedKey {
        not_before: ISSUED,
        ..TrustedKey::new(
            PublicKey::from_bytes(&parts::public(seed)).unwrap(),
            fixture::ISSUER,
        )
    }
}

fn next(before: &[u8], changes: &[Change]) -> Vec<u8> {
    UntrustedRegistry::read(before)
        .unwrap()
        .verify_at_any_time(&root().public())
        .unwrap()
        .next(changes, &root(), NOW - 10, NOW + DAY)
        .unwrap()
}

/// Versions 1, which lists nobody, and 2, which lists the vectors' key; then one more for each change.
pub(super) fn versions(changes: Vec<Change>) -> Vec<Vec<u8>> {
    let first = Registry::first(&root(), NOW - 20, NOW + DAY).unwrap();
    let second = next(&first, &[Change::Add(Box::new(key(&SIGN_SEED)))]);
    let mut all = vec![first, second];
    for change in changes {
        all.push(next(&all[all.len() - 1], &[change]));
    }
    all
}

/// Versions 1 and 2, another version 2, and the root.
pub(crate) fn listed_versions() -> ([Vec<u8>; 3], [u8; 32]) {
    let all = versions(Vec::new());
    let twin = next(&all[0], &[]);
    ([all[0].clone(), all[1].clone(), twin], ROOT)
}

/// What a verifier remembers that has seen `bytes` as version `version`.
pub(super) fn seen(version: u64, bytes: &[u8]) -> Option<(u64, String)> {
    Some((version, hex(&b3("kvcap v1 registry", &[bytes]))))
}

/// The base capsule, verified by these versions of a registry alone.
pub(super) fn by(files: &[Vec<u8>], seen: Option<(u64, String)>) -> Made {
    given(Made::of(fixture::base()), files, seen)
}

fn given(made: Made, files: &[Vec<u8>], seen: Option<(u64, String)>) -> Made {
    made.when(|context| {
        context.trust.clear();
        let hold = |bytes: &Vec<u8>| context.hold("registry", "kvreg", bytes);
        let files = files.iter().map(hold).collect();
        context.registry = Some(RegistryFiles {
            root: hex(&parts::public(&ROOT)),
            files,
            seen,
            statement: None,
            issuers: Vec::new(),
            seen_roots: None,
        });
    })
}

fn newest(changes: Vec<Change>) -> Made {
    let all = versions(changes);
    by(&all[all.len() - 1..], None)
}

/// Version 2 with its listing changed, signed by the root again.
fn edited(change: impl FnOnce(&mut Vec<(Value, Value)>)) -> Made {
    let bytes = versions(Vec::new()).remove(1);
    let (header, mut payload) = taken_apart(&bytes);
    edit_map(&mut payload, &[], change);
    by(&[signed(&ROOT, &header, &payload)], None)
}

pub(super) fn taken_apart(bytes: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let value: Value = ciborium::from_reader(&bytes[1..]).unwrap();
    let part = |index: usize| value.as_array().unwrap()[index].as_bytes().unwrap().clone();
    (part(0), part(2))
}

fn signed(seed: &[u8; 32], header: &[u8], payload: &[u8]) -> Vec<u8> {
    let signature = sign(seed, &sig_structure("Signature1", header, b"", payload));
    [
        &[0xD2, 0x84][..],
        &byte_string(header),
        &[0xA0],
        &byte_string(payload),
        &byte_string(&signature),
    ]
    .concat()
}

/// Keys that are trusted by themselves, and a registry of this change, which expires at `end`.
fn beside(alone: &[u8; 32], changes: &[Change], end: u64) -> Made {
    let first = Registry::first(&root(), NOW - 20, NOW + DAY).unwrap();
    let read = UntrustedRegistry::read(&first).unwrap();
    let read = read.verify_at_any_time(&root().public()).unwrap();
    let second = read.next(changes, &root(), NOW - 10, end).unwrap();
    by(&[second], None).when(|context| context.trust = vec![Trusted::of(&parts::public(alone))])
}

fn add(seed: &[u8; 32]) -> Change {
    Change::Add(Box::new(key(seed)))
}

/// Two signatures of one key in a COSE_Sign: a threshold of two would count them twice.
fn one_key_twice() -> Vec<u8> {
    let (header, payload) = taken_apart(&versions(Vec::new())[1]);
    let signature = sign(&ROOT, &sig_structure("Signature", &header, b"", &payload));
    let bytes = |part: &[u8]| Value::Bytes(part.to_vec());
    let one = Value::Array(vec![
        bytes(&header),
        Value::Map(Vec::new()),
        bytes(&signature),
    ]);
    let body = vec![
        bytes(&[]),
        Value::Map(Vec::new()),
        bytes(&payload),
        Value::Array(vec![one.clone(), one]),
    ];
    encode(&Value::Tag(98, Box::new(Value::Array(body))))
}

/// The listed key a second time, compromised the second time.
fn duplicate(entries: &mut [(Value, Value)]) {
    let listed = entries[4].1.as_array_mut().unwrap();
    let mut again = listed[0].clone();
    again.as_map_mut().unwrap().last_mut().unwrap().1 = int(2);
    listed.push(again);
}

fn id(capsule: &Capsule) -> CapsuleId {
    CapsuleId(Parts::of(capsule).cti().try_into().unwrap())
}

fn retired(sign_until: u64) -> Change {
    let key = key(&SIGN_SEED).key.id();
    Change::Retire {
        key,
        sign_until,
        verify_until: TrustedKey::NO_END,
    }
}

cases! {
    /// the newest version of a registry, whose root the verifier knows
    registry_current: A 0 Accept ["REG-G-2" "REG-G-8"] = newest(Vec::new());
    /// version 2 where version 1 was seen
    registry_successor: A 0 Accept ["REG-G-7"] = {
        let all = versions(Vec::new());
        by(&all[1..], seen(1, &all[0]))
    };
    /// versions 2 and 3 in order, where version 1 was seen
    registry_catches_up: A 0 Accept ["REG-G-7"] = {
        let all = versions(vec![Change::Add(Box::new(key(&OTHER_SEED)))]);
        by(&all[1..], seen(1, &all[0]))
    };
    /// the version that was seen, again
    registry_same_again: A 0 Accept ["REG-G-7"] = {
        let all = versions(Vec::new());
        by(&all[1..], seen(2, &all[1]))
    };
    /// a retired key, and a capsule that it signed before
    registry_key_retired: A 0 Accept ["REG-G-9" "CAP-K-3"] = newest(vec![retired(ISSUED + 1)]);
    /// another capsule is revoked
    registry_other_revoked: A 0 Accept ["REG-G-10"] = newest(vec![Change::Revoke(CapsuleId([9; 16]))]);
    /// the signer's key is trusted by itself, beside a registry that lists another
    registry_beside_key: A 0 Accept ["REG-G-11"] = beside(&SIGN_SEED, &[add(&OTHER_SEED)], NOW + DAY);
    /// the registry lists the signer's key, beside another that is trusted by itself
    registry_beside_other_key: A 0 Accept ["REG-G-11"] = beside(&OTHER_SEED, &[add(&SIGN_SEED)], NOW + DAY);
    /// a listing without an envelope
    registry_unsigned: M 308 Trust ["REG-G-1"] = by(&[taken_apart(&versions(Vec::new())[1]).1], None);
    /// signed by another root
    registry_other_root: R 308 Trust ["REG-G-2"] = {
        let (header, payload) = taken_apart(&versions(Vec::new())[1]);
        by(&[signed(&OTHER_ROOT, &header, &payload)], None)
    };
    /// one bit of the signature
    registry_bitflip: M 308 Trust ["REG-G-2"] = {
        let mut bytes = versions(Vec::new()).remove(1);
        let last = bytes.len() - 40;
        bytes[last] ^= 1;
        by(&[bytes], None)
    };
    /// S + L
    registry_s_plus_l: M 308 Trust ["REG-G-2"] = {
        let mut bytes = versions(Vec::new()).remove(1);
        let at = bytes.len() - 64;
        super::signature::add_order(&mut bytes[at..]);
        by(&[bytes], None)
    };
    /// a file of no bytes
    registry_empty: M 308 Trust ["REG-G-1"] = by(&[Vec::new()], None);
    /// a COSE_Sign in which one key signs twice
    registry_one_key_twice: R 308 Trust ["REG-G-1"] = by(&[one_key_twice()], None);
    /// version 1 where version 2 was seen
    registry_rollback: C 309 Trust ["REG-G-7"] = {
        let all = versions(Vec::new());
        by(&all[..1], seen(2, &all[1]))
    };
    /// version 3 where version 1 was seen
    registry_skip: C 309 Trust ["REG-G-7"] = {
        let all = versions(vec![Change::Add(Box::new(key(&OTHER_SEED)))]);
        by(&all[2..], seen(1, &all[0]))
    };
    /// version 2 of another version 1
    registry_fork: R 309 Trust ["REG-G-7"] = {
        let all = versions(Vec::new());
        by(&all[1..], seen(1, b"another"))
    };
    /// expires = now
    registry_expired: C 310 Trust ["REG-G-6"] = newest(Vec::new()).when(|context| context.now = NOW + DAY);
    /// one key is listed twice, with two states
    registry_duplicate_kid: R 311 Trust ["REG-G-4"] = edited(|entries| duplicate(entries));
    /// the root lists itself
    registry_lists_root: R 302 Trust ["REG-G-4"] = edited(|entries| {
        let listed = entries[4].1.as_array_mut().unwrap();
        listed[0].as_map_mut().unwrap()[0].1 = Value::Bytes(parts::public(&ROOT).to_vec());
    });
    /// a weak key is listed
    registry_weak_key: R 305 Trust ["REG-G-4"] = edited(|entries| {
        let listed = entries[4].1.as_array_mut().unwrap();
        listed[0].as_map_mut().unwrap()[0].1 = Value::Bytes(vec![0; 32]);
    });
    /// a field that nobody knows
    registry_field_unknown: R 313 Trust ["REG-G-3"] = edited(|entries| entries.push((int(8), int(0))));
    /// version 2 without the digest of version 1
    registry_without_previous: R 313 Trust ["REG-G-3"] = edited(|entries| { entries.pop(); });
    /// it expires when it is issued
    registry_empty_life: R 313 Trust ["REG-G-3"] = edited(|entries| entries[3].1 = entries[2].1.clone());
    /// a key's suites out of order
    registry_suites_unsorted: R 313 Trust ["REG-G-13"] = edited(|entries| {
        let listed = entries[4].1.as_array_mut().unwrap();
        listed[0].as_map_mut().unwrap()[3].1 = Value::Array(vec![int(2), int(1)]);
    });
    /// a retired key whose signing has no end
    registry_retired_without_end: R 313 Trust ["REG-G-5"] = edited(|entries| {
        let listed = entries[4].1.as_array_mut().unwrap();
        listed[0].as_map_mut().unwrap().last_mut().unwrap().1 = int(1);
    });
    /// the wrong type in the header
    registry_typ_capsule: R 216 Trust ["REG-G-2" "CAP-E-8"] = {
        let (mut header, payload) = taken_apart(&versions(Vec::new())[1]);
        crate::raw::put(&mut header, &keys([16]), &encode(&crate::raw::text("application/vnd.kvcap")));
        by(&[signed(&ROOT, &header, &payload)], None)
    };
    /// issued more than a minute after now
    registry_from_the_future: C 412 Trust ["REG-G-6"] = newest(Vec::new()).when(|context| context.now = NOW - 71);
    /// the signer's key is compromised, whenever it signed
    registry_key_compromised: C 304 Verify ["REG-G-9"] = newest(vec![Change::Compromise(key(&SIGN_SEED).key.id())]);
    /// the signer's key was retired before it signed
    registry_key_retired_before: C 303 Verify ["REG-G-9" "CAP-K-3"] = newest(vec![retired(ISSUED)]);
    /// the registry does not list the signer
    registry_key_not_listed: C 301 Verify ["REG-G-9"] = by(&versions(Vec::new())[..1], None);
    /// a key is trusted by itself and listed too
    registry_key_named_twice: C 311 Trust ["REG-G-11" "CAP-K-1"] = beside(&SIGN_SEED, &[add(&SIGN_SEED)], NOW + DAY);
    /// a registry that does not list the signer revokes the capsule
    registry_beside_key_revokes: C 409 Verify ["REG-G-11"] = {
        let revoke = Change::Revoke(id(&fixture::base()));
        beside(&SIGN_SEED, &[add(&OTHER_SEED), revoke], NOW + DAY)
    };
    /// a registry that does not list the signer expires while the body arrives
    registry_beside_key_expires: C 310 Body ["REG-G-11" "REG-G-6"] = {
        beside(&SIGN_SEED, &[add(&OTHER_SEED)], NOW + 300).when(|context| context.later = Some(NOW + 300))
    };
    /// the capsule is revoked
    cti_revoked: C 409 Verify ["REG-G-10"] = newest(vec![Change::Revoke(id(&fixture::base()))]);
    /// the parent is revoked, the increment is not
    chain_parent_revoked: C 708 Chain ["lineage-v1 §2" "REG-G-10"] = {
        let [root, first, _] = three();
        let files = versions(vec![Change::Revoke(id(&root))]);
        given(chain(&[&first, &root]), &files[2..], None)
    };
}
