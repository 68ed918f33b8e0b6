//! Buffers, and what lies in memory.

use std::io;

use super::{Buffer, ReadAt, WriteAt};

/// Lengths around one block and around where copies change.
const LENGTHS: [usize; 4] = [
    10,
    Buffer::BLOCK,
    2 * Buffer::BLOCK + 3,
    Buffer::LONG + Buffer::BLOCK / 2,
];

#[test]
fn a_buffer_takes_every_byte_at_its_place() {
    for len in LENGTHS {
        let mut bytes = vec![0; len];
        let out = Buffer::new(&mut bytes);
        let data: Vec<u8> = (1..=251).cycle().take(len).collect();
        // backwards, in pieces that straddle blocks
        let mut end = len;
        while end > 0 {
            let start = end.saturating_sub(700_001);
            let at = u64::try_from(start).unwrap();
            out.write_all_at(at, &data[start..end]).unwrap();
            end = start;
        }
        assert!(bytes == data, "{len}");
    }
}

#[test]
fn a_buffer_does_not_grow() {
    for len in LENGTHS {
        let mut bytes = vec![7; len];
        let out = Buffer::new(&mut bytes);
        let end = u64::try_from(len).unwrap();
        out.write_all_at(end, &[]).unwrap();
        for at in [end - 1, end, end + 1, u64::MAX] {
            let error = out.write_all_at(at, &[7, 7]).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::StorageFull, "{len} at {at}");
        }
        assert!(bytes.iter().all(|byte| *byte == 7));
    }
}

#[test]
fn what_lies_in_memory_is_lent() {
    let bytes = vec![1, 2, 3];
    assert_eq!(ReadAt::borrow(&bytes, 1, 2), Some(&[2, 3][..]));
    assert_eq!(ReadAt::borrow(&&bytes[..], 3, 0), Some(&[][..]));
    for (at, len) in [
        (1, 3),
        (4, 0),
        (u64::MAX, 1),
        (0, usize::MAX),
        (2, usize::MAX),
    ] {
        assert_eq!(ReadAt::borrow(&bytes, at, len), None, "{at}, {len}");
    }
}

#[test]
fn a_buffer_lends_what_lies_in_one_block() {
    for len in LENGTHS {
        let mut bytes = vec![7; len];
        let out = Buffer::new(&mut bytes);
        let is_long = len >= Buffer::LONG;
        let block = match is_long {
            true => Buffer::BLOCK,
            false => Buffer::SHORT_BLOCK,
        };
        let lend = |at: usize, len| {
            out.lend(u64::try_from(at).unwrap(), len, &mut |place, long| {
                assert_eq!(long, is_long);
                place.fill(9);
            })
        };
        let has_blocks = len > 2 * block;
        assert!(lend(1, 4), "{len}");
        assert_eq!(lend(block + 5, 100), has_blocks, "{len}");
        assert_eq!(lend(2 * block - 3, 3), has_blocks, "{len}");
        for (at, len) in [
            (2 * block - 3, 4),
            (usize::MAX, 1),
            (0, usize::MAX),
            (len - 1, 2),
        ] {
            assert!(!lend(at, len), "{at}, {len}");
        }
        let nines = bytes.iter().filter(|byte| **byte == 9).count();
        assert_eq!(nines, if has_blocks { 107 } else { 4 });
        assert_eq!(bytes[1..5], [9; 4]);
        if has_blocks {
            assert_eq!(bytes[block + 5..][..100], [9; 100]);
            assert_eq!(bytes[2 * block - 3..][..3], [9; 3]);
        }
    }
}
