//! The body under its signed tables, checked without a secret (capsule-v1 §7.4, §3.2).

use std::{
    cmp::Ordering,
    io::{ErrorKind, Read},
    sync::Mutex,
};

use crate::{
    crypto::{
        chunk::{Chunk, Extent, place},
        table::Table,
    },
    digest::Digest,
    error::{Code, Error, Result},
    io::{ReadAt, Sequential, borrow_or_read, usize_of},
    verify::{
        step::Step,
        untrusted::{Verified, check_zero, fill},
    },
    wire::prologue::Prologue,
    workers::{Workers, lock},
};

/// Amount that a check of the body has read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BodyChecked {
    /// Chunks whose hash is the signed one.
    pub chunks: u64,
    /// Bytes of the file after its header.
    pub bytes: u64,
}

impl Verified {
    /// Checks every byte after the header, without any secret and in bounded memory: the tables and
    /// one chunk a worker. `reader` stands where [`Untrusted::read`](crate::Untrusted::read) left it, and is read ahead while
    /// chunks are hashed; `progress` hears of bytes checked.
    ///
    /// # Errors
    /// KVC-106, 107, 801 for the tables; 805, 807, 108 for the body; 940 where reading fails.
    pub fn check_body(
        &self,
        reader: &mut (impl Read + Send),
        workers: Workers,
        progress: &mut (dyn FnMut(u64) + Send),
    ) -> Result<BodyChecked> {
        let body = Body::read(self, reader)?;
        let read = |held: &mut Held| {
            let (stream, place) = (held.stream, held.place);
            held.bytes.resize(place.len, 0);
            fill(reader, &mut held.bytes, || body_cut(stream, place))
        };
        let checked = body.check(workers, progress, read, None::<&[u8]>)?;
        expect_end(reader)?;
        Ok(checked)
    }

    /// Checks the body of a file or slice, which each worker reads for itself.
    ///
    /// # Errors
    /// As [`Self::check_body`].
    pub fn check_body_at(
        &self,
        source: &(impl ReadAt + ?Sized),
        workers: Workers,
        progress: &mut (dyn FnMut(u64) + Send),
    ) -> Result<BodyChecked> {
        self.check_body_in_steps(source, workers, progress, &mut |_| {})
    }

    /// Checks the body as [`Self::check_body`] does, and calls `passed` after each step that has
    /// passed, to time it.
    ///
    /// # Errors
    /// As [`Self::check_body`].
    pub fn check_body_in_steps(
        &self,
        source: &(impl ReadAt + ?Sized),
        workers: Workers,
        progress: &mut (dyn FnMut(u64) + Send),
        passed: &mut dyn FnMut(Step),
    ) -> Result<BodyChecked> {
        let len = source.len();
        let mut reader = Sequential {
            source,
            offset: self.prologue.tables_at(),
        };
        let body = Body::read(self, &mut reader)?;
        passed(Step::Tables);
        let within = |held: &mut Held| match held.place.end() > len {
            true => Err(body_cut(held.stream, held.place)),
            false => Ok(()),
        };
        let checked = body.check(workers, progress, within, Some(source))?;
        if len > self.prologue.file_len() {
            return Err(trailing());
        }
        passed(Step::Body);
        Ok(checked)
    }

    fn read_tables(&self, reader: &mut impl Read, extents: &[Extent]) -> Result<Vec<Table>> {
        let cut = || Error::new(Code::FramingTruncated, "the file ends inside its tables");
        let mut tables = Vec::with_capacity(extents.len());
        let mut at = self.prologue.tables_at();
        for (stream, extent) in extents.iter().enumerate() {
            let mut rows = vec![0; usize_of(extent.table_len())];
            fill(reader, &mut rows, cut)?;
            tables.push(self.table(stream, rows)?);
            at += extent.table_len();
        }
        // unused rows and padding, in pieces
        let mut piece = [0; 4096];
        while at < self.prologue.body_at() {
            let take = usize_of(self.prologue.body_at() - at).min(piece.len());
            let part = piece.get_mut(..take).unwrap_or_default();
            fill(reader, part, cut)?;
            check_zero(part)?;
            at += u64::try_from(take).unwrap_or(0);
        }
        Ok(tables)
    }

