//! Recipients with public keys (capsule-v1 §9.3).

use ciborium::Value;
use kvcap::{Draft, PrefixValue, Recipient, RecipientKind, Role, Stream, WrappingKey};
use kvcap_codecs::Dtype;

use crate::{
    case::{Made, keys},
    cases,
    context::Context,
    fixture::{self, Capsule, HPKE_KEY, TOKENS, WRAP_KEY, XWING_KEY, rows},
    hex::hex,
    parts::Parts,
    raw::{Step, edit_list, encode, find, int, put},
};

pub(super) fn secret() -> WrappingKey {
    WrappingKey::from_bytes(WRAP_KEY)
}

pub(super) fn pair() -> WrappingKey {
    WrappingKey::of(RecipientKind::X25519, HPKE_KEY)
}

pub(super) fn wing() -> WrappingKey {
    WrappingKey::of(RecipientKind::XWing, XWING_KEY)
}

pub(super) fn by_pair(context: &mut Context) {
    (context.wrapping_key, context.wrapping_type) = (Some(hex(&HPKE_KEY)), 2);
}

pub(super) fn by_wing(context: &mut Context) {
    (context.wrapping_key, context.wrapping_type) = (Some(hex(&XWING_KEY)), 3);
}

/// The base capsule with a smaller state, for these recipients; its prompt is committed to under the first one's prefix key.
pub(super) fn sealed_for(seed: &str, recipients: &[Recipient<'_>]) -> Capsule {
    let mut context = fixture::context();
    for (stream, role) in context.streams.iter_mut().zip([Role::Key, Role::Value]) {
        *stream = Stream::Bank(rows(role, 0, Dtype::F16, 1, TOKENS, 8));
    }
    let key = recipients
        .iter()
        .find_map(|recipient| recipient.prefix_key().unwrap());
    let value = PrefixValue::of(&fixture::prompt());
    context.prefix = match key {
        Some(key) => value.keyed(&key),
        None => value.public(),
    };
    let plain = fixture::contents(&context);
    let draft = Draft::new(fixture::terms(), context);
    fixture::seal_for(seed, draft, plain, &[], recipients)
}

fn alone(key: &WrappingKey) -> Made {
    Made::of(sealed_for(key.kind().name(), &[key.into()]))
}

fn public_alone(key: &WrappingKey) -> Made {
    let seed = format!("public {}", key.kind().name());
    Made::of(sealed_for(&seed, &[(&key.public().unwrap()).into()]))
}

/// For the symmetric key, and for this one.
pub(super) fn beside(key: &WrappingKey) -> Capsule {
    let seed = format!("secret and {}", key.kind().name());
    sealed_for(&seed, &[(&secret()).into(), key.into()])
}

/// The entries beside each other, changed and signed again.
fn listed(key: &WrappingKey, change: impl FnOnce(&mut Vec<Value>)) -> Made {
    let mut parts = Parts::of(&beside(key));
    edit_list(&mut parts.payload, &keys([4, 3]), change);
    signed(parts)
}

fn signed(mut parts: Parts) -> Made {
    parts.sign();
    Made::of(Capsule {
        file: parts.file(),
        plain: parts.plain,
    })
}

/// A field of the entry with a public key.
fn field(key: &WrappingKey, index: usize, change: impl FnOnce(&mut Vec<u8>)) -> Made {
    listed(key, |all| {
        change(
            all[1].as_array_mut().unwrap()[index]
                .as_bytes_mut()
                .unwrap(),
        );
    })
}

fn resized(key: &WrappingKey, index: usize, len: usize) -> Made {
    field(key, index, |bytes| bytes.resize(len, 9))
}

fn flipped(key: &WrappingKey, index: usize, at: usize) -> Made {
    field(key, index, |bytes| bytes[at] ^= 1)
}

/// The X25519 point at the end of `enc` is this one.
fn pointed(key: &WrappingKey, point: [u8; 32]) -> Made {
    field(key, 2, |enc| {
        let at = enc.len() - 32;
        enc[at..].copy_from_slice(&point);
    })
}

/// A point of order 8 of Curve25519 (RFC 7748 lists its u).
const ORDER_8: [u8; 32] = [
    0xE0, 0xEB, 0x7A, 0x7C, 0x3B, 0x41, 0xB8, 0xAE, 0x16, 0x56, 0xE3, 0xFA, 0xF1, 0x9F, 0xC4, 0x6A,
    0xDA, 0x09, 0x8D, 0xEB, 0x9C, 0x32, 0xB1, 0xFD, 0x86, 0x62, 0x05, 0x16, 0x5F, 0x49, 0xB8, 0x00,
];

/// The entry of another capsule for the same key.
fn transplanted(key: &WrappingKey) -> Made {
    let other = sealed_for("other recipients", &[(&secret()).into(), key.into()]);
    let path = [Step::Key(4), Step::Key(3), Step::At(1)];
    let payload = Parts::of(&other).payload;
    let entry = payload[find(&payload, &path)].to_vec();
    let mut parts = Parts::of(&beside(key));
    put(&mut parts.payload, &path, &entry);
    signed(parts)
}

/// The whole capsule under another suite, with the entry made for the first.
fn other_suite(key: &WrappingKey) -> Made {
    let mut parts = Parts::of(&beside(key));
    put(&mut parts.payload, &keys([2, 1]), &encode(&int(2)));
    parts.reseal();
    signed(parts)
}

/// Entries like the second, each with a key id of its own.
fn crowd(key: &WrappingKey, count: u8) -> Made {
    listed(key, |all| {
        for n in 2..count {
            let mut other = all[1].clone();
            other.as_array_mut().unwrap()[1] = Value::Bytes(vec![n; 16]);
            all.push(other);
        }
    })
}

cases! {
    /// one recipient, of type 2; its secret key gave the prefix key
    hpke_alone: A 0 Accept ["§9.3" "CAP-P-1"] = alone(&pair()).when(by_pair);
    /// one recipient, of type 2, by its public key; the prefix is public
    hpke_public_alone: A 0 Accept ["§9.3" "CAP-R-5"] = public_alone(&pair()).when(by_pair);
    /// one recipient, of type 3
    xwing_alone: A 0 Accept ["§9.3" "CAP-P-1"] = alone(&wing()).when(by_wing);
    /// one recipient, of type 3, by its public key
    xwing_public_alone: A 0 Accept ["§9.3" "CAP-R-5"] = public_alone(&wing()).when(by_wing);
    /// types 1 and 2, opened by the key of type 2
    hpke_beside_secret: A 0 Accept ["CAP-R-2" "CAP-R-4"] = Made::of(beside(&pair())).when(by_pair);
    /// the same, opened by the key of type 1
    secret_beside_hpke: A 0 Accept ["CAP-R-2" "CAP-R-4"] = Made::of(beside(&pair()));
    /// types 1 and 3, opened by the key of type 3
    xwing_beside_secret: A 0 Accept ["CAP-R-2" "CAP-R-4"] = Made::of(beside(&wing())).when(by_wing);
    /// the same, opened by the key of type 1
    secret_beside_xwing: A 0 Accept ["CAP-R-2" "CAP-R-4"] = Made::of(beside(&wing()));
    /// 16 recipients, 15 of them of type 2
    hpke_at_limit: A 0 Accept ["§10"] = crowd(&pair(), 16).when(by_pair);
    /// 17 recipients, 16 of them of type 3
    xwing_over_limit: R 503 Verify ["§10"] = crowd(&wing(), 17);
    /// entries of types 2 and 3 that both would open
    hpke_and_xwing: R 808 Verify ["CAP-R-4"] = {
        let wing = {
            let parts = Parts::of(&beside(&wing()));
            let path = [Step::Key(4), Step::Key(3), Step::At(1)];
            ciborium::from_reader(&parts.payload[find(&parts.payload, &path)]).unwrap()
        };
        listed(&pair(), |all| all.push(wing)).when(by_pair)
    };
    /// the same entry of type 2 twice
    hpke_twice: R 808 Verify ["CAP-R-3"] = listed(&pair(), |all| all.push(all[1].clone()));
    /// type 2 with an enc of 33 bytes
    hpke_enc_len_33: R 808 Verify ["CAP-R-1"] = resized(&pair(), 2, 33);
    /// type 2 with the 24 bytes of type 1's nonce
    hpke_enc_len_24: R 808 Verify ["CAP-R-1"] = resized(&pair(), 2, 24);
    /// type 2 with a wrapped key of 47 bytes
    hpke_wrapped_len_47: R 808 Verify ["CAP-R-1"] = resized(&pair(), 3, 47);
    /// type 2 with a wrapped key of 49 bytes
    hpke_wrapped_len_49: R 808 Verify ["CAP-R-1"] = resized(&pair(), 3, 49);
    /// type 3 with an enc of 1,119 bytes
    xwing_enc_len_1119: R 808 Verify ["CAP-R-1"] = resized(&wing(), 2, 1119);
    /// type 3 with an enc of 1,121 bytes
    xwing_enc_len_1121: R 808 Verify ["CAP-R-1"] = resized(&wing(), 2, 1121);
    /// type 3 with ML-KEM's ciphertext alone
    xwing_enc_len_1088: R 808 Verify ["CAP-R-1"] = resized(&wing(), 2, 1088);
    /// type 3 with a wrapped key of 47 bytes
    xwing_wrapped_len_47: R 808 Verify ["CAP-R-1"] = resized(&wing(), 3, 47);
    /// an entry of type 2 that says type 3
    hpke_as_xwing: R 808 Verify ["CAP-R-1"] = listed(&pair(), |all| all[1].as_array_mut().unwrap()[0] = int(3));
    /// an entry of type 2 that says type 0
    recipient_type_0: R 808 Verify ["CAP-R-1"] = listed(&pair(), |all| all[1].as_array_mut().unwrap()[0] = int(0));
    /// no entry for the key of type 2
    hpke_no_entry: C 809 Open ["CAP-R-2"] = Made::of(fixture::base()).when(by_pair);
    /// the bytes of the key of type 2, taken for one of type 1
    hpke_key_as_secret: C 809 Open ["CAP-R-2"] = Made::of(beside(&pair())).when(|context| {
        by_pair(context);
        context.wrapping_type = 1;
    });
    /// type 2 with u = 0 for enc: the shared secret is zero for everyone
    hpke_enc_low_order: R 803 Open ["CAP-R-2"] = pointed(&pair(), [0; 32]).when(by_pair);
    /// type 2 with a point of order 8
    hpke_enc_order_8: R 803 Open ["CAP-R-2"] = pointed(&pair(), ORDER_8).when(by_pair);
    /// type 3 with u = 0 for the X25519 part
    xwing_enc_low_order: R 803 Open ["CAP-R-2"] = pointed(&wing(), [0; 32]).when(by_wing);
    /// one bit of enc
    hpke_enc_bitflip: R 803 Open ["CAP-R-2" "CAP-A-3"] = flipped(&pair(), 2, 0).when(by_pair);
    /// the highest bit of enc, which X25519 ignores and the KEM's context does not
    hpke_enc_high_bit: R 803 Open ["CAP-R-2"] = field(&pair(), 2, |enc| enc[31] ^= 0x80).when(by_pair);
    /// one bit of the wrapped key
    hpke_wrapped_bitflip: R 803 Open ["CAP-R-2"] = flipped(&pair(), 3, 0).when(by_pair);
    /// one bit of the tag
    hpke_tag_bitflip: R 803 Open ["CAP-R-2"] = flipped(&pair(), 3, 47).when(by_pair);
    /// one bit of ML-KEM's ciphertext, which then decapsulates to another secret
    xwing_mlkem_bitflip: R 803 Open ["CAP-R-2"] = flipped(&wing(), 2, 0).when(by_wing);
    /// one bit of the X25519 part
    xwing_x25519_bitflip: R 803 Open ["CAP-R-2"] = flipped(&wing(), 2, 1088).when(by_wing);
    /// one bit of the wrapped key
    xwing_wrapped_bitflip: R 803 Open ["CAP-R-2"] = flipped(&wing(), 3, 0).when(by_wing);
    /// the entry of another capsule for the same key
    hpke_from_other_capsule: R 803 Open ["CAP-R-2" "§9.3"] = transplanted(&pair()).when(by_pair);
    /// the same for type 3
    xwing_from_other_capsule: R 803 Open ["CAP-R-2" "§9.3"] = transplanted(&wing()).when(by_wing);
    /// suite 2 throughout, with an entry that was made for suite 1
    hpke_other_suite: R 803 Open ["§9.3"] = other_suite(&pair()).when(by_pair);
    /// the same body opens for the symmetric recipient, whose entry names no suite
    hpke_other_suite_secret: A 0 Accept ["§9.3"] = other_suite(&pair());
}
