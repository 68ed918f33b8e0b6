//! `log.jsonl`: a line an event, appended so that a crash leaves whole lines and at most one torn one.
//!
//! A line ends with LF. The last one is torn, and no event, where it does not, or where it holds a NUL byte: blocks that
//! a crash has lost are read as zeros, and JSON has none.
//!
//! Who wants the end of a log alone reads no more than that: the line that is read first says its number itself.

use std::{
    fs::{File, OpenOptions},
    io::{self, ErrorKind, Read, Seek, SeekFrom},
    ops::Range,
    path::Path,
};

use kvcap::{Code, Error, Result, WriteAt};
use kvcap_store::{
    operation::{self, Operation},
    output, private,
};
use serde::Deserialize;

use crate::MAX_INTEGER;

/// Longest log that is read.
const LONGEST: u64 = 1 << 30;

/// Bytes at the end of a log that are read first.
const END: u64 = 16 << 10;

/// Part of a log that is wanted.
#[derive(Clone, Copy, Debug)]
pub(super) enum Part {
    /// All of it.
    Whole,
    /// The lines after this number, and the last one in any case.
    After(u64),
    /// So many of the last lines.
    Last(usize),
}

/// A log, or the end of one, as it was read.
#[derive(Debug, Default)]
pub struct Log {
    /// Bytes of the file, and lines, that were not read.
    skipped: (u64, u64),
    bytes: Vec<u8>,
    lines: Vec<Range<usize>>,
    torn: usize,
}

/// A line's own number.
#[derive(Deserialize)]
struct Numbered {
    seq: u64,
}

impl Log {
    /// Reads the log at `path`; an empty one where there is none.
    ///
    /// # Errors
    /// KVC-943 where others may read it; 910 over 1 GiB; 940.
    pub(super) fn read(path: &Path) -> Result<Self> {
        Self::read_part(path, Part::Whole)
    }

    /// Reads a part of the log at `path`.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub(super) fn read_part(path: &Path, part: Part) -> Result<Self> {
        let failed = |error| Error::source(&error, path.display());
        let mut file = match private::open(path, OpenOptions::new().read(true)) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Self::default()),
            opened => opened.map_err(failed)?,
        };
        private::check(&file, path)?;
        let len = file.metadata().map_err(failed)?.len();
        if len > LONGEST {
            let what = "the session's log is longer than a log may be";
            return Err(Error::new(Code::ResourceBudget, what).at(path.display()));
        }
        let mut wanted = match part {
            Part::Whole => len,
            Part::After(_) | Part::Last(_) => END,
        };
        loop {
            let from = len.saturating_sub(wanted);
            file.seek(SeekFrom::Start(from)).map_err(failed)?;
            let mut bytes = Vec::new();
            (&mut file)
                .take(len - from)
                .read_to_end(&mut bytes)
                .map_err(failed)?;
            match from {
                0 => return Ok(Self::parse(bytes)),
                _ => match Self::end(from, &bytes) {
                    Some(log) if log.has(part) => return Ok(log),
                    // a line that does not say its number is counted
                    None => wanted = len,
                    Some(_) => wanted = wanted.saturating_mul(4),
                },
            }
        }
    }

    /// The end of a log, of bytes that begin within a line; `None` where the first whole line has no number.
    fn end(from: u64, bytes: &[u8]) -> Option<Self> {
        let Some(first) = bytes.iter().position(|byte| *byte == b'\n') else {
            return Some(Self::default());
        };
        let (before, rest) = bytes.split_at_checked(first + 1)?;
        let mut log = Self::parse(rest.to_vec());
        let Some(line) = log.lines().next() else {
            return Some(Self::default());
        };
        let Numbered { seq } = serde_json::from_slice(line).ok()?;
        let seq = Some(seq).filter(|seq| *seq <= MAX_INTEGER)?;
        log.skipped = (from + before.len() as u64, seq.checked_sub(1)?);
        Some(log)
    }

    /// Whether the lines of a part are among those that were read.
    fn has(&self, part: Part) -> bool {
        match part {
            Part::Whole => false,
            Part::After(seq) => !self.lines.is_empty() && self.skipped.1 <= seq,
            Part::Last(count) => self.lines.len() >= count.max(1),
        }
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
            skipped: (0, 0),
            torn: bytes.len() - from,
            bytes,
            lines,
        }
    }

    /// Returns the number of whole lines of the log, those that were not read among them.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.skipped.1.saturating_add(self.lines.len() as u64)
    }

    /// Returns true where there is no whole line.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the bytes of the torn line at the end: what a writer that was stopped has begun.
    #[must_use]
    pub const fn torn(&self) -> usize {
        self.torn
    }

    /// Returns the whole lines that were read, without their ends.
    pub fn lines(&self) -> impl Iterator<Item = &[u8]> {
        let lines = self.lines.iter();
        lines.map(|line| self.bytes.get(line.clone()).unwrap_or_default())
    }

    /// Returns the line of an event, which are numbered from 1 on; `None` where it is not there, or was not read.
    #[must_use]
    pub fn line(&self, seq: u64) -> Option<&[u8]> {
        let index = seq.checked_sub(1)?.checked_sub(self.skipped.1)?;
        let index = usize::try_from(index).ok()?;
        self.bytes.get(self.lines.get(index)?.clone())
    }

    fn whole(&self) -> u64 {
        self.skipped.0 + (self.bytes.len() - self.torn) as u64
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
