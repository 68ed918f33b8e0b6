//! Inputs: files, and stdin under the name `-`.

use std::{
    fs::File,
    io::{self, Read, Seek, Write},
    path::Path,
};

use kvcap::{Code, Error, IoSide, Limits, Result, SourceFile, Untrusted};

use crate::spool::no_room;
pub use crate::spool::{of_spool, spool, spooled};

/// Returns whether `path` is stdin's name, `-`.
#[must_use]
pub fn is_stdin(path: &Path) -> bool {
    path.as_os_str() == "-"
}

/// Opens an input to be read once, from its start.
///
/// # Errors
/// KVC-940.
pub fn stream(path: &Path) -> Result<Box<dyn Read + Send>> {
    match is_stdin(path) {
        true => Ok(Box::new(io::stdin())),
        false => Ok(Box::new(open(path)?)),
    }
}

/// Opens a regular file, which can be read in any order; `None` for stdin and pipes.
///
/// # Errors
/// KVC-940.
pub fn regular(path: &Path) -> Result<Option<SourceFile>> {
    if is_stdin(path) {
        return Ok(None);
    }
    // a pipe must not be opened, and so emptied, only to look
    let is_file = std::fs::metadata(path).is_ok_and(|meta| meta.is_file());
    is_file.then(|| source(open(path)?, path)).transpose()
}

/// Opens an input to be read in any order: stdin and pipes are copied to an unnamed temporary file.
///
/// # Errors
/// KVC-940.
pub fn file(path: &Path) -> Result<SourceFile> {
    let failed = |error: io::Error| Error::source(&error, path.display());
    if !is_stdin(path) {
        let file = open(path)?;
        if file.metadata().map_err(failed)?.is_file() {
            return source(file, path);
        }
    }
    let mut spool = spool()?;
    copy(&mut stream(path)?, &mut spool).map_err(|error| at(error, path))?;
    source(spool, path)
}

/// Copies what is left of a stream to the start of a file, and says which of the two has failed.
fn copy(from: &mut dyn Read, to: &mut File) -> Result<()> {
    let mut tee = Tee {
        from,
        to,
        failed: None,
    };
    let read = io::copy(&mut tee, &mut io::sink());
    match tee.failed {
        Some(error) => Err(error),
        None => read.map(drop).map_err(|error| Error::source(&error, "")),
    }
}

/// Reads a stream and keeps what was read.
struct Tee<R, W> {
    from: R,
    to: W,
    /// Why nothing more could be kept.
    failed: Option<Error>,
}

impl<R: Read, W: Write> Read for Tee<R, W> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let len = self.from.read(buf)?;
        let kept = self.to.write_all(buf.get(..len).unwrap_or_default());
        kept.inspect_err(|error| self.failed = Some(no_room(error)))?;
        Ok(len)
    }
}

/// Reads the whole of a small file.
///
/// # Errors
/// KVC-940; 944 where it is longer than `longest` bytes.
pub fn small(path: &Path, longest: u64) -> Result<Vec<u8>> {
    let mut content = Vec::new();
    stream(path)?
        .take(longest.saturating_add(1))
        .read_to_end(&mut content)
        .map_err(|error| Error::source(&error, path.display()))?;
    match u64::try_from(content.len()) {
        Ok(len) if len <= longest => Ok(content),
        _ => Err(Error::new(Code::LocalUsage, "the file is too long")
            .at(path.display())
            .sides(format_args!("at most {longest} bytes"), "more")),
    }
}

fn open(path: &Path) -> Result<File> {
    let file = File::open(path).map_err(|error| Error::source(&error, path.display()))?;
    match file.metadata() {
        Ok(meta) if meta.is_dir() => {
            let error = io::Error::from(io::ErrorKind::IsADirectory);
            Err(Error::source(&error, path.display()))
        }
        _ => Ok(file),
    }
}

fn source(file: File, path: &Path) -> Result<SourceFile> {
    // most of it will be read, about in order: a hint, and nothing depends on whether it is taken
    #[cfg(target_os = "linux")]
    let _taken = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::Sequential);
    SourceFile::new(file).map_err(|error| Error::source(&error, path.display()))
}

/// Says of an error which input it is about: not of a failure to write, which is no input's.
#[must_use]
pub fn at(error: Error, path: &Path) -> Error {
    match (error.io_side(), is_stdin(path)) {
        (Some(IoSide::Sink | IoSide::Peer), _) => error,
        (Some(IoSide::Source), true) => error.moved_to("stdin"),
        (Some(IoSide::Source), false) => error.moved_to(path.display()),
        (None, true) => error.at("stdin"),
        (None, false) => error.at(path.display()),
    }
}

/// A capsule whose header has been read, and where the rest of it is.
pub struct Capsule {
    untrusted: Untrusted,
    rest: Rest,
}

enum Rest {
    File(SourceFile),
    /// The header is in the spool; the body has not been asked for.
    Stream(Tee<Box<dyn Read + Send>, File>),
}

impl Capsule {
    /// Reads the header, and no more of a stream than that.
    ///
    /// # Errors
    /// As [`Untrusted::read`]; KVC-940.
    pub fn read(path: &Path) -> Result<Self> {
        let limits = Limits::default();
        if !is_stdin(path) {
            let file = open(path)?;
            if file.metadata().is_ok_and(|meta| meta.is_file()) {
                let untrusted = Untrusted::read(&mut &file, &limits).map_err(|e| at(e, path))?;
                let file = source(file, path)?;
                let rest = Rest::File(file);
                return Ok(Self { untrusted, rest });
            }
        }
        let mut tee = Tee {
            from: stream(path)?,
            to: spool()?,
            failed: None,
        };
        let read = Untrusted::read(&mut tee, &limits);
        let untrusted =
            read.map_err(|error| tee.failed.take().unwrap_or_else(|| at(error, path)))?;
        let rest = Rest::Stream(tee);
        Ok(Self { untrusted, rest })
    }

    /// Takes the header out, to be verified, and leaves the rest.
    #[must_use]
    pub fn split(self) -> (Untrusted, Body) {
        (self.untrusted, Body(self.rest))
    }
}

/// Part of a capsule that follows its header.
pub struct Body(Rest);

impl Body {
    /// Fetches the whole capsule, of `file_len` bytes. A stream is read to one byte beyond, so that more is
    /// noticed, and kept in an unnamed temporary file.
    ///
    /// # Errors
    /// KVC-940.
    pub fn fetch(self, file_len: u64) -> Result<SourceFile> {
        match self.0 {
            Rest::File(file) => Ok(file),
            Rest::Stream(Tee { from, mut to, .. }) => {
                let header = to.stream_position().map_err(|error| no_room(&error))?;
                let rest = file_len.saturating_sub(header).saturating_add(1);
                copy(&mut from.take(rest), &mut to).map_err(|error| at(error, Path::new("-")))?;
                spooled(to)
            }
        }
    }
}
