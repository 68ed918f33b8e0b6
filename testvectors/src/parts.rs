//! A capsule taken apart, changed at any layer, and put together again.

use ed25519_dalek::{Signer, SigningKey};

use crate::{
    fixture::{CHUNK, Capsule, SIGN_SEED, WRAP_KEY},
    raw::{self, Step, byte_string, find},
    schedule::{Schedule, chunk_digest, context_input, table_digest, unwrap},
};

/// Bytes of a table row.
pub const ROW: usize = 48;
const PAGE: usize = 4096;

/// Every part of a file. What [`Parts::file`] writes is what stands here, right or wrong.
#[derive(Clone)]
pub struct Parts {
    /// The protected header's bytes, without the byte string's head.
    pub header: Vec<u8>,
    /// The manifest's bytes.
    pub payload: Vec<u8>,
    /// The signature.
    pub signature: Vec<u8>,
    /// Rows of each stream's table.
    pub tables: Vec<Vec<u8>>,
    /// Bytes of the table region after the last row.
    pub unused: Vec<u8>,
    /// Ciphertext of each stream.
    pub body: Vec<Vec<u8>>,
    /// The encoded bytes of each stream.
    pub plain: Vec<Vec<u8>>,
    /// Seed of the key that signs.
    pub signer: [u8; 32],
    /// Chunks that are sealed with the wrong last flag, as (stream, index).
    pub lying_chunks: Vec<(usize, usize)>,
    content_key: [u8; 32],
}

/// `n` rounded up to a page.
#[must_use]
pub fn align(n: usize) -> usize {
    n.next_multiple_of(PAGE)
}

/// The three lengths of a prologue.
#[must_use]
pub fn lengths(file: &[u8]) -> (usize, usize, usize) {
    let at = |from: usize, len: usize| {
        file[from..from + len]
            .iter()
            .rev()
            .fold(0, |n, byte| n << 8 | usize::from(*byte))
    };
    (at(12, 4), at(16, 8), at(24, 8))
}

/// Offsets at which tables and body begin.
#[must_use]
pub fn regions(file: &[u8]) -> (usize, usize) {
    let (envelope, tables, _) = lengths(file);
    let tables_at = align(64 + envelope);
    (tables_at, align(tables_at + tables))
}

impl Parts {
    /// Takes a capsule of the fixtures apart; it is wrapped for [`WRAP_KEY`] first.
    #[must_use]
    pub fn of(capsule: &Capsule) -> Self {
        Self::of_wrapped(capsule, &WRAP_KEY)
    }

    /// Takes one apart that is wrapped for another key first.
    #[must_use]
    pub fn of_wrapped(capsule: &Capsule, key: &[u8; 32]) -> Self {
        let file = &capsule.file;
        let (envelope_len, tables_len, _) = lengths(file);
        let (tables_at, body_at) = regions(file);
        // without the tag, the envelope is an ordinary array of four
        let envelope = &file[65..64 + envelope_len];
        let string = |index| {
            let item = &envelope[find(envelope, &[Step::At(index)])];
            let value: ciborium::Value = ciborium::from_reader(item).unwrap();
            value.into_bytes().unwrap()
        };
        let (header, payload) = (string(0), string(2));
        let chunks = |len: usize| len.div_ceil(CHUNK as usize);
        let (mut row, mut at) = (tables_at, body_at);
        let (mut tables, mut body) = (Vec::new(), Vec::new());
        for plain in &capsule.plain {
            let rows = chunks(plain.len()) * ROW;
            tables.push(file[row..row + rows].to_vec());
            body.push(file[at..at + plain.len()].to_vec());
            row += rows;
            at += plain.len();
        }
        let recipient = |n| {
            let path = [Step::Key(4), Step::Key(3), Step::At(0), Step::At(n)];
            let value: ciborium::Value =
                ciborium::from_reader(&payload[find(&payload, &path)]).unwrap();
            value.into_bytes().unwrap()
        };
        let cti = header[find(&header, &[Step::Key(15), Step::Key(7)])][1..].to_vec();
        Self {
            content_key: unwrap(key, &recipient(2), &cti, &recipient(3)),
            unused: file[row..tables_at + tables_len].to_vec(),
            signature: string(3),
            header,
            payload,
            tables,
            body,
            plain: capsule.plain.clone(),
            signer: SIGN_SEED,
            lying_chunks: Vec::new(),
        }
    }

    /// The capsule's id.
    #[must_use]
    pub fn cti(&self) -> Vec<u8> {
        self.header[find(&self.header, &[Step::Key(15), Step::Key(7)])][1..].to_vec()
    }

    /// The content key.
    #[must_use]
    pub fn content_key(&self) -> [u8; 32] {
        self.content_key
    }

