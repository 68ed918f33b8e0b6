//! The caller's memory as an output.

use std::{io, sync::Mutex};

use kvcap::WriteAt;

use crate::pipeline::frames::lock;

/// Buffer of the caller's as an output. Threads that write to different places seldom wait for each
/// other.
#[derive(Debug)]
pub struct Buffer<'a> {
    blocks: Vec<Mutex<&'a mut [u8]>>,
    /// Bytes under one lock.
    block: usize,
    /// Longer than what a cache would keep until it is read.
    long: bool,
}

impl<'a> Buffer<'a> {
    const LONG: usize = 32 << 20;
    const BLOCK: usize = 1 << 20;
    /// Also of a short one, threads fill several blocks at a time.
    const SHORT_BLOCK: usize = 1 << 18;

    /// All of `bytes`, which stay as long as they are: writing beyond them fails.
    #[must_use]
    pub fn new(bytes: &'a mut [u8]) -> Self {
        let long = bytes.len() >= Self::LONG;
        let block = if long { Self::BLOCK } else { Self::SHORT_BLOCK };
        let blocks = bytes.chunks_mut(block).map(Mutex::new);
        Self {
            blocks: blocks.collect(),
            block,
            long,
        }
    }
}

impl WriteAt for Buffer<'_> {
    fn write_all_at(&self, offset: u64, buf: &[u8]) -> io::Result<()> {
        let full = || io::Error::from(io::ErrorKind::StorageFull);
        let mut at = usize::try_from(offset).map_err(|_| full())?;
        let mut rest = buf;
        while !rest.is_empty() {
            let block = self.blocks.get(at / self.block).ok_or_else(full)?;
            let mut block = lock(block);
            let room = block.get_mut(at % self.block..).ok_or_else(full)?;
            let (now, later) = rest.split_at(rest.len().min(room.len()));
            let (place, _) = room.split_at_mut_checked(now.len()).ok_or_else(full)?;
            if now.is_empty() {
                return Err(full());
            }
            match self.long {
                true => kvcap_codecs::copy_streaming(now, place),
                false => place.copy_from_slice(now),
            }
            at = at.saturating_add(now.len());
            rest = later;
        }
        Ok(())
    }

    /// Only what lies under one lock.
    fn lend(&self, offset: u64, len: usize, fill: &mut dyn FnMut(&mut [u8], bool)) -> bool {
        let at = usize::try_from(offset).unwrap_or(usize::MAX);
        let Some(block) = self.blocks.get(at / self.block) else {
            return false;
        };
        let mut block = lock(block);
        let room = block.get_mut(at % self.block..);
        let Some(place) = room.and_then(|room| room.get_mut(..len)) else {
            return false;
        };
        fill(place, self.long);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
