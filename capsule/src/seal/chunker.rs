//! Streams cut into chunks in order, which any thread may then seal (capsule-v1 §7.4, §3.5).

use std::{
    fmt, mem,
    sync::Arc,
    thread::{self, ThreadId},
};

use zeroize::Zeroizing;

use crate::{
    crypto::{
        chunk::StreamKey,
        schedule::Root,
        table::{self, ROW_BYTES},
    },
    error::{Code, Error, Result},
    io::usize_of,
    manifest::{Context, Stream, StreamDigest},
    suite::Suite,
};

/// A chunk that has its place in the capsule and is not sealed yet: [`Sealer::seal`] does that.
///
/// [`Sealer::seal`]: crate::Sealer::seal
#[must_use = "a capsule is not complete before all its chunks are sealed"]
pub struct Cut {
    pub(crate) key: Arc<StreamKey>,
    pub(crate) index: u64,
    pub(crate) last: bool,
    /// Its first byte in the file.
    pub(crate) at: u64,
    /// Its row of the tables.
    pub(crate) row: usize,
    pub(crate) bytes: Zeroizing<Vec<u8>>,
}

/// Where the streams of a capsule are up to.
pub(crate) struct Cutter {
    root: Root,
    suite: Suite,
    ended: Vec<Ended>,
    /// The stream being written.
    open: Option<OpenStream>,
    next: Next,
    pub(crate) spare: Spare,
}

/// Memory of chunks that are sealed, and the thread in whose cache it is.
#[derive(Default)]
pub(crate) struct Spare(Vec<(ThreadId, Vec<u8>)>);

impl Spare {
    pub(crate) fn put(&mut self, memory: Vec<u8>) {
        self.0.push((thread::current().id(), memory));
    }

    /// This thread's own rather than another's, and another's rather than new memory.
    fn take(&mut self) -> Vec<u8> {
        let own = thread::current().id();
        let at = self.0.iter().rposition(|(of, _)| *of == own);
        let at = at.or(self.0.len().checked_sub(1));
        at.map_or(Vec::new(), |at| self.0.swap_remove(at).1)
    }
}

/// The next chunk's place in the file, and its row of the tables.
struct Next {
    at: u64,
    row: usize,
}

struct Ended {
    len: u64,
    rows: usize,
}

struct OpenStream {
    key: Arc<StreamKey>,
    /// The chunk that is not complete, or may be the last.
    chunk: Zeroizing<Vec<u8>>,
    chunk_len: usize,
    index: u64,
    written: u64,
    at_most: u64,
    /// Whether the length follows from the description.
    fixed: bool,
}

impl Cutter {
    pub(crate) fn new(root: Root, context: &Context, body_at: u64) -> Self {
        let mut cutter = Self {
            root,
            suite: context.suite,
            ended: Vec::new(),
            open: None,
            next: Next {
                at: body_at,
                row: 0,
            },
            spare: Spare::default(),
        };
        cutter.next_stream(context);
        cutter
    }

    /// Chunks that were cut so far.
    pub(crate) fn rows(&self) -> usize {
        self.next.row
    }

