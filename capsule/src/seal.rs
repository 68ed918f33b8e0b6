//! Writing a capsule: room for the header, the body as it comes, and the header last
//! (capsule-v1 §11.1).

use std::io::{Seek, SeekFrom, Write};

use zeroize::Zeroizing;

use crate::{
    binding::Digest,
    envelope::{self, Claims, Terms},
    error::{Code, Error, Result},
    hazmat::Entropy,
    io::usize_of,
    keys::{CapsuleId, SigningKey, WrappingKey},
    limits::Limits,
    manifest::{self, Context, Keys, Measured, Stream},
    prologue::{Prologue, ROW},
    recipient,
    schedule::{self, ContentKey, Root, StreamKey},
    table,
};

/// What is to be sealed: everything but the bytes.
#[derive(Clone, Debug)]
pub struct Draft {
    /// For whom, what for and until when.
    pub terms: Terms,
    /// What the streams are.
    pub context: Context,
    /// Signed extensions by ascending key, not critical.
    pub extensions: Vec<(u64, Vec<u8>)>,
}

/// What was sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// The capsule's id.
    pub id: CapsuleId,
    /// Bytes of the file.
    pub file_len: u64,
    /// Bytes before the body.
    pub header_len: u64,
    /// Chunks in the body.
    pub chunks: u64,
}

/// Writes one capsule. The encoded bytes of each stream are given in the order of the context, so
/// that a state larger than memory can be sealed; nothing can be read back before [`Self::finish`].
#[derive(Debug)]
pub struct Sealer<'k, W> {
    out: W,
    claims: Claims,
    draft: Draft,
    signer: &'k SigningKey,
    keys: Keys,
    root: Root,
    layout: Prologue,
    measured: Vec<Measured>,
    tables: Vec<u8>,
    /// The stream being written.
    open: Option<OpenStream>,
}

struct OpenStream {
    key: StreamKey,
    chunk: Zeroizing<Vec<u8>>,
    chunk_len: usize,
    index: u64,
    written: u64,
    at_most: u64,
    table_start: usize,
}

impl<'k, W: Write + Seek> Sealer<'k, W> {
    /// Begins a capsule at the start of `out`, which is empty. Id, content key, salt and nonces are
    /// made here. Each recipient can open the capsule; a keyed prefix belongs to the first.
    ///
    /// # Errors
    /// As the rules of capsule-v1 §§5–6 for a draft that a reader would refuse (KVC-401, 404 to 408 are
    /// the reader's own and not checked here); KVC-503 and 808 for the recipients; 940 where writing fails.
    pub fn new(
        out: W,
        draft: Draft,
        signer: &'k SigningKey,
        recipients: &[&WrappingKey],
    ) -> Result<Self> {
        Self::with_entropy(out, draft, signer, recipients, Entropy::system())
    }

    /// The same with chosen randomness: for test vectors only.
    ///
    /// # Errors
    /// As [`Self::new`].
    #[cfg(feature = "hazmat")]
    pub fn danger_with_entropy(
        out: W,
        draft: Draft,
        signer: &'k SigningKey,
        recipients: &[&WrappingKey],
        entropy: Entropy,
    ) -> Result<Self> {
        Self::with_entropy(out, draft, signer, recipients, entropy)
    }

    fn with_entropy(
        mut out: W,
        draft: Draft,
        signer: &'k SigningKey,
        recipients: &[&WrappingKey],
        mut entropy: Entropy,
    ) -> Result<Self> {
        let mut id = CapsuleId([0; 16]);
        entropy.fill(&mut id.0)?;
        let claims = Claims {
            id,
            key: signer.public().id(),
            terms: draft.terms.clone(),
        };
        let content = ContentKey::generate(&mut entropy)?;
        let mut salt = [0; 32];
        entropy.fill(&mut salt)?;
        let recipients = recipients
            .iter()
            .map(|key| recipient::wrap(&content, key, id, &mut entropy))
            .collect::<Result<_>>()?;
        let ctx = schedule::context_digest(&claims, &manifest::encode_context(&draft.context)?);
        let (commitment, root) = content.derive(&salt, &ctx);
        let keys = Keys {
            salt,
            commitment,
            recipients,
        };
        let layout = rehearse(&claims, &draft, &keys, signer)?;
        out.seek(SeekFrom::Start(layout.body_at()))
            .map_err(|error| Error::io(&error, "output"))?;
        let mut sealer = Self {
            out,
            claims,
            draft,
            signer,
            keys,
            root,
            layout,
            measured: Vec::new(),
            tables: Vec::new(),
            open: None,
        };
        sealer.next_stream();
        Ok(sealer)
    }

