//! Registries under several roots, as their holders write them (registry-v1 §8), and the one form of each part.

use super::*;
use crate::wire::cose_sign::{MAX_SIGNATURES, Signed};

const WEEK: u64 = 7 * DAY;

/// Fields of a map.
type Fields = Vec<(Value, Value)>;

fn holder(seed: u8) -> RootKey {
    RootKey::from_seed(&[seed; 32])
}

fn public(seed: u8) -> PublicKey {
    holder(seed).key().public()
}

/// Two of these roots, and keys for timestamps.
fn two_of(before: &Registry, seeds: &[u8], stamps: &[u8]) -> Roots {
    let all = |seeds: &[u8]| seeds.iter().map(|seed| public(*seed)).collect::<Vec<_>>();
    let roots = all(seeds).into_iter().map(|key| Root::new(key, None));
    Roots::next(before, 2, roots.collect(), all(stamps), NOW, NOW + DAY).unwrap()
}

fn proposed(before: &Registry, roots: Option<&Roots>, signers: &[u8]) -> Proposal {
    let mut proposal = before.propose(&[], roots, NOW, NOW + DAY).unwrap();
    for seed in signers {
        proposal.sign(&holder(*seed)).unwrap();
    }
    proposal
}

fn complete(proposal: &Proposal) -> Registry {
    proposal.complete(&root().public()).unwrap()
}

/// One root's registry, then one under two of the roots 1, 21 and 22.
fn moved(stamps: &[u8]) -> (Registry, Proposal) {
    let before = listed(&[2]);
    let roots = two_of(&before, &[1, 21, 22], stamps);
    let proposal = proposed(&before, Some(&roots), &[1, 21]);
    (before, proposal)
}

/// Bytes of a bundle with its statements changed.
fn restated(bytes: &[u8], change: impl FnOnce(&mut Vec<Value>)) -> Vec<u8> {
    let mut value = cbor::decode(bytes).unwrap();
    change(array(&mut array(&mut value)[0]));
    cbor::encode(&value)
}

/// REG-M-4, REG-M-5.
#[test]
fn each_holder_signs_what_its_signature_counts_for() {
    let before = listed(&[2]);
    assert_eq!(code(before.propose(&[], None, NOW, NOW + DAY)), 313);
    let roots = two_of(&before, &[1, 21, 22], &[]);
    let mut proposal = proposed(&before, Some(&roots), &[]);
    assert!(proposal.changes_roots());
    assert_eq!(proposal.roots(), Some(&roots));
    assert_eq!(proposal.listing().unwrap().version, 3);
    let count = |proposal: &Proposal| proposal.signatures().unwrap();
    assert_eq!(count(&proposal), [(0, 2), (0, 2), (0, 1)]);
    let unsigned = proposal.to_bytes();
    assert_eq!(code(proposal.sign(&holder(9))), 308, "a stranger");
    assert_eq!(proposal.to_bytes(), unsigned);
    for _twice in 0..2 {
        proposal.sign(&holder(21)).unwrap();
        assert_eq!(count(&proposal), [(1, 2), (1, 2), (0, 1)]);
    }
    assert_eq!(code(proposal.complete(&root().public())), 308);
    proposal.sign(&root()).unwrap();
    assert_eq!(count(&proposal), [(2, 2), (2, 2), (1, 1)]);
    let one = complete(&proposal);
    // nothing but the listing
    let mut proposal = proposed(&one, None, &[22]);
    assert!(!proposal.changes_roots());
    assert_eq!(count(&proposal), [(1, 2)]);
    assert_eq!(code(proposal.sign(&holder(9))), 308);
    proposal.sign(&holder(21)).unwrap();
    assert_eq!(complete(&proposal).mark().version, 4);
    // one leaves, one comes
    let roots = two_of(&one, &[21, 22, 23], &[]);
    let mut proposal = proposed(&one, Some(&roots), &[]);
    assert!(proposal.changes_roots());
    for (seed, want) in [
        (1, [(0, 2), (0, 2), (1, 2)]),
        (23, [(1, 2), (1, 2), (1, 2)]),
        (21, [(2, 2), (2, 2), (2, 2)]),
    ] {
        assert_eq!(code(proposal.sign(&holder(9))), 308);
        proposal.sign(&holder(seed)).unwrap();
        assert_eq!(count(&proposal), want, "{seed}");
    }
    assert_eq!(complete(&proposal).roots(), Some(&roots));
}

