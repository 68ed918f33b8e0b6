//! Reading one stream: bytes whose chunk's digest and tag have passed (capsule-v1 §3.3).

use std::{mem, ops::Range};
use zeroize::Zeroizing;

use crate::{
    crypto::{
        chunk::{Chunk, Extent, StreamKey, place},
        table::Table,
    },
    error::Result,
    io::{ReadAt, usize_of},
    open::{opened::Opened, out_of_range},
    verify::body::body_cut,
};

impl<S: ReadAt> Opened<S> {
    /// The encoded bytes of stream `index` (in the order of the manifest), to be read in any order.
    ///
    /// # Errors
    /// KVC-810 where there is no such stream; 801 where its table is not the signed one.
    pub fn stream(&self, index: usize) -> Result<StreamReader<'_, S>> {
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
    pub(super) fn all(mut self) -> Result<Vec<u8>> {
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

    /// Returns whether the stream holds no bytes.
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

    /// Says that the chunks of `indices` are read next, by this reader or others, about in order ([`ReadAt::will_read`]).
    pub fn will_read(&self, indices: Range<u64>) {
        let end = indices.end.min(self.extent.chunks());
        if indices.start < end {
            let (first, last) = (self.extent.chunk(indices.start), self.extent.chunk(end - 1));
            self.opened.source.will_read(first.at..last.end());
        }
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
