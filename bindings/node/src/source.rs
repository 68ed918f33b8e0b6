//! Memory of Node's as a source.
//!
//! It is copied from a piece at a time, straight into the library's own buffers: what another thread changes between two
//! pieces is seen or not, and no more comes of it.

use std::{io, path::Path, sync::Mutex};

use kvcap::ReadAt;
use kvcap_calls::Source;
use napi::bindgen_prelude::{Either, Uint8Array};

/// A path, or memory.
pub type Given = Either<String, Uint8Array>;

/// A source that is opened where the call runs.
pub enum Later {
    Path(String),
    Memory(Memory),
}

impl From<Given> for Later {
    fn from(given: Given) -> Self {
        match given {
            Either::A(path) => Self::Path(path),
            Either::B(bytes) => Self::Memory(Memory {
                at: bytes.as_ref().as_ptr() as usize,
                len: bytes.len(),
                _kept: Mutex::new(bytes),
            }),
        }
    }
}

impl Later {
    pub fn open(self) -> kvcap::Result<Source> {
        match self {
            Self::Path(path) => Source::file(Path::new(&path)),
            Self::Memory(memory) => Ok(Source::memory(memory)),
        }
    }
}

/// Memory of a Uint8Array, which is held while this is.
pub struct Memory {
    at: usize,
    len: usize,
    _kept: Mutex<Uint8Array>,
}

impl ReadAt for Memory {
    fn len(&self) -> u64 {
        self.len as u64
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let from = usize::try_from(offset).ok();
        let end = from.and_then(|from| from.checked_add(buf.len()));
        let (Some(from), true) = (from, end.is_some_and(|end| end <= self.len)) else {
            return Err(io::ErrorKind::UnexpectedEof.into());
        };
        // SAFETY: the array is held, so that its memory stays unless its owner gives it away, which index.d.ts forbids;
        // what is copied lies in it, and `buf` is nobody else's.
        #[expect(
            unsafe_code,
            reason = "there is no safe call that copies what may change"
        )]
        unsafe {
            let from = (self.at as *const u8).add(from);
            std::ptr::copy_nonoverlapping(from, buf.as_mut_ptr(), buf.len());
        }
        Ok(())
    }
}
