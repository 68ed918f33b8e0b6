//! Contexts, extensions and recipients that contradict themselves or their CDDL (capsule-v1 §6),
//! signed and sealed so that nothing else is wrong.

use ciborium::Value;

use crate::{
    case::{Made, keys, sealed, signed},
    cases,
    parts::Parts,
    raw::{Step, edit_list, edit_map, encode, int, put, text},
};

pub(super) fn field<const N: usize>(path: [i64; N], value: &Value) -> Made {
    sealed(|parts| put(&mut parts.payload, &keys(path), &encode(value)))
}

pub(super) fn list(items: impl IntoIterator<Item = u64>) -> Value {
    Value::Array(items.into_iter().map(int).collect())
}

pub(super) fn f64_bytes(value: f64) -> Value {
    Value::Bytes(value.to_le_bytes().to_vec())
}

/// A rotation table of 32 pairs.
pub(super) fn rotation_table(parts: &mut Parts) {
    let table = Value::Array(vec![
        int(0),
        f64_bytes(1.0),
        Value::Bytes(1.0_f64.to_le_bytes().repeat(32)),
    ]);
    put(
        &mut parts.payload,
        &keys([2, 11]),
        &encode(&Value::Array(vec![table])),
    );
}

fn extensions(critical: &[u64], all: Vec<(Value, Value)>) -> Made {
    sealed(|parts| {
        let value = Value::Map(vec![
            (int(1), list(critical.iter().copied())),
            (int(2), Value::Map(all)),
        ]);
        edit_map(&mut parts.payload, &[], |map| map.push((int(6), value)));
    })
}

fn recipients(change: impl FnOnce(&mut Vec<Value>)) -> Made {
    signed(|parts| edit_list(&mut parts.payload, &keys([4, 3]), change))
}

fn hpke(kind: u64, enc: usize) -> Value {
    let bytes = |len| Value::Bytes(vec![9; len]);
    // another key id for each kind
    let id = Value::Bytes(vec![kind as u8; 16]);
    Value::Array(vec![int(kind), id, bytes(enc), bytes(48)])
}