    /// The key schedule of header and manifest as they now are.
    #[must_use]
    pub fn schedule(&self) -> Schedule {
        let number = |path: &[Step]| -> u64 {
            let value: ciborium::Value =
                ciborium::from_reader(&self.payload[find(&self.payload, path)]).unwrap();
            value
                .as_integer()
                .and_then(|n| n.try_into().ok())
                .unwrap_or(1)
        };
        let salt = &self.payload[find(&self.payload, &[Step::Key(4), Step::Key(1)])][2..];
        let input = context_input(&self.header, &self.payload);
        Schedule::new(
            number(&[Step::Key(2), Step::Key(1)]),
            &self.content_key,
            salt,
            &input,
        )
    }

    /// Encrypts `plain` again under header and manifest as they now are, with chunks of `chunk`
    /// bytes, and states commitment, digests and lengths to match.
    pub fn reseal(&mut self) {
        let schedule = self.schedule();
        let path = [Step::Key(4), Step::Key(2)];
        raw::put(&mut self.payload, &path, &byte_string(&schedule.commitment));
        self.tables.clear();
        self.body.clear();
        for (stream, plain) in self.plain.iter().enumerate() {
            let count = plain.len().div_ceil(CHUNK as usize);
            let (mut rows, mut body) = (Vec::new(), Vec::new());
            for (index, chunk) in plain.chunks(CHUNK as usize).enumerate() {
                let last = (index + 1 == count) != self.lying_chunks.contains(&(stream, index));
                let (text, tag) = schedule.seal(stream, index as u64, last, chunk);
                rows.extend_from_slice(&tag);
                rows.extend_from_slice(&chunk_digest(&text));
                body.extend_from_slice(&text);
            }
            self.tables.push(rows);
            self.body.push(body);
        }
        self.retable();
    }

    /// States lengths and table digests as they now are.
    pub fn retable(&mut self) {
        for (stream, rows) in self.tables.iter().enumerate() {
            let field = |n| [Step::Key(3), Step::At(stream), Step::At(n)];
            let len = (self.body[stream].len() as u64).to_le_bytes();
            raw::put(&mut self.payload, &field(0), &byte_string(&len));
            let digest = table_digest(stream, rows);
            raw::put(&mut self.payload, &field(1), &byte_string(&digest));
        }
        let len = self.table_region().len();
        let item = raw::encode(&raw::int(len as u64));
        raw::put(&mut self.payload, &[Step::Key(5)], &item);
    }

    /// Bytes that Ed25519 signs.
    #[must_use]
    pub fn sig_structure(&self) -> Vec<u8> {
        sig_structure("Signature1", &self.header, b"", &self.payload)
    }

    /// Signs header and payload as they now are.
    pub fn sign(&mut self) {
        self.signature = sign(&self.signer, &self.sig_structure());
    }

    fn table_region(&self) -> Vec<u8> {
        [self.tables.concat(), self.unused.clone()].concat()
    }

    /// The envelope.
    #[must_use]
    pub fn envelope(&self) -> Vec<u8> {
        [
            &[0xD2, 0x84][..],
            &byte_string(&self.header),
            &[0xA0],
            &byte_string(&self.payload),
            &byte_string(&self.signature),
        ]
        .concat()
    }

    /// The file, with a prologue that fits.
    #[must_use]
    pub fn file(&self) -> Vec<u8> {
        self.file_with(&self.envelope())
    }

    /// The file with another envelope.
    #[must_use]
    pub fn file_with(&self, envelope: &[u8]) -> Vec<u8> {
        let (tables, body) = (self.table_region(), self.body.concat());
        let mut file = b"\x89KVC\r\n\x1a\n\x01\0\0\0".to_vec();
        file.extend_from_slice(&(envelope.len() as u32).to_le_bytes());
        file.extend_from_slice(&(tables.len() as u64).to_le_bytes());
        file.extend_from_slice(&(body.len() as u64).to_le_bytes());
        file.resize(64, 0);
        file.extend_from_slice(envelope);
        file.resize(align(file.len()), 0);
        file.extend_from_slice(&tables);
        file.resize(align(file.len()), 0);
        file.extend_from_slice(&body);
        file
    }
}

/// RFC 9052 §4.4, with any context string and external data.
#[must_use]
pub fn sig_structure(context: &str, header: &[u8], external: &[u8], payload: &[u8]) -> Vec<u8> {
    let bytes = |part: &[u8]| ciborium::Value::Bytes(part.to_vec());
    raw::encode(&ciborium::Value::Array(vec![
        raw::text(context),
        bytes(header),
        bytes(external),
        bytes(payload),
    ]))
}

/// An Ed25519 signature.
#[must_use]
pub fn sign(seed: &[u8; 32], message: &[u8]) -> Vec<u8> {
    SigningKey::from_bytes(seed)
        .sign(message)
        .to_bytes()
        .to_vec()
}

/// The public key of a seed.
#[must_use]
pub fn public(seed: &[u8; 32]) -> [u8; 32] {
    SigningKey::from_bytes(seed).verifying_key().to_bytes()
}
