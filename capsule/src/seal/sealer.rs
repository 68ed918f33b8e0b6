//! Writing a capsule: room for the header, the body as it comes, and the header last
//! (capsule-v1 §3.1).

use std::sync::{Mutex, PoisonError};

use crate::{
    crypto::{
        chunk,
        recipient::{self, Of, Recipient},
        schedule::{self, ContentKey, Root},
        table::ROW_BYTES,
    },
    digest::Digest,
    error::{Code, Error, Result},
    hazmat::Entropy,
    io::{WriteAt, usize_of},
    keys::{CapsuleId, SigningKey},
    limits::Limits,
    manifest::{self, Context, Keys, StreamDigest},
    seal::chunker::{Cut, Cutter, most, wrong_length},
    wire::{
        claims::{Claims, Terms},
        envelope,
        prologue::{Prologue, ROW},
    },
    workers::lock,
};

/// Bytes that are added at a time.
const STEP: usize = 1 << 20;

/// Description of a capsule to be sealed: everything but the bytes.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Draft {
    /// For whom, what for and until when.
    pub terms: Terms,
    /// Streams, and what they are bound to.
    pub context: Context,
    /// Signed extensions by ascending key, not critical.
    pub extensions: Vec<(u64, Vec<u8>)>,
}

impl Draft {
    /// Returns a draft without extensions.
    #[must_use]
    pub const fn new(terms: Terms, context: Context) -> Self {
        Self {
            terms,
            context,
            extensions: Vec::new(),
        }
    }
}

/// Result of sealing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
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
///
/// Several threads may share one: bytes are added in order ([`Self::cut`]), and the chunks that this
/// gives are sealed by whoever has them.
#[derive(Debug)]
pub struct Sealer<'k, W> {
    out: W,
    claims: Claims,
    draft: Draft,
    /// The bytes of its context.
    context: Vec<u8>,
    signer: &'k SigningKey,
    keys: Keys,
    layout: Prologue,
    cutter: Mutex<Cutter>,
    tables: Mutex<Tables>,
}

/// Rows of all chunks, by their number.
#[derive(Debug, Default)]
struct Tables {
    rows: Vec<u8>,
    sealed: usize,
}

