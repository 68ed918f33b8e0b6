mod several;

use super::*;
use crate::{
    keys::{CapsuleId, PublicKey, SigningKey},
    limits::{MAX_REGISTRY_KEYS, MAX_REVOKED},
    trust::{Purpose, Status, TrustedKey},
    wire::cbor::{self, Value},
};

const NOW: u64 = 1_800_000_000;
const DAY: u64 = 86_400;

fn root() -> RootKey {
    RootKey::from_seed(&[1; 32])
}

fn key(seed: u8) -> TrustedKey {
    TrustedKey {
        not_before: NOW,
        ..TrustedKey::new(SigningKey::from_seed(&[seed; 32]).public(), "acme")
    }
}

fn id(seed: u8) -> KeyId {
    key(seed).key.id()
}

fn read(bytes: &[u8]) -> Result<Registry> {
    UntrustedRegistry::read(bytes)?.verify(&root().public(), NOW)
}

fn next(registry: &Registry, changes: &[Change]) -> Result<Registry> {
    read(&registry.next(changes, &root(), NOW, NOW + DAY)?)
}

/// Version 2, with these keys.
fn listed(seeds: &[u8]) -> Registry {
    let first = read(&Registry::first(&root(), NOW, NOW + DAY).unwrap()).unwrap();
    let add = |seed: &u8| Change::Add(Box::new(key(*seed)));
    next(&first, &seeds.iter().map(add).collect::<Vec<_>>()).unwrap()
}

fn code<T>(result: Result<T>) -> u16 {
    result.err().map_or(0, |error| error.code().number())
}

/// A registry with this payload, signed by the root.
fn signed(payload: &[u8]) -> Vec<u8> {
    let header = PROFILE.header(root().public().id(), None);
    cose::sign(&header, payload, root().key()).unwrap()
}

fn array(value: &mut Value) -> &mut Vec<Value> {
    match value {
        Value::Array(items) => items,
        other => panic!("{other:?}"),
    }
}

fn map(value: &mut Value) -> &mut Vec<(Value, Value)> {
    match value {
        Value::Map(entries) => entries,
        other => panic!("{other:?}"),
    }
}

/// A listing of two keys and a revocation with one of its fields changed.
fn edited(edit: impl FnOnce(&mut Vec<(Value, Value)>)) -> u16 {
    let base = listed(&[2, 3]);
    let revoked = [7, 9].map(|byte| Change::Revoke(CapsuleId([byte; 16])));
    let base = next(&base, &revoked).unwrap();
    let mut value = cbor::decode(&base.listing.encode().unwrap()).unwrap();
    if let Value::Map(entries) = &mut value {
        edit(entries);
    }
    code(read(&signed(&cbor::encode(&value))))
}

fn set(field: usize, value: Value) -> u16 {
    edited(|entries| entries[field].1 = value)
}

fn edit_key(edit: impl FnOnce(&mut Vec<(Value, Value)>)) -> u16 {
    edited(|entries| {
        let keys = array(&mut entries[4].1);
        edit(map(&mut keys[0]));
    })
}

