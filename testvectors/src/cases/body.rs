//! Tables and body changed on the way (capsule-v1 §7.4), found without any secret.

use crate::{
    case::{Made, given, mutated, unsigned},
    cases,
    context::Range,
    fixture,
    parts::{Parts, ROW, lengths, regions},
};

/// Chunk length of the fixtures.
const CHUNK: usize = fixture::CHUNK as usize;
/// Encoded bytes of the base capsule's keys and values.
const KEYS: usize = 65 * 128;
const VALUES: usize = 65 * 64;

fn table(change: impl FnOnce(&mut [u8])) -> Made {
    mutated(|file| {
        let at = regions(file).0;
        change(&mut file[at..]);
    })
}

fn body(change: impl FnOnce(&mut [u8])) -> Made {
    mutated(|file| {
        let at = regions(file).1;
        change(&mut file[at..]);
    })
}

/// The body ends after so many bytes.
fn cut(len: usize) -> Made {
    mutated(|file| file.truncate(regions(file).1 + len))
}

fn swap(bytes: &mut [u8], a: usize, b: usize, len: usize) {
    for at in 0..len {
        bytes.swap(a + at, b + at);
    }
}

cases! {
    /// one bit of a tag in a table
    table_bitflip: M 801 Body ["CAP-T-2"] = table(|rows| rows[0] ^= 1);
    /// one bit of the last stream's leaf
    table_leaf_bitflip: M 801 Body ["CAP-T-2"] = table(|rows| rows[7 * ROW - 1] ^= 0x80);
    /// the tables of keys and values in the other order
    table_swapped_banks: M 801 Body ["CAP-T-2"] = table(|rows| rows[..5 * ROW].rotate_left(3 * ROW));
    /// two rows of a table swapped
    table_rows_swapped: M 801 Body ["CAP-T-2"] = table(|rows| swap(rows, 0, ROW, ROW));
    /// a byte after the last row is not zero
    table_unused_nonzero: M 107 Body ["CAP-F-5"] = table(|rows| rows[7 * ROW] = 1);
    /// the file ends inside the tables
    table_eof: M 106 Body ["CAP-F-4"] = mutated(|file| file.truncate(regions(file).0 + lengths(file).1 / 2));
    /// the file ends inside the padding after the tables
    table_padding_eof: M 106 Body ["CAP-F-4"] = mutated(|file| file.truncate(regions(file).1 - 1));
    /// the file ends after the header
    header_alone: M 106 Body ["CAP-F-4"] = mutated(|file| file.truncate(regions(file).0));
    /// one bit of the first chunk
    chunk_bitflip_first: M 805 Body ["CAP-T-3"] = body(|body| body[0] ^= 1);
    /// one bit of the last byte of the keys
    chunk_bitflip_last: M 805 Body ["CAP-T-3"] = body(|body| body[KEYS - 1] ^= 0x80).after(2 * CHUNK);
    /// one bit of the values' second chunk
    chunk_bitflip_second_bank: M 805 Body ["CAP-T-3"] = body(|body| body[KEYS + CHUNK] ^= 1).after(KEYS + CHUNK);
    /// two chunks of the keys swapped
    chunks_swapped: M 805 Body ["CAP-T-3"] = body(|body| swap(body, 0, CHUNK, CHUNK));
    /// the first chunk of the keys in place of the second
    chunk_duplicated: M 805 Body ["CAP-T-3"] = body(|body| body.copy_within(..CHUNK, CHUNK)).after(CHUNK);
    /// the values' first chunk in place of the keys'
    chunk_cross_bank: M 805 Body ["CAP-T-3"] = body(|body| body.copy_within(KEYS..KEYS + CHUNK, 0));
    /// a chunk of another capsule
    chunk_cross_capsule: M 805 Body ["CAP-T-3"] = {
        let other = Parts::of(&fixture::other());
        body(|body| body[..CHUNK].copy_from_slice(&other.body[0][..CHUNK]))
    };
    /// the body ends inside a chunk
    body_cut_mid_chunk: M 807 Body ["CAP-F-6"] = cut(CHUNK + 100);
    /// the body ends between two chunks
    body_cut_at_boundary: M 807 Body ["CAP-F-6"] = cut(CHUNK);
    /// the body ends before the last stream
    body_missing_last_bank: M 807 Body ["CAP-F-6"] = cut(KEYS + VALUES + 260);
    /// there is no body
    body_missing: M 807 Body ["CAP-F-6"] = cut(0);
    /// the last byte is missing, and only the first bytes are asked for
    body_cut_unread: M 807 Body ["CAP-F-6"] = cut(KEYS + VALUES + 260 + 31).when(|context| {
        context.reads = vec![Range { stream: 0, start: 0, end: 16 }];
    });
    /// the keys' last bytes are asked for by the signed length; the body is cut
    seek_end_truncated: M 807 Body ["CAP-F-6"] = cut(KEYS - 64).when(|context| {
        context.reads = vec![Range { stream: 0, start: KEYS as u64 - 64, end: KEYS as u64 }];
    });
    /// a range past the stream's end
    range_past_end: C 810 Read ["CAP-O-4"] = given(|context| {
        context.reads = vec![Range { stream: 0, start: KEYS as u64 - 1, end: KEYS as u64 + 1 }];
    });
    /// a range that ends before it begins
    range_backwards: C 810 Read ["CAP-O-4"] = given(|context| {
        context.reads = vec![Range { stream: 0, start: 2, end: 1 }];
    });
    /// a stream that is not there
    stream_past_end: C 810 Read ["CAP-O-4"] = given(|context| {
        context.reads = vec![Range { stream: 4, start: 0, end: 0 }];
    });
    /// the table region is one row shorter than the streams need
    table_row_extra: R 802 Verify ["CAP-T-1"] = unsigned(|parts| {
        parts.tables[3].clear();
        parts.retable();
        parts.sign();
    });
}
