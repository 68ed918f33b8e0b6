//! CBOR that is not the one form (capsule-v1 §5.1), in headers and manifests that are signed.

use ciborium::Value;

use crate::{
    case::{Made, keys, sealed, signed},
    cases,
    raw::{edit, edit_map, encode, find, int, put},
};

const CLAIMS: [crate::raw::Step; 1] = keys_const(15);
const MODEL_NAME: [i64; 3] = [2, 2, 5];

const fn keys_const(key: i64) -> [crate::raw::Step; 1] {
    [crate::raw::Step::Key(key)]
}

/// The context length, which any integer may be, as these bytes.
fn number(item: &[u8]) -> Made {
    signed(|parts| put(&mut parts.payload, &keys([2, 9]), item))
}

/// The model's name as these bytes.
fn name(item: &[u8]) -> Made {
    signed(|parts| put(&mut parts.payload, &keys(MODEL_NAME), item))
}

fn header_map(change: impl FnOnce(&mut Vec<(Value, Value)>)) -> Made {
    signed(|parts| edit_map(&mut parts.header, &[], change))
}

cases! {
    /// a byte after the header's map
    protected_trailing: R 206 Header ["CAP-C-5" "CAP-E-7"] = signed(|parts| parts.header.push(0));
    /// label 1 twice
    protected_dup_label: R 203 Header ["CAP-C-3"] = header_map(|map| map.insert(1, map[0].clone()));
    /// label 16 before label 15
    protected_unsorted: R 202 Header ["CAP-C-3"] = header_map(|map| map.swap(3, 4));
    /// label 4 as 18 04
    protected_int_nonminimal: R 202 Header ["CAP-C-2"] = signed(|parts| {
        let at = find(&parts.header, &keys([4])).start - 1;
        parts.header.splice(at..=at, [0x18, 0x04]);
    });
    /// claims in the order of RFC 7049, which puts −1 before 100
    claims_length_first_order: R 202 Header ["CAP-C-3"] = signed(|parts| {
        edit_map(&mut parts.header, &CLAIMS, |map| {
            map.insert(8, (int(-1), int(0)));
            map.insert(9, (int(100), int(0)));
        });
    });
    /// a map in a claim's place nests too deeply
    claims_too_deep: R 204 Header ["CAP-C-4"] = signed(|parts| {
        let deep = [&[0x81; 8][..], &[0]].concat();
        put(&mut parts.header, &keys([15, 9]), &deep);
    });
    /// key 5 twice, with two values
    manifest_dup_key: R 203 Verify ["CAP-C-3"] = signed(|parts| {
        edit_map(&mut parts.payload, &[], |map| map.push((int(5), int(0))));
    });
    /// keys 4 and 5 swapped
    manifest_unsorted: R 202 Verify ["CAP-C-3"] = signed(|parts| {
        edit_map(&mut parts.payload, &[], |map| map.swap(3, 4));
    });
    /// the manifest as BF … FF
    manifest_map_indefinite: R 202 Verify ["CAP-C-2"] = signed(|parts| {
        parts.payload[0] = 0xBF;
        parts.payload.push(0xFF);
    });
    /// a text as 7F … FF
    manifest_text_indefinite: R 202 Verify ["CAP-C-2"] = name(b"\x7F\x64tiny\xFF");
    /// the manifest's map head as B8 05
    manifest_len_nonminimal: R 202 Verify ["CAP-C-2"] = signed(|parts| {
        parts.payload.splice(0..1, [0xB8, 0x05]);
    });
    /// an integer as 19 00 40
    manifest_int_nonminimal: R 202 Verify ["CAP-C-2"] = number(&[0x19, 0x00, 0x40]);
    /// 1.0 as F9 3C 00
    manifest_float: R 205 Verify ["CAP-C-1"] = number(&[0xF9, 0x3C, 0x00]);
    /// a NaN with payload bits
    manifest_nan: R 205 Verify ["CAP-C-1"] = number(&[0xF9, 0x7E, 0x01]);
    /// a bignum, C2 41 01
    manifest_bignum: R 205 Verify ["CAP-C-1"] = number(&[0xC2, 0x41, 0x01]);
    /// undefined
    manifest_undefined: R 205 Verify ["CAP-C-1"] = number(&[0xF7]);
    /// null
    manifest_null: R 205 Verify ["CAP-C-1"] = number(&[0xF6]);
    /// a simple value in two bytes
    manifest_simple: R 205 Verify ["CAP-C-1"] = number(&[0xF8, 0x20]);
    /// a tag that decoders strip silently, D8 64 01
    manifest_stray_tag: R 205 Verify ["CAP-C-1"] = number(&[0xD8, 0x64, 0x01]);
    /// a byte string as a map's key
    manifest_bytes_key: R 205 Verify ["CAP-C-3"] = number(&[0xA1, 0x41, 0x00, 0x01]);
    /// seven arrays, one in another, inside two maps
    manifest_too_deep: R 204 Verify ["CAP-C-4"] = number(&[&[0x81; 7][..], &[0x00]].concat());
    /// an array head that promises 2⁶³ − 1 elements
    manifest_array_2e63: R 204 Verify ["CAP-C-4"] = number(b"\x9B\x7F\xFF\xFF\xFF\xFF\xFF\xFF\xFF");
    /// a byte string head that promises 2⁶³ − 1 bytes
    manifest_bstr_2e63: R 201 Verify ["CAP-C-2"] = number(b"\x5B\x7F\xFF\xFF\xFF\xFF\xFF\xFF\xFF");
    /// a reserved head, 1C
    manifest_reserved_head: R 201 Verify ["CAP-C-2"] = number(&[0x1C]);
    /// a break where no indefinite item is
    manifest_stray_break: R 201 Verify ["CAP-C-2"] = number(&[0xFF]);
    /// C3 28 in a text
    manifest_bad_utf8: R 201 Verify ["CAP-C-2"] = name(b"\x62\xC3\x28");
    /// a byte after the manifest's map
    manifest_trailing: R 206 Verify ["CAP-C-5"] = signed(|parts| parts.payload.push(0));
    /// more items than the limit, within the envelope's limit
    manifest_million_items: R 204 Verify ["CAP-C-4"] = number(&encode(&Value::Array(vec![int(0); 262_145])));
    /// a negative integer where an unsigned one stands
    manifest_negative: R 501 Verify ["CAP-M-1"] = sealed(|parts| edit(&mut parts.payload, &keys([2, 9]), |v| *v = int(-1)));
}
