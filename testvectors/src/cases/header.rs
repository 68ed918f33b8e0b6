//! Algorithm, types and labels of the protected header (capsule-v1 §5.2, CAP-E-7, CAP-E-8).

use ciborium::Value;

use crate::{
    case::{Made, keys, signed, unsigned},
    cases, parts,
    raw::{edit_map, encode, int, put, text},
};

fn label(label: i64, value: &Value) -> Made {
    signed(|parts| put(&mut parts.header, &keys([label]), &encode(value)))
}

fn without(label: i64) -> Made {
    signed(|parts| {
        edit_map(&mut parts.header, &[], |map| {
            map.retain(|(key, _)| *key != int(label));
        });
    })
}

/// A list of critical labels; 2 stands behind 1.
fn crit(listed: &[i64]) -> Made {
    let listed = Value::Array(listed.iter().map(|label| int(*label)).collect());
    signed(|parts| {
        edit_map(&mut parts.header, &[], |map| {
            map.insert(1, (int(2), listed))
        })
    })
}

/// A label 7 of a thousand nested arrays, after label 4.
fn countersignature() -> Made {
    unsigned(|parts| {
        let at = crate::raw::find(&parts.header, &keys([15])).start - 1;
        let nested = [&[0x07][..], &[0x81; 1000], &[0x00]].concat();
        parts.header.splice(at..at, nested);
        parts.header[0] += 1;
    })
}

cases! {
    /// label 99
    protected_unknown_label: R 213 Header ["CAP-E-7"] = signed(|parts| {
        edit_map(&mut parts.header, &[], |map| map.push((int(99), int(0))));
    });
    /// a text label
    protected_text_label: R 213 Header ["CAP-E-7"] = signed(|parts| {
        edit_map(&mut parts.header, &[], |map| map.push((text("x"), int(0))));
    });
    /// a label that is a byte string
    protected_bytes_label: R 205 Header ["CAP-E-7" "CAP-C-3"] = signed(|parts| {
        edit_map(&mut parts.header, &[], |map| map.push((Value::Bytes(vec![1]), int(0))));
    });
    /// label 99, before a value that is not CBOR
    protected_label_before_malformed: R 213 Header ["CAP-E-7"] = signed(|parts| parts.header = vec![0xA1, 0x18, 0x63, 0x1C]);
    /// a map of 2⁶² pairs, before a label that nobody knows
    protected_pairs_2e62: R 204 Header ["CAP-C-4" "CAP-E-7"] = signed(|parts| {
        parts.header = b"\xBB\x40\x00\x00\x00\x00\x00\x00\x00\x18\x63\x00".to_vec();
    });
    /// label 7, a countersignature, nested a thousand deep
    protected_nested_countersig: M 213 Header ["CAP-E-7"] = countersignature();
    /// −8, EdDSA, deprecated by RFC 9864
    alg_eddsa_polymorphic: R 212 Header ["CAP-E-8"] = label(1, &int(-8));
    /// −7, ES256
    alg_es256: R 212 Header ["CAP-E-8"] = label(1, &int(-7));
    /// 5, HMAC, with a MAC keyed by the public key in the signature's place
    alg_hmac_with_pubkey: R 212 Header ["CAP-E-8"] = unsigned(|parts| {
        put(&mut parts.header, &keys([1]), &[0x05]);
        let key = parts::public(&parts.signer);
        let message = parts.sig_structure();
        let mut mac = vec![0; 64];
        blake3::Hasher::new_keyed(&key).update(&message).finalize_xof().fill(&mut mac);
        parts.signature = mac;
    });
    /// "EdDSA"
    alg_text: R 212 Header ["CAP-E-8"] = label(1, &text("EdDSA"));
    /// no label 1
    alg_missing: R 214 Header ["CAP-E-8"] = without(1);
    /// no label 3
    content_type_missing: R 214 Header ["CAP-E-8"] = without(3);
    /// no label 4
    kid_missing: R 214 Header ["CAP-E-8"] = without(4);
    /// no label 15
    claims_missing: R 214 Header ["CAP-E-8"] = without(15);
    /// no label 16
    typ_missing: R 214 Header ["CAP-E-8"] = without(16);
    /// the type of a registry
    typ_registry: R 216 Header ["CAP-E-8"] = label(16, &text("application/vnd.kvcap.registry"));
    /// another content type
    content_type_wrong: R 216 Header ["CAP-E-8"] = label(3, &text("application/cwt"));
    /// the type as a number
    typ_number: R 216 Header ["CAP-E-8"] = label(16, &int(60));
    /// a kid of 15 bytes
    kid_short: R 301 Header ["CAP-E-8"] = label(4, &Value::Bytes(vec![7; 15]));
    /// [−70000]
    crit_unknown: R 215 Header ["CAP-E-7"] = crit(&[-70_000]);
    /// []
    crit_empty: R 215 Header ["CAP-E-7"] = crit(&[]);
    /// a label that is not there
    crit_absent_label: R 215 Header ["CAP-E-7"] = crit(&[5]);
    /// label 2 after label 16
    crit_out_of_order: R 202 Header ["CAP-E-7" "CAP-C-3"] = signed(|parts| {
        edit_map(&mut parts.header, &[], |map| map.push((int(2), Value::Array(vec![int(-70_000)]))));
    });
    /// [16, 16]
    crit_duplicate: R 215 Header ["CAP-E-7"] = crit(&[16, 16]);
}