#[test]
fn a_proposal_continues_the_registry() {
    let (before, first) = moved(&[]);
    let read = |bytes: &[u8], before: &Registry| Proposal::read(bytes, before);
    let bytes = first.to_bytes();
    assert_eq!(read(&bytes, &before).unwrap().to_bytes(), bytes);
    let one = complete(&first);
    assert_eq!(code(read(&bytes, &one)), 309, "the version that is there");
    let fork = next(&listed(&[3]), &[]).unwrap();
    let fork = proposed(&fork, Some(&two_of(&fork, &[1, 21], &[])), &[]);
    let beside = next(&before, &[]).unwrap();
    assert_eq!(code(read(&fork.to_bytes(), &beside)), 309, "another before");
    let (same, other) = (
        proposed(&one, None, &[]).to_bytes(),
        proposed(&one, Some(&two_of(&one, &[21, 22], &[])), &[]).to_bytes(),
    );
    assert_eq!(code(read(&same, &one)), 0);
    assert_eq!(code(read(&other, &one)), 0);
    let twice = |all: &mut Vec<Value>| all.push(all[1].clone());
    assert_eq!(code(read(&restated(&other, twice), &one)), 314);
    let dropped = |all: &mut Vec<Value>| drop(all.remove(0));
    assert_eq!(code(read(&restated(&other, dropped), &one)), 314);
}

/// REG-M-5, REG-M-6, REG-M-12.
#[test]
fn statements_are_followed_from_the_one_that_is_given() {
    let (lone, first) = moved(&[]);
    let one = complete(&first);
    let roots = two_of(&one, &[21, 22], &[]);
    let second = proposed(&one, Some(&roots), &[1, 21, 22]);
    let two = complete(&second);
    let marks = [&one, &two].map(|registry| registry.roots_mark().unwrap());
    assert_eq!(marks.map(|mark| mark.version), [1, 2]);
    assert_eq!(marks.map(|mark| mark.root), [root().public_id(); 2]);
    assert!(lone.roots_mark().is_none() && lone.root_public().is_none());
    let untrusted = || UntrustedRegistry::read(&second.to_bytes()).unwrap();
    assert_eq!(untrusted().danger_unverified_roots(), Some(&roots));
    assert_eq!(
        untrusted().danger_unverified_listing().unwrap(),
        *two.listing()
    );
    let stranger = holder(9).public();
    let nowhere = RootPublic::of_statement(Digest([7; 32]));
    let [given_first, given] = [&one, &two].map(|registry| registry.root_public().unwrap());
    for (by, under) in [
        (&root().public(), true),
        (&given_first, true),
        (&given, true),
        (&stranger, false),
        (&nowhere, false),
    ] {
        assert_eq!(untrusted().is_under(by), under, "{by:?}");
    }
    let alone = Registry::first(&root(), NOW, NOW + DAY).unwrap();
    let alone = UntrustedRegistry::read(&alone).unwrap();
    let digest = Digest(std::array::from_fn(|at| {
        root().public_id().0.get(at).copied().unwrap_or(0)
    }));
    let same_id = RootPublic::of_statement(digest);
    assert!(alone.danger_unverified_roots().is_none());
    assert!(alone.is_under(&root().public()));
    assert!(!alone.is_under(&stranger) && !alone.is_under(&same_id));
    // who was given the second statement knows nothing of the first, and has none to compare
    let newer = untrusted().verify(&given, NOW).unwrap();
    for registry in [&two, &newer] {
        assert_eq!(code(registry.follows_roots(&marks[0])), 0);
        assert_eq!(code(registry.follows_roots(&marks[1])), 0);
        let fork = Mark {
            digest: marks[0].digest,
            ..marks[1]
        };
        assert_eq!(code(registry.follows_roots(&fork)), 314);
    }
    assert_eq!(code(one.follows_roots(&marks[1])), 314);
    assert_eq!(code(lone.follows_roots(&marks[0])), 314);
}

/// REG-M-7, REG-M-11.
#[test]
fn a_timestamp_is_made_by_a_key_that_the_roots_name() {
    let (lone, proposal) = moved(&[31, 32]);
    let registry = complete(&proposal);
    let verify = |bytes: &[u8], now| {
        let untrusted = UntrustedRegistry::read(bytes).unwrap();
        untrusted.verify(&root().public(), now)
    };
    assert_eq!(code(verify(&proposal.to_bytes(), NOW)), 315);
    let stamped = registry.stamp(&holder(32), NOW, NOW + 300).unwrap();
    let fresh = verify(&stamped, NOW).unwrap();
    assert_eq!(fresh.fresh_until(), Some(NOW + 300));
    assert_eq!(registry.fresh_until(), None, "as of any time");
    let again = fresh.stamp(&holder(31), NOW, NOW + 301).unwrap();
    assert_eq!(
        verify(&again, NOW).unwrap().fresh_until(),
        Some(NOW + 301),
        "in the place of the one before"
    );
    for (now, want) in [
        (NOW - MAX_SKEW - 1, 412),
        (NOW - MAX_SKEW, 0),
        (NOW + 299, 0),
        (NOW + 300, 315),
    ] {
        assert_eq!(code(verify(&stamped, now)), want, "{now}");
    }
    let early = registry.stamp(&holder(31), NOW + MAX_SKEW, NOW + 300);
    assert_eq!(code(verify(&early.unwrap(), NOW)), 0);
    for (key, until, want) in [
        (31, NOW + WEEK, 0),
        (31, NOW + WEEK + 1, 313),
        (31, NOW, 313),
        (1, NOW + 1, 308),
        (9, NOW + 1, 308),
    ] {
        assert_eq!(code(registry.stamp(&holder(key), NOW, until)), want);
    }
    assert_eq!(code(lone.stamp(&holder(31), NOW, NOW + 1)), 308);
}