    /// Adds bytes to the current stream and gives the chunks that are complete. Takes the memory of
    /// `bytes` where that is a chunk, and leaves in its place that of a chunk that is sealed.
    pub(crate) fn add(&mut self, bytes: &mut Vec<u8>) -> Result<Vec<Cut>> {
        let Some(open) = &mut self.open else {
            return match bytes.is_empty() {
                true => Ok(Vec::new()),
                false => Err(wrong_length("all streams are complete", 0, bytes.len())),
            };
        };
        let written = u64::try_from(bytes.len())
            .ok()
            .and_then(|len| open.written.checked_add(len));
        let written = written.unwrap_or(u64::MAX);
        if written > open.at_most {
            return Err(wrong_length("a stream is too long", open.at_most, written));
        }
        open.written = written;
        let complete = open.fixed && open.written == open.at_most;
        let whole = bytes.len() == open.chunk_len || (complete && bytes.len() < open.chunk_len);
        if whole && open.fixed && open.chunk.is_empty() && !bytes.is_empty() {
            let other = self.spare.take();
            let chunk = Zeroizing::new(mem::replace(bytes, other));
            return Ok(vec![open.cut(chunk, complete, &mut self.next)]);
        }
        let mut cuts = Vec::new();
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let room = open.chunk_len - open.chunk.len();
            let (now, later) = rest.split_at(room.min(rest.len()));
            open.chunk.extend_from_slice(now);
            rest = later;
            // what is left shows that a full chunk is not the last
            if !rest.is_empty() {
                cuts.push(open.cut_full(false, &mut self.next, &mut self.spare));
            }
        }
        if (complete && !open.chunk.is_empty())
            || (open.fixed && open.chunk.len() == open.chunk_len)
        {
            cuts.push(open.cut_full(complete, &mut self.next, &mut self.spare));
        }
        Ok(cuts)
    }

    /// Ends the current stream; gives its last chunk, if that was not known to be the last before.
    pub(crate) fn end(&mut self, context: &Context) -> Result<Option<Cut>> {
        let index = self.ended.len();
        let Some(mut open) = self.open.take() else {
            return Err(wrong_length("all streams are complete", index, index + 1));
        };
        if open.fixed && open.at_most != open.written {
            return Err(
                wrong_length("a stream is too short", open.at_most, open.written)
                    .at(format_args!("stream {index}")),
            );
        }
        let left = !open.chunk.is_empty();
        let last = left.then(|| open.cut_full(true, &mut self.next, &mut self.spare));
        // holds what was cut before, sealed: not worth to be overwritten
        self.spare.put(mem::take(&mut *open.chunk));
        self.ended.push(Ended {
            len: open.written,
            rows: usize_of(open.index),
        });
        self.next_stream(context);
        Ok(last)
    }

    fn next_stream(&mut self, context: &Context) {
        let index = self.ended.len();
        self.open = context.streams.get(index).map(|stream| OpenStream {
            key: Arc::new(self.root.stream(self.suite, index)),
            chunk: Zeroizing::new(self.spare.take()),
            chunk_len: usize_of(stream.chunk_len()),
            index: 0,
            written: 0,
            at_most: most(stream),
            fixed: match stream {
                Stream::Section(_) => true,
                Stream::Bank(bank) => bank.fixed_len().is_some(),
            },
        });
        if let Some(open) = &mut self.open {
            open.chunk.clear();
        }
    }

    /// What the manifest says of the streams, whose rows are `tables`.
    pub(crate) fn measured(self, tables: &[u8]) -> Vec<StreamDigest> {
        let mut rest = tables;
        let streams = self.ended.into_iter().enumerate();
        let measured = streams.map(|(index, ended)| {
            let len = ended.rows.saturating_mul(ROW_BYTES);
            let (rows, later) = rest.split_at_checked(len).unwrap_or((rest, &[]));
            rest = later;
            StreamDigest {
                encoded_len: ended.len,
                table: table::digest(index, rows),
            }
        });
        measured.collect()
    }
}

impl OpenStream {
    /// Gives the chunk that was being filled.
    fn cut_full(&mut self, last: bool, next: &mut Next, spare: &mut Spare) -> Cut {
        let mut other = spare.take();
        other.clear();
        let chunk = mem::replace(&mut self.chunk, Zeroizing::new(other));
        self.cut(chunk, last, next)
    }

    /// A chunk at the next place and row.
    fn cut(&mut self, bytes: Zeroizing<Vec<u8>>, last: bool, next: &mut Next) -> Cut {
        let cut = Cut {
            key: Arc::clone(&self.key),
            index: self.index,
            last,
            at: next.at,
            row: next.row,
            bytes,
        };
        self.index += 1;
        let len = u64::try_from(cut.bytes.len()).unwrap_or(u64::MAX);
        next.at = next.at.saturating_add(len);
        next.row += 1;
        cut
    }
}

/// The longest that a stream can be.
pub(crate) fn most(stream: &Stream) -> u64 {
    match stream {
        Stream::Section(section) => section.len,
        Stream::Bank(bank) => bank.max_len().unwrap_or(u64::MAX),
    }
}

pub(crate) fn wrong_length(
    what: &'static str,
    expected: impl fmt::Display,
    found: impl fmt::Display,
) -> Error {
    Error::new(Code::ManifestInconsistent, what).sides(expected, found)
}

impl fmt::Debug for Cutter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cutter(stream {})", self.ended.len())
    }
}

impl fmt::Debug for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cut(chunk {} of {} bytes)", self.index, self.bytes.len())
    }
}

#[cfg(test)]
mod tests;
