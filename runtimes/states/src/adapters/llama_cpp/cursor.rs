//! A bounded cursor over a file: no read goes past the end, and an error says what was being read.

use std::io;

use kvcap::{Code, Error, Result};

use crate::state::ReadAt;

/// Bytes held in memory at once; cell metadata is read through it, rows are skipped.
const WINDOW: usize = 4096;

/// A position in a file. Cloning one is how another layout is tried from the same place.
#[derive(Clone)]
pub(super) struct Cursor<'a> {
    file: &'a dyn ReadAt,
    at: u64,
    window: Vec<u8>,
    window_at: u64,
    structures: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(file: &'a dyn ReadAt) -> Self {
        Self {
            file,
            at: 0,
            window: Vec::new(),
            window_at: 0,
            structures: 0,
        }
    }

    /// Where the next read starts.
    pub(super) fn at(&self) -> u64 {
        self.at
    }

    /// Structures read whole so far: how far a layout came before it failed.
    pub(super) fn structures(&self) -> usize {
        self.structures
    }

    pub(super) fn count_structure(&mut self) {
        self.structures += 1;
    }

    pub(super) fn remaining(&self) -> u64 {
        self.file.len().saturating_sub(self.at)
    }

    pub(super) fn at_end(&self) -> bool {
        self.remaining() == 0
    }

    pub(super) fn bytes<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N]> {
        let size = u64::try_from(N).unwrap_or(u64::MAX);
        if self.remaining() < size {
            return Err(self.ends_inside(what));
        }
        if let Some(bytes) = self.held() {
            self.at += size;
            return Ok(bytes);
        }
        let len = usize::try_from(self.remaining()).map_or(WINDOW, |n| n.min(WINDOW));
        self.window_at = self.at;
        let mut read = |len| {
            self.window.resize(len, 0);
            self.file.read_exact_at(self.at, &mut self.window)
        };
        // the window may reach into a hole of a residue where what is wanted does not
        if let Err(error) = read(len).or_else(|_| read(N)) {
            self.window.clear();
            return Err(match error.kind() {
                io::ErrorKind::UnexpectedEof => self.ends_inside(what),
                _ => Error::source(&error, "state file"),
            });
        }
        let bytes = self.held().ok_or_else(|| self.ends_inside(what))?;
        self.at += size;
        Ok(bytes)
    }

    pub(super) fn u32(&mut self, what: &'static str) -> Result<u32> {
        self.bytes(what).map(u32::from_le_bytes)
    }

    pub(super) fn i32(&mut self, what: &'static str) -> Result<i32> {
        self.bytes(what).map(i32::from_le_bytes)
    }

    pub(super) fn u64(&mut self, what: &'static str) -> Result<u64> {
        self.bytes(what).map(u64::from_le_bytes)
    }

    /// A count of things that take at least `size` bytes each: refused over `limit`, and where the
    /// rest of the file cannot hold so many.
    pub(super) fn count(&mut self, what: &'static str, size: u64, limit: u32) -> Result<u32> {
        let count = self.u32(what)?;
        if count > limit {
            return Err(
                Error::new(Code::StateLimit, format!("{what} is over its limit"))
                    .sides(format!("at most {limit}"), count),
            );
        }
        if u64::from(count).saturating_mul(size) > self.remaining() {
            return Err(self.ends_inside(what));
        }
        Ok(count)
    }

    /// Passes over `len` bytes and says where they lie.
    pub(super) fn skip(&mut self, len: u64, what: &'static str) -> Result<u64> {
        if len > self.remaining() {
            return Err(self.ends_inside(what));
        }
        let start = self.at;
        self.at += len;
        Ok(start)
    }

    /// The next `N` bytes, where the window holds them.
    fn held<const N: usize>(&self) -> Option<[u8; N]> {
        let start = usize::try_from(self.at.checked_sub(self.window_at)?).ok()?;
        let bytes = self.window.get(start..start.checked_add(N)?)?;
        bytes.try_into().ok()
    }

    fn ends_inside(&self, what: &'static str) -> Error {
        Error::new(
            Code::StateMalformed,
            format!(
                "the file ends inside {what} ({} bytes left)",
                self.remaining()
            ),
        )
    }
}
