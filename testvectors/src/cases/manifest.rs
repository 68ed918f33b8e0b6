//! Manifests that contradict themselves or their CDDL (capsule-v1 §§5, 6), signed and sealed so
//! that nothing else is wrong.

use ciborium::Value;

use crate::{
    case::{Made, keys, sealed, signed, stream},
    cases,
    parts::Parts,
    raw::{Step, edit, edit_list, edit_map, encode, int, put, text},
};

const STREAMS: [i64; 2] = [2, 12];

fn field<const N: usize>(path: [i64; N], value: &Value) -> Made {
    sealed(|parts| put(&mut parts.payload, &keys(path), &encode(value)))
}

fn of_stream(index: usize, key: i64, value: &Value) -> Made {
    sealed(|parts| put(&mut parts.payload, &stream(index, key), &encode(value)))
}

fn list(items: impl IntoIterator<Item = u64>) -> Value {
    Value::Array(items.into_iter().map(int).collect())
}

fn f64_bytes(value: f64) -> Value {
    Value::Bytes(value.to_le_bytes().to_vec())
}

fn measured(index: usize, len: u64) -> impl FnOnce(&mut Parts) {
    move |parts| {
        let path = [Step::Key(3), Step::At(index), Step::At(0)];
        put(
            &mut parts.payload,
            &path,
            &encode(&Value::Bytes(len.to_le_bytes().to_vec())),
        );
    }
}

/// A section of kind 7.
fn named(name: &str, len: u64, chunk: u64) -> Value {
    Value::Map(vec![
        (int(1), int(1)),
        (int(2), int(7)),
        (int(3), text(name)),
        (int(10), int(len)),
        (int(11), int(chunk)),
    ])
}

fn measure(len: u64) -> Value {
    Value::Array(vec![
        Value::Bytes(len.to_le_bytes().to_vec()),
        Value::Bytes(vec![0; 32]),
    ])
}

/// Adds sections of this length, whose bytes are not there.
fn promised(count: usize, len: u64, chunk: u64) -> Made {
    signed(|parts| {
        edit_list(&mut parts.payload, &keys(STREAMS), |streams| {
            streams.extend((0..count).map(|n| named(&format!("n{n}"), len, chunk)));
        });
        edit_list(&mut parts.payload, &keys([3]), |all| {
            all.extend((0..count).map(|_| measure(len)));
        });
    })
}

/// Leaves the streams from `first` on out.
fn truncate(parts: &mut Parts, first: usize) {
    edit_list(&mut parts.payload, &keys(STREAMS), |streams| {
        streams.truncate(first)
    });
    edit_list(&mut parts.payload, &keys([3]), |all| all.truncate(first));
    parts.plain.truncate(first);
    parts.unused.clear();
}

/// Another bank or section after the last, with these encoded bytes.
fn added(stream: impl FnOnce(&Parts) -> Value, plain: Vec<u8>) -> Made {
    sealed(|parts| {
        let stream = stream(parts);
        edit_list(&mut parts.payload, &keys(STREAMS), |streams| {
            streams.push(stream)
        });
        edit_list(&mut parts.payload, &keys([3]), |all| all.push(measure(0)));
        parts.plain.push(plain);
    })
}

fn copy_of(parts: &Parts, index: usize) -> Value {
    let range = crate::raw::find(
        &parts.payload,
        &[Step::Key(2), Step::Key(12), Step::At(index)],
    );
    ciborium::from_reader(&parts.payload[range]).unwrap()
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
    Value::Array(vec![int(kind), bytes(16), bytes(enc), bytes(48)])
}

const fn stream_path(index: usize) -> [Step; 3] {
    [Step::Key(2), Step::Key(12), Step::At(index)]
}

