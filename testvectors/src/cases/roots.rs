//! Registries under several roots (registry-v1 §8): thresholds, other roots, issuers, timestamps.

use ciborium::Value;

use super::registry::{DAY, ROOT, by, seen, taken_apart, versions};
use crate::{
    case::Made,
    cases,
    fixture::{ISSUER, NOW},
    hex::hex,
    parts,
    raw::{edit_map, int},
    roots::{
        self, LISTING, ROOTS, Says, Seed, bundle, digest, document, header, id, in_order, payload,
    },
    schedule::b3,
};

/// Of the roots ROOT is the first.
const SECOND: [u8; 32] = [0x73; 32];
const THIRD: [u8; 32] = [0x74; 32];
const FOURTH: [u8; 32] = [0x75; 32];
const FIFTH: [u8; 32] = [0x76; 32];
const STAMPS: [u8; 32] = [0x77; 32];
const STRANGER: [u8; 32] = [0x78; 32];

/// Two of the first three.
fn first() -> Says {
    Says {
        version: 1,
        issued: NOW - 15,
        expires: NOW + 30 * DAY,
        chain: id(&ROOT),
        threshold: 2,
        roots: vec![(ROOT, None), (SECOND, None), (THIRD, None)],
        stamps: Vec::new(),
        previous: None,
    }
}

/// Two of the third to the fifth, after `before`.
fn second(before: &Says) -> Says {
    Says {
        version: 2,
        issued: NOW - 12,
        roots: vec![(SECOND, None), (THIRD, None), (FOURTH, None), (FIFTH, None)],
        previous: Some(digest(before)),
        ..before.clone()
    }
}

fn statement(says: &Says, signers: &[Seed]) -> Vec<u8> {
    document(ROOTS, &payload(says), signers)
}

/// Version 2, which lists the vectors' key and follows version 1 under one root.
fn listed() -> Vec<u8> {
    taken_apart(&versions(Vec::new())[1]).1
}

fn listing(signers: &[Seed]) -> Vec<u8> {
    document(LISTING, &listed(), signers)
}

fn under(statements: &[Vec<u8>], listing: &[u8]) -> Made {
    by(&[bundle(statements, listing, &[])], None)
}

/// Under the first roots, as they say it.
fn said(says: &Says) -> Made {
    let statement = statement(says, &[ROOT, SECOND]);
    under(&[statement], &listing(&[ROOT, SECOND]))
}

/// The first statement with its payload changed, signed by two again.
fn edited(change: impl FnOnce(&mut Vec<(Value, Value)>)) -> Made {
    let mut payload = payload(&first());
    edit_map(&mut payload, &[], change);
    let statement = document(ROOTS, &payload, &[ROOT, SECOND]);
    under(&[statement], &listing(&[ROOT, SECOND]))
}

/// Other roots: `next` signed by these, and the listing by the third and the fourth.
fn replaced(next: &Says, signers: &[Seed]) -> Vec<u8> {
    let statements = [
        statement(&first(), &[ROOT, SECOND]),
        statement(next, signers),
    ];
    bundle(&statements, &listing(&[THIRD, FOURTH]), &[])
}

fn rotated() -> Vec<u8> {
    replaced(&second(&first()), &[SECOND, THIRD])
}

const ANOTHER: &str = "another";

/// Two of three that speak for all and two that speak for another issuer.
fn mixed() -> Says {
    let limited = Some(vec![ANOTHER]);
    Says {
        roots: vec![
            (ROOT, None),
            (SECOND, None),
            (FIFTH, None),
            (THIRD, limited.clone()),
            (FOURTH, limited),
        ],
        ..first()
    }
}

fn following(before: &Says) -> Says {
    Says {
        version: before.version + 1,
        previous: Some(digest(before)),
        ..before.clone()
    }
}

/// `change` in the statement after [`mixed`], signed by these; the listing is signed by two that speak for all.
fn given(change: impl FnOnce(&mut Says), signers: &[Seed]) -> Made {
    given_after(&mixed(), change, signers)
}

fn given_after(before: &Says, change: impl FnOnce(&mut Says), signers: &[Seed]) -> Made {
    let mut next = following(before);
    change(&mut next);
    let statements = [
        statement(before, &[ROOT, SECOND]),
        statement(&next, signers),
    ];
    under(&statements, &listing(&[ROOT, SECOND]))
}

