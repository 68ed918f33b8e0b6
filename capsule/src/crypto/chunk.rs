//! Chunks: where they lie, their nonce and associated data, and their digest (capsule-v1 §7.4, §9.4).

use crate::{
    crypto::aead::Cipher,
    digest::labelled_hasher,
    error::{Code, Error, Result},
    manifest::{Manifest, Stream, StreamDigest},
    suite::Suite,
    wire::prologue::{Prologue, ROW},
};

pub(crate) fn chunk_digest(ciphertext: &[u8]) -> [u8; 32] {
    let mut hasher = ChunkHasher::new();
    hasher.update(ciphertext);
    hasher.finish()
}

/// The digest of a chunk that comes in pieces.
pub(crate) struct ChunkHasher(blake3::Hasher);

impl ChunkHasher {
    pub(crate) fn new() -> Self {
        Self(labelled_hasher("kvcap v1 leaf"))
    }

    pub(crate) fn update(&mut self, ciphertext: &[u8]) {
        self.0.update(ciphertext);
    }

    /// Gives the digest, and begins the next.
    pub(crate) fn finish(&mut self) -> [u8; 32] {
        let digest = self.0.finalize();
        self.0.reset();
        *digest.as_bytes()
    }
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
        let place = |(stream, measured): (&Stream, &StreamDigest)| {
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

pub(crate) fn place(stream: usize, chunk: Chunk) -> String {
    format!("stream {stream}, chunk {}", chunk.index)
}

/// One stream's cipher and nonces.
pub(crate) struct StreamKey {
    cipher: Cipher,
    base: [u8; 12],
    stream: u32,
}

/// The label, stream, index, last flag and length of §9.4.
const AAD: usize = 14 + 4 + 8 + 1 + 4;

impl StreamKey {
    pub(crate) fn new(suite: Suite, key: &[u8; 32], base: [u8; 12], stream: u32) -> Self {
        Self {
            cipher: Cipher::new(suite, key),
            base,
            stream,
        }
    }

    /// One that belongs to no capsule.
    #[cfg(feature = "hazmat")]
    pub(crate) fn throwaway(suite: Suite, key: &[u8; 32]) -> Self {
        Self::new(suite, key, [0; 12], 0)
    }

    fn parameters(&self, index: u64, last: bool, len: usize) -> ([u8; 12], [u8; AAD]) {
        let mut nonce = self.base;
        for (byte, mask) in nonce.iter_mut().skip(4).zip(index.to_be_bytes()) {
            *byte ^= mask;
        }
        let len = u32::try_from(len).unwrap_or(u32::MAX);
        let parts: [&[u8]; 5] = [
            b"kvcap v1 chunk",
            &self.stream.to_le_bytes(),
            &index.to_le_bytes(),
            &[u8::from(last)],
            &len.to_le_bytes(),
        ];
        let mut aad = [0; AAD];
        for (byte, value) in aad.iter_mut().zip(parts.iter().copied().flatten()) {
            *byte = *value;
        }
        (nonce, aad)
    }

    pub(crate) fn seal(&self, index: u64, last: bool, chunk: &mut [u8]) -> Result<[u8; 16]> {
        let (nonce, aad) = self.parameters(index, last, chunk.len());
        self.cipher
            .seal(&nonce, &aad, chunk)
            .map_err(|_| Error::new(Code::BodyChunk, "a chunk could not be sealed"))
    }

    pub(crate) fn open(
        &self,
        index: u64,
        last: bool,
        sealed: &[u8],
        tag: &[u8; 16],
        chunk: &mut [u8],
    ) -> Result<()> {
        let (nonce, aad) = self.parameters(index, last, sealed.len());
        self.cipher
            .open(&nonce, &aad, sealed, tag, chunk)
            .map_err(|_| Error::new(Code::BodyChunk, "a chunk could not be opened"))
    }
}
