//! Files that are read and written at given places, and lengths as the machine counts them.

use std::{fs::File, io};

use kvcap::{Code, Error, Result};

use crate::state::{ReadAt, WriteAt};

/// Fills `buf` from `offset` of a state file.
pub(crate) fn read_at(file: &dyn ReadAt, offset: u64, buf: &mut [u8]) -> Result<()> {
    file.read_exact_at(offset, buf)
        .map_err(|error| file_error(&error))
}

pub(crate) fn file_error(error: &io::Error) -> Error {
    if error.kind() == io::ErrorKind::UnexpectedEof {
        Error::new(Code::StateMalformed, "the state file ends early")
    } else {
        Error::io(error, "state file")
    }
}

pub(crate) fn product(a: u64, b: u64) -> Result<u64> {
    a.checked_mul(b).ok_or_else(overflow)
}

/// A length as the machine counts memory.
pub(crate) fn size(n: u64) -> Result<usize> {
    usize::try_from(n).map_err(|_| overflow())
}

pub(crate) fn overflow() -> Error {
    Error::new(Code::StateLimit, "a length of the state file overflows")
}

impl ReadAt for [u8] {
    fn len(&self) -> u64 {
        u64::try_from(<[u8]>::len(self)).unwrap_or(u64::MAX)
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let start = usize::try_from(offset).ok();
        match start.and_then(|start| self.get(start..)?.get(..buf.len())) {
            Some(bytes) => {
                buf.copy_from_slice(bytes);
                Ok(())
            }
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

impl ReadAt for Vec<u8> {
    fn len(&self) -> u64 {
        ReadAt::len(self.as_slice())
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.as_slice().read_exact_at(offset, buf)
    }
}

impl<T: ReadAt + ?Sized> ReadAt for &T {
    fn len(&self) -> u64 {
        (**self).len()
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        (**self).read_exact_at(offset, buf)
    }
}

impl ReadAt for File {
    fn len(&self) -> u64 {
        // A file that cannot be examined reads as empty, which every adapter refuses.
        self.metadata().map_or(0, |meta| meta.len())
    }

    #[cfg(unix)]
    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        std::os::unix::fs::FileExt::read_exact_at(self, buf, offset)
    }

    #[cfg(windows)]
    fn read_exact_at(&self, mut offset: u64, mut buf: &mut [u8]) -> io::Result<()> {
        while !buf.is_empty() {
            match std::os::windows::fs::FileExt::seek_read(self, buf, offset)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                n => {
                    buf = &mut buf[n..];
                    offset += u64::try_from(n).map_err(io::Error::other)?;
                }
            }
        }
        Ok(())
    }
}

impl WriteAt for File {
    #[cfg(unix)]
    fn write_all_at(&self, offset: u64, buf: &[u8]) -> io::Result<()> {
        std::os::unix::fs::FileExt::write_all_at(self, buf, offset)
    }

    #[cfg(windows)]
    fn write_all_at(&self, mut offset: u64, mut buf: &[u8]) -> io::Result<()> {
        while !buf.is_empty() {
            match std::os::windows::fs::FileExt::seek_write(self, buf, offset)? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                n => {
                    buf = &buf[n..];
                    offset += u64::try_from(n).map_err(io::Error::other)?;
                }
            }
        }
        Ok(())
    }
}
