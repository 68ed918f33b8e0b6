//! Signatures that do not verify by the strict rule (capsule-v1 §5.2, CAP-E-10, CAP-E-11).

use curve25519_dalek::{
    constants::{ED25519_BASEPOINT_POINT, EIGHT_TORSION},
    edwards::EdwardsPoint,
    scalar::{Scalar, clamp_integer},
};
use sha2::{Digest, Sha512};

use crate::{
    case::{Made, keys, unsigned},
    cases, fixture,
    parts::{self, Parts, sig_structure},
    raw::{find, put},
};

/// The group order L, little-endian.
const ORDER: [u8; 32] = [
    0xED, 0xD3, 0xF5, 0x5C, 0x1A, 0x63, 0x12, 0x58, 0xD6, 0x9C, 0xF7, 0xA2, 0xDE, 0xF9, 0xDE, 0x14,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
];
/// y = p + 1, another encoding of the identity.
const IDENTITY_ALIAS: [u8; 32] = {
    let mut y = [0xFF; 32];
    y[0] = 0xEE;
    y[31] = 0x7F;
    y
};

/// S = r + k·a, with R as these bytes.
fn respond(parts: &Parts, r: Scalar, point: [u8; 32]) -> Vec<u8> {
    let hash = Sha512::digest(parts.signer);
    let mut secret = [0; 32];
    secret.copy_from_slice(&hash[..32]);
    let a = Scalar::from_bytes_mod_order(clamp_integer(secret));
    let public = parts::public(&parts.signer);
    let wide = Sha512::new()
        .chain_update(point)
        .chain_update(public)
        .chain_update(parts.sig_structure())
        .finalize();
    let k = Scalar::from_bytes_mod_order_wide(&wide.into());
    [point, (r + k * a).to_bytes()].concat()
}

fn forged(r: Scalar, point: impl FnOnce(EdwardsPoint) -> [u8; 32]) -> Made {
    unsigned(|parts| {
        let point = point(ED25519_BASEPOINT_POINT * r);
        parts.signature = respond(parts, r, point);
    })
}

/// S + L, which satisfies the same equation.
pub(super) fn add_order(signature: &mut [u8]) {
    let mut carry = 0;
    for (byte, add) in signature[32..].iter_mut().zip(ORDER) {
        let sum = u16::from(*byte) + u16::from(add) + carry;
        *byte = (sum & 0xFF) as u8;
        carry = sum >> 8;
    }
}

fn message(message: impl FnOnce(&Parts) -> Vec<u8>) -> Made {
    unsigned(|parts| parts.signature = parts::sign(&parts.signer, &message(parts)))
}

cases! {
    /// signed with the context "Signature"
    sig_ctx_signature: R 307 Verify ["CAP-E-10"] = message(|parts| sig_structure("Signature", &parts.header, b"", &parts.payload));
    /// signed with external data
    sig_external_aad: R 307 Verify ["CAP-E-10"] = message(|parts| sig_structure("Signature1", &parts.header, b"x", &parts.payload));
    /// the payload alone is signed
    sig_raw_payload: R 307 Verify ["CAP-E-10"] = message(|parts| parts.payload.clone());
    /// S + L
    sig_s_plus_l: M 306 Verify ["CAP-E-11"] = unsigned(|parts| add_order(&mut parts.signature));
    /// 64 zeros
    sig_all_zero: M 307 Verify ["CAP-E-11"] = unsigned(|parts| parts.signature = vec![0; 64]);
    /// R is the identity; the equation holds
    sig_small_order_r: R 307 Verify ["CAP-E-11"] = forged(Scalar::ZERO, |point| point.compress().to_bytes());
    /// R is an encoding of the identity with y ≥ p; the equation holds
    sig_noncanonical_r: R 307 Verify ["CAP-E-11"] = forged(Scalar::ZERO, |_| IDENTITY_ALIAS);
    /// R has a part of order 8: the equation holds only when multiplied by the cofactor
    sig_low_order_residue: R 307 Verify ["CAP-E-11"] = forged(Scalar::from(7_u8), |point| (point + EIGHT_TORSION[1]).compress().to_bytes());
    /// one bit of R (every bit of signatures is flipped by a test of the repository)
    sig_bitflip: M 307 Verify ["CAP-E-11"] = unsigned(|parts| parts.signature[0] ^= 1);
    /// one bit of S
    sig_bitflip_s: M 307 Verify ["CAP-E-11"] = unsigned(|parts| parts.signature[32] ^= 1);
    /// the signature of another capsule by the same key
    sig_transplant: M 307 Verify ["CAP-E-11"] = unsigned(|parts| {
        parts.signature = Parts::of(&fixture::other()).signature;
    });
    /// one bit of the manifest
    payload_bitflip: M 307 Verify ["CAP-E-11"] = unsigned(|parts| {
        let at = find(&parts.payload, &keys([2, 2, 5])).start + 1;
        parts.payload[at] ^= 1;
    });
    /// a later expiry, written after signing
    exp_bitflip: M 307 Verify ["CAP-E-11"] = unsigned(|parts| {
        let mut later = vec![0x1A];
        later.extend_from_slice(&((fixture::EXPIRES + 3600) as u32).to_be_bytes());
        put(&mut parts.header, &keys([15, 4]), &later);
    });
    /// the kid of another trusted key
    kid_wrong_key: M 307 Verify ["CAP-E-11"] = unsigned(|parts| {
        let other = crate::schedule::sign_key_id(&parts::public(&fixture::OTHER_SEED));
        put(&mut parts.header, &keys([4]), &crate::raw::byte_string(&other));
    })
    .when(|context| {
        let other = parts::public(&fixture::OTHER_SEED);
        context.trust.push(crate::context::Trusted::of(&other));
    });
}