/// A rotation table of 32 pairs.
fn rotation_table(parts: &mut Parts) {
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

/// Keys under q4k, with a receipt and one rotation table in the context.
fn q4k(parts: &mut Parts) {
    rotation_table(parts);
    put(&mut parts.payload, &stream(0, 9), &encode(&list([3])));
    let path = [Step::Key(3), Step::At(0)];
    edit_list(&mut parts.payload, &path, |entry| {
        entry.push(Value::Bytes(vec![0; 32]))
    });
    let shape = kvcap_codecs::BankShape::Tokens {
        heads: 1,
        tokens: 65,
        dim: 64,
    };
    let len = kvcap_codecs::Codec::Q4k.encoded_frame_len(&shape, kvcap_codecs::Dtype::F16, 0);
    parts.plain[0].truncate(len.unwrap() as usize);
}

cases! {
    /// no key 4 in the context
    field_missing: R 501 Verify ["M-1"] = sealed(|parts| {
        edit_map(&mut parts.payload, &keys([2]), |map| map.retain(|(key, _)| *key != int(4)));
    });
    /// key 15 in the context
    field_unknown: R 501 Verify ["M-1"] = sealed(|parts| {
        edit_map(&mut parts.payload, &keys([2]), |map| map.push((int(15), int(0))));
    });
    /// key 7 in the manifest
    manifest_field_unknown: R 501 Verify ["M-1"] = sealed(|parts| {
        edit_map(&mut parts.payload, &[], |map| map.push((int(7), int(0))));
    });
    /// a text key in the model
    manifest_text_key: R 501 Verify ["M-1"] = sealed(|parts| {
        edit_map(&mut parts.payload, &keys([2, 2]), |map| map.push((text("x"), int(0))));
    });
    /// a digest of 31 bytes
    digest_short: R 501 Verify ["M-1"] = field([2, 2, 1], &Value::Bytes(vec![7; 31]));
    /// theta is infinite
    theta_infinite: R 501 Verify ["§5.4"] = sealed(|parts| {
        let path = [Step::Key(2), Step::Key(5), Step::At(0), Step::Key(4)];
        put(&mut parts.payload, &path, &encode(&f64_bytes(f64::INFINITY)));
    });
    /// scaling of kind 8
    scaling_unknown: R 501 Verify ["§5.4"] = sealed(|parts| {
        let path = [Step::Key(2), Step::Key(5), Step::At(0), Step::Key(5)];
        put(&mut parts.payload, &path, &encode(&list([8])));
    });
    /// rope for a layer that the model does not have
    rope_layer_beyond: R 507 Verify ["§5.4"] = sealed(|parts| {
        let path = [Step::Key(2), Step::Key(5), Step::At(0), Step::Key(1)];
        put(&mut parts.payload, &path, &encode(&list([0, 1])));
    });
    /// a layer in two ropes
    rope_layer_twice: R 507 Verify ["§5.4"] = sealed(|parts| {
        edit_list(&mut parts.payload, &keys([2, 5]), |ropes| ropes.push(ropes[0].clone()));
    });
    /// capture flag 3
    capture_flag_unknown: R 501 Verify ["§5"] = field([2, 8], &int(8));
    /// prefix scheme 3
    prefix_scheme_unknown: R 501 Verify ["§5.5"] = field([2, 6, 1], &int(3));
    /// special tokens out of order
    specials_unsorted: R 501 Verify ["§5.2"] = sealed(|parts| {
        edit_list(&mut parts.payload, &keys([2, 3, 5]), |specials| specials.swap(0, 1));
    });
    /// a fact twice
    fact_twice: R 501 Verify ["§5.3"] = sealed(|parts| {
        edit_list(&mut parts.payload, &keys([2, 4, 4]), |facts| facts.push(facts[0].clone()));
    });
    /// extension 1 is critical
    ext_critical_unknown: R 506 Verify ["M-4"] = extensions(&[1], vec![(int(1), Value::Bytes(vec![1]))]);
    /// a critical extension that is not there
    ext_critical_absent: R 506 Verify ["M-4"] = extensions(&[2], vec![(int(1), Value::Bytes(vec![1]))]);
    /// critical extensions out of order
    ext_critical_unsorted: R 501 Verify ["M-4"] = extensions(&[2, 1], vec![(int(1), Value::Bytes(vec![1])), (int(2), Value::Bytes(vec![1]))]);
    /// an extension that is not a byte string
    ext_not_bytes: R 501 Verify ["M-4"] = extensions(&[], vec![(int(1), int(1))]);
    /// no extension at all
    ext_empty: R 501 Verify ["M-4"] = extensions(&[], Vec::new());
    /// suite 0
    suite_zero: R 502 Verify ["§3"] = field([2, 1], &int(0));
    /// suite 3
    suite_unknown: R 502 Verify ["§3"] = field([2, 1], &int(3));
    /// version 2 under a prologue of version 1
    manifest_version_mismatch: R 507 Verify ["M-2"] = field([1], &int(2));
    /// a base image with a subject
    base_with_subject: R 507 Verify ["L-3"] = sealed(|parts| {
        edit_map(&mut parts.payload, &keys([2]), |map| map.push((int(14), int(1))));
    });
    /// no streams
    banks_empty: R 501 Verify ["§5"] = sealed(|parts| truncate(parts, 0));
    /// no banks, sections alone
    banks_none: R 507 Verify ["S-3"] = sealed(|parts| {
        for path in [&STREAMS[..], &[3]] {
            let path: Vec<Step> = path.iter().map(|key| Step::Key(*key)).collect();
            edit_list(&mut parts.payload, &path, |all| { all.drain(..2); });
        }
        parts.plain.drain(..2);
    });
    /// 4,097 streams
    banks_over_limit: R 503 Verify ["M-3" "§10"] = promised(4093, 0, 4096);
    /// the same bank twice
    bank_duplicate_id: R 505 Verify ["S-1"] = {
        let plain = crate::fixture::noise("twice", 65 * 64);
        added(|parts| copy_of(parts, 1), plain)
    };
    /// two `tokens` sections
    section_duplicate: R 505 Verify ["§6.3"] = {
        let plain = crate::fixture::token_bytes(&crate::fixture::prompt());
        added(|parts| copy_of(parts, 2), plain)
    };
    /// a section one byte longer than the body has
    bank_past_body: R 507 Verify ["M-2"] = signed(|parts| {
        put(&mut parts.payload, &stream(3, 10), &encode(&int(33)));
        measured(3, 33)(parts);
    });
    /// 257 sections of almost 2⁵⁶ bytes: their sum overflows 64 bits
    bank_offset_overflow: R 504 Verify ["M-2"] = promised(257, ((1 << 32) - 1) << 24, 16 << 20);
    /// no tokens
    bank_zero_len: R 507 Verify ["S-2"] = sealed(|parts| {
        for index in 0..2 {
            edit_list(&mut parts.payload, &stream(index, 6), |shape| shape[2] = int(0));
            put(&mut parts.payload, &stream(index, 10), &[0]);
        }
    });
    /// one token fewer than the plain length
    bank_shape_mismatch: R 507 Verify ["S-2"] = sealed(|parts| {
        edit_list(&mut parts.payload, &stream(0, 6), |shape| shape[2] = int(64));
    });
    /// heads × tokens × dim overflows 64 bits
    shape_product_overflow: R 507 Verify ["S-2"] = of_stream(0, 6, &list([0, 1 << 62, 65, 64]));
    /// a chunk length of 512
    chunk_log2_range: R 503 Verify ["§6.4"] = of_stream(0, 11, &int(1 << 9));
    /// a chunk length of 2³¹
    chunk_log2_range_high: R 503 Verify ["§6.4"] = of_stream(0, 11, &int(1_u64 << 31));
    /// a chunk length of 16 MiB + 1
    chunk_len_over_limit: R 503 Verify ["§6.4"] = of_stream(0, 11, &int((16 << 20) + 1));
    /// a chunk length of 4 KiB − 1
    chunk_len_under_limit: R 503 Verify ["§6.4"] = of_stream(0, 11, &int(4095));
    /// a section of 2³² chunks
    chunk_count_2e32: R 503 Verify ["§10"] = promised(1, 1 << 44, 4096);
    /// layer 1 has no bank and is not listed
    layer_hole: R 507 Verify ["S-3"] = field([2, 10], &Value::Array(vec![int(2), list([])]));
    /// layer 0 has banks and is listed as holding none
    layer_stateless_with_bank: R 507 Verify ["S-3"] = field([2, 10], &Value::Array(vec![int(1), list([0])]));
    /// the banks' layer is the number of layers
    bank_layer_beyond: R 507 Verify ["S-3"] = sealed(|parts| {
        for index in 0..2 {
            put(&mut parts.payload, &stream(index, 3), &[1]);
        }
    });
    /// 65,537 layers
    layers_over_limit: R 503 Verify ["§10"] = field([2, 10], &Value::Array(vec![int(65_537), list([])]));
    /// keys without values
    keys_without_values: R 507 Verify ["S-4"] = of_stream(1, 2, &int(7));
    /// start = end
    position_empty: R 507 Verify ["M-5"] = field([2, 7], &list([65, 65]));
    /// the rows end before the positions do
    rows_end_early: R 507 Verify ["S-5"] = field([2, 7], &list([0, 66]));
    /// the rows begin before the positions
    rows_begin_early: R 507 Verify ["S-5"] = field([2, 7], &list([1, 65]));
    /// a bank with a window ends after the positions
    window_past_end: R 507 Verify ["S-5"] = sealed(|parts| {
        for index in 0..2 {
            put(&mut parts.payload, &stream(index, 8), &encode(&int(65)));
            put(&mut parts.payload, &stream(index, 7), &encode(&list([0, 1])));
        }
    });
    /// rows of a bank with a token axis are said to have none
    rows_none: R 507 Verify ["§6.1"] = of_stream(0, 7, &list([2]));
    /// the list of positions is not a `positions` section
    rows_listed_elsewhere: R 507 Verify ["S-6"] = of_stream(0, 7, &list([1, 2]));
    /// role 8
    role_unknown: R 501 Verify ["S-10"] = of_stream(0, 2, &int(8));
    /// element type 8
    dtype_unknown: R 501 Verify ["S-10"] = of_stream(0, 5, &int(8));
    /// an affine triplet of 7 bits
    dtype_triplet_bits: R 501 Verify ["S-10"] = of_stream(0, 5, &list([48, 7, 64, 1]));
    /// shape kind 2
    shape_unknown: R 501 Verify ["S-10"] = of_stream(0, 6, &list([2, 1, 65, 64]));
    /// nine dimensions
    dimensions_over_limit: R 503 Verify ["§10"] = of_stream(0, 6, &list([1, 1, 1, 1, 1, 1, 1, 1, 65, 64]));
    /// section kind 8
    section_unknown: R 501 Verify ["S-10"] = of_stream(2, 2, &int(8));
    /// a `tokens` section with a name
    section_named: R 501 Verify ["§6.3"] = of_stream(2, 3, &text("x"));
    /// a section of kind 7 without a name
    section_unnamed: R 501 Verify ["§6.3"] = of_stream(2, 2, &int(7));
    /// a section's encoded length is not its plain length
    section_len_mismatch: R 507 Verify ["§6.3"] = of_stream(2, 10, &int(261));
    /// one entry of `measured` fewer than streams
    measured_missing: R 507 Verify ["M-6"] = signed(|parts| {
        edit_list(&mut parts.payload, &keys([3]), |all| { all.pop(); });
    });
    /// an exact bank with a receipt
    receipt_on_exact: R 507 Verify ["S-8"] = sealed(|parts| {
        let path = [Step::Key(3), Step::At(0)];
        edit_list(&mut parts.payload, &path, |entry| entry.push(Value::Bytes(vec![0; 32])));
    });
    /// an encoded length of seven bytes
    measured_len_short: R 501 Verify ["M-1"] = signed(|parts| {
        let path = [Step::Key(3), Step::At(0), Step::At(0)];
        edit(&mut parts.payload, &path, |len| *len = Value::Bytes(vec![0; 7]));
    });
    /// codec 5
    codec_unknown: R 901 Verify ["S-7"] = of_stream(0, 9, &list([5]));
    /// q7
    codec_bits_unknown: R 901 Verify ["S-7"] = of_stream(0, 9, &list([2, 7, 64]));
    /// `raw` with a parameter
    codec_parameter_unknown: R 901 Verify ["S-7"] = of_stream(0, 9, &list([0, 0]));
    /// an exact bank with a rotation table
    rotation_on_exact: R 507 Verify ["S-9"] = sealed(|parts| {
        rotation_table(parts);
        edit_map(&mut parts.payload, &stream_path(0), |bank| bank.push((int(13), int(0))));
    });
    /// q4k without a rotation table
    rotation_missing: R 507 Verify ["S-9"] = sealed(q4k);
    /// q4k with a rotation table that is not there
    rotation_beyond: R 507 Verify ["S-9"] = sealed(|parts| {
        q4k(parts);
        edit_map(&mut parts.payload, &stream_path(0), |bank| bank.push((int(13), int(1))));
    });
    /// a frequency that is not finite
    rotation_infinite: R 501 Verify ["§5.4"] = sealed(|parts| {
        rotation_table(parts);
        let path = [Step::Key(2), Step::Key(11), Step::At(0), Step::At(2)];
        put(&mut parts.payload, &path, &encode(&f64_bytes(f64::NEG_INFINITY)));
    });
    /// a `tokens` section of one token more than the prefix counts
    tokens_count: R 507 Verify ["S-11"] = field([2, 6, 4], &int(64));
    /// token ids without a prefix
    tokens_without_prefix: R 507 Verify ["S-11"] = sealed(|parts| {
        put(&mut parts.payload, &keys([2, 6]), &encode(&Value::Map(vec![(int(1), int(0))])));
        truncate(parts, 3);
    });
    /// a keyed prefix without its section
    prefix_section_missing: R 507 Verify ["P-2"] = sealed(|parts| truncate(parts, 3));
    /// a `prefix` section of 31 bytes
    prefix_section_short: R 507 Verify ["S-11"] = sealed(|parts| {
        put(&mut parts.payload, &stream(3, 10), &encode(&int(31)));
        parts.plain[3].pop();
    });
    /// positions [0, 0] although banks have rows
    positions_untold: R 507 Verify ["M-5"] = field([2, 7], &list([0, 0]));
    /// `planes32` for f16
    codec_not_for_dtype: R 903 Verify ["S-7"] = of_stream(0, 9, &list([4]));
    /// an affine bank whose encoded length has a scale too many
    quant_group_mismatch: R 903 Verify ["S-7"] = sealed(|parts| {
        put(&mut parts.payload, &stream(0, 9), &encode(&list([2, 8, 64])));
        let path = [Step::Key(3), Step::At(0)];
        edit_list(&mut parts.payload, &path, |entry| entry.push(Value::Bytes(vec![0; 32])));
        parts.plain[0].truncate(65 * 68 + 4);
    });
    /// 65 adapters
    adapters_over_limit: R 503 Verify ["§10"] = sealed(|parts| {
        edit_list(&mut parts.payload, &keys([2, 2, 4]), |all| *all = vec![all[0].clone(); 65]);
    });
    /// no recipient
    recipients_empty: R 501 Verify ["§5"] = recipients(Vec::clear);
    /// 17 recipients
    recipients_over_limit: R 503 Verify ["§10"] = recipients(|all| {
        for n in 1..17 {
            let mut other = all[0].clone();
            other.as_array_mut().unwrap()[1] = Value::Bytes(vec![n; 16]);
            all.push(other);
        }
    });
    /// the same key id twice
    recipient_twice: R 808 Verify ["R-3"] = recipients(|all| all.push(all[0].clone()));
    /// a wrapped key of 47 bytes
    wrap_len_47: R 808 Verify ["R-1"] = recipients(|all| all[0].as_array_mut().unwrap()[3] = Value::Bytes(vec![1; 47]));
    /// a wrapped key of 49 bytes
    wrap_len_49: R 808 Verify ["R-1"] = recipients(|all| all[0].as_array_mut().unwrap()[3] = Value::Bytes(vec![1; 49]));
    /// a recipient of type 2 with an enc of 31 bytes
    hpke_enc_len: R 808 Verify ["R-1"] = recipients(|all| all.push(hpke(2, 31)));
    /// recipients of types 2 and 3
    hpke_pq_mixed: R 808 Verify ["R-1"] = recipients(|all| all.extend([hpke(2, 32), hpke(3, 32)]));
    /// a recipient of type 4
    recipient_unknown: R 808 Verify ["R-1"] = recipients(|all| all.push(hpke(4, 32)));
}
