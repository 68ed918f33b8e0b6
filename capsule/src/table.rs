//! Chunk tables: a tag and a leaf for each chunk, under a signed digest (capsule-v1 §6.4).

use crate::{
    binding::{Digest, labelled_hasher},
    error::{Code, Error, Result},
    manifest::{Manifest, Measured, Stream},
    prologue::{Prologue, ROW},
};

pub(crate) const ROW_BYTES: usize = 48;

/// One row: the tag of a chunk and the hash of its ciphertext.
#[derive(Clone, Copy)]
pub(crate) struct Row {
    pub(crate) tag: [u8; 16],
    pub(crate) leaf: [u8; 32],
}

pub(crate) fn leaf(ciphertext: &[u8]) -> [u8; 32] {
    let mut hasher = labelled_hasher("kvcap v1 leaf");
    hasher.update(ciphertext);
    *hasher.finalize().as_bytes()
}

pub(crate) fn digest(stream: usize, rows: &[u8]) -> Digest {
    let stream = u32::try_from(stream).unwrap_or(u32::MAX);
    Digest::labelled("kvcap v1 table", &[&stream.to_le_bytes(), rows])
}

/// Where a stream's chunks and table rows lie in the file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Extent {
    /// First byte of the stream in the file.
    pub(crate) body_at: u64,
    /// Its encoded length.
    pub(crate) len: u64,
    /// Length of every chunk but the last.
    pub(crate) chunk_len: u64,
    /// Its first table row in the file.
    pub(crate) table_at: u64,
}

impl Extent {
    /// Every stream's place; the manifest has been checked, so that nothing overflows.
    pub(crate) fn all(manifest: &Manifest, prologue: Prologue) -> Vec<Self> {
        let (mut body_at, mut table_at) = (prologue.body_at(), prologue.tables_at());
        let place = |(stream, measured): (&Stream, &Measured)| {
            let extent = Self {
                body_at,
                len: measured.encoded_len,
                chunk_len: stream.chunk_len(),
                table_at,
            };
            body_at = body_at.saturating_add(extent.len);
            table_at = table_at.saturating_add(extent.table_len());
            extent
        };
        let streams = manifest.context.streams.iter();
        streams.zip(&manifest.measured).map(place).collect()
    }

    pub(crate) fn chunks(&self) -> u64 {
        self.len.div_ceil(self.chunk_len)
    }

    pub(crate) fn table_len(&self) -> u64 {
        self.chunks() * ROW
    }

    /// Length of chunk `index`; the caller asks for chunks that exist.
    pub(crate) fn chunk(&self, index: u64) -> Chunk {
        let start = index * self.chunk_len;
        Chunk {
            index,
            at: self.body_at + start,
            len: usize::try_from(self.chunk_len.min(self.len - start)).unwrap_or(0),
            last: index + 1 == self.chunks(),
        }
    }
}

/// One chunk's place.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Chunk {
    pub(crate) index: u64,
    pub(crate) at: u64,
    pub(crate) len: usize,
    pub(crate) last: bool,
}

impl Chunk {
    /// The first byte of the file after it.
    pub(crate) fn end(&self) -> u64 {
        let len = u64::try_from(self.len).unwrap_or(u64::MAX);
        self.at.saturating_add(len)
    }
}

/// A stream's table, whose digest is the signed one.
pub(crate) struct Table {
    rows: Vec<u8>,
}

impl Table {
    /// T-2.
    pub(crate) fn verify(stream: usize, rows: Vec<u8>, signed: &Digest) -> Result<Self> {
        if digest(stream, &rows) != *signed {
            return Err(Error::new(
                Code::BodyTable,
                "the chunk table does not match its signed digest",
            )
            .at(format_args!("stream {stream}")));
        }
        Ok(Self { rows })
    }

    pub(crate) fn row(&self, index: u64) -> Option<Row> {
        let (rows, _) = self.rows.as_chunks::<ROW_BYTES>();
        let row = rows.get(usize::try_from(index).ok()?)?;
        Some(Row {
            tag: *row.first_chunk()?,
            leaf: *row.last_chunk()?,
        })
    }

    /// T-3 for one chunk; gives its tag.
    pub(crate) fn check(&self, stream: usize, chunk: Chunk, ciphertext: &[u8]) -> Result<[u8; 16]> {
        match self.row(chunk.index) {
            Some(row) if row.leaf == leaf(ciphertext) => Ok(row.tag),
            _ => Err(
                Error::new(Code::BodyLeaf, "a chunk does not match its signed hash")
                    .at(place(stream, chunk)),
            ),
        }
    }
}

pub(crate) fn place(stream: usize, chunk: Chunk) -> String {
    format!("stream {stream}, chunk {}", chunk.index)
}
