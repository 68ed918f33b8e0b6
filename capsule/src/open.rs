//! Reading banks: unwrap, compare the commitment, and release bytes whose leaf and tag have passed
//! (capsule-v1 §11.3).

use std::{
    mem,
    ops::Range,
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

use zeroize::Zeroizing;

use crate::{
    binding::Digest,
    body::{body_cut, check_len},
    chain::parent_absent,
    error::{Code, Error, Result},
    io::{ReadAt, borrow_or_read, usize_of},
    manifest::{Manifest, SectionKind},
    prefix::{self, PrefixValue},
    schedule::{Root, StreamKey},
    table::{Chunk, Extent, Table, place},
    verify::{Verified, check_zero},
    wrapping::{PrefixKey, WrappingKey},
};

/// A capsule whose content key is unwrapped and the one committed to. Its banks and sections can be
/// read, whole or in part; every byte it gives has passed its signed leaf and its tag.
pub struct Opened<S> {
    verified: Verified,
    source: S,
    root: Root,
    prefix_key: PrefixKey,
    extents: Vec<Extent>,
    tables: Vec<OnceLock<Table>>,
    read: AtomicU64,
    /// Whether its bytes may be given out: at once, unless it is for one use (U-3).
    released: bool,
}

impl Verified {
    /// Unwraps the content key with `key` and makes ready to read from `source`, the same file.
    /// No body byte is released by this; the sealed prefix value is compared with its commitment.
    ///
    /// # Errors
    /// KVC-106, 107, 108, 807 for the file's length and padding; 701 for a capsule with a parent, which
    /// opens as a [`crate::Chain`]; 809, 803, 804 for the key; 605 for the prefix; 801, 805, 806 for what was read.
    pub fn open<S: ReadAt>(self, source: S, key: &WrappingKey) -> Result<Opened<S>> {
        if let Some(parent) = &self.manifest.context.parent {
            return Err(parent_absent(parent));
        }
        self.open_member(source, key)
    }

    /// The same for one capsule of a chain, whose parent is seen to by the chain.
    pub(crate) fn open_member<S: ReadAt>(self, source: S, key: &WrappingKey) -> Result<Opened<S>> {
        self.check_extent(&source)?;
        let (_, root) = self.unlock(key)?;
        let extents = Extent::all(&self.manifest, self.prologue);
        let opened = Opened {
            released: !self.manifest.claims.terms.single_use,
            tables: extents.iter().map(|_| OnceLock::new()).collect(),
            extents,
            verified: self,
            source,
            root,
            prefix_key: key.prefix_key(),
            read: AtomicU64::new(0),
        };
        opened.check_prefix()?;
        Ok(opened)
    }

    /// F-4, F-5, F-6 for a source of known length.
    fn check_extent(&self, source: &impl ReadAt) -> Result<()> {
        let prologue = self.prologue;
        check_len(prologue, source.len())?;
        let extents = Extent::all(&self.manifest, prologue);
        let mut at = extents.last().map_or(prologue.tables_at(), |last| {
            last.table_at + last.table_len()
        });
        let mut piece = [0; 4096];
        while at < prologue.body_at() {
            let take = usize_of(prologue.body_at() - at).min(piece.len());
            let part = piece.get_mut(..take).unwrap_or_default();
            source
                .read_exact_at(at, part)
                .map_err(|error| Error::io(&error, "capsule"))?;
            check_zero(part)?;
            at += u64::try_from(take).unwrap_or(0);
        }
        Ok(())
    }
}

impl<S: ReadAt> Opened<S> {
    /// What the issuer has signed.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.verified.manifest
    }

    /// The digest by which a child names this capsule (capsule-v1 §9).
    #[must_use]
    pub fn lineage(&self) -> Digest {
        self.verified.lineage()
    }

    /// The sealed value of its prompt, where it is named.
    ///
    /// # Errors
    /// As [`StreamReader::read`].
    pub fn prompt(&self) -> Result<Option<PrefixValue>> {
        let tokens = self.manifest().context.prefix.tokens().unwrap_or(0);
        let value = self.prefix_value()?;
        Ok(value.map(|value| PrefixValue { value, tokens }))
    }

    /// Says that all banks will be read, about in order.
    pub fn read_ahead(&self) {
        self.source.read_ahead();
    }

    /// Bytes of tables and body read from the source so far.
    #[must_use]
    pub fn bytes_read(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }

    /// Leaves it to the caller that a capsule for one use is not used again: for tests, and for callers that
    /// have recorded the use by other means than [`Self::record`].
    #[must_use]
    pub fn danger_unrecorded(mut self) -> Self {
        self.release();
        self
    }

    pub(crate) fn release(&mut self) {
        self.released = true;
    }

    /// The encoded bytes of stream `index` (in the order of the manifest), to be read in any order.
    ///
    /// # Errors
    /// KVC-810 where there is no such stream; 801 where its table is not the signed one; 410 where the
    /// capsule is for one use and that is not recorded.
    pub fn stream(&self, index: usize) -> Result<StreamReader<'_, S>> {
        if !self.released {
            return Err(Error::new(
                Code::ClaimsReplayed,
                "a capsule for one use opens only where its use is recorded",
            ));
        }
        self.reader(index)
    }

    fn reader(&self, index: usize) -> Result<StreamReader<'_, S>> {
        let extent = *self
            .extents
            .get(index)
            .ok_or_else(|| out_of_range("streams", self.extents.len(), index))?;
        let suite = self.manifest().context.suite;
        Ok(StreamReader {
            opened: self,
            stream: index,
            extent,
            table: self.table(index, extent)?,
            key: self.root.stream(suite, index),
            sealed: Vec::new(),
            chunk: Zeroizing::new(Vec::new()),
            held: None,
        })
    }

    /// The bytes of a section, or `None` where the capsule has none of this kind.
    ///
    /// # Errors
    /// As [`StreamReader::read`].
    pub fn section(&self, kind: &SectionKind) -> Result<Option<Vec<u8>>> {
        match self.manifest().context.section(kind) {
            None => Ok(None),
            Some((index, _)) => self.stream_bytes(index).map(Some),
        }
    }

    /// All encoded bytes of a stream.
    ///
    /// # Errors
    /// As [`StreamReader::read`].
    pub fn stream_bytes(&self, index: usize) -> Result<Vec<u8>> {
        self.stream(index)?.all()
    }

    /// The sealed token ids, if there are any: those of the signed prefix.
    ///
    /// # Errors
    /// As [`StreamReader::read`].
    pub fn tokens(&self) -> Result<Option<Vec<u32>>> {
        let bytes = self.section(&SectionKind::Tokens)?;
        Ok(bytes.map(|bytes| prefix::token_ids(&bytes)))
    }

    /// The same to be compared inside, and not given out.
    pub(crate) fn own_tokens(&self) -> Result<Option<Vec<u32>>> {
        let bytes = self.own_section(&SectionKind::Tokens)?;
        Ok(bytes.map(|bytes| prefix::token_ids(&bytes)))
    }

    fn own_section(&self, kind: &SectionKind) -> Result<Option<Vec<u8>>> {
        match self.manifest().context.section(kind) {
            None => Ok(None),
            Some((index, _)) => self.reader(index)?.all().map(Some),
        }
    }

    /// Compares the capsule's prompt with `tokens`.
    ///
    /// # Errors
    /// KVC-605 where it is another prompt, or the capsule does not name its prompt.
    pub fn check_prompt(&self, tokens: &[u32]) -> Result<()> {
        match self.prefix_value()? {
            Some(sealed) if sealed == PrefixValue::of(tokens).value => Ok(()),
            Some(_) => Err(prefix::mismatch("the capsule is of another prompt")),
            None => Err(prefix::mismatch("the capsule does not name its prompt")),
        }
    }

    fn prefix_value(&self) -> Result<Option<Digest>> {
        let Some(bytes) = self.own_section(&SectionKind::Prefix)? else {
            return Ok(None);
        };
        let value = bytes
            .try_into()
            .map_err(|_| prefix::mismatch("the sealed prefix value is not 32 bytes"))?;
        Ok(Some(Digest(value)))
    }

    /// P-2: the sealed value is the one committed to, and that of the sealed token ids.
    fn check_prefix(&self) -> Result<()> {
        let Some(value) = self.prefix_value()? else {
            return Ok(());
        };
        let prefix = &self.manifest().context.prefix;
        if prefix.names(&value, Some(&self.prefix_key)) == Some(false) {
            return Err(prefix::mismatch(
                "the sealed prefix value is not the one committed to",
            ));
        }
        match self.own_tokens()? {
            Some(tokens) if PrefixValue::of(&tokens).value != value => Err(prefix::mismatch(
                "the sealed token ids are of another prompt",
            )),
            _ => Ok(()),
        }
    }

    fn table(&self, stream: usize, extent: Extent) -> Result<&Table> {
        let slot = self
            .tables
            .get(stream)
            .ok_or_else(|| out_of_range("streams", self.tables.len(), stream))?;
        if let Some(table) = slot.get() {
            return Ok(table);
        }
        let len = usize_of(extent.table_len());
        let rows = self.fetch(extent.table_at, len, &mut Vec::new())?.to_vec();
        let table = self.verified.table(stream, rows)?;
        Ok(slot.get_or_init(|| table))
    }

    /// Bytes of the file, where they lie or in `buffer`.
    fn fetch<'b>(&'b self, at: u64, len: usize, buffer: &'b mut Vec<u8>) -> Result<&'b [u8]> {
        let bytes = borrow_or_read(&self.source, at, len, buffer)?;
        let len = u64::try_from(len).unwrap_or(0);
        self.read.fetch_add(len, Ordering::Relaxed);
        Ok(bytes)
    }
}

