//! Chunk tables: a tag and a digest for each chunk, under a signed digest (capsule-v1 §7.4).

use crate::{
    crypto::chunk::{Chunk, chunk_digest, place},
    digest::Digest,
    error::{Code, Error, Result},
};

pub(crate) const ROW_BYTES: usize = 48;

/// One row: the tag of a chunk and the hash of its ciphertext.
#[derive(Clone, Copy)]
pub(crate) struct Row {
    pub(crate) tag: [u8; 16],
    pub(crate) digest: [u8; 32],
}

pub(crate) fn digest(stream: usize, rows: &[u8]) -> Digest {
    let stream = u32::try_from(stream).unwrap_or(u32::MAX);
    Digest::labelled("kvcap v1 table", &[&stream.to_le_bytes(), rows])
}

/// A stream's table, whose digest is the signed one.
pub(crate) struct Table {
    rows: Vec<u8>,
}

impl Table {
    /// CAP-T-2.
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
            digest: *row.last_chunk()?,
        })
    }

    /// CAP-T-3 for one chunk; gives its tag.
    pub(crate) fn check(&self, stream: usize, chunk: Chunk, ciphertext: &[u8]) -> Result<[u8; 16]> {
        self.check_digest(stream, chunk, &chunk_digest(ciphertext))
    }

    /// CAP-T-3 for one chunk of this digest; gives its tag.
    pub(crate) fn check_digest(
        &self,
        stream: usize,
        chunk: Chunk,
        digest: &[u8; 32],
    ) -> Result<[u8; 16]> {
        match self.row(chunk.index) {
            Some(row) if row.digest == *digest => Ok(row.tag),
            _ => Err(Error::new(
                Code::BodyChunkDigest,
                "a chunk does not match its signed hash",
            )
            .at(place(stream, chunk))),
        }
    }
}