    pub(crate) fn table(&self, stream: usize, rows: Vec<u8>) -> Result<Table> {
        let signed = self.manifest.measured.get(stream).map(|m| m.table);
        Table::verify(stream, rows, &signed.unwrap_or(Digest([0; 32])))
    }
}

/// A body under its signed tables.
struct Body {
    streams: Vec<(Extent, Table)>,
    checked: BodyChecked,
}

/// What one worker holds: a chunk, and where it is from.
#[derive(Default)]
struct Held {
    stream: usize,
    place: Chunk,
    bytes: Vec<u8>,
}

impl Body {
    /// Reads the tables; `reader` is left at the first chunk.
    fn read(capsule: &Verified, reader: &mut impl Read) -> Result<Self> {
        let extents = Extent::all(&capsule.manifest, capsule.prologue);
        let tables = capsule.read_tables(reader, &extents)?;
        let prologue = capsule.prologue;
        Ok(Self {
            checked: BodyChecked {
                chunks: extents.iter().map(Extent::chunks).sum(),
                bytes: prologue.file_len() - prologue.tables_at(),
            },
            streams: extents.into_iter().zip(tables).collect(),
        })
    }

    /// Holds every chunk against its signed digest. A chunk is read by `in_order`, or out of `source` by several
    /// workers at a time.
    fn check(
        &self,
        workers: Workers,
        progress: &mut (dyn FnMut(u64) + Send),
        mut in_order: impl FnMut(&mut Held) -> Result<()> + Send,
        source: Option<&(impl ReadAt + ?Sized)>,
    ) -> Result<BodyChecked> {
        let chunks = |(stream, (extent, _)): (usize, &(Extent, Table))| {
            let extent = *extent;
            (0..extent.chunks()).map(move |index| (stream, extent.chunk(index)))
        };
        let mut chunks = self.streams.iter().enumerate().flat_map(chunks);
        let progress = Mutex::new(progress);
        workers.run(
            Held::default,
            |held: &mut Held| {
                let Some((stream, place)) = chunks.next() else {
                    return Ok(None);
                };
                (held.stream, held.place) = (stream, place);
                in_order(held).map(Some)
            },
            |held, (), _| {
                let place = held.place;
                let bytes = match source {
                    Some(source) => borrow_or_read(source, place.at, place.len, &mut held.bytes)?,
                    None => &held.bytes,
                };
                if let Some((_, table)) = self.streams.get(held.stream) {
                    table.check(held.stream, place, bytes)?;
                }
                lock(&progress)(u64::try_from(place.len).unwrap_or(0));
                Ok(())
            },
        )?;
        Ok(self.checked)
    }
}

pub(crate) fn body_cut(stream: usize, chunk: Chunk) -> Error {
    Error::new(Code::BodyTruncated, "the body ends early").at(place(stream, chunk))
}

fn expect_end(reader: &mut impl Read) -> Result<()> {
    let mut more = [0];
    match reader.read_exact(&mut more) {
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(()),
        Err(error) => Err(Error::source(&error, "capsule")),
        Ok(()) => Err(trailing()),
    }
}

/// CAP-F-4, CAP-F-6: a file of `found` bytes is as long as its header says.
pub(crate) fn check_len(prologue: Prologue, found: u64) -> Result<()> {
    let want = prologue.file_len();
    if found < prologue.body_at() {
        let what = "the file ends inside its tables";
        return Err(Error::new(Code::FramingTruncated, what));
    }
    match found.cmp(&want) {
        Ordering::Less => {
            Err(Error::new(Code::BodyTruncated, "the body ends early").sides(want, found))
        }
        Ordering::Equal => Ok(()),
        Ordering::Greater => Err(trailing().sides(want, found)),
    }
}

pub(super) fn trailing() -> Error {
    Error::new(Code::FramingTrailing, "bytes follow the body")
}