#[test]
fn changes_make_the_next_version() {
    let two = listed(&[2, 3]);
    assert_eq!((two.listing.version, two.listing.keys.len()), (2, 2));
    let capsule = CapsuleId([5; 16]);
    let retire = Change::Retire {
        key: id(2),
        sign_until: NOW + 5,
        verify_until: NOW + 9,
    };
    let three = next(
        &two,
        &[retire, Change::Revoke(capsule), Change::Compromise(id(3))],
    )
    .unwrap();
    assert_eq!(three.listing.previous, Some(two.mark.digest));
    let later = two.next(&[], &root(), NOW + 1, NOW + DAY).unwrap();
    let later = UntrustedRegistry::read(&later).unwrap();
    let later = later.verify_at_any_time(&root().public()).unwrap();
    assert_eq!(later.listing.issued_at, NOW + 1);
    let find = |seed| {
        let mut keys = three.listing.keys.iter();
        keys.find(|key| key.key.id() == id(seed)).unwrap().clone()
    };
    assert_eq!(find(2).status, Status::Retired);
    assert_eq!(
        (find(2).sign_until, find(2).verify_until),
        (NOW + 5, NOW + 9)
    );
    assert_eq!(find(3).status, Status::Compromised);
    let trust = three.trust();
    assert_eq!(trust.ids().count(), 2);
    assert_eq!(code(trust.check_revoked(capsule)), 409);
    assert_eq!(code(trust.check_revoked(CapsuleId([6; 16]))), 0);
    // a window only shrinks, and nothing comes back from being compromised
    let later = |seed| Change::Retire {
        key: id(seed),
        sign_until: NOW + 50,
        verify_until: TrustedKey::NO_END,
    };
    let four = next(&three, &[later(2)]).unwrap();
    assert_eq!(four.listing.keys, three.listing.keys);
    assert_eq!(code(three.next(&[later(3)], &root(), NOW, NOW + DAY)), 304);
    assert_eq!(code(three.next(&[later(4)], &root(), NOW, NOW + DAY)), 301);
    let again = Change::Add(Box::new(key(3)));
    assert_eq!(code(three.next(&[again], &root(), NOW, NOW + DAY)), 311);
    assert_eq!(
        code(three.next(&[], &RootKey::from_seed(&[8; 32]), NOW, NOW + DAY)),
        308
    );
    assert_eq!(code(three.next(&[], &root(), NOW - 1, NOW + DAY)), 412);
    assert_eq!(code(three.next(&[], &root(), NOW, NOW)), 313);
}

#[test]
fn only_the_root_vouches() {
    let good = listed(&[2]);
    let bytes = good.next(&[], &root(), NOW, NOW + DAY).unwrap();
    assert_eq!(code(read(&bytes)), 0);
    // every byte counts
    for at in 0..bytes.len() {
        let mut wrong = bytes.clone();
        wrong[at] ^= 1;
        assert_ne!(code(read(&wrong)), 0, "byte {at}");
        assert_ne!(code(read(&bytes[..at])), 0, "cut at {at}");
    }
    let mut forged = bytes.clone();
    *forged.last_mut().unwrap() ^= 1;
    assert_eq!(code(read(&forged)), 308);
    let stranger = RootKey::from_seed(&[9; 32]);
    assert_eq!(
        code(read(&Registry::first(&stranger, NOW, NOW + DAY).unwrap())),
        308
    );
    // the listing alone, and two signatures of one root in a COSE_Sign (tag 98)
    let payload = good.listing.encode().unwrap();
    assert_eq!(code(read(&payload)), 308);
    let one = cbor::array([cbor::bytes([]), Value::Map(vec![]), cbor::bytes([0; 64])]);
    let twice = cbor::array([
        cbor::bytes([]),
        Value::Map(vec![]),
        cbor::bytes(payload.clone()),
        cbor::array([one.clone(), one]),
    ]);
    let twice = [&[0xD8, 98][..], &cbor::encode(&twice)].concat();
    assert_eq!(code(read(&twice)), 308);
    // a signature of the root over another kind of document
    let other = Profile {
        typ: "application/vnd.kvcap",
        ..PROFILE
    };
    let header = other.header(root().public().id(), None);
    assert_eq!(
        code(read(&cose::sign(&header, &payload, root().key()).unwrap())),
        216
    );
    let claims = PROFILE.header(root().public().id(), Some(Value::Map(vec![])));
    let claims = cose::sign(&claims, &payload, root().key()).unwrap();
    assert_eq!(code(read(&claims)), 213);
    assert_eq!(code(read(&vec![0xD2; MAX_REGISTRY + 1])), 313);
    assert_ne!(code(read(&vec![0xD2; MAX_REGISTRY])), 313);
    // the root's signature under another's id
    let header = PROFILE.header(stranger.public().id(), None);
    let renamed = cose::sign(&header, &payload, root().key()).unwrap();
    assert_eq!(code(read(&renamed)), 308);
}

