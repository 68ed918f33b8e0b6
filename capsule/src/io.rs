//! Random access to files and slices.

#[cfg(any(unix, windows))]
use std::{fs::File, path::Path};
use std::{
    io::{self, Read, Seek, SeekFrom},
    ops::Range,
    sync::Mutex,
};

use crate::{
    error::{Error, Result},
    workers::lock,
};

/// Random access to bytes of known length, for several threads at a time.
pub trait ReadAt: Sync {
    /// Length in bytes.
    fn len(&self) -> u64;

    /// Fills `buf` from `offset`.
    ///
    /// # Errors
    /// `UnexpectedEof` where the bytes end before `buf` is full; otherwise as the source.
    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()>;

    /// True if there are no bytes at all.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// `len` bytes from `offset` where they lie, if they lie in memory and nothing can change them while
    /// they are borrowed: what is verified there need not be copied first.
    fn borrow(&self, offset: u64, len: usize) -> Option<&[u8]> {
        let _nowhere = (offset, len);
        None
    }

    /// Says that the bytes of `range` are read next, about in order: a source of which each question costs a round
    /// trip may fetch them in longer pieces, and nothing beside them.
    fn will_read(&self, range: Range<u64>) {
        let _nothing_to_do = range;
    }
}

/// Random access to an output, for several threads at a time.
pub trait WriteAt: Sync {
    /// Writes all of `buf` at `offset`.
    ///
    /// # Errors
    /// As the output.
    fn write_all_at(&self, offset: u64, buf: &[u8]) -> io::Result<()>;

    /// Lends the `len` bytes at `offset` to `fill` where the output is memory, so that what is to lie
    /// there need not be made elsewhere first; `fill` also hears whether the output is longer than a
    /// cache keeps until it is read. Otherwise false, and `fill` is not called.
    fn lend(&self, offset: u64, len: usize, fill: &mut dyn FnMut(&mut [u8], bool)) -> bool {
        let _nothing_to_lend = (offset, len, fill);
        false
    }

    /// Sets aside room for `len` bytes, where the output can do that; what comes of it shows when the
    /// bytes are written.
    fn reserve(&self, len: u64) {
        let _nothing_to_do = len;
    }

    /// Gives back what was set aside beyond `len` bytes, which are all that was written.
    ///
    /// # Errors
    /// As the output.
    fn trim(&self, len: u64) -> io::Result<()> {
        let _nothing_to_do = len;
        Ok(())
    }
}

/// Anything that reads and seeks, as a source: one reader at a time.
#[derive(Debug)]
pub struct Seekable<T> {
    inner: Mutex<T>,
    len: u64,
}

impl<T: Read + Seek> Seekable<T> {
    /// Takes the source's length, which is not to change.
    ///
    /// # Errors
    /// As the source.
    pub fn new(mut inner: T) -> io::Result<Self> {
        let len = inner.seek(SeekFrom::End(0))?;
        let inner = Mutex::new(inner);
        Ok(Self { inner, len })
    }
}

impl<T: Read + Seek + Send> ReadAt for Seekable<T> {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let mut inner = lock(&self.inner);
        inner.seek(SeekFrom::Start(offset))?;
        inner.read_exact(buf)
    }
}

impl ReadAt for [u8] {
    fn len(&self) -> u64 {
        u64::try_from(<[u8]>::len(self)).unwrap_or(u64::MAX)
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let source = ReadAt::borrow(self, offset, buf.len());
        buf.copy_from_slice(source.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn borrow(&self, offset: u64, len: usize) -> Option<&[u8]> {
        let start = usize::try_from(offset).ok()?;
        self.get(start..start.checked_add(len)?)
    }
}

impl ReadAt for Vec<u8> {
    fn len(&self) -> u64 {
        ReadAt::len(self.as_slice())
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.as_slice().read_exact_at(offset, buf)
    }

    fn borrow(&self, offset: u64, len: usize) -> Option<&[u8]> {
        ReadAt::borrow(self.as_slice(), offset, len)
    }
}

impl<T: ReadAt + ?Sized> ReadAt for &T {
    fn len(&self) -> u64 {
        (**self).len()
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        (**self).read_exact_at(offset, buf)
    }

    fn borrow(&self, offset: u64, len: usize) -> Option<&[u8]> {
        (**self).borrow(offset, len)
    }

    fn will_read(&self, range: Range<u64>) {
        (**self).will_read(range);
    }
}

/// A file as a source. Its length is taken once, here, where an error can be told.
#[cfg(any(unix, windows))]
#[derive(Debug)]
pub struct SourceFile {
    file: File,
    len: u64,
}

#[cfg(any(unix, windows))]
impl SourceFile {
    /// Takes the file's length, which is not to change.
    ///
    /// # Errors
    /// Where the file cannot be examined.
    pub fn new(file: File) -> io::Result<Self> {
        let len = file.metadata()?.len();
        Ok(Self { file, len })
    }

    /// Opens the file at `path` for reading.
    ///
    /// # Errors
    /// KVC-940.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let opened = File::open(path).and_then(Self::new);
        opened.map_err(|error| Error::source(&error, path.display()))
    }

    /// Returns the file, to be read in order.
    #[must_use]
    pub const fn file(&self) -> &File {
        &self.file
    }
}

#[cfg(any(unix, windows))]
impl ReadAt for SourceFile {
    fn len(&self) -> u64 {
        self.len
    }

