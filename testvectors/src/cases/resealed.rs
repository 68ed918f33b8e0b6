//! What a hostile holder of a signing key can do with somebody's body: everything verifies, and
//! nothing opens (capsule-v1 §9).

use super::accept::{checkpoint, memory, once};
use crate::{
    case::{Made, given, keys, signed},
    cases,
    fixture::{self, OTHER_SEED},
    parts::{self, Parts, ROW},
    raw::{Step, byte_string, edit, edit_map, encode, int, put, text},
    schedule::sign_key_id,
};

const CHUNK: usize = fixture::CHUNK as usize;

/// Ciphertext and tables changed, digests stated to match, signed.
fn rows(change: impl FnOnce(&mut Parts)) -> Made {
    signed(|parts| {
        change(parts);
        parts.retable();
    })
}

/// The keys sealed with a wrong last flag on one chunk.
fn lying(index: usize) -> Made {
    signed(|parts| {
        parts.lying_chunks = vec![(0, index)];
        parts.reseal();
    })
}

/// Exchanges the first chunks of two places, with their rows.
fn exchange(parts: &mut Parts, a: (usize, usize), b: (usize, usize)) {
    let chunk = |parts: &Parts, (stream, index): (usize, usize)| {
        (
            parts.body[stream][index * CHUNK..(index + 1) * CHUNK].to_vec(),
            parts.tables[stream][index * ROW..(index + 1) * ROW].to_vec(),
        )
    };
    let (first, second) = (chunk(parts, a), chunk(parts, b));
    place(parts, a, &second);
    place(parts, b, &first);
}

fn place(parts: &mut Parts, (stream, index): (usize, usize), (text, row): &(Vec<u8>, Vec<u8>)) {
    parts.body[stream][index * CHUNK..(index + 1) * CHUNK].copy_from_slice(text);
    parts.tables[stream][index * ROW..(index + 1) * ROW].copy_from_slice(row);
}

fn flip(path: &[Step]) -> Made {
    signed(|parts| {
        edit(&mut parts.payload, path, |value| {
            value.as_bytes_mut().unwrap()[0] ^= 1
        });
    })
}

/// The capsule under a header that another trusted key of the issuer has signed.
fn by_sibling(made: Made, change: impl FnOnce(&mut Vec<u8>)) -> Made {
    let Made { file, plain, .. } = made;
    let mut parts = Parts::of(&fixture::Capsule { file, plain });
    parts.signer = OTHER_SEED;
    let public = parts::public(&OTHER_SEED);
    put(
        &mut parts.header,
        &keys([4]),
        &byte_string(&sign_key_id(&public)),
    );
    change(&mut parts.header);
    parts.sign();
    let resigned = fixture::Capsule {
        file: parts.file(),
        plain: parts.plain,
    };
    Made::of(resigned).when(|context| {
        context.trust.push(crate::context::Trusted::of(&public));
        context.memory = memory(None, &[]);
    })
}