#[test]
fn a_root_that_another_holds_signs_as_its_own() {
    let public = root().key().public();
    let held = RootKey::external(public, std::sync::Arc::new(root()));
    let first = Registry::first(&held, NOW, NOW + DAY).unwrap();
    assert_eq!(first, Registry::first(&root(), NOW, NOW + DAY).unwrap());
    assert!(held.to_secret_text().is_none());
}

/// REG-G-13 and the limits of §2.
#[test]
fn a_listing_holds_as_many_as_are_allowed() {
    let mut listing = listed(&[]).listing;
    let keys = (0..=MAX_REGISTRY_KEYS).map(|at| {
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(&at.to_le_bytes());
        TrustedKey::new(SigningKey::from_seed(&seed).public(), "acme")
    });
    let mut keys: Vec<TrustedKey> = keys.collect();
    keys.sort_by_key(|key| key.key.id());
    listing.keys = keys;
    assert_eq!(code(listing.encode()), 313);
    listing.keys.pop();
    assert_eq!(code(listing.encode()), 0);
    listing.keys.clear();
    let revoked = (0..=MAX_REVOKED).map(|at| {
        let mut id = [0; 16];
        id[8..].copy_from_slice(&at.to_be_bytes());
        let capsule = CapsuleId(id);
        Revoked { capsule, at: NOW }
    });
    listing.revoked = revoked.collect();
    assert_eq!(code(listing.encode()), 313);
    listing.revoked.pop();
    assert_eq!(code(listing.encode()), 0);
}

#[test]
fn a_registry_expires() {
    let bytes = Registry::first(&root(), NOW, NOW + DAY).unwrap();
    let at = |now| {
        code(
            UntrustedRegistry::read(&bytes)
                .unwrap()
                .verify(&root().public(), now),
        )
    };
    assert_eq!(at(NOW + DAY - 1), 0);
    assert_eq!(at(NOW + DAY), 310);
    assert_eq!(at(NOW - MAX_SKEW), 0);
    assert_eq!(at(NOW - MAX_SKEW - 1), 412);
    // also for a verifier that loaded it in time
    let trust = listed(&[2]).trust();
    assert_eq!(code(trust.check_current(NOW + DAY - 1)), 0);
    assert_eq!(code(trust.check_current(NOW + DAY)), 310);
    // and when merged with keys that have no end
    let mut merged = Trust::from(TrustedKey::from(&SigningKey::from_seed(&[4; 32])));
    merged.merge(trust.clone()).unwrap();
    assert_eq!(code(merged.check_current(NOW + DAY)), 310);
    assert_eq!(code(merged.merge(trust)), 311);
}

#[test]
fn versions_follow_one_by_one() {
    let two = listed(&[2]);
    let three = next(&two, &[]).unwrap();
    let four = next(&three, &[]).unwrap();
    let fork = next(&two, &[Change::Add(Box::new(key(9)))]).unwrap();
    assert_eq!(code(two.follows(&two.mark())), 0);
    assert_eq!(code(three.follows(&two.mark())), 0);
    assert_eq!(code(two.follows(&three.mark())), 309, "rollback");
    assert_eq!(code(four.follows(&two.mark())), 309, "skip");
    assert_eq!(code(fork.follows(&three.mark())), 309, "two of one number");
    assert_eq!(code(four.follows(&fork.mark())), 309, "after another one");
}

#[test]
fn a_listing_has_one_form() {
    assert_eq!(edited(|_| {}), 0);
    for (field, value) in [
        (0, cbor::uint(2)),
        (1, cbor::uint(0)),
        (1, cbor::uint(1)),
        (2, cbor::uint(NOW + DAY)),
        (3, cbor::text("x")),
        (4, cbor::uint(1)),
        (4, cbor::array((0..1025).map(cbor::uint))),
        (5, cbor::array([cbor::bytes([7; 16])])),
        (6, cbor::bytes([1; 31])),
    ] {
        assert_eq!(set(field, value.clone()), 313, "{field} {value:?}");
    }
    let entry = |byte: u8| cbor::array([cbor::bytes([byte; 16]), cbor::uint(1)]);
    assert_eq!(set(5, cbor::array([entry(9), entry(7)])), 313);
    assert_eq!(set(5, cbor::array([entry(7), entry(7)])), 313);
    assert_eq!(edited(|entries| drop(entries.remove(6))), 313);
    assert_eq!(edited(|entries| drop(entries.remove(5))), 313);
    assert_eq!(
        edited(|entries| entries.push((cbor::uint(8), cbor::uint(0)))),
        313
    );
    assert_eq!(edited(|entries| entries.swap(0, 1)), 202);
    let keys = |change: fn(&mut Vec<Value>)| edited(|entries| change(array(&mut entries[4].1)));
    assert_eq!(keys(|keys| keys.swap(0, 1)), 313);
    assert_eq!(keys(|keys| keys[0] = keys[1].clone()), 311);
    assert_eq!(code(read(&signed(&[0xA0, 0]))), 206);
    assert_eq!(code(read(&signed(&[0x80]))), 313);
}

