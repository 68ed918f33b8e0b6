//! The envelope's structure (capsule-v1 §5.2, CAP-E-1 … CAP-E-6).

use crate::{
    case::{Made, signed, unsigned},
    cases, fixture,
    parts::Parts,
    raw::byte_string,
};

/// The base capsule with other bytes for its envelope.
fn envelope(change: impl FnOnce(&Parts) -> Vec<u8>) -> Made {
    let parts = Parts::of(&fixture::base());
    Made::of(fixture::Capsule {
        file: parts.file_with(&change(&parts)),
        plain: parts.plain,
    })
}

/// The four elements of the envelope, encoded.
fn elements(parts: &Parts) -> [Vec<u8>; 4] {
    [
        byte_string(&parts.header),
        vec![0xA0],
        byte_string(&parts.payload),
        byte_string(&parts.signature),
    ]
}

fn first(bytes: &'static [u8]) -> Made {
    envelope(|parts| [bytes, &parts.envelope()[1..]].concat())
}

/// The envelope with these bytes for one element.
fn element(index: usize, bytes: impl FnOnce(&Parts) -> Vec<u8>) -> Made {
    envelope(|parts| {
        let mut all = elements(parts);
        all[index] = bytes(parts);
        [&[0xD2, 0x84][..], &all.concat()].concat()
    })
}

cases! {
    /// no tag 18
    untagged: M 210 Header ["CAP-E-1"] = first(b"");
    /// tag 17, COSE_Mac0
    tag_mac0: M 210 Header ["CAP-E-1"] = first(b"\xD1");
    /// tag 98, COSE_Sign
    tag_sign_multi: M 210 Header ["CAP-E-1"] = first(b"\xD8\x62");
    /// tag 18 as D8 12, not in its shortest form
    tag_nonminimal: M 210 Header ["CAP-E-1"] = first(b"\xD8\x12");
    /// 55799(18(…))
    tag_selfdescribed: M 210 Header ["CAP-E-1"] = first(b"\xD9\xD9\xF7\xD2");
    /// 9F … FF
    array_indefinite: M 202 Header ["CAP-E-1"] = envelope(|parts| {
        [&[0xD2, 0x9F][..], &elements(parts).concat(), &[0xFF]].concat()
    });
    /// no signature
    arity_3: M 210 Header ["CAP-E-1"] = envelope(|parts| {
        [&[0xD2, 0x83][..], &elements(parts)[..3].concat()].concat()
    });
    /// a fifth element
    arity_5: M 210 Header ["CAP-E-1"] = envelope(|parts| {
        [&[0xD2, 0x85][..], &elements(parts).concat(), &[0x40]].concat()
    });
    /// the protected header's length in four bytes
    protected_len_nonminimal: M 202 Header ["CAP-E-2"] = element(0, |parts| {
        let len = (parts.header.len() as u32).to_be_bytes();
        [&[0x5A][..], &len, &parts.header].concat()
    });
    /// the protected header as 5F … FF
    protected_bstr_indefinite: M 202 Header ["CAP-E-2"] = element(0, |parts| {
        [&[0x5F][..], &byte_string(&parts.header), &[0xFF]].concat()
    });
    /// the protected header's head is 5C, which is reserved
    protected_head_reserved: M 201 Header ["CAP-E-2"] = element(0, |parts| [&[0x5C][..], &parts.header].concat());
    /// the protected header is a map instead of a byte string
    protected_map: M 210 Header ["CAP-E-2"] = element(0, |parts| parts.header.clone());
    /// the protected header is a byte string of no bytes
    protected_empty: R 214 Header ["CAP-E-2"] = signed(|parts| parts.header.clear());
    /// alg in the unprotected header too
    unprotected_alg: M 211 Header ["CAP-E-3"] = element(1, |_| vec![0xA1, 0x01, 0x32]);
    /// kid outside the signature
    unprotected_kid: M 211 Header ["CAP-E-3"] = element(1, |_| [&[0xA1, 0x04][..], &byte_string(&[7; 16])].concat());
    /// crit unprotected
    unprotected_crit: M 211 Header ["CAP-E-3"] = element(1, |_| vec![0xA1, 0x02, 0x81, 0x10]);
    /// the unprotected header is a byte string of an empty map
    unprotected_bstr: M 210 Header ["CAP-E-3"] = element(1, |_| vec![0x41, 0xA0]);
    /// a detached payload
    payload_nil: M 217 Header ["CAP-E-4"] = element(2, |_| vec![0xF6]);
    /// the payload as text
    payload_text: M 210 Header ["CAP-E-4"] = element(2, |_| vec![0x61, b'a']);
    /// a payload of 2⁶³ − 1 bytes
    payload_len_2e63: M 201 Header ["CAP-E-2" "CAP-E-6"] = element(2, |_| b"\x5B\x7F\xFF\xFF\xFF\xFF\xFF\xFF\xFF".to_vec());
    /// the signature's length in two bytes
    sig_len_nonminimal: M 202 Header ["CAP-E-2" "CAP-E-5"] = element(3, |parts| [&[0x59, 0x00, 0x40][..], &parts.signature].concat());
    /// a signature of 63 bytes
    sig_short: M 306 Header ["CAP-E-5"] = unsigned(|parts| { parts.signature.pop(); });
    /// a signature of 65 bytes
    sig_long: M 306 Header ["CAP-E-5"] = unsigned(|parts| parts.signature.push(0));
    /// the signature as text
    sig_text: M 210 Header ["CAP-E-5"] = element(3, |_| vec![0x61, b'a']);
    /// a byte inside envelope_len follows the COSE_Sign1
    envelope_trailing: M 206 Header ["CAP-E-6"] = envelope(|parts| [parts.envelope(), vec![0x00]].concat());
}
