//! Descriptions and measures of streams that contradict themselves, each other or the body
//! (capsule-v1 §7), signed and sealed so that nothing else is wrong.

use ciborium::Value;

use super::manifest::{field, list, rotation_table};
use crate::{
    case::{Made, keys, sealed, signed, stream},
    cases,
    parts::Parts,
    raw::{Step, edit, edit_list, edit_map, encode, int, put, text},
};

const STREAMS: [i64; 2] = [2, 12];

fn of_stream(index: usize, key: i64, value: &Value) -> Made {
    sealed(|parts| put(&mut parts.payload, &stream(index, key), &encode(value)))
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

const fn stream_path(index: usize) -> [Step; 3] {
    [Step::Key(2), Step::Key(12), Step::At(index)]
}

/// Keys under q4c, with a receipt and one rotation table in the context.
fn q4c(parts: &mut Parts) {
    rotation_table(parts);
    put(&mut parts.payload, &stream(0, 9), &encode(&list([3])));
    receipts(parts, vec![0; 32]);
    let shape = kvcap_codecs::BankShape::Tokens {
        heads: 1,
        tokens: 65,
        dim: 64,
    };
    let len =
        kvcap_codecs::Codec::KeyChannel.encoded_frame_len(&shape, kvcap_codecs::Dtype::F16, 0);
    parts.plain[0].truncate(len.unwrap() as usize);
}

/// Keys under q8 in groups of 64, of `len` encoded bytes.
fn q8(parts: &mut Parts, len: usize) {
    put(
        &mut parts.payload,
        &stream(0, 9),
        &encode(&list([2, 8, 64])),
    );
    parts.plain[0].truncate(len);
}

/// A section of receipts after all streams.
fn receipts(parts: &mut Parts, bytes: Vec<u8>) {
    let len = bytes.len() as u64;
    let mut section = named("", len, crate::fixture::CHUNK);
    section.as_map_mut().unwrap()[1].1 = int(8);
    edit_list(&mut parts.payload, &keys(STREAMS), |streams| {
        streams.push(section)
    });
    edit_list(&mut parts.payload, &keys([3]), |all| all.push(measure(len)));
    parts.plain.push(bytes);
}

/// A lossy bank and its receipt, of which one number of four is this: everything is given out by the capsule's
/// layer, and the receipt refused.
fn receipt(number: usize, value: f64) -> Made {
    let mut bytes = vec![0; 32];
    bytes[8 * number..8 * number + 8].copy_from_slice(&value.to_le_bytes());
    let made = sealed(|parts| {
        // codes, scales and biases are zero
        q8(parts, 65 * 68);
        parts.plain[0].fill(0);
        receipts(parts, bytes);
    });
    let all = made.plain.iter().map(Vec::len).sum();
    made.after(all)
}

/// A lossy bank with what was measured of another codec that was asked for, and these two numbers.
fn asked(limit: f64, seen: f64) -> Made {
    let made = sealed(|parts| {
        q8(parts, 65 * 68);
        parts.plain[0].fill(0);
        edit_map(&mut parts.payload, &stream_path(0), |bank| {
            bank.push((int(12), list([2, 4, 64])));
        });
        let numbers = [limit, seen].map(f64::to_le_bytes).concat();
        receipts(parts, [vec![0; 32], numbers].concat());
    });
    let all = made.plain.iter().map(Vec::len).sum();
    made.after(all)
}

cases! {
    /// no streams
    banks_empty: R 501 Verify ["CAP-M-1"] = sealed(|parts| truncate(parts, 0));
    /// no banks, sections alone
    banks_none: R 507 Verify ["CAP-S-3"] = sealed(|parts| {
        for path in [&STREAMS[..], &[3]] {
            let path: Vec<Step> = path.iter().map(|key| Step::Key(*key)).collect();
            edit_list(&mut parts.payload, &path, |all| { all.drain(..2); });
        }
        parts.plain.drain(..2);
    });
    /// 4,097 streams
    banks_over_limit: R 503 Verify ["CAP-M-3" "§10"] = promised(4093, 0, 4096);
    /// the same bank twice
    bank_duplicate_id: R 505 Verify ["CAP-S-1"] = {
        let plain = crate::fixture::noise("twice", 65 * 64);
        added(|parts| copy_of(parts, 1), plain)
    };
    /// two `tokens` sections
    section_duplicate: R 505 Verify ["CAP-S-14"] = {
        let plain = crate::fixture::token_bytes(&crate::fixture::prompt());
        added(|parts| copy_of(parts, 2), plain)
    };
    /// a section one byte longer than the body has
    bank_past_body: R 507 Verify ["CAP-M-2"] = signed(|parts| {
        put(&mut parts.payload, &stream(3, 10), &encode(&int(33)));
        measured(3, 33)(parts);
    });
    /// 257 sections of almost 2⁵⁶ bytes: their sum overflows 64 bits
    bank_offset_overflow: R 504 Verify ["CAP-M-2"] = promised(257, ((1 << 32) - 1) << 24, 16 << 20);
    /// no tokens
    bank_zero_len: R 507 Verify ["CAP-S-2"] = sealed(|parts| {
        for index in 0..2 {
            edit_list(&mut parts.payload, &stream(index, 6), |shape| shape[2] = int(0));
            put(&mut parts.payload, &stream(index, 10), &[0]);
        }
    });
    /// one token fewer than the plain length
    bank_shape_mismatch: R 507 Verify ["CAP-S-2"] = sealed(|parts| {
        edit_list(&mut parts.payload, &stream(0, 6), |shape| shape[2] = int(64));
    });
    /// heads × tokens × dim overflows 64 bits
    shape_product_overflow: R 507 Verify ["CAP-S-2"] = of_stream(0, 6, &list([0, 1 << 62, 65, 64]));
    /// rows of ggml's q8_0 that are a block and a half
    rows_not_blocks: R 507 Verify ["CAP-S-2" "COD-L-1"] = sealed(|parts| {
        put(&mut parts.payload, &stream(0, 5), &encode(&int(36)));
        edit_list(&mut parts.payload, &stream(0, 6), |shape| shape[3] = int(48));
        parts.plain[0].truncate(65 * 34);
        put(&mut parts.payload, &stream(0, 10), &encode(&int(65 * 34)));
    });
    /// a chunk length of 512
    chunk_log2_range: R 503 Verify ["CAP-T-4"] = of_stream(0, 11, &int(1 << 9));
    /// a chunk length of 2³¹
    chunk_log2_range_high: R 503 Verify ["CAP-T-4"] = of_stream(0, 11, &int(1_u64 << 31));
    /// a chunk length of 16 MiB + 1
    chunk_len_over_limit: R 503 Verify ["CAP-T-4"] = of_stream(0, 11, &int((16 << 20) + 1));
    /// a chunk length of 4 KiB − 1
    chunk_len_under_limit: R 503 Verify ["CAP-T-4"] = of_stream(0, 11, &int(4095));
    /// a section of 2³² chunks
    chunk_count_2e32: R 503 Verify ["CAP-T-4"] = promised(1, 1 << 44, 4096);
    /// layer 1 has no bank and is not listed
    layer_hole: R 507 Verify ["CAP-S-3"] = field([2, 10], &Value::Array(vec![int(2), list([])]));
    /// layer 0 has banks and is listed as holding none
    layer_stateless_with_bank: R 507 Verify ["CAP-S-3"] = field([2, 10], &Value::Array(vec![int(1), list([0])]));
    /// the banks' layer is the number of layers
    bank_layer_beyond: R 507 Verify ["CAP-S-3"] = sealed(|parts| {
        for index in 0..2 {
            put(&mut parts.payload, &stream(index, 3), &[1]);
        }
    });
    /// keys without values
    keys_without_values: R 507 Verify ["CAP-S-4"] = of_stream(1, 2, &int(7));
    /// the rows end before the positions do
    rows_end_early: R 507 Verify ["CAP-S-5"] = field([2, 7], &list([0, 66]));
    /// the rows begin before the positions
    rows_begin_early: R 507 Verify ["CAP-S-5"] = field([2, 7], &list([1, 65]));
    /// a bank with a window ends after the positions
    window_past_end: R 507 Verify ["CAP-S-5"] = sealed(|parts| {
        for index in 0..2 {
            put(&mut parts.payload, &stream(index, 8), &encode(&int(65)));
            put(&mut parts.payload, &stream(index, 7), &encode(&list([0, 1])));
        }
    });
    /// start + tokens is over 64 bits, and 64 where it wraps
    window_overflows: R 507 Verify ["CAP-S-5"] = sealed(|parts| {
        let rows = Value::Array(vec![int(0), Value::from(u64::MAX)]);
        for index in 0..2 {
            put(&mut parts.payload, &stream(index, 8), &encode(&int(65)));
            put(&mut parts.payload, &stream(index, 7), &encode(&rows));
        }
    });
    /// rows of a bank with a token axis are said to have none
    rows_none: R 507 Verify ["CAP-S-13"] = of_stream(0, 7, &list([2]));
    /// the list of positions is not a `positions` section
    rows_listed_elsewhere: R 507 Verify ["CAP-S-6"] = of_stream(0, 7, &list([1, 2]));
    /// role 8
    role_unknown: R 501 Verify ["CAP-S-10"] = of_stream(0, 2, &int(8));
    /// element type 8
    dtype_unknown: R 501 Verify ["CAP-S-10"] = of_stream(0, 5, &int(8));
    /// an affine triplet of 7 bits
    dtype_triplet_bits: R 501 Verify ["CAP-S-10"] = of_stream(0, 5, &list([48, 7, 64, 1]));
    /// affine triplets whose scales are of an element type that there is not
    dtype_triplet_params: R 501 Verify ["CAP-S-10"] = of_stream(0, 5, &list([48, 4, 64, 9]));
    /// shape kind 2
    shape_unknown: R 501 Verify ["CAP-S-10"] = of_stream(0, 6, &list([2, 1, 65, 64]));
    /// nine dimensions
    dimensions_over_limit: R 503 Verify ["CAP-M-3" "§10"] = of_stream(0, 6, &list([1, 1, 1, 1, 1, 1, 1, 1, 65, 64]));
    /// section kind 9
    section_unknown: R 501 Verify ["CAP-S-10"] = of_stream(2, 2, &int(9));
    /// a `tokens` section with a name
    section_named: R 501 Verify ["CAP-S-15"] = of_stream(2, 3, &text("x"));
    /// a section of kind 7 without a name
    section_unnamed: R 501 Verify ["CAP-S-15"] = of_stream(2, 2, &int(7));
    /// a section's encoded length is not its plain length
    section_len_mismatch: R 507 Verify ["CAP-S-16"] = of_stream(2, 10, &int(261));
    /// one entry of `measured` fewer than streams
    measured_missing: R 507 Verify ["CAP-M-6"] = signed(|parts| {
        edit_list(&mut parts.payload, &keys([3]), |all| { all.pop(); });
    });
    /// exact banks with a receipt
    receipt_on_exact: R 507 Verify ["CAP-S-8"] = sealed(|parts| receipts(parts, vec![0; 32]));
    /// exact banks with an empty section of receipts
    receipts_empty: R 507 Verify ["CAP-S-8"] = sealed(|parts| receipts(parts, Vec::new()));
    /// a receipt in the header, as before it was sealed
    receipt_in_header: R 501 Verify ["CAP-M-1"] = sealed(|parts| {
        let path = [Step::Key(3), Step::At(0)];
        edit_list(&mut parts.payload, &path, |entry| entry.push(Value::Bytes(vec![0; 32])));
    });
    /// a profile that no codec of the banks has
    profile_without_codec: R 507 Verify ["CAP-S-12"] = sealed(|parts| {
        edit_map(&mut parts.payload, &keys([2]), |context| context.push((int(15), Value::Bytes(vec![7; 32]))));
    });
    /// a Hadamard block of 0, which is left out
    hadamard_zero: R 501 Verify ["CAP-M-1"] = sealed(|parts| {
        edit_map(&mut parts.payload, &stream_path(0), |bank| bank.push((int(14), int(0))));
    });
    /// an encoded length of seven bytes
    measured_len_short: R 501 Verify ["CAP-M-1"] = signed(|parts| {
        let path = [Step::Key(3), Step::At(0), Step::At(0)];
        edit(&mut parts.payload, &path, |len| *len = Value::Bytes(vec![0; 7]));
    });
    /// codec 5
    codec_unknown: R 901 Verify ["CAP-S-7" "COD-R-1"] = of_stream(0, 9, &list([5]));
    /// a codec without a number
    codec_empty: R 901 Verify ["CAP-S-7"] = of_stream(0, 9, &list([]));
    /// q7
    codec_bits_unknown: R 901 Verify ["CAP-S-7" "COD-R-1"] = of_stream(0, 9, &list([2, 7, 64]));
    /// `raw` with a parameter
    codec_parameter_unknown: R 901 Verify ["CAP-S-7" "COD-R-1"] = of_stream(0, 9, &list([0, 0]));
    /// a rate below the least of tc
    codec_rate_under: R 901 Verify ["CAP-S-7" "COD-R-1"] = of_stream(0, 9, &list([5, 0, 15]));
    /// a rate over the greatest of tc
    codec_rate_over: R 901 Verify ["CAP-S-7" "COD-R-1"] = of_stream(0, 9, &list([5, 0, 1025]));
    /// a transform of tc that nobody has registered
    codec_transform_unknown: R 901 Verify ["CAP-S-7" "COD-R-1"] = of_stream(0, 9, &list([5, 3, 192]));
    /// an exact bank with a rotation table
    rotation_on_exact: R 507 Verify ["CAP-S-9"] = sealed(|parts| {
        rotation_table(parts);
        edit_map(&mut parts.payload, &stream_path(0), |bank| bank.push((int(13), int(0))));
    });
    /// q4k without a rotation table
    rotation_missing: R 507 Verify ["CAP-S-9"] = sealed(q4c);
    /// q4k with a rotation table that is not there
    rotation_beyond: R 507 Verify ["CAP-S-9"] = sealed(|parts| {
        q4c(parts);
        edit_map(&mut parts.payload, &stream_path(0), |bank| bank.push((int(13), int(1))));
    });
    /// a `tokens` section of one token more than the prefix counts
    tokens_count: R 507 Verify ["CAP-S-11"] = field([2, 6, 4], &int(64));
    /// token ids without a prefix
    tokens_without_prefix: R 507 Verify ["CAP-S-11"] = sealed(|parts| {
        put(&mut parts.payload, &keys([2, 6]), &encode(&Value::Map(vec![(int(1), int(0))])));
        truncate(parts, 3);
    });
    /// a keyed prefix without its section
    prefix_section_missing: R 507 Verify ["CAP-P-2"] = sealed(|parts| truncate(parts, 3));
    /// a `prefix` section of a capsule that names no prompt
    prefix_section_unnamed: R 507 Verify ["CAP-P-5"] = sealed(|parts| {
        put(&mut parts.payload, &keys([2, 6]), &encode(&Value::Map(vec![(int(1), int(0))])));
        edit_list(&mut parts.payload, &keys(STREAMS), |streams| { streams.remove(2); });
        edit_list(&mut parts.payload, &keys([3]), |all| { all.remove(2); });
        parts.plain.remove(2);
        parts.unused.clear();
    });
    /// a `prefix` section of 31 bytes
    prefix_section_short: R 507 Verify ["CAP-S-11"] = sealed(|parts| {
        put(&mut parts.payload, &stream(3, 10), &encode(&int(31)));
        parts.plain[3].pop();
    });
    /// a raw bank whose encoded length has a byte too many
    raw_longer: R 903 Verify ["CAP-S-7" "COD-W-1"] = sealed(|parts| parts.plain[0].push(0));
    /// `planes32` for f16
    codec_not_for_dtype: R 903 Verify ["CAP-S-7" "COD-R-2"] = of_stream(0, 9, &list([4]));
    /// an affine bank whose encoded length has a scale too many
    quant_group_mismatch: R 903 Verify ["CAP-S-7" "COD-A-1"] = sealed(|parts| {
        q8(parts, 65 * 68 + 4);
        receipts(parts, vec![0; 32]);
    });
    /// a lossy bank without a receipt
    receipt_missing: R 507 Verify ["CAP-S-8"] = sealed(|parts| q8(parts, 65 * 68));
    /// receipts one number short
    receipt_short: R 507 Verify ["CAP-S-8"] = sealed(|parts| {
        q8(parts, 65 * 68);
        receipts(parts, vec![0; 24]);
    });
    /// the receipt of a codec that was not taken is missing
    receipt_asked_missing: R 507 Verify ["CAP-S-8"] = sealed(|parts| {
        q8(parts, 65 * 68);
        edit_map(&mut parts.payload, &stream_path(0), |bank| bank.push((int(12), list([2, 4, 64]))));
        receipts(parts, vec![0; 32]);
    });
    /// a codec that is not known was asked for
    asked_unknown: R 901 Verify ["CAP-S-7"] = sealed(|parts| {
        q8(parts, 65 * 68);
        edit_map(&mut parts.payload, &stream_path(0), |bank| bank.push((int(12), list([5]))));
        receipts(parts, vec![0; 48]);
    });
    /// a receipt whose first number is NaN
    receipt_nan: R 905 Decode ["COD-Q-1"] = receipt(0, f64::NAN);
    /// a receipt whose largest error is infinite
    receipt_infinite: R 905 Decode ["COD-Q-1"] = receipt(1, f64::INFINITY);
    /// a receipt whose relative error is negative
    receipt_negative: R 905 Decode ["COD-Q-1"] = receipt(0, -1.0);
    /// another codec was asked for, whose error was infinite
    asked_infinite: A 0 Accept ["COD-Q-1"] = asked(0.175, f64::INFINITY);
    /// its error was NaN
    asked_nan: R 905 Decode ["COD-Q-1"] = asked(0.175, f64::NAN);
    /// its limit was negative
    asked_negative: R 905 Decode ["COD-Q-1"] = asked(-1.0, 1.0);
}