    /// The capsule's id.
    #[must_use]
    pub fn id(&self) -> CapsuleId {
        self.claims.id
    }

    /// Adds encoded bytes to the current stream.
    ///
    /// # Errors
    /// KVC-507 for more bytes than the stream may have; 940 where writing fails.
    pub fn write(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            let Some(open) = &mut self.open else {
                return Err(wrong_length("all streams are complete", 0, bytes.len()));
            };
            if open.chunk.len() == open.chunk_len {
                open.seal_chunk(false, &mut self.tables, &mut self.out)?;
            }
            let room = open.chunk_len - open.chunk.len();
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            open.written += u64::try_from(now.len()).unwrap_or(0);
            if open.written > open.at_most {
                return Err(wrong_length(
                    "a stream is too long",
                    open.at_most,
                    open.written,
                ));
            }
            open.chunk.extend_from_slice(now);
            bytes = later;
        }
        Ok(())
    }

    /// Ends the current stream; a lossy bank gives its quality receipt.
    ///
    /// # Errors
    /// KVC-507 where the stream has not the length that its description gives, or a receipt is missing
    /// or not called for; 940 where writing fails.
    pub fn end_stream(&mut self, receipt: Option<[u8; 32]>) -> Result<()> {
        let index = self.measured.len();
        let (Some(mut open), Some(stream)) =
            (self.open.take(), self.draft.context.streams.get(index))
        else {
            return Err(wrong_length("all streams are complete", index, index + 1));
        };
        let exact = match stream {
            Stream::Section(section) => Some(section.len),
            Stream::Bank(bank) => bank.fixed_len(),
        };
        if exact.is_some_and(|len| len != open.written) {
            return Err(
                wrong_length("a stream is too short", open.at_most, open.written)
                    .at(format_args!("stream {index}")),
            );
        }
        if !open.chunk.is_empty() {
            open.seal_chunk(true, &mut self.tables, &mut self.out)?;
        }
        let rows = self.tables.get(open.table_start..).unwrap_or_default();
        self.measured.push(Measured {
            encoded_len: open.written,
            table: table::digest(index, rows),
            receipt,
        });
        self.next_stream();
        Ok(())
    }

    fn next_stream(&mut self) {
        let index = self.measured.len();
        let context = &self.draft.context;
        self.open = context.streams.get(index).map(|stream| OpenStream {
            key: self.root.stream(context.suite, index),
            chunk: Zeroizing::new(Vec::new()),
            chunk_len: usize_of(stream.chunk_len()),
            index: 0,
            written: 0,
            at_most: most(stream),
            table_start: self.tables.len(),
        });
    }

    /// Writes tables and envelope, and last of all the prologue. The caller makes `out` durable.
    ///
    /// # Errors
    /// KVC-507 where a stream is missing; as the rules of capsule-v1 §§5–6 for receipts; 940 where writing
    /// fails.
    pub fn finish(mut self) -> Result<(W, Sealed)> {
        let want = self.draft.context.streams.len();
        if self.measured.len() != want {
            return Err(wrong_length(
                "a stream is missing",
                want,
                self.measured.len(),
            ));
        }
        let body_len = self.measured.iter().map(|m| m.encoded_len).sum();
        let prologue = Prologue {
            body_len,
            ..self.layout
        };
        let payload = manifest::encode(
            &self.draft.context,
            &self.measured,
            &self.keys,
            prologue.tables_len,
            &self.draft.extensions,
        )?;
        let limits = writer_limits();
        manifest::decode(&payload, self.claims.clone(), prologue, &limits)?;
        let envelope = envelope::seal(&self.claims, &payload, self.signer)?;
        if u32::try_from(envelope.len()) != Ok(prologue.envelope_len) {
            return Err(wrong_length(
                "the header changed its length",
                prologue.envelope_len,
                envelope.len(),
            ));
        }
        let used = u64::try_from(self.tables.len()).unwrap_or(u64::MAX);
        let slack = usize_of(prologue.body_at() - prologue.tables_at() - used);
        self.tables.resize(self.tables.len() + slack, 0);
        let padding = vec![0; usize_of(prologue.tables_at() - prologue.envelope_end())];
        let parts: [(u64, &[u8]); 3] = [
            (64, &envelope),
            (prologue.envelope_end(), &padding),
            (prologue.tables_at(), &self.tables),
        ];
        let written = parts.into_iter().try_for_each(|(at, bytes)| {
            self.out.seek(SeekFrom::Start(at))?;
            self.out.write_all(bytes)
        });
        written
            .and_then(|()| self.out.flush())
            .and_then(|()| self.out.seek(SeekFrom::Start(0)))
            .and_then(|_| self.out.write_all(&prologue.to_bytes()))
            .and_then(|()| self.out.flush())
            .map_err(|error| Error::io(&error, "output"))?;
        let sealed = Sealed {
            id: self.claims.id,
            file_len: prologue.file_len(),
            header_len: prologue.body_at(),
            chunks: used / ROW,
        };
        Ok((self.out, sealed))
    }
}

