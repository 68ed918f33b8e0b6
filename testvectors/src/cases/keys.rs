//! Which key signed, and whether it may (capsule-v1 §8).

use crate::{
    case::{Made, given, keys, sealed, unsigned},
    cases,
    context::{Context, Trusted},
    fixture::{ISSUED, NOW},
    hex::hex,
    raw::{byte_string, encode, put, text},
};

fn trusted(change: impl FnOnce(&mut Trusted)) -> Made {
    given(|context| change(&mut context.trust[0]))
}

/// The trust store also holds these 32 bytes as a key.
fn loaded(key: [u8; 32]) -> Made {
    given(|context| {
        context.trust.push(Trusted {
            key: hex(&key),
            ..context.trust[0].clone()
        });
    })
}

/// An encoding whose first, inner and last bytes are these.
const fn encoding(first: u8, inner: u8, last: u8) -> [u8; 32] {
    let mut bytes = [inner; 32];
    bytes[0] = first;
    bytes[31] = last;
    bytes
}

/// The first of the two encodings of order 8 in the CCTV and RFC 7748 lists.
const ORDER_8: [u8; 32] = [
    0x26, 0xE8, 0x95, 0x8F, 0xC2, 0xB2, 0x27, 0xB0, 0x45, 0xC3, 0xF4, 0x89, 0xF2, 0xEF, 0x98, 0xF0,
    0xD5, 0xDF, 0xAC, 0x05, 0xD3, 0xC6, 0x33, 0x39, 0xB1, 0x38, 0x02, 0x88, 0x6D, 0x53, 0xFC, 0x05,
];
const ORDER_8_OTHER: [u8; 32] = [
    0xC7, 0x17, 0x6A, 0x70, 0x3D, 0x4D, 0xD8, 0x4F, 0xBA, 0x3C, 0x0B, 0x76, 0x0D, 0x10, 0x67, 0x0F,
    0x2A, 0x20, 0x53, 0xFA, 0x2C, 0x39, 0xCC, 0xC6, 0x4E, 0xC7, 0xFD, 0x77, 0x92, 0xAC, 0x03, 0x7A,
];

const fn negative(mut point: [u8; 32]) -> [u8; 32] {
    point[31] |= 0x80;
    point
}

fn issued_by(issuer: &str) -> Made {
    sealed(|parts| {
        put(&mut parts.header, &keys([15, 1]), &encode(&text(issuer)));
    })
}

fn pinned(context: &mut Context) {
    context.trust[0].issuer = crate::fixture::ISSUER.to_owned();
}

cases! {
    /// the kid of no trusted key
    kid_unknown: M 301 Verify ["CAP-K-1"] = unsigned(|parts| put(&mut parts.header, &keys([4]), &byte_string(&[7; 16])));
    /// nobody is trusted
    trust_empty: C 301 Verify ["CAP-K-1"] = given(|context| context.trust.clear());
    /// the key is not meant for capsules
    key_purpose_kek: C 302 Verify ["CAP-K-4"] = trusted(|key| key.for_capsules = false);
    /// the key signs for suite 2 alone
    key_alg_pin: C 302 Verify ["CAP-K-4"] = trusted(|key| key.suites = vec![2]);
    /// iat < not_before
    key_before_window: C 303 Verify ["CAP-K-3"] = trusted(|key| key.not_before = ISSUED + 1);
    /// iat = sign_until
    key_after_window: C 303 Verify ["CAP-K-3"] = trusted(|key| key.sign_until = Some(ISSUED));
    /// now = verify_until
    key_verify_until_past: C 303 Verify ["CAP-K-3"] = trusted(|key| key.verify_until = Some(NOW));
    /// compromised; iat before that changes nothing
    key_compromised_backdated: C 304 Verify ["CAP-K-2"] = trusted(|key| {
        key.compromised = true;
        key.sign_until = Some(NOW);
    });
    /// a valid signature by the key of another issuer
    key_issuer_mismatch: R 312 Verify ["CAP-K-4"] = issued_by("other.example.com").when(pinned);
    /// the policy does not allow the suite
    suite_not_allowed: C 502 Verify ["CAP-K-4"] = given(|context| context.suites = vec![2]);
    /// two trusted keys of one id
    trust_duplicate: C 311 Trust ["CAP-K-1"] = given(|context| context.trust.push(context.trust[0].clone()));
    /// a trusted key of order 1
    key_small_order: C 305 Trust ["CAP-E-11"] = loaded(encoding(1, 0, 0));
    /// of order 2
    key_small_order_2: C 305 Trust ["CAP-E-11"] = loaded(encoding(0xEC, 0xFF, 0x7F));
    /// of order 4
    key_small_order_4: C 305 Trust ["CAP-E-11"] = loaded([0; 32]);
    /// of order 4, the other sign
    key_small_order_4_negative: C 305 Trust ["CAP-E-11"] = loaded(encoding(0, 0, 0x80));
    /// of order 8
    key_small_order_8: C 305 Trust ["CAP-E-11"] = loaded(ORDER_8);
    /// of order 8, the other sign
    key_small_order_8_negative: C 305 Trust ["CAP-E-11"] = loaded(negative(ORDER_8));
    /// of order 8, the other y
    key_small_order_8_other: C 305 Trust ["CAP-E-11"] = loaded(ORDER_8_OTHER);
    /// of order 8, the other y and sign
    key_small_order_8_other_negative: C 305 Trust ["CAP-E-11"] = loaded(negative(ORDER_8_OTHER));
    /// y = p + 1, an alias of order 1
    key_small_order_alias_1: C 305 Trust ["CAP-E-11"] = loaded(encoding(0xEE, 0xFF, 0x7F));
    /// x = −0 with y = 1, an alias of order 1
    key_small_order_alias_1_zero: C 305 Trust ["CAP-E-11"] = loaded(encoding(1, 0, 0x80));
    /// both
    key_small_order_alias_1_both: C 305 Trust ["CAP-E-11"] = loaded(encoding(0xEE, 0xFF, 0xFF));
    /// x = −0 with y = −1, an alias of order 2
    key_small_order_alias_2: C 305 Trust ["CAP-E-11"] = loaded(encoding(0xEC, 0xFF, 0xFF));
    /// y = p, an alias of order 4
    key_small_order_alias_4: C 305 Trust ["CAP-E-11"] = loaded(encoding(0xED, 0xFF, 0x7F));
    /// y = p, the other sign
    key_small_order_alias_4_negative: C 305 Trust ["CAP-E-11"] = loaded(encoding(0xED, 0xFF, 0xFF));
    /// y = p + 3, a point of full order in an encoding that is not canonical
    key_noncanonical: C 305 Trust ["CAP-E-11"] = loaded(encoding(0xF0, 0xFF, 0x7F));
    /// y = 2²⁵⁵ − 1
    key_noncanonical_largest: C 305 Trust ["CAP-E-11"] = loaded(encoding(0xFF, 0xFF, 0x7F));
}