    #[cfg(unix)]
    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        std::os::unix::fs::FileExt::read_exact_at(&self.file, buf, offset)
    }

    #[cfg(windows)]
    fn read_exact_at(&self, mut offset: u64, mut buf: &mut [u8]) -> io::Result<()> {
        while !buf.is_empty() {
            match std::os::windows::fs::FileExt::seek_read(&self.file, buf, offset)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                n => {
                    buf = buf.get_mut(n..).unwrap_or_default();
                    offset += u64::try_from(n).map_err(io::Error::other)?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(any(unix, windows))]
impl WriteAt for File {
    fn trim(&self, len: u64) -> io::Result<()> {
        self.set_len(len)
    }

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
                    buf = buf.get(n..).unwrap_or_default();
                    offset += u64::try_from(n).map_err(io::Error::other)?;
                }
            }
        }
        Ok(())
    }
}

/// An output in memory that grows.
impl WriteAt for Mutex<Vec<u8>> {
    fn write_all_at(&self, offset: u64, buf: &[u8]) -> io::Result<()> {
        let mut bytes = lock(self);
        let start = usize::try_from(offset).map_err(io::Error::other)?;
        let end = start
            .checked_add(buf.len())
            .ok_or(io::ErrorKind::OutOfMemory)?;
        if bytes.len() < end {
            bytes.resize(end, 0);
        }
        if let Some(place) = bytes.get_mut(start..end) {
            place.copy_from_slice(buf);
        }
        Ok(())
    }
}

impl<T: WriteAt + ?Sized> WriteAt for &T {
    fn write_all_at(&self, offset: u64, buf: &[u8]) -> io::Result<()> {
        (**self).write_all_at(offset, buf)
    }

    fn lend(&self, offset: u64, len: usize, fill: &mut dyn FnMut(&mut [u8], bool)) -> bool {
        (**self).lend(offset, len, fill)
    }

    fn reserve(&self, len: u64) {
        (**self).reserve(len);
    }

    fn trim(&self, len: u64) -> io::Result<()> {
        (**self).trim(len)
    }
}

/// A sequential reader over random access, for the header of a capsule.
pub(crate) struct Sequential<'a, S: ?Sized> {
    pub(crate) source: &'a S,
    pub(crate) offset: u64,
}

impl<S: ReadAt + ?Sized> Read for Sequential<'_, S> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let left = self.source.len().saturating_sub(self.offset);
        let take = usize::try_from(left).unwrap_or(usize::MAX).min(buf.len());
        if let Some(part) = buf.get_mut(..take) {
            self.source.read_exact_at(self.offset, part)?;
        }
        self.offset += u64::try_from(take).unwrap_or(0);
        Ok(take)
    }
}

/// `len` bytes of `source`, where they lie or else read into `buffer`.
pub(crate) fn borrow_or_read<'b>(
    source: &'b (impl ReadAt + ?Sized),
    offset: u64,
    len: usize,
    buffer: &'b mut Vec<u8>,
) -> Result<&'b [u8]> {
    if let Some(bytes) = source.borrow(offset, len) {
        return Ok(bytes);
    }
    buffer.resize(len, 0);
    let read = source.read_exact_at(offset, buffer);
    read.map_err(|error| Error::source(&error, "capsule"))?;
    Ok(buffer)
}

/// A length that a limit has bounded.
pub(crate) fn usize_of(len: u64) -> usize {
    usize::try_from(len).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