/// Reads one stream; keeps the last opened chunk, so that neighbours cost nothing.
pub struct StreamReader<'a, S> {
    opened: &'a Opened<S>,
    stream: usize,
    extent: Extent,
    table: &'a Table,
    key: StreamKey,
    /// A chunk as it was read, where it had to be.
    sealed: Vec<u8>,
    chunk: Zeroizing<Vec<u8>>,
    held: Option<u64>,
}

impl<S: ReadAt> StreamReader<'_, S> {
    fn all(mut self) -> Result<Vec<u8>> {
        if self.extent.chunks() == 1 {
            self.load(0)?;
            return Ok(mem::take(&mut *self.chunk));
        }
        let mut bytes = Vec::new();
        self.read(0..self.len(), &mut bytes)?;
        Ok(bytes)
    }

    /// Encoded bytes of the stream.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.extent.len
    }

    /// Whether the stream holds no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.extent.len == 0
    }

    /// The capsule that it reads.
    #[must_use]
    pub fn capsule(&self) -> &Opened<S> {
        self.opened
    }

    /// Bytes of every chunk but the last.
    #[must_use]
    pub fn chunk_len(&self) -> u64 {
        self.extent.chunk_len
    }

    /// The bytes of chunk `index`, which begin at `index` times the chunk length.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn chunk(&mut self, index: u64) -> Result<&[u8]> {
        if index >= self.extent.chunks() {
            return Err(out_of_range("chunks", self.extent.chunks(), index));
        }
        self.load(index)?;
        Ok(&self.chunk)
    }

    /// Goes on with another stream of the same capsule, in the same memory.
    ///
    /// # Errors
    /// As [`Opened::stream`].
    pub fn go_to(&mut self, stream: usize) -> Result<()> {
        let sealed = mem::take(&mut self.sealed);
        let chunk = mem::take(&mut self.chunk);
        *self = Self {
            sealed,
            chunk,
            ..self.opened.stream(stream)?
        };
        Ok(())
    }

    /// Appends bytes `range` of the stream to `out`. Only the chunks that cover it are read.
    ///
    /// # Errors
    /// KVC-810 for a range outside the stream; 805, 806, 807 for a chunk that does not pass; 940 where
    /// reading fails. `out` then holds only bytes that have passed.
    pub fn read(&mut self, range: Range<u64>, out: &mut Vec<u8>) -> Result<()> {
        if range.start > range.end || range.end > self.extent.len {
            return Err(out_of_range("bytes", self.extent.len, range.end));
        }
        out.reserve(usize_of(range.end - range.start));
        let mut at = range.start;
        while at < range.end {
            let index = at / self.extent.chunk_len;
            let start = index * self.extent.chunk_len;
            self.load(index)?;
            let end = (range.end - start).min(self.extent.chunk_len);
            let part = self.chunk.get(usize_of(at - start)..usize_of(end));
            out.extend_from_slice(part.unwrap_or_default());
            at = start + end;
        }
        Ok(())
    }

    fn load(&mut self, index: u64) -> Result<()> {
        if self.held == Some(index) {
            return Ok(());
        }
        self.held = None;
        let chunk = self.extent.chunk(index);
        self.chunk.resize(chunk.len, 0);
        self.open_chunk(chunk).inspect_err(|_| {
            // a chunk that did not pass may hold plaintext that nobody vouched for
            zeroize::Zeroize::zeroize(&mut *self.chunk);
        })?;
        self.held = Some(index);
        Ok(())
    }

    fn open_chunk(&mut self, chunk: Chunk) -> Result<()> {
        let sealed = self
            .opened
            .fetch(chunk.at, chunk.len, &mut self.sealed)
            .map_err(|error| {
                if chunk.end() > self.opened.source.len() {
                    body_cut(self.stream, chunk)
                } else {
                    error
                }
            })?;
        let tag = self.table.check(self.stream, chunk, sealed)?;
        self.key
            .open(chunk.index, chunk.last, sealed, &tag, &mut self.chunk)
            .map_err(|error| error.at(place(self.stream, chunk)))
    }
}

fn out_of_range(
    what: &'static str,
    have: impl std::fmt::Display,
    asked: impl std::fmt::Display,
) -> Error {
    Error::new(Code::BodyRange, "the range lies outside the capsule")
        .at(what)
        .sides(format_args!("at most {have}"), asked)
}