impl OpenStream {
    fn seal_chunk(&mut self, last: bool, tables: &mut Vec<u8>, out: &mut impl Write) -> Result<()> {
        let tag = self.key.seal(self.index, last, &mut self.chunk)?;
        tables.extend_from_slice(&tag);
        tables.extend_from_slice(&table::leaf(&self.chunk));
        out.write_all(&self.chunk)
            .map_err(|error| Error::io(&error, "output"))?;
        self.index += 1;
        // what is left is ciphertext
        self.chunk.clear();
        Ok(())
    }
}

/// Everything that can be refused is refused before the first byte is written: the manifest is
/// encoded with the longest lengths and read back. Gives the layout.
fn rehearse(claims: &Claims, draft: &Draft, keys: &Keys, signer: &SigningKey) -> Result<Prologue> {
    let limits = writer_limits();
    let (mut body, mut rows) = (0_u64, 0_u64);
    let overflow = || Error::new(Code::ManifestOffsets, "the streams' lengths overflow");
    let mut measured = Vec::new();
    for stream in &draft.context.streams {
        let encoded_len = most(stream);
        let lossy = !stream.codec().is_exact();
        measured.push(Measured {
            encoded_len,
            table: Digest([0; 32]),
            receipt: lossy.then_some([0; 32]),
        });
        body = body.checked_add(encoded_len).ok_or_else(overflow)?;
        rows = rows.saturating_add(encoded_len.div_ceil(stream.chunk_len().max(1)));
    }
    let tables_len = rows.saturating_mul(ROW);
    let payload = manifest::encode(
        &draft.context,
        &measured,
        keys,
        tables_len,
        &draft.extensions,
    )?;
    let envelope = envelope::seal(claims, &payload, signer)?;
    let envelope_len = u32::try_from(envelope.len()).unwrap_or(u32::MAX);
    let layout = Prologue::new(envelope_len, tables_len, body, &limits)?;
    manifest::decode(&payload, claims.clone(), layout, &limits)?;
    Ok(layout)
}

/// A writer refuses what the default reader would; only its budget is its own.
fn writer_limits() -> Limits {
    Limits::default()
}

fn most(stream: &Stream) -> u64 {
    match stream {
        Stream::Section(section) => section.len,
        Stream::Bank(bank) => bank.max_len().unwrap_or(u64::MAX),
    }
}

fn wrong_length(
    what: &'static str,
    expected: impl std::fmt::Display,
    found: impl std::fmt::Display,
) -> Error {
    Error::new(Code::ManifestInconsistent, what).sides(expected, found)
}

impl std::fmt::Debug for OpenStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "OpenStream({} bytes)", self.written)
    }
}

impl std::fmt::Debug for Root {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Root")
    }
}
