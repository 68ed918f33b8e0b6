//! Recipients by public key (capsule-v1 §8.3).

use kvcap::{RecipientKind, WrappingKey};

use crate::{
    case::Made,
    cases,
    context::hex,
    fixture::{self, Capsule, WRAP_KEY},
    parts::Parts,
    raw::{Step, edit},
};

/// Secret of the key of type 2 or 3.
const SECRET: [u8; 32] = [0x63; 32];
/// The second recipient of the manifest.
const SECOND: [Step; 3] = [Step::Key(4), Step::Key(3), Step::At(1)];

/// The base capsule for the wrapping key, then for a key of this kind; opened by that one.
fn sealed(kind: RecipientKind, change: impl FnOnce(&mut Vec<ciborium::Value>)) -> Made {
    let context = fixture::context();
    let plain = fixture::contents(&context);
    let keys = [
        WrappingKey::from_bytes(WRAP_KEY),
        WrappingKey::of(kind, SECRET),
    ];
    let (seed, terms) = (kind.name(), fixture::terms());
    let capsule = fixture::seal_for(seed, terms, context, plain, &[], &keys, Vec::new());
    let mut parts = Parts::of(&capsule);
    edit(&mut parts.payload, &SECOND, |entry| {
        change(entry.as_array_mut().unwrap())
    });
    parts.sign();
    let capsule = Capsule {
        file: parts.file(),
        plain: capsule.plain,
    };
    Made::of(capsule).when(|context| {
        context.wrapping_type = kind.number();
        context.wrapping_key = Some(hex(&SECRET));
    })
}

fn bytes(entry: &mut [ciborium::Value], index: usize) -> &mut Vec<u8> {
    entry[index].as_bytes_mut().unwrap()
}

use RecipientKind::{Hpke, XWing};

cases! {
    /// opened by an X25519 key
    hpke_recipient: A 0 Accept ["§8.3"] = sealed(Hpke, |_| {});
    /// opened by an X-Wing key
    xwing_recipient: A 0 Accept ["§8.3"] = sealed(XWing, |_| {});
    /// the encapsulated secret is a point of small order
    hpke_enc_low_order: R 803 Open ["R-2"] = sealed(Hpke, |entry| bytes(entry, 2).fill(0));
    /// one bit of the encapsulated secret
    hpke_enc_bitflip: R 803 Open ["R-2"] = sealed(Hpke, |entry| bytes(entry, 2)[5] ^= 1);
    /// one bit of the key that X25519 wraps
    hpke_wrap_bitflip: R 803 Open ["R-2"] = sealed(Hpke, |entry| bytes(entry, 3)[0] ^= 1);
    /// one bit of X-Wing's ML-KEM part
    xwing_enc_bitflip: R 803 Open ["R-2"] = sealed(XWing, |entry| bytes(entry, 2)[7] ^= 1);
    /// one bit of X-Wing's X25519 part
    xwing_point_bitflip: R 803 Open ["R-2"] = sealed(XWing, |entry| bytes(entry, 2)[1100] ^= 1);
    /// one bit of the key that X-Wing wraps
    xwing_wrap_bitflip: R 803 Open ["R-2"] = sealed(XWing, |entry| bytes(entry, 3)[47] ^= 1);
    /// the key's bytes are those of a key of type 1, whose entry is not for them
    hpke_key_as_secret: C 809 Open ["R-2"] = sealed(Hpke, |_| {}).when(|context| context.wrapping_type = 1);
}
