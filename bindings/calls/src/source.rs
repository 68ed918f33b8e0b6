//! Capsules and states: a file's bytes, or those of a language's memory.

use std::{
    io,
    path::{Path, PathBuf},
};

use kvcap::{Limits, ReadAt, Result, SourceFile, Untrusted};
use kvcap_store::input;

/// A capsule or a state: a file, or memory.
pub struct Source {
    pub(crate) bytes: Bytes,
    /// `-` for memory, which has no folder.
    pub(crate) path: PathBuf,
}

/// Bytes of a capsule or a state: a file's, or memory's.
pub enum Bytes {
    /// A file's.
    File(SourceFile),
    /// Memory that a binding lends.
    Memory(Box<dyn ReadAt + Send>),
}

impl Source {
    /// Opens a file.
    ///
    /// # Errors
    /// KVC-940.
    pub fn file(path: &Path) -> Result<Self> {
        // a file of that name: stdin is the program's
        let path = match input::is_stdin(path) {
            true => Path::new("./-"),
            false => path,
        };
        Ok(Self {
            bytes: Bytes::File(input::file(path)?),
            path: path.to_owned(),
        })
    }

    /// Takes memory.
    #[must_use]
    pub fn memory(bytes: impl ReadAt + Send + 'static) -> Self {
        Self {
            bytes: Bytes::Memory(Box::new(bytes)),
            path: "-".into(),
        }
    }

    /// Says of an error which input it is about.
    pub(crate) fn at(&self, error: kvcap::Error) -> kvcap::Error {
        match self.bytes {
            Bytes::File(_) => input::at(error, &self.path),
            Bytes::Memory(_) => error,
        }
    }

    /// Reads a capsule's header.
    pub(crate) fn header(&self) -> Result<Untrusted> {
        let read = Untrusted::read_at(&self.bytes, &Limits::default());
        read.map_err(|error| self.at(error))
    }
}

impl ReadAt for Bytes {
    fn len(&self) -> u64 {
        match self {
            Self::File(file) => file.len(),
            Self::Memory(memory) => memory.len(),
        }
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        match self {
            Self::File(file) => file.read_exact_at(offset, buf),
            Self::Memory(memory) => memory.read_exact_at(offset, buf),
        }
    }

    fn borrow(&self, offset: u64, len: usize) -> Option<&[u8]> {
        match self {
            Self::File(file) => file.borrow(offset, len),
            Self::Memory(memory) => memory.borrow(offset, len),
        }
    }
}