#[test]
fn an_entry_has_one_form() {
    // 0 key, 1 purpose, 2 issuer, 3 suites, 4 not before, 5 status: this entry has no ends
    for (field, value, want) in [
        (0, cbor::bytes([0; 31]), 313),
        (0, cbor::bytes([0; 32]), 305),
        (
            0,
            cbor::bytes(root().public().key().unwrap().to_bytes()),
            302,
        ),
        (1, cbor::uint(0), 313),
        (1, cbor::uint(3), 313),
        (2, cbor::text(""), 313),
        (2, cbor::text("a\u{7}"), 313),
        (3, cbor::array([]), 313),
        (3, cbor::array([cbor::uint(2), cbor::uint(1)]), 313),
        (3, cbor::array([cbor::uint(1), cbor::uint(1)]), 313),
        (4, cbor::int(-1), 313),
        (5, cbor::uint(1), 313),
        (5, cbor::uint(3), 313),
    ] {
        let shown = format!("{field} {value:?}");
        // alone, so that its place in the order is right
        let found = edited(|entries| {
            let keys = array(&mut entries[4].1);
            keys.truncate(1);
            map(&mut keys[0])[field].1 = value;
        });
        assert_eq!(found, want, "{shown}");
    }
    let end = |at: u64| {
        edit_key(|key| {
            key.insert(5, (cbor::uint(6), cbor::uint(at)));
            key[6].1 = cbor::uint(1);
        })
    };
    assert_eq!(end(NOW), 0);
    assert_eq!(end(u64::MAX), 313, "no end is written by leaving it out");
}

/// A fuzzer that begins with nothing that is accepted tests nothing.
#[test]
fn the_seeds_of_the_fuzzer_pass() {
    for seed in [
        &include_bytes!("../../../../fuzz/seeds/registry/first")[..],
        include_bytes!("../../../../fuzz/seeds/registry/active"),
        include_bytes!("../../../../fuzz/seeds/registry/retired"),
        include_bytes!("../../../../fuzz/seeds/registry/compromised"),
    ] {
        assert_eq!(code(read(&signed(seed))), 0);
    }
}

#[test]
fn a_root_is_no_signing_key() {
    let root = root();
    let text = root.to_secret_text().unwrap();
    assert_eq!(RootKey::from_text(&text).unwrap().public(), root.public());
    assert_eq!(code(SigningKey::from_text(&text)), 942);
    let public = root.public().to_text();
    assert_eq!(RootPublic::from_text(&public).unwrap(), root.public());
    let limited = RootPublic::from_text(&format!("issuer: acme\n{public}")).unwrap();
    assert_eq!(limited.issuers(), ["acme"]);
    assert!(root.public().issuers().is_empty());
    assert_eq!(code(PublicKey::from_text(&public)), 942);
    assert_ne!(root.public().id(), root.public().key().unwrap().id());
    assert!(!format!("{root:?}").contains("0101"));
    let listed = listed(&[2]).next(
        &[Change::Add(Box::new(TrustedKey {
            purpose: Purpose::Statements,
            ..TrustedKey::new(*root.public().key().unwrap(), "acme")
        }))],
        &root,
        NOW,
        NOW + DAY,
    );
    assert_eq!(code(listed), 302);
}
