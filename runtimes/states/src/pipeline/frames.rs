//! The encoded frames of banks, opened by several workers (capsule-v1 §3.5).
//!
//! The unit of work is a chunk: it is read, hashed and opened once, and whoever opened it decodes the
//! frames that end in it. Where chunks are whole frames, no byte is moved in between; else what a
//! chunk has of the frame that goes on is handed to the next in turn.

use std::{
    mem,
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use kvcap::{Code, Error, Opened, Part, ReadAt, Result, StreamReader, Ticket, Workers};
use kvcap_codecs::packed;

use crate::pipeline::{
    bank_io::{BankCodec, Buffers},
    whole::codec,
};

/// Frames of one capsule's rows of a bank.
pub(crate) struct Wanted<'a, S> {
    pub(crate) part: Part<'a, S>,
    /// Which of them, as far as there are so many.
    pub(crate) frames: Range<u64>,
}

impl<'a, S> Wanted<'a, S> {
    pub(crate) fn all(part: Part<'a, S>) -> Self {
        Self {
            part,
            frames: 0..u64::MAX,
        }
    }
}

/// One encoded frame.
pub(crate) struct Frame<'f, 'a> {
    /// Its bank, by place in the list that was given.
    pub(crate) bank: usize,
    pub(crate) codec: &'f BankCodec<'a>,
    pub(crate) index: u64,
    pub(crate) encoded: &'f [u8],
}

/// Hands every frame of `wanted` to `take`, with buffers that one thread uses again: the one way out of an
/// opened capsule. No chunk is read that holds nothing of them. Frames begin in order, and the first error
/// in that order is the result.
///
/// # Errors
/// As [`StreamReader::chunk`] and for listed positions; 9xx for a frame index; that of `take`.
pub(crate) fn each_frame<S: ReadAt, B>(
    wanted: &[Wanted<'_, S>],
    workers: Workers,
    buffers: impl Fn() -> B + Sync,
    take: impl Fn(&mut B, &Frame<'_, '_>) -> Result<()> + Sync,
) -> Result<()> {
    let mut wanted = wanted.iter().enumerate();
    let mut chunks: Option<(Arc<Sealed<'_, S>>, Range<u64>)> = None;
    let mut scratch = Buffers::default();
    workers.run(
        || (None, Vec::new(), buffers()),
        |(reader, ..): &mut (Reader<'_, S>, _, _)| loop {
            if let Some((bank, range)) = &mut chunks
                && let Some(chunk) = range.next()
            {
                return Ok(Some((Arc::clone(bank), chunk)));
            }
            let Some((at, wanted)) = wanted.next() else {
                return Ok(None);
            };
            if wanted.frames.is_empty() {
                continue;
            }
            let bank = Sealed::new(at, wanted, reader, &mut scratch)?;
            let covering = bank.chunks()?;
            bank.will_read(reader, covering.clone())?;
            chunks = Some((Arc::new(bank), covering));
        },
        |(reader, start, buffers), (bank, chunk), turn| {
            let bytes = bank.open(reader, chunk)?;
            for index in bank.frames_of(chunk, bytes, start, turn)? {
                let frame = Frame {
                    bank: bank.at,
                    codec: &bank.codec,
                    index,
                    encoded: bank.frame(chunk, bytes, start, index)?,
                };
                take(buffers, &frame)?;
                // only the first can have begun in a chunk before
                start.clear();
            }
            Ok(())
        },
    )
}

/// A bank whose chunks are being opened.
struct Sealed<'a, S> {
    at: usize,
    capsule: &'a Opened<S>,
    stream: usize,
    codec: BankCodec<'a>,
    index: Option<packed::Index>,
    frames: Range<u64>,
    chunk_len: u64,
    /// Frames of a chunk, where chunks are whole frames.
    whole: Option<u64>,
    cut: Mutex<Cut>,
}

/// A frame that goes on in the next chunk.
struct Cut {
    /// What the chunks before have of it.
    start: Vec<u8>,
    frame: u64,
}

/// A reader, and which bank it reads.
type Reader<'a, S> = Option<(usize, StreamReader<'a, S>)>;

/// The reader of a bank, in the memory of the one before.
fn go_to<'r, 'a, S: ReadAt>(
    reader: &'r mut Reader<'a, S>,
    bank: usize,
    capsule: &'a Opened<S>,
    stream: usize,
) -> Result<&'r mut StreamReader<'a, S>> {
    let ready = match reader.take() {
        Some((at, reader)) if at == bank => reader,
        Some((_, mut other)) if std::ptr::eq(other.capsule(), capsule) => {
            other.go_to(stream)?;
            other
        }
        _ => capsule.stream(stream)?,
    };
    Ok(&mut reader.insert((bank, ready)).1)
}