impl<'k, W: WriteAt> Sealer<'k, W> {
    /// Begins a capsule at the start of `out`, which is empty. Id, content key, salt and nonces are
    /// made here. Each recipient can open the capsule; a keyed prefix belongs to the first.
    ///
    /// # Errors
    /// As the rules of capsule-v1 §§6–7 for a draft that a reader would refuse (KVC-401, 404 to 408 are
    /// the reader's own and not checked here); KVC-503 and 808 for the recipients; 940 where writing fails.
    pub fn new(
        out: W,
        draft: Draft,
        signer: &'k SigningKey,
        recipients: &[impl Into<Recipient<'k>> + Copy],
    ) -> Result<Self> {
        Self::with_entropy(out, draft, signer, recipients, Entropy::system())
    }

    /// Begins as [`Self::new`] does, with chosen randomness: for test vectors only.
    ///
    /// # Errors
    /// As [`Self::new`].
    #[cfg(feature = "hazmat")]
    pub fn danger_with_entropy(
        out: W,
        draft: Draft,
        signer: &'k SigningKey,
        recipients: &[impl Into<Recipient<'k>> + Copy],
        entropy: Entropy,
    ) -> Result<Self> {
        Self::with_entropy(out, draft, signer, recipients, entropy)
    }

    fn with_entropy(
        out: W,
        draft: Draft,
        signer: &'k SigningKey,
        recipients: &[impl Into<Recipient<'k>> + Copy],
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
        let of = Of {
            capsule: id,
            suite: draft.context.suite,
        };
        let recipients = recipients
            .iter()
            .map(|to| recipient::wrap(&content, (*to).into(), of, &mut entropy))
            .collect::<Result<_>>()?;
        let context = manifest::encode_context(&draft.context);
        let ctx = schedule::context_digest(&claims, &context);
        let (commitment, root) = content.derive(&salt, &ctx);
        let keys = Keys {
            salt,
            commitment,
            recipients,
        };
        let layout = rehearse(&claims, &draft, &context, &keys)?;
        out.reserve(layout.file_len());
        Ok(Self {
            cutter: Mutex::new(Cutter::new(root, &draft.context, layout.body_at())),
            tables: Mutex::default(),
            out,
            claims,
            draft,
            context,
            signer,
            keys,
            layout,
        })
    }

    /// The capsule's id.
    #[must_use]
    pub fn id(&self) -> CapsuleId {
        self.claims.id
    }

    /// Bytes that the file and its header will have; those of the body at most, where streams are
    /// compressed.
    #[must_use]
    pub fn lengths(&self) -> (u64, u64) {
        (self.layout.file_len(), self.layout.body_at())
    }

    /// Adds encoded bytes to the current stream, and seals what is complete.
    ///
    /// # Errors
    /// KVC-507 for more bytes than the stream may have; 940 where writing fails.
    pub fn write(&self, bytes: &[u8]) -> Result<()> {
        let mut piece = Vec::new();
        for bytes in bytes.chunks(STEP) {
            piece.clear();
            piece.extend_from_slice(bytes);
            for cut in self.cut(&mut piece)? {
                self.seal(cut)?;
            }
        }
        Ok(())
    }

    /// Ends the current stream.
    ///
    /// # Errors
    /// KVC-507 where the stream has not the length that its description gives; 940 where writing fails.
    pub fn end_stream(&self) -> Result<()> {
        match self.cut_end()? {
            Some(cut) => self.seal(cut),
            None => Ok(()),
        }
    }

    /// Adds encoded bytes to the current stream, and gives the chunks that are complete, to be sealed.
    /// `bytes` holds nothing of use afterwards: where it is a chunk, it goes as it is.
    ///
    /// # Errors
    /// KVC-507 for more bytes than the stream may have.
    pub fn cut(&self, bytes: &mut Vec<u8>) -> Result<Vec<Cut>> {
        lock(&self.cutter).add(bytes)
    }

    /// Ends the current stream, and gives its last chunk, to be sealed, if it was not given before.
    ///
    /// # Errors
    /// KVC-507 where the stream has not the length that its description gives.
    pub fn cut_end(&self) -> Result<Option<Cut>> {
        lock(&self.cutter).end(&self.draft.context)
    }

    /// Seals a chunk and writes it to its place.
    ///
    /// # Errors
    /// KVC-940 where writing fails.
    pub fn seal(&self, cut: Cut) -> Result<()> {
        let Cut {
            key, index, last, ..
        } = cut;
        let mut bytes = cut.bytes;
        let tag = key.seal(index, last, &mut bytes)?;
        let digest = chunk::chunk_digest(&bytes);
        self.out
            .write_all_at(cut.at, &bytes)
            .map_err(|error| Error::sink(&error, "output"))?;
        let start = cut.row.saturating_mul(ROW_BYTES);
        let mut tables = lock(&self.tables);
        let end = start.saturating_add(ROW_BYTES);
        if tables.rows.len() < end {
            tables.rows.resize(end, 0);
        }
        if let Some(row) = tables.rows.get_mut(start..end) {
            let (tags, digests) = row.split_at_mut(tag.len());
            tags.copy_from_slice(&tag);
            digests.copy_from_slice(&digest);
        }
        tables.sealed += 1;
        drop(tables);
        // what is left is ciphertext
        lock(&self.cutter).spare.put(std::mem::take(&mut bytes));
        Ok(())
    }

    /// Writes tables and envelope, and last of all the prologue. The caller makes `out` durable.
    ///
    /// # Errors
    /// KVC-507 where a stream is missing; 940 where writing fails.
    pub fn finish(self) -> Result<(W, Sealed)> {
        let cutter = self.cutter.into_inner();
        let cutter = cutter.unwrap_or_else(PoisonError::into_inner);
        let tables = self.tables.into_inner();
        let Tables { rows, sealed } = tables.unwrap_or_else(PoisonError::into_inner);
        if sealed != cutter.rows() {
            return Err(wrong_length("a chunk is not sealed", cutter.rows(), sealed));
        }
        let measured = cutter.measured(&rows);
        let want = self.draft.context.streams.len();
        if measured.len() != want {
            return Err(wrong_length("a stream is missing", want, measured.len()));
        }
        let body_len = measured.iter().map(|m| m.encoded_len).sum();
        let prologue = Prologue {
            body_len,
            ..self.layout
        };
        let payload = manifest::encode(
            &self.context,
            &measured,
            &self.keys,
            prologue.tables_len,
            &self.draft.extensions,
        );
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
        let used = u64::try_from(rows.len()).unwrap_or(u64::MAX);
        let mut tables = rows;
        let slack = usize_of(prologue.body_at() - prologue.tables_at() - used);
        tables.resize(tables.len() + slack, 0);
        let padding = vec![0; usize_of(prologue.tables_at() - prologue.envelope_end())];
        // the prologue last: without it nothing is a capsule
        let parts: [(u64, &[u8]); 4] = [
            (64, &envelope),
            (prologue.envelope_end(), &padding),
            (prologue.tables_at(), &tables),
            (0, &prologue.to_bytes()),
        ];
        let out = &self.out;
        out.trim(prologue.file_len())
            .and_then(|()| {
                let mut parts = parts.into_iter();
                parts.try_for_each(|(at, bytes)| out.write_all_at(at, bytes))
            })
            .map_err(|error| Error::sink(&error, "output"))?;
        let sealed = Sealed {
            id: self.claims.id,
            file_len: prologue.file_len(),
            header_len: prologue.body_at(),
            chunks: used / ROW,
        };
        Ok((self.out, sealed))
    }
}

/// Everything that can be refused is refused before the first byte is written: the manifest is
/// encoded with the longest lengths and read back. Gives the layout.
fn rehearse(claims: &Claims, draft: &Draft, context: &[u8], keys: &Keys) -> Result<Prologue> {
    let limits = writer_limits();
    let (mut body, mut rows) = (0_u64, 0_u64);
    let overflow = || Error::new(Code::ManifestOffsets, "the streams' lengths overflow");
    let mut measured = Vec::new();
    for stream in &draft.context.streams {
        let encoded_len = most(stream);
        measured.push(StreamDigest {
            encoded_len,
            table: Digest([0; 32]),
        });
        body = body.checked_add(encoded_len).ok_or_else(overflow)?;
        rows = rows.saturating_add(encoded_len.div_ceil(stream.chunk_len().max(1)));
    }
    let tables_len = rows.saturating_mul(ROW);
    let payload = manifest::encode(context, &measured, keys, tables_len, &draft.extensions);
    let envelope_len = envelope::sealed_len(claims, &payload)?;
    let envelope_len = u32::try_from(envelope_len).unwrap_or(u32::MAX);
    let layout = Prologue::new(envelope_len, tables_len, body, &limits)?;
    manifest::decode(&payload, claims.clone(), layout, &limits)?;
    Ok(layout)
}

/// A writer refuses what the default reader would; only its budget is its own.
fn writer_limits() -> Limits {
    Limits::default()
}

impl std::fmt::Debug for Root {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Root")
    }
}
