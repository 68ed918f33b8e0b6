//! `log.jsonl`: a line an event, appended so that a crash leaves whole lines and at most one torn one.
//!
//! A line ends with LF. The last one is torn, and no event, where it does not, or where it holds a NUL byte: blocks that
//! a crash has lost are read as zeros, and JSON has none.

use std::{
    fs::{File, OpenOptions},
    io::{self, ErrorKind, Read},
    ops::Range,
    path::Path,
};

use kvcap::{Code, Error, Result, WriteAt};
use kvcap_store::{
    operation::{self, Operation},
    output, private,
};

/// Longest log that is read.
const LONGEST: u64 = 1 << 30;

/// A log as it was read.
#[derive(Debug, Default)]
pub struct Log {
    bytes: Vec<u8>,
    lines: Vec<Range<usize>>,
    torn: usize,
}

impl Log {
    /// Reads the log at `path`; an empty one where there is none.
    ///
    /// # Errors
    /// KVC-943 where others may read it; 910 over 1 GiB; 940.
    pub(super) fn read(path: &Path) -> Result<Self> {
        let failed = |error| Error::source(&error, path.display());
        let file = match private::open(path, OpenOptions::new().read(true)) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Self::default()),
            opened => opened.map_err(failed)?,
        };
        private::check(&file, path)?;
        let mut bytes = Vec::new();
        file.take(LONGEST + 1)
            .read_to_end(&mut bytes)
            .map_err(failed)?;
        if bytes.len() as u64 > LONGEST {
            let what = "the session's log is longer than a log may be";
            return Err(Error::new(Code::ResourceBudget, what).at(path.display()));
        }
        Ok(Self::parse(bytes))
    }

    fn parse(bytes: Vec<u8>) -> Self {
        let mut lines = Vec::new();
        let mut from = 0;
        for (at, byte) in bytes.iter().enumerate() {
            if *byte == b'\n' {
                lines.push(from..at);
                from = at + 1;
            }
        }
        let has_nul = |line: &Range<usize>| {
            let line = bytes.get(line.clone()).unwrap_or_default();
            line.contains(&0)
        };
        if from == bytes.len()
            && let Some(last) = lines.last().filter(|line| has_nul(line))
        {
            from = last.start;
            lines.pop();
        }
        Self {
            torn: bytes.len() - from,
            bytes,
            lines,
        }
    }

    /// Returns the number of whole lines.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.lines.len() as u64
    }

    /// Returns true where there is no whole line.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Returns the bytes of the torn line at the end: what a writer that was stopped has begun.
    #[must_use]
    pub const fn torn(&self) -> usize {
        self.torn
    }

    /// Returns the whole lines, without their ends.
    pub fn lines(&self) -> impl Iterator<Item = &[u8]> {
        let lines = self.lines.iter();
        lines.map(|line| self.bytes.get(line.clone()).unwrap_or_default())
    }

    /// Returns the line of an event, which are numbered from 1 on.
    #[must_use]
    pub fn line(&self, seq: u64) -> Option<&[u8]> {
        let index = usize::try_from(seq.checked_sub(1)?).ok()?;
        self.bytes.get(self.lines.get(index)?.clone())
    }

    fn whole(&self) -> u64 {
        (self.bytes.len() - self.torn) as u64
    }
}

/// Appends a line to the log that was read as `log`, after cutting what is torn; durable when it returns.
///
/// # Errors
/// KVC-944 for a line that is none; 940, and the log is then as it was, or has a torn line.
pub(super) fn append(path: &Path, log: &Log, line: &[u8]) -> Result<()> {
    if line.is_empty() || line.contains(&b'\n') || line.contains(&0) {
        let what = "an event is one line of JSON";
        return Err(Error::new(Code::LocalUsage, what).at(path.display()));
    }
    append_line(path, log, line).map_err(|error| Error::sink(&error, path.display()))
}

fn append_line(path: &Path, log: &Log, line: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let is_new = !path.try_exists()?;
    if is_new {
        operation::before(Operation::Create(folder))?;
    }
    let mut options = OpenOptions::new();
    let file: File = private::open(path, options.create(true).truncate(false).write(true))?;
    let end = log.whole();
    if file.metadata()?.len() != end {
        operation::before(Operation::Cut(path))?;
        file.set_len(end)?;
    }
    operation::before(Operation::Write(path))?;
    let whole = [line, b"\n"].concat();
    file.write_all_at(end, &whole)
        .and_then(|()| operation::before(Operation::Sync(path)))
        .and_then(|()| file.sync_all())
        // a line that is not promised is not left either: the next writer would cut half of it, and keep all of it
        .inspect_err(|_| drop(file.set_len(end)))?;
    match is_new {
        true => output::sync_folder(folder),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_torn_line_is_no_event() {
        for (bytes, lines, torn) in [
            (&b""[..], 0, 0),
            (b"{}\n", 1, 0),
            (b"{}\n{", 1, 1),
            (b"{", 0, 1),
            (b"{}\n{\"a\":\"\0\0\0\"}\n", 1, 12),
            (b"{}\n\0\0\0\n\0", 2, 1),
            (b"{}\n\n", 2, 0),
        ] {
            let log = Log::parse(bytes.to_vec());
            assert_eq!((log.len(), log.torn()), (lines, torn), "{bytes:?}");
            assert_eq!(log.lines().count() as u64, log.len());
        }
    }
}