fn limit(says: &mut Says, root: Seed, issuers: Option<Vec<&'static str>>) {
    says.roots.retain(|(seed, _)| *seed != root);
    says.roots.push((root, issuers));
}

fn trusting(made: Made, statement: &[u8]) -> Made {
    made.when(|context| {
        let registry = context.registry.as_mut().unwrap();
        registry.statement = Some(hex(statement));
    })
}

fn seen_roots(made: Made, version: u64, digest: &[u8]) -> Made {
    made.when(|context| {
        let registry = context.registry.as_mut().unwrap();
        registry.seen_roots = Some((version, hex(digest)));
    })
}

fn limited(made: Made, issuer: &str) -> Made {
    made.when(|context| {
        let registry = context.registry.as_mut().unwrap();
        registry.issuers = vec![issuer.to_owned()];
    })
}

/// A timestamp of version 2.
fn stamp(seed: &Seed, issued: u64, expires: u64, version: u64) -> Vec<u8> {
    let of = b3("kvcap v1 registry", &[&listed()]);
    roots::stamp(seed, issued..expires, &id(&ROOT), version, &of)
}

/// Under roots that want timestamps, with these.
fn stamped(stamps: &[Vec<u8>]) -> Made {
    let says = Says {
        stamps: vec![STAMPS],
        ..first()
    };
    let statement = statement(&says, &[ROOT, SECOND]);
    by(
        &[bundle(&[statement], &listing(&[ROOT, SECOND]), stamps)],
        None,
    )
}

fn fresh() -> Vec<u8> {
    stamp(&STAMPS, NOW - 5, NOW + 300, 2)
}

/// Under several roots with a timestamp, and the key that signs these.
pub(crate) fn listed_by_several() -> (Vec<u8>, Seed) {
    let says = Says {
        stamps: vec![STAMPS],
        ..first()
    };
    let statement = statement(&says, &[ROOT, SECOND]);
    let file = bundle(&[statement], &listing(&[ROOT, SECOND]), &[fresh()]);
    (file, STAMPS)
}

