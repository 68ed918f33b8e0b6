//! Files in memory, readers in pieces, and one temporary file that is used again and again.

use std::{
    fs::File,
    io::{self, Read},
    sync::Mutex,
};

use kvcap_states::WriteAt;

/// An output in memory.
pub struct Memory(pub Mutex<Vec<u8>>);

impl Memory {
    /// Zeros.
    pub fn zeros(len: usize) -> Self {
        Self(Mutex::new(vec![0; len]))
    }
}

impl WriteAt for Memory {
    fn write_all_at(&self, offset: u64, buf: &[u8]) -> io::Result<()> {
        let mut bytes = self.0.lock().unwrap();
        let place = usize::try_from(offset)
            .ok()
            .and_then(|start| bytes.get_mut(start..start.checked_add(buf.len())?));
        place.ok_or(io::ErrorKind::WriteZero)?.copy_from_slice(buf);
        Ok(())
    }
}

/// A reader that gives a few bytes at a time and is interrupted in between.
pub struct Ragged<'a> {
    bytes: &'a [u8],
    calls: usize,
}

impl<'a> Ragged<'a> {
    /// Reads `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, calls: 0 }
    }
}

impl Read for Ragged<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.calls += 1;
        if self.calls.is_multiple_of(3) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let len = (self.calls * 37 % 1021 + 1).min(buf.len());
        self.bytes.read(&mut buf[..len])
    }
}

/// The process's temporary file, empty.
pub fn scratch_file() -> File {
    thread_local! {
        static FILE: File = tempfile::tempfile().unwrap();
    }
    FILE.with(|file| {
        file.set_len(0).unwrap();
        file.try_clone().unwrap()
    })
}
