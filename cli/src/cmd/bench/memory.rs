//! Memory that is written and read at any place by several threads.

use std::{
    io,
    ops::Range,
    sync::{PoisonError, RwLock},
};

use kvcap::{ReadAt, WriteAt};

/// Bytes under one lock: frames of different places do not wait for each other.
const BLOCK: usize = 1 << 20;

/// A fixed number of bytes, all of them touched, so that no pass pays for fresh pages.
pub(super) struct Memory {
    blocks: Vec<RwLock<Box<[u8]>>>,
    len: u64,
}

impl Memory {
    pub(super) fn new(len: u64) -> Self {
        let blocks = usize::try_from(len).unwrap_or(usize::MAX).div_ceil(BLOCK);
        // not zeros, which the system would give as pages that are not there yet
        let block = || RwLock::new(vec![1; BLOCK].into_boxed_slice());
        Self {
            blocks: (0..blocks).map(|_| block()).collect(),
            len,
        }
    }

    /// The same bytes, of which only the first `len` are there to readers.
    pub(super) fn first(&self, len: u64) -> First<'_> {
        First { memory: self, len }
    }

    /// Copies all of `from`, which is as long.
    pub(super) fn copy(&self, from: &Self) {
        for (to, from) in self.blocks.iter().zip(&from.blocks) {
            let from = from.read().unwrap_or_else(PoisonError::into_inner);
            let mut to = to.write().unwrap_or_else(PoisonError::into_inner);
            to.copy_from_slice(&from);
        }
    }

    /// The blocks that hold `range`, and which part of each.
    fn parts(offset: u64, len: usize) -> impl Iterator<Item = (usize, Range<usize>)> {
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let end = start.saturating_add(len);
        let mut at = start;
        std::iter::from_fn(move || {
            let from = at % BLOCK;
            let take = (BLOCK - from).min(end - at);
            let part = (at / BLOCK, from..from + take);
            at += take;
            (take > 0).then_some(part)
        })
    }
}

impl WriteAt for Memory {
    fn write_all_at(&self, offset: u64, buf: &[u8]) -> io::Result<()> {
        let mut rest = buf;
        for (block, range) in Self::parts(offset, buf.len()) {
            let (now, later) = rest.split_at(range.len());
            let block = self.blocks.get(block).ok_or(io::ErrorKind::StorageFull)?;
            let mut block = block.write().unwrap_or_else(PoisonError::into_inner);
            if let Some(to) = block.get_mut(range) {
                to.copy_from_slice(now);
            }
            rest = later;
        }
        Ok(())
    }
}

/// [`Memory`] as a source.
#[derive(Clone, Copy)]
pub(super) struct First<'a> {
    memory: &'a Memory,
    len: u64,
}

impl ReadAt for First<'_> {
    fn len(&self) -> u64 {
        self.len.min(self.memory.len)
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let mut rest = buf;
        let len = rest.len();
        for (block, range) in Memory::parts(offset, len) {
            let (now, later) = rest.split_at_mut(range.len());
            let block = self.memory.blocks.get(block);
            let block = block.ok_or(io::ErrorKind::UnexpectedEof)?;
            let block = block.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(from) = block.get(range) {
                now.copy_from_slice(from);
            }
            rest = later;
        }
        Ok(())
    }
}