cases! {
    /// two of three roots have signed
    roots_threshold: A 0 Accept ["REG-M-4" "REG-M-8"] = said(&first());
    /// it follows a version of one root, which was seen
    roots_follow_one: A 0 Accept ["REG-M-10" "REG-G-7"] = {
        let first = said(&first());
        first.when(|context| {
            context.registry.as_mut().unwrap().seen = seen(1, &versions(Vec::new())[0]);
        })
    };
    /// the same version under other roots is the same version
    roots_same_again: A 0 Accept ["REG-M-10" "REG-M-12"] = {
        let made = by(&[rotated()], Some((2, hex(&b3("kvcap v1 registry", &[&listed()])))));
        seen_roots(made, 1, &digest(&first()))
    };
    /// other roots, by two of those before and two of their own
    roots_replaced: A 0 Accept ["REG-M-6"] = by(&[rotated()], None);
    /// a verifier that was given the second statement
    roots_by_digest: A 0 Accept ["REG-M-5"] = trusting(by(&[rotated()], None), &digest(&second(&first())));
    /// a verifier that was given the second statement, and a first one that nobody has signed
    roots_by_digest_not_before: A 0 Accept ["REG-M-5"] = {
        let next = second(&first());
        let statements = [statement(&first(), &[]), statement(&next, &[SECOND, THIRD])];
        trusting(under(&statements, &listing(&[THIRD, FOURTH])), &digest(&next))
    };
    /// the statement before has expired
    roots_first_expired: A 0 Accept ["REG-M-7"] = {
        let before = Says { expires: NOW - 1, ..first() };
        let next = Says { expires: NOW + DAY, ..second(&before) };
        let statements = [statement(&before, &[ROOT, SECOND]), statement(&next, &[SECOND, THIRD])];
        under(&statements, &listing(&[THIRD, FOURTH]))
    };
    /// a stranger has signed too
    roots_stranger_too: A 0 Accept ["REG-M-4"] = {
        under(&[statement(&first(), &[ROOT, SECOND])], &listing(&[ROOT, SECOND, STRANGER]))
    };
    /// a root that speaks for the listed issuer, and one that speaks for all
    roots_scope_named: A 0 Accept ["REG-M-9"] = said(&Says {
        roots: vec![(ROOT, Some(vec![ISSUER])), (SECOND, None), (THIRD, Some(vec!["another"]))],
        ..first()
    });
    /// two roots of another issuer name a third one for it
    roots_limited_add_own: A 0 Accept ["REG-M-14"] = given(|next| limit(next, STRANGER, Some(vec![ANOTHER])), &[THIRD, FOURTH]);
    /// two roots of another issuer leave one out that spoke for all
    roots_limited_drop: A 0 Accept ["REG-M-14"] = given(|next| next.roots.retain(|(seed, _)| *seed != FIFTH), &[THIRD, FOURTH]);
    /// two roots of another issuer limit one to it that spoke for all
    roots_limited_narrow: A 0 Accept ["REG-M-14"] = given(|next| limit(next, FIFTH, Some(vec![ANOTHER])), &[THIRD, FOURTH]);
    /// two roots of another issuer sign a statement with a later end
    roots_limited_renew: A 0 Accept ["REG-M-14"] = given(|next| next.expires += DAY, &[THIRD, FOURTH]);
    /// two roots of another issuer, and a third as the new threshold wants it
    roots_limited_raise_threshold: A 0 Accept ["REG-M-14"] = {
        let mut next = following(&mixed());
        next.threshold = 3;
        let statements = [statement(&mixed(), &[ROOT, SECOND]), statement(&next, &[THIRD, FOURTH, FIFTH])];
        under(&statements, &listing(&[ROOT, SECOND, FIFTH]))
    };
    /// two roots that speak for all give everything
    roots_unlimited_give: A 0 Accept ["REG-M-14"] = {
        let mut next = following(&mixed());
        limit(&mut next, THIRD, None);
        limit(&mut next, STRANGER, None);
        next.threshold = 1;
        let statements = [statement(&mixed(), &[ROOT, SECOND]), statement(&next, &[ROOT, SECOND])];
        under(&statements, &listing(&[STRANGER]))
    };
    /// a root for two issuers, for each of which two others of the three that have signed speak
    roots_given_issuer_by_issuer: A 0 Accept ["REG-M-14"] = {
        let mut before = mixed();
        limit(&mut before, FOURTH, Some(vec!["a third"]));
        let next = |next: &mut Says| limit(next, STRANGER, Some(vec!["a third", ANOTHER]));
        given_after(&before, next, &[ROOT, THIRD, FOURTH])
    };
    /// the verifier trusts the root with the listed issuer
    roots_scope_of_verifier_named: A 0 Accept ["REG-M-9"] = limited(said(&first()), ISSUER);
    /// a current timestamp
    timestamp_current: A 0 Accept ["REG-M-11"] = stamped(&[fresh()]);
    /// the listing is signed by one of two
    roots_too_few: R 308 Trust ["REG-M-4" "REG-M-8"] = {
        under(&[statement(&first(), &[ROOT, SECOND])], &listing(&[ROOT]))
    };
    /// the statement is signed by one of two
    roots_statement_too_few: R 308 Trust ["REG-M-6"] = {
        under(&[statement(&first(), &[ROOT])], &listing(&[ROOT, SECOND]))
    };
    /// one root has signed twice
    roots_one_key_twice: R 313 Trust ["REG-M-2"] = {
        let listing = in_order(&header(LISTING), &listed(), &[(ROOT, ROOT); 2]);
        under(&[statement(&first(), &[ROOT, SECOND])], &listing)
    };
    /// a document of another kind
    roots_typ: R 313 Trust ["REG-M-2"] = {
        let wrong = document(LISTING, &payload(&first()), &[ROOT, SECOND]);
        under(&[wrong], &listing(&[ROOT, SECOND]))
    };
    /// one bit of a signature of the listing
    roots_bitflip: M 308 Trust ["REG-M-4"] = {
        let mut listing = listing(&[ROOT, SECOND]);
        let last = listing.len() - 40;
        listing[last] ^= 1;
        under(&[statement(&first(), &[ROOT, SECOND])], &listing)
    };
    /// one bit of a third signature, where two would do
    roots_bitflip_beyond: M 308 Trust ["REG-M-4"] = {
        let mut listing = listing(&[ROOT, SECOND, THIRD]);
        let last = listing.len() - 40;
        listing[last] ^= 1;
        under(&[statement(&first(), &[ROOT, SECOND])], &listing)
    };
    /// no statement about roots
    roots_no_statement: R 313 Trust ["REG-M-1"] = under(&[], &listing(&[ROOT, SECOND]));
    /// a byte follows the file
    roots_trailing: M 206 Trust ["REG-M-1"] = {
        let mut file = rotated();
        file.push(0);
        by(&[file], None)
    };
    /// a threshold that no roots reach
    roots_threshold_beyond: R 313 Trust ["REG-M-3"] = said(&Says { threshold: 4, ..first() });
    /// a threshold of none
    roots_threshold_none: R 313 Trust ["REG-M-3"] = said(&Says { threshold: 0, ..first() });
    /// a field that nobody knows
    roots_field_unknown: R 313 Trust ["REG-M-3"] = edited(|entries| entries.push((int(10), int(0))));
    /// a root twice
    roots_root_twice: R 313 Trust ["REG-M-3"] = edited(|entries| {
        let roots = entries[6].1.as_array_mut().unwrap();
        roots[1] = roots[0].clone();
    });
    /// a weak root
    roots_weak_key: R 305 Trust ["REG-M-3"] = edited(|entries| {
        let roots = entries[6].1.as_array_mut().unwrap();
        roots[0].as_map_mut().unwrap()[0].1 = Value::Bytes(vec![0; 32]);
    });
    /// a root that speaks for nobody
    roots_issuers_none: R 313 Trust ["REG-M-3"] = said(&Says {
        roots: vec![(ROOT, Some(Vec::new())), (SECOND, None), (THIRD, None)],
        ..first()
    });
    /// a root signs timestamps too
    roots_root_stamps: R 302 Trust ["REG-M-3"] = said(&Says { stamps: vec![SECOND], ..first() });
    /// the root that the verifier knows has not signed the first statement
    roots_without_first: R 308 Trust ["REG-M-5"] = {
        under(&[statement(&first(), &[SECOND, THIRD])], &listing(&[ROOT, SECOND]))
    };
    /// the statements began with another root
    roots_other_chain: R 314 Trust ["REG-M-5"] = said(&Says { chain: id(&STRANGER), ..first() });
    /// the file begins with the second statement
    roots_first_missing: R 314 Trust ["REG-M-5"] = {
        under(&[statement(&second(&first()), &[SECOND, THIRD])], &listing(&[THIRD, FOURTH]))
    };
    /// no statement has the digest that the verifier was given
    roots_digest_absent: R 314 Trust ["REG-M-5"] = trusting(by(&[rotated()], None), &[7; 32]);
    /// the roots before have not agreed to others
    roots_old_not_asked: R 308 Trust ["REG-M-6"] = {
        let next = Says { roots: vec![(FOURTH, None), (FIFTH, None)], ..second(&first()) };
        by(&[replaced(&next, &[FOURTH, FIFTH])], None)
    };
    /// the new roots have not agreed
    roots_new_not_asked: R 308 Trust ["REG-M-6"] = {
        let next = Says { roots: vec![(THIRD, None), (FOURTH, None)], ..second(&first()) };
        by(&[replaced(&next, &[ROOT, SECOND])], None)
    };
    /// the roots before sign the listing
    roots_replaced_sign: R 308 Trust ["REG-M-8"] = {
        let next = Says { roots: vec![(SECOND, None), (THIRD, None)], ..second(&first()) };
        let statements = [statement(&first(), &[ROOT, SECOND]), statement(&next, &[SECOND, THIRD])];
        under(&statements, &listing(&[ROOT, SECOND]))
    };
    /// a statement is left out
    roots_gap: R 314 Trust ["REG-M-6"] = {
        let next = Says { version: 3, ..second(&first()) };
        by(&[replaced(&next, &[SECOND, THIRD])], None)
    };
    /// a statement that follows another one
    roots_fork: R 314 Trust ["REG-M-6"] = {
        let next = Says { previous: Some(vec![7; 32]), ..second(&first()) };
        by(&[replaced(&next, &[SECOND, THIRD])], None)
    };
    /// a statement of an earlier time than the one before
    roots_back_in_time: R 314 Trust ["REG-M-6"] = {
        let next = Says { issued: NOW - 16, ..second(&first()) };
        by(&[replaced(&next, &[SECOND, THIRD])], None)
    };
    /// the newest statement's expires = now
    roots_expired: C 310 Trust ["REG-M-7"] = said(&Says { expires: NOW, ..first() });
    /// the newest statement was issued more than a minute after now
    roots_from_the_future: C 412 Trust ["REG-M-7"] = said(&Says { issued: NOW + 61, ..first() });
    /// a root is listed as a key
    roots_listed: R 302 Trust ["REG-M-8"] = {
        let mut payload = listed();
        edit_map(&mut payload, &[], |entries| {
            let keys = entries[4].1.as_array_mut().unwrap();
            keys[0].as_map_mut().unwrap()[0].1 = Value::Bytes(parts::public(&THIRD).to_vec());
        });
        let listing = document(LISTING, &payload, &[ROOT, SECOND]);
        under(&[statement(&first(), &[ROOT, SECOND])], &listing)
    };
    /// of the two that have signed one speaks for another issuer
    roots_scope: R 316 Trust ["REG-M-9"] = said(&Says {
        roots: vec![(ROOT, Some(vec!["another"])), (SECOND, None), (THIRD, None)],
        ..first()
    });
    /// two roots of another issuer name a third one for all
    roots_limited_add_unlimited: R 316 Trust ["REG-M-14"] = given(|next| limit(next, STRANGER, None), &[THIRD, FOURTH]);
    /// two roots of another issuer name a third one for an issuer that is not theirs
    roots_limited_add_issuer: R 316 Trust ["REG-M-14"] = given(|next| limit(next, STRANGER, Some(vec![ISSUER])), &[THIRD, FOURTH]);
    /// two roots of another issuer name one of themselves for all
    roots_limited_unlimited: R 316 Trust ["REG-M-14"] = given(|next| limit(next, THIRD, None), &[THIRD, FOURTH]);
    /// two roots of another issuer name one of themselves for an issuer more
    roots_limited_widened: R 316 Trust ["REG-M-14"] = {
        given(|next| limit(next, THIRD, Some(vec![ANOTHER, ISSUER])), &[THIRD, FOURTH])
    };
    /// two roots of another issuer lower the threshold
    roots_limited_lower_threshold: R 316 Trust ["REG-M-14"] = given(|next| next.threshold = 1, &[THIRD, FOURTH]);
    /// two roots of another issuer name a key for timestamps
    roots_limited_add_stamps: R 316 Trust ["REG-M-14"] = {
        let mut next = following(&mixed());
        next.stamps = vec![STAMPS];
        let statements = [statement(&mixed(), &[ROOT, SECOND]), statement(&next, &[THIRD, FOURTH])];
        by(&[bundle(&statements, &listing(&[ROOT, SECOND]), &[fresh()])], None)
    };
    /// two roots of another issuer leave out the key for timestamps
    roots_limited_drop_stamps: R 316 Trust ["REG-M-14"] = {
        given_after(&Says { stamps: vec![STAMPS], ..mixed() }, |next| next.stamps.clear(), &[THIRD, FOURTH])
    };
    /// of the two that have signed one speaks for another issuer alone
    roots_limited_beside_unlimited: R 316 Trust ["REG-M-14"] = given(|next| limit(next, STRANGER, None), &[FIFTH, FOURTH]);
    /// two roots of another issuer limit one that spoke for all, and take the limit away again
    roots_limited_narrow_and_widen: R 316 Trust ["REG-M-14"] = {
        let mut second = following(&mixed());
        limit(&mut second, FIFTH, Some(vec![ANOTHER]));
        let mut third = following(&second);
        limit(&mut third, FIFTH, None);
        let statements = [
            statement(&mixed(), &[ROOT, SECOND]),
            statement(&second, &[THIRD, FOURTH]),
            statement(&third, &[THIRD, FOURTH]),
        ];
        under(&statements, &listing(&[ROOT, SECOND]))
    };
    /// two roots of another issuer name a third one for all, the next statement does not follow, and the listing is signed by one
    roots_limited_order: R 316 Trust ["REG-M-13" "REG-M-14"] = {
        let mut next = following(&mixed());
        limit(&mut next, STRANGER, None);
        let gap = Says { version: 4, ..following(&next) };
        let statements = [
            statement(&mixed(), &[ROOT, SECOND]),
            statement(&next, &[THIRD, FOURTH]),
            statement(&gap, &[ROOT, SECOND]),
        ];
        under(&statements, &listing(&[ROOT]))
    };
    /// two roots of another issuer name a third one for all, which has not agreed as the threshold wants it
    roots_limited_new_not_asked: R 308 Trust ["REG-M-13" "REG-M-14"] = {
        let roots = vec![(STRANGER, None), (SECOND, None)];
        given(|next| next.roots = roots, &[THIRD, FOURTH])
    };
    /// the verifier trusts the root with another issuer
    roots_scope_of_verifier: R 316 Trust ["REG-M-9"] = limited(said(&first()), "another");
    /// the verifier trusts the one root of a registry with another issuer
    registry_scope_of_verifier: R 316 Trust ["REG-M-9"] = limited(by(&versions(Vec::new())[1..], None), "another");
    /// statement 1 where statement 2 was seen
    roots_rollback: C 314 Trust ["REG-M-12"] = seen_roots(said(&first()), 2, &digest(&second(&first())));
    /// another statement 2 than the one that was seen
    roots_fork_of_seen: R 314 Trust ["REG-M-12"] = seen_roots(by(&[rotated()], None), 2, &[7; 32]);
    /// a registry of one root where statements were seen
    roots_gone: C 314 Trust ["REG-M-12"] = seen_roots(by(&versions(Vec::new())[1..], None), 1, &digest(&first()));
    /// the roots want a timestamp
    timestamp_missing: R 315 Trust ["REG-M-11"] = stamped(&[]);
    /// two timestamps
    timestamp_twice: R 313 Trust ["REG-M-1"] = stamped(&[fresh(), fresh()]);
    /// the timestamp's expires = now
    timestamp_expired: C 315 Trust ["REG-M-11"] = stamped(&[stamp(&STAMPS, NOW - 300, NOW, 2)]);
    /// the timestamp expires while the body arrives
    timestamp_expires: C 315 Body ["REG-M-11"] = {
        stamped(&[fresh()]).when(|context| context.later = Some(NOW + 300))
    };
    /// a timestamp of version 1
    timestamp_of_another_version: R 315 Trust ["REG-M-11"] = stamped(&[stamp(&STAMPS, NOW - 5, NOW + 300, 1)]);
    /// a root signs the timestamp
    timestamp_by_root: R 308 Trust ["REG-M-11"] = stamped(&[stamp(&ROOT, NOW - 5, NOW + 300, 2)]);
    /// one bit of the timestamp's signature
    timestamp_bitflip: M 308 Trust ["REG-M-11"] = {
        let mut stamp = fresh();
        let last = stamp.len() - 40;
        stamp[last] ^= 1;
        stamped(&[stamp])
    };
    /// a timestamp where the roots name nobody for it
    timestamp_unwanted: R 308 Trust ["REG-M-11"] = {
        let statement = statement(&first(), &[ROOT, SECOND]);
        by(&[bundle(&[statement], &listing(&[ROOT, SECOND]), &[fresh()])], None)
    };
    /// a timestamp for longer than a week
    timestamp_too_long: R 313 Trust ["REG-M-11"] = stamped(&[stamp(&STAMPS, NOW - 5, NOW + 7 * DAY, 2)]);
    /// a timestamp that was issued more than a minute after now
    timestamp_from_the_future: C 412 Trust ["REG-M-11"] = stamped(&[stamp(&STAMPS, NOW + 61, NOW + 300, 2)]);
    /// the newest statement has expired, and so has the timestamp
    roots_order: R 310 Trust ["REG-M-13"] = {
        let says = Says { stamps: vec![STAMPS], expires: NOW, ..first() };
        let statement = statement(&says, &[ROOT, SECOND]);
        let stamp = stamp(&STAMPS, NOW - 300, NOW, 2);
        by(&[bundle(&[statement], &listing(&[ROOT, SECOND]), &[stamp])], None)
    };
}