cases! {
    /// a tag changed
    rs_tag_bitflip: R 806 Read ["CAP-A-2" "CAP-A-3"] = rows(|parts| parts.tables[0][0] ^= 1);
    /// a bit of the ciphertext changed, with its leaf
    rs_chunk_bitflip: R 806 Read ["CAP-A-2"] = rows(|parts| {
        parts.body[0][CHUNK] ^= 1;
        let leaf = crate::schedule::chunk_digest(&parts.body[0][CHUNK..2 * CHUNK]);
        parts.tables[0][ROW + 16..2 * ROW].copy_from_slice(&leaf);
    })
    .after(CHUNK);
    /// two chunks swapped, with their rows
    rs_chunks_swapped: R 806 Read ["CAP-A-2" "§9.4"] = rows(|parts| exchange(parts, (0, 0), (0, 1)));
    /// the last chunk is sealed as an inner one
    rs_final_cleared: R 806 Read ["CAP-A-2" "§9.4"] = lying(2).after(2 * CHUNK);
    /// an inner chunk is sealed as the last one
    rs_final_early: R 806 Read ["CAP-A-2" "§9.4"] = lying(1).after(CHUNK);
    /// first chunks of keys and values swapped, with their rows
    rs_bank_swapped: R 806 Read ["CAP-A-2" "§9.4"] = rows(|parts| exchange(parts, (0, 0), (1, 0)));
    /// a chunk of another capsule, with its row
    rs_splice_other_capsule: R 806 Read ["CAP-A-2" "§9.2"] = rows(|parts| {
        let other = Parts::of(&fixture::other());
        let chunk = (other.body[0][..CHUNK].to_vec(), other.tables[0][..ROW].to_vec());
        place(parts, (0, 0), &chunk);
    });
    /// theta changed over the same ciphertext
    rs_metadata_changed: R 804 Open ["CAP-A-1" "§9.1"] = signed(|parts| {
        let path = [Step::Key(2), Step::Key(5), Step::At(0), Step::Key(4)];
        put(&mut parts.payload, &path, &byte_string(&10_000.0_f64.to_le_bytes()));
    });
    /// the tenant changed over the same ciphertext
    rs_tenant_changed: R 804 Open ["CAP-A-1" "§9.1"] = signed(|parts| {
        put(&mut parts.header, &keys([15, -70_001]), &encode(&text("umbr")));
    })
    .when(|context| context.organisation = Some("umbr".to_owned()));
    /// the subject taken out over the same ciphertext
    rs_subject_removed: R 804 Open ["CAP-A-1" "§9.1"] = signed(|parts| {
        edit_map(&mut parts.header, &keys([15]), |map| { map.remove(1); });
    });
    /// another key of the issuer signs somebody's body without its single use
    rs_single_use_stripped: R 804 Open ["CAP-A-1" "§9.1"] = by_sibling(once(), |header| {
        edit_map(header, &keys([15]), |map| map.retain(|(key, _)| *key != int(-70_003)));
    });
    /// the same with a later cap
    rs_cap_raised: R 804 Open ["CAP-A-1" "§9.1"] = by_sibling(given(|_| {}), |header| {
        put(header, &keys([15, -70_004]), &encode(&int(u64::MAX)));
    });
    /// the same with another number
    rs_sequence_changed: R 804 Open ["CAP-A-1" "§9.1"] = by_sibling(given(|_| {}), |header| {
        put(header, &keys([15, -70_002]), &encode(&int(1_u64 << 40)));
    });
    /// the same with an earlier nbf
    rs_not_before_changed: R 804 Open ["CAP-A-1" "§9.1"] = by_sibling(given(|_| {}), |header| {
        put(header, &keys([15, 5]), &encode(&int(fixture::ISSUED - 1)));
    });
    /// the same as a checkpoint of another session
    rs_session_changed: R 804 Open ["CAP-A-1" "§9.1"] = by_sibling(checkpoint("s-1", 7, 42), |header| {
        put(header, &keys([15, -70_005]), &encode(&text("s-2")));
    });
    /// the same as another version of its session
    rs_version_changed: R 804 Open ["CAP-A-1" "§9.1"] = by_sibling(checkpoint("s-1", 7, 42), |header| {
        put(header, &keys([15, -70_006]), &encode(&int(8)));
    });
    /// the same with another replay cursor
    rs_cursor_changed: R 804 Open ["CAP-A-1" "§9.1"] = by_sibling(checkpoint("s-1", 7, 42), |header| {
        put(header, &keys([15, -70_007]), &encode(&int(43)));
    });
    /// another issuer's trusted key signs in the issuer's name
    rs_issuer_borrowed: R 312 Verify ["CAP-K-4"] = by_sibling(given(|_| {}), |_| {})
        .when(|context| context.trust[1].issuer = "other.example.com".to_owned());
    /// another trusted tenant signs somebody's body under its own name
    rs_issuer_changed: R 804 Open ["CAP-A-1" "§9.1"] = signed(|parts| {
        parts.signer = OTHER_SEED;
        let kid = sign_key_id(&parts::public(&OTHER_SEED));
        put(&mut parts.header, &keys([4]), &byte_string(&kid));
        put(&mut parts.header, &keys([15, 1]), &encode(&text("other.example.com")));
    })
    .when(|context| {
        let mut other = crate::context::Trusted::of(&parts::public(&OTHER_SEED));
        other.issuer = "other.example.com".to_owned();
        context.trust.push(other);
    });
    /// one bit of the commitment
    commitment_bitflip: R 804 Open ["CAP-A-1" "CAP-A-3"] = flip(&keys([4, 2]));
    /// one bit of the salt
    salt_bitflip: R 804 Open ["CAP-A-1"] = flip(&keys([4, 1]));
    /// one bit of the wrapped key
    wrap_bitflip: R 803 Open ["CAP-R-2"] = flip(&[Step::Key(4), Step::Key(3), Step::At(0), Step::At(3)]);
    /// one bit of the wrapping nonce
    wrap_nonce_bitflip: R 803 Open ["CAP-R-2"] = flip(&[Step::Key(4), Step::Key(3), Step::At(0), Step::At(2)]);
    /// the recipients of another capsule
    wrap_from_other_capsule: R 803 Open ["CAP-R-2" "§9.3"] = signed(|parts| {
        let other = Parts::of(&fixture::other());
        let range = crate::raw::find(&other.payload, &keys([4, 3]));
        put(&mut parts.payload, &keys([4, 3]), &other.payload[range]);
    });
    /// the sealed prefix value is of another prompt
    prefix_sealed_other: R 605 Open ["CAP-P-2"] = sealed_prefix(vec![7; 32]);
    /// the sealed token ids are of another prompt
    tokens_sealed_other: R 605 Open ["CAP-P-2"] = signed(|parts| {
        parts.plain[2][0] ^= 1;
        parts.reseal();
    });
}

fn sealed_prefix(value: Vec<u8>) -> Made {
    signed(|parts| {
        parts.plain[3] = value;
        parts.reseal();
    })
}