/// REG-M-3.
#[test]
fn a_statement_has_one_form() {
    let roots = two_of(&listed(&[2]), &[1, 21, 22], &[31, 32]);
    let edited = |edit: &dyn Fn(&mut Fields)| {
        let mut value = cbor::decode(&roots.encode().unwrap()).unwrap();
        edit(map(&mut value));
        code(Roots::decode(&cbor::encode(&value)))
    };
    let after = |version: u64| {
        edited(&|entries| {
            entries[1].1 = cbor::uint(version);
            entries.push((cbor::uint(9), cbor::bytes([7; 32])));
        })
    };
    assert_eq!((after(0), after(1), after(2)), (313, 313, 0));
    for (field, value, want) in [
        (0, 2, 313),
        (1, 0, 313),
        (1, 2, 313),
        (3, NOW, 313),
        (3, NOW + 1, 0),
        (5, 0, 313),
        (5, 3, 0),
        (5, 4, 313),
    ] {
        let found = edited(&|entries| entries[field].1 = cbor::uint(value));
        assert_eq!(found, want, "{field} {value}");
    }
    // roots, and keys for timestamps
    for field in [6, 7] {
        let keys = |change: &dyn Fn(&mut Vec<Value>)| {
            edited(&|entries| change(array(&mut entries[field].1)))
        };
        assert_eq!(keys(&|all| all.swap(0, 1)), 313);
        assert_eq!(keys(&|all| all[1] = all[0].clone()), 313);
        assert_eq!(keys(&|all| drop(all.remove(1))), 0);
    }
}

/// REG-M-3: of roots, keys for timestamps and issuers.
#[test]
fn a_statement_names_as_many_as_are_allowed() {
    let before = listed(&[2]);
    let made = |roots: Vec<Root>, stamps: Vec<PublicKey>| {
        code(Roots::next(&before, 1, roots, stamps, NOW, NOW + 1))
    };
    let keys = |from: u8, count: u8| (from..from + count).map(public).collect::<Vec<_>>();
    let roots = |count| keys(100, count).into_iter().map(|key| Root::new(key, None));
    for (count, stamps, want) in [(32, 32, 0), (33, 0, 313), (1, 33, 313)] {
        assert_eq!(made(roots(count).collect(), keys(200, stamps)), want);
    }
    let limited = |names: Vec<String>| made(vec![Root::new(public(1), Some(names))], Vec::new());
    let names = |count: u32| (1000..1000 + count).map(|name| name.to_string());
    assert_eq!(limited(names(1024).collect()), 0);
    assert_eq!(limited(names(1025).collect()), 313);
    for wrong in [&[][..], &[""], &["b", "a"], &["a", "a"]] {
        let wrong = wrong.iter().map(|name| (*name).to_owned());
        assert_eq!(limited(wrong.collect()), 313);
    }
}

/// REG-M-2.
#[test]
fn a_document_of_several_signatures_has_one_form() {
    let kind = roots::KIND;
    let signed = |count: u8| {
        let mut signed = Signed::unsigned(kind, vec![0xA0]);
        for seed in 0..count {
            let key = holder(seed);
            signed.sign(key.public_id(), key.key()).unwrap();
        }
        signed.encode()
    };
    let most = u8::try_from(MAX_SIGNATURES).unwrap();
    for (count, want) in [(0, 0), (1, 0), (most, 0), (most + 1, 313)] {
        assert_eq!(code(Signed::parse(&signed(count), kind)), want, "{count}");
    }
    let bytes = signed(1);
    let edited = |edit: &dyn Fn(&mut Vec<Value>)| {
        let mut value = cbor::decode(&bytes[2..]).unwrap();
        edit(array(&mut value));
        let bytes = [&bytes[..2], &cbor::encode(&value)].concat();
        code(Signed::parse(&bytes, kind))
    };
    fn only(parts: &mut [Value]) -> &mut Vec<Value> {
        array(&mut array(&mut parts[3])[0])
    }
    let stray = || Value::Map(vec![(cbor::uint(4), cbor::uint(4))]);
    let id = holder(0).public_id();
    let other = cbor::map([(1, Some(cbor::int(-8))), (4, Some(cbor::bytes(id.0)))]);
    let other = || cbor::bytes(cbor::encode(&other));
    assert_eq!(edited(&|_| {}), 0);
    assert_eq!(edited(&|parts| parts[0] = cbor::bytes([0xA0])), 313);
    assert_eq!(edited(&|parts| parts[1] = stray()), 313);
    assert_eq!(edited(&|parts| only(parts)[0] = other()), 313);
    assert_eq!(edited(&|parts| only(parts)[0] = cbor::bytes([0; 15])), 313);
    assert_eq!(edited(&|parts| only(parts)[1] = stray()), 313);
    assert_eq!(edited(&|parts| only(parts)[2] = cbor::bytes([0; 63])), 313);
    assert_eq!(code(Signed::parse(&bytes[2..], kind)), 313);
}
