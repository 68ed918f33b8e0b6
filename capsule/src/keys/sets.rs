//! The Ed25519 sets of Wycheproof and CCTV under rule CAP-E-11 (`testvectors/ed25519`).

use std::{fs::File, io::read_to_string};

use flate2::read::GzDecoder;

use super::PublicKey;

fn file(name: &str) -> Vec<Vec<String>> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../testvectors/ed25519");
    let file = File::open(format!("{folder}/{name}.tsv.gz")).unwrap();
    let text = read_to_string(GzDecoder::new(file)).unwrap();
    let fields = |line: &str| line.split('\t').map(str::to_owned).collect();
    text.lines().skip(1).map(fields).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let digit = |at| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
    (0..text.len()).step_by(2).map(digit).collect()
}

/// The code by which key, message and signature are refused, 0 where they verify. A signature of
/// another length ends at the envelope, with 306 (CAP-E-5).
fn code(key: &str, message: &str, signature: &str) -> u16 {
    let Ok(signature) = <[u8; 64]>::try_from(unhex(signature)) else {
        return 306;
    };
    PublicKey::from_bytes(&unhex(key).try_into().unwrap())
        .and_then(|key| key.verify(&unhex(message), &signature))
        .map_or_else(|error| error.code().number(), |()| 0)
}

#[test]
fn wycheproof() {
    let rows = file("wycheproof");
    assert_eq!(rows.len(), 151);
    for row in rows {
        let [id, result, flags, stated, key, message, signature] = &row[..] else {
            panic!("{row:?}");
        };
        let found = code(key, message, signature);
        assert_eq!(found.to_string(), *stated, "{id} {flags}");
        assert_eq!(found == 0, result == "valid", "{id} {flags}");
    }
}

/// Keys of small order or in another encoding are refused at loading; so is such an R, and any
/// equation that holds only with the cofactor. A component of small order alone is no fault.
#[test]
fn cctv() {
    let rows = file("cctv");
    assert_eq!(rows.len(), 914);
    let mut accepted = 0;
    for row in rows {
        let [number, flags, stated, key, message, signature] = &row[..] else {
            panic!("{row:?}");
        };
        let any = |of: &[&str]| flags.split(',').any(|flag| of.contains(&flag));
        let expected = match () {
            () if any(&["low_order_A", "non_canonical_A"]) => 305,
            () if any(&["low_order_R", "non_canonical_R", "low_order_residue"]) => 307,
            () => 0,
        };
        assert_eq!(code(key, message, signature), expected, "{number} {flags}");
        assert_eq!(expected.to_string(), *stated, "{number}");
        accepted += usize::from(expected == 0);
    }
    assert_eq!(accepted, 43);
}