cases! {
    /// no key 4 in the context
    field_missing: R 501 Verify ["CAP-M-1"] = sealed(|parts| {
        edit_map(&mut parts.payload, &keys([2]), |map| map.retain(|(key, _)| *key != int(4)));
    });
    /// key 15 in the context
    field_unknown: R 501 Verify ["CAP-M-1"] = sealed(|parts| {
        edit_map(&mut parts.payload, &keys([2]), |map| map.push((int(15), int(0))));
    });
    /// key 7 in the manifest
    manifest_field_unknown: R 501 Verify ["CAP-M-1"] = sealed(|parts| {
        edit_map(&mut parts.payload, &[], |map| map.push((int(7), int(0))));
    });
    /// a text key in the model
    manifest_text_key: R 501 Verify ["CAP-M-1"] = sealed(|parts| {
        edit_map(&mut parts.payload, &keys([2, 2]), |map| map.push((text("x"), int(0))));
    });
    /// the key −1 in the model
    manifest_negative_key: R 501 Verify ["CAP-M-1"] = sealed(|parts| {
        edit_map(&mut parts.payload, &keys([2, 2]), |map| map.push((int(-1), int(0))));
    });
    /// a control character in the model's name
    manifest_control: R 501 Verify ["CAP-M-7"] = field([2, 2, 5], &text("ti\u{7}ny"));
    /// a digest of 31 bytes
    digest_short: R 501 Verify ["CAP-M-1"] = field([2, 2, 1], &Value::Bytes(vec![7; 31]));
    /// theta is infinite
    theta_infinite: R 501 Verify ["CAP-M-9"] = sealed(|parts| {
        let path = [Step::Key(2), Step::Key(5), Step::At(0), Step::Key(4)];
        put(&mut parts.payload, &path, &encode(&f64_bytes(f64::INFINITY)));
    });
    /// scaling of kind 8
    scaling_unknown: R 501 Verify ["CAP-M-1"] = sealed(|parts| {
        let path = [Step::Key(2), Step::Key(5), Step::At(0), Step::Key(5)];
        put(&mut parts.payload, &path, &encode(&list([8])));
    });
    /// rope for a layer that the model does not have
    rope_layer_beyond: R 507 Verify ["CAP-M-11"] = sealed(|parts| {
        let path = [Step::Key(2), Step::Key(5), Step::At(0), Step::Key(1)];
        put(&mut parts.payload, &path, &encode(&list([0, 1])));
    });
    /// a layer in two ropes
    rope_layer_twice: R 507 Verify ["CAP-M-11"] = sealed(|parts| {
        edit_list(&mut parts.payload, &keys([2, 5]), |ropes| ropes.push(ropes[0].clone()));
    });
    /// a layer twice in one rope
    rope_layer_repeated: R 501 Verify ["CAP-M-8"] = sealed(|parts| {
        let path = [Step::Key(2), Step::Key(5), Step::At(0), Step::Key(1)];
        put(&mut parts.payload, &path, &encode(&list([0, 0])));
    });
    /// layers without state out of order
    stateless_unsorted: R 501 Verify ["CAP-M-8"] = field([2, 10], &Value::Array(vec![int(3), list([2, 1])]));
    /// a layer without state that the model does not have
    stateless_beyond: R 507 Verify ["CAP-S-3"] = field([2, 10], &Value::Array(vec![int(1), list([1])]));
    /// a rotation table without a frequency
    rotation_empty: R 501 Verify ["CAP-M-12"] = sealed(|parts| {
        rotation_table(parts);
        let path = [Step::Key(2), Step::Key(11), Step::At(0), Step::At(2)];
        put(&mut parts.payload, &path, &encode(&Value::Bytes(Vec::new())));
    });
    /// capture flag 3
    capture_flag_unknown: R 501 Verify ["CAP-M-10"] = field([2, 8], &int(8));
    /// prefix scheme 3
    prefix_scheme_unknown: R 501 Verify ["CAP-M-1"] = field([2, 6, 1], &int(3));
    /// special tokens out of order
    specials_unsorted: R 501 Verify ["CAP-M-8"] = sealed(|parts| {
        edit_list(&mut parts.payload, &keys([2, 3, 5]), |specials| specials.swap(0, 1));
    });
    /// a fact twice
    fact_twice: R 501 Verify ["CAP-M-8"] = sealed(|parts| {
        edit_list(&mut parts.payload, &keys([2, 4, 4]), |facts| facts.push(facts[0].clone()));
    });
    /// extension 1 is critical
    ext_critical_unknown: R 506 Verify ["CAP-M-4"] = extensions(&[1], vec![(int(1), Value::Bytes(vec![1]))]);
    /// a critical extension that is not there
    ext_critical_absent: R 506 Verify ["CAP-M-4"] = extensions(&[2], vec![(int(1), Value::Bytes(vec![1]))]);
    /// critical extensions out of order
    ext_critical_unsorted: R 501 Verify ["CAP-M-8"] = extensions(&[2, 1], vec![(int(1), Value::Bytes(vec![1])), (int(2), Value::Bytes(vec![1]))]);
    /// an extension that is not a byte string
    ext_not_bytes: R 501 Verify ["CAP-M-4"] = extensions(&[], vec![(int(1), int(1))]);
    /// no extension at all
    ext_empty: R 501 Verify ["CAP-M-4"] = extensions(&[], Vec::new());
    /// suite 0
    suite_zero: R 502 Verify ["CAP-A-4"] = field([2, 1], &int(0));
    /// suite 3
    suite_unknown: R 502 Verify ["CAP-A-4"] = field([2, 1], &int(3));
    /// version 2 under a prologue of version 1
    manifest_version_mismatch: R 507 Verify ["CAP-M-2"] = field([1], &int(2));
    /// a base image with a subject
    base_with_subject: R 507 Verify ["LIN-L-3"] = sealed(|parts| {
        edit_map(&mut parts.payload, &keys([2]), |map| map.push((int(14), int(1))));
    });
    /// 65,537 layers
    layers_over_limit: R 503 Verify ["§10"] = field([2, 10], &Value::Array(vec![int(65_537), list([])]));
    /// start = end
    position_empty: R 507 Verify ["CAP-M-5"] = field([2, 7], &list([65, 65]));
    /// a frequency that is not finite
    rotation_infinite: R 501 Verify ["CAP-M-9"] = sealed(|parts| {
        rotation_table(parts);
        let path = [Step::Key(2), Step::Key(11), Step::At(0), Step::At(2)];
        put(&mut parts.payload, &path, &encode(&f64_bytes(f64::NEG_INFINITY)));
    });
    /// positions [0, 0] although banks have rows
    positions_untold: R 507 Verify ["CAP-M-5"] = field([2, 7], &list([0, 0]));
    /// 65 adapters
    adapters_over_limit: R 503 Verify ["§10"] = sealed(|parts| {
        edit_list(&mut parts.payload, &keys([2, 2, 4]), |all| *all = vec![all[0].clone(); 65]);
    });
    /// no recipient
    recipients_empty: R 501 Verify ["CAP-R-1"] = recipients(Vec::clear);
    /// 17 recipients
    recipients_over_limit: R 503 Verify ["§10"] = recipients(|all| {
        for n in 1..17 {
            let mut other = all[0].clone();
            other.as_array_mut().unwrap()[1] = Value::Bytes(vec![n; 16]);
            all.push(other);
        }
    });
    /// the same key id twice
    recipient_twice: R 808 Verify ["CAP-R-3"] = recipients(|all| all.push(all[0].clone()));
    /// a wrapped key of 47 bytes
    wrap_len_47: R 808 Verify ["CAP-R-1"] = recipients(|all| all[0].as_array_mut().unwrap()[3] = Value::Bytes(vec![1; 47]));
    /// a wrapped key of 49 bytes
    wrap_len_49: R 808 Verify ["CAP-R-1"] = recipients(|all| all[0].as_array_mut().unwrap()[3] = Value::Bytes(vec![1; 49]));
    /// a recipient of type 2 with an enc of 31 bytes
    hpke_enc_len: R 808 Verify ["CAP-R-1"] = recipients(|all| all.push(hpke(2, 31)));
    /// recipients of types 2 and 3
    hpke_pq_mixed: R 808 Verify ["CAP-R-1"] = recipients(|all| all.extend([hpke(2, 32), hpke(3, 1120)]));
    /// a recipient of type 4
    recipient_unknown: R 808 Verify ["CAP-R-1"] = recipients(|all| all.push(hpke(4, 32)));
}