impl<'a, S: ReadAt> Sealed<'a, S> {
    /// `reader` is left at the bank: of a short one it holds the only chunk then.
    fn new(
        at: usize,
        wanted: &Wanted<'a, S>,
        reader: &mut Reader<'a, S>,
        scratch: &mut Buffers,
    ) -> Result<Self> {
        let part = &wanted.part;
        let codec = codec(part)?;
        let reader = go_to(reader, at, part.capsule, part.stream)?;
        let index = codec.index(scratch, reader)?;
        let chunk_len = reader.chunk_len().max(1);
        let whole = match &index {
            None => codec.place(None, 0).ok().map(|first| first.end),
            Some(_) => None,
        };
        let whole = whole.filter(|frame| *frame > 0 && chunk_len.is_multiple_of(*frame));
        let frames = wanted.frames.start..wanted.frames.end.min(codec.frames());
        Ok(Self {
            at,
            capsule: part.capsule,
            stream: part.stream,
            codec,
            index,
            chunk_len,
            whole: whole.map(|frame| chunk_len / frame),
            cut: Mutex::new(Cut {
                start: Vec::new(),
                frame: frames.start,
            }),
            frames,
        })
    }

    fn place(&self, frame: u64) -> Result<Range<u64>> {
        self.codec.place(self.index.as_ref(), frame)
    }

    /// The chunks that cover the frames.
    fn chunks(&self) -> Result<Range<u64>> {
        if self.frames.is_empty() {
            return Ok(0..0);
        }
        let first = self.place(self.frames.start)?.start / self.chunk_len;
        let end = self.place(self.frames.end - 1)?.end;
        Ok(first..end.div_ceil(self.chunk_len))
    }

    fn will_read(&self, reader: &mut Reader<'a, S>, chunks: Range<u64>) -> Result<()> {
        go_to(reader, self.at, self.capsule, self.stream)?.will_read(chunks);
        Ok(())
    }

    /// The plain text of a chunk.
    fn open<'r>(&self, reader: &'r mut Reader<'a, S>, chunk: u64) -> Result<&'r [u8]> {
        go_to(reader, self.at, self.capsule, self.stream)?.chunk(chunk)
    }

    /// The frames that end in a chunk. `start` gets what chunks before have of the first.
    fn frames_of(
        &self,
        chunk: u64,
        bytes: &[u8],
        start: &mut Vec<u8>,
        turn: &Ticket<'_>,
    ) -> Result<Range<u64>> {
        start.clear();
        if let Some(whole) = self.whole {
            let first = chunk.saturating_mul(whole);
            let end = first.saturating_add(whole).min(self.frames.end);
            return Ok(first.max(self.frames.start)..end);
        }
        let from = chunk.saturating_mul(self.chunk_len);
        let to = from.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        turn.run(|| {
            let mut cut = lock(&self.cut);
            let first = cut.frame;
            while cut.frame < self.frames.end && self.place(cut.frame)?.end <= to {
                cut.frame += 1;
            }
            if cut.frame > first {
                mem::swap(start, &mut cut.start);
                if !start.is_empty() {
                    let end = self.place(first)?.end;
                    start.extend_from_slice(part(bytes, from, from..end)?);
                }
            }
            if cut.frame < self.frames.end {
                let begin = self.place(cut.frame)?.start.max(from);
                let more = part(bytes, from, begin..to)?;
                cut.start.extend_from_slice(more);
            }
            Ok(first..cut.frame)
        })
    }

    /// The encoded bytes of a frame that ends in a chunk.
    fn frame<'f>(
        &self,
        chunk: u64,
        bytes: &'f [u8],
        start: &'f [u8],
        frame: u64,
    ) -> Result<&'f [u8]> {
        match start.is_empty() {
            true => part(
                bytes,
                chunk.saturating_mul(self.chunk_len),
                self.place(frame)?,
            ),
            false => Ok(start),
        }
    }
}

/// Bytes `range` of a stream, out of those that begin at `from`.
fn part(bytes: &[u8], from: u64, range: Range<u64>) -> Result<&[u8]> {
    let place = |at: u64| at.checked_sub(from).and_then(|at| usize::try_from(at).ok());
    place(range.start)
        .zip(place(range.end))
        .and_then(|(start, end)| bytes.get(start..end))
        .ok_or_else(|| Error::new(Code::BodyRange, "a frame lies outside its stream"))
}

pub(crate) fn lock<T: ?Sized>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
