//! A capsule verified as its bytes come: the caller feeds them in pieces of any length, and no piece is
//! waited for (capsule-v1 §3.2).
//!
//! Each call consumes, so that nothing is fed after a refusal. How the bytes are split changes neither
//! the codes nor what has been checked.

use crate::{
    crypto::{
        chunk::{Chunk, ChunkHasher, Extent},
        table::Table,
    },
    digest::Digest,
    error::{Code, Error, Result},
    io::usize_of,
    limits::Limits,
    verify::{
        body::{BodyChecked, body_cut, trailing},
        policy::Policy,
        untrusted::{Untrusted, Verified, check_zero},
    },
    wire::prologue::{PROLOGUE, Prologue},
};

/// A header that is on its way. Holds at most the prologue, the envelope and its padding.
#[derive(Debug)]
pub struct PushHeader {
    limits: Limits,
    prologue: Option<Prologue>,
    bytes: Vec<u8>,
}

/// Progress after a piece of a header.
#[derive(Debug)]
#[must_use]
pub enum Fed {
    /// All of it is taken, and more is needed.
    More(PushHeader),
    /// The header is complete, to be verified with a [`crate::Policy`].
    Header(Box<Untrusted>),
}

/// A body that is on its way, under the tables before it. Holds the tables, and of a chunk its digest so far.
pub struct PushBody<'v> {
    capsule: &'v Verified,
    progress: Progress,
}

/// A body that is on its way, put aside without its capsule: for who waits for the next piece elsewhere.
/// [`Verified::resume_body`] takes it up again.
pub struct PausedBody {
    lineage: Digest,
    progress: Progress,
}

struct Progress {
    extents: Vec<Extent>,
    tables: Vec<Table>,
    /// Offset in the file at which the next unit begins.
    at: u64,
    /// Number of its bytes so far.
    taken: usize,
    /// These, unless it is a chunk.
    bytes: Vec<u8>,
    /// Their digest, if it is one.
    hasher: ChunkHasher,
    /// The next chunk.
    stream: usize,
    index: u64,
    checked: BodyChecked,
}

/// A body that has arrived whole, and is the signed one. Time has passed since its header was verified.
#[derive(Debug)]
#[must_use]
pub struct Arrived<'v> {
    capsule: &'v Verified,
    checked: BodyChecked,
}

impl Arrived<'_> {
    /// Returns what was checked, for who judges by himself whether the capsule still may be accepted.
    #[must_use]
    pub fn checked(&self) -> BodyChecked {
        self.checked
    }

    /// Accepts the capsule, if it still may be: its key, revocation and times are judged again, by the trust
    /// and the time of `policy` (capsule-v1 §3.2).
    ///
    /// # Errors
    /// As [`Verified::verify_again`].
    pub fn accept(self, policy: &Policy<'_>) -> Result<BodyChecked> {
        self.capsule.verify_again(policy)?;
        Ok(self.checked)
    }
}

/// What is checked at once.
enum Unit {
    Table(usize),
    Padding(usize),
    Chunk(usize, Chunk),
    End,
}

impl PushHeader {
    /// A header of which no byte is there yet.
    #[must_use]
    pub fn new(limits: &Limits) -> Self {
        Self {
            limits: limits.clone(),
            prologue: None,
            bytes: Vec::new(),
        }
    }

    /// Takes bytes from the front of `bytes`, as many as belong to the header. A prologue is refused
    /// with its 64th byte, an envelope with the last byte of its padding.
    ///
    /// # Errors
    /// As [`Untrusted::read`], but not for a header that ends early: that is [`Self::end`].
    pub fn feed(mut self, bytes: &mut &[u8]) -> Result<Fed> {
        loop {
            let end = self.prologue.map_or(PROLOGUE, |p| usize_of(p.tables_at()));
            let missing = end.saturating_sub(self.bytes.len());
            let (now, later) = bytes.split_at(missing.min(bytes.len()));
            self.bytes.extend_from_slice(now);
            *bytes = later;
            if self.bytes.len() < end {
                return Ok(Fed::More(self));
            }
            let Some(prologue) = self.prologue else {
                let prologue = self.bytes.first_chunk().unwrap_or(&[0; PROLOGUE]);
                self.prologue = Some(Prologue::parse(prologue, &self.limits)?);
                continue;
            };
            let envelope_end = usize_of(prologue.envelope_end());
            let (envelope, padding) = self.bytes.split_at(envelope_end.min(end));
            check_zero(padding)?;
            let envelope = envelope.get(PROLOGUE..).unwrap_or_default();
            let capsule = Untrusted::of(prologue, envelope, &self.limits)?;
            return Ok(Fed::Header(Box::new(capsule)));
        }
    }

    /// Returns the header's length in bytes, once its prologue is there.
    #[must_use]
    pub fn header_len(&self) -> Option<u64> {
        self.prologue.map(|prologue| prologue.tables_at())
    }

    /// Says that no more bytes come: the header ends early (KVC-101, 106).
    #[must_use]
    pub fn end(self) -> Error {
        match self.prologue {
            None => Error::new(
                Code::FramingPrologueShort,
                "the file ends inside its prologue",
            ),
            Some(_) => Error::new(Code::FramingTruncated, "the file ends inside its envelope"),
        }
    }
}

impl Verified {
    /// The check of every byte after the header, as [`Self::check_body`], of bytes as they come.
    #[must_use]
    pub fn push_body(&self) -> PushBody<'_> {
        let progress = Progress {
            extents: Extent::all(&self.manifest, self.prologue),
            tables: Vec::new(),
            at: self.prologue.tables_at(),
            taken: 0,
            bytes: Vec::new(),
            hasher: ChunkHasher::new(),
            stream: 0,
            index: 0,
            checked: BodyChecked {
                chunks: 0,
                bytes: 0,
            },
        };
        PushBody {
            capsule: self,
            progress,
        }
    }

    /// Goes on with a body of this capsule that was put aside.
    ///
    /// # Errors
    /// KVC-507 for the body of another capsule.
    pub fn resume_body(&self, paused: PausedBody) -> Result<PushBody<'_>> {
        if paused.lineage != self.lineage() {
            let what = "the body that was put aside is another capsule's";
            return Err(Error::new(Code::ManifestInconsistent, what));
        }
        Ok(PushBody {
            capsule: self,
            progress: paused.progress,
        })
    }
}

impl<'v> PushBody<'v> {
    /// Takes the next bytes of the file; each table and chunk is checked with its last byte.
    ///
    /// # Errors
    /// KVC-107, 801 for the tables; 805, 108 for the body.
    pub fn feed(mut self, mut bytes: &[u8]) -> Result<Self> {
        loop {
            let unit = self.progress.unit(self.capsule);
            if matches!(unit, Unit::End) {
                return match bytes.is_empty() {
                    true => Ok(self),
                    false => Err(trailing()),
                };
            }
            let len = self.progress.len(&unit);
            let missing = len.saturating_sub(self.progress.taken);
            let (now, later) = bytes.split_at(missing.min(bytes.len()));
            bytes = later;
            self.progress.take(&unit, now);
            if self.progress.taken < len {
                return Ok(self);
            }
            self.progress.check(&unit, self.capsule)?;
        }
    }

    /// Returns what has been checked so far: chunks up to here may be passed on.
    #[must_use]
    pub fn checked(&self) -> BodyChecked {
        self.progress.checked
    }

    /// Puts the body aside.
    #[must_use]
    pub fn pause(self) -> PausedBody {
        PausedBody {
            lineage: self.capsule.lineage(),
            progress: self.progress,
        }
    }

    /// Says that no more bytes come.
    ///
    /// # Errors
    /// KVC-106 where the tables end early, 807 where the body does; 801 for the table of a stream
    /// without chunks.
    pub fn finish(self) -> Result<Arrived<'v>> {
        let mut body = self.feed(&[])?;
        match body.progress.unit(body.capsule) {
            Unit::End => Ok(Arrived {
                capsule: body.capsule,
                checked: body.progress.checked,
            }),
            Unit::Chunk(stream, chunk) => Err(body_cut(stream, chunk)),
            Unit::Table(_) | Unit::Padding(_) => Err(Error::new(
                Code::FramingTruncated,
                "the file ends inside its tables",
            )),
        }
    }
}

impl Progress {
    fn unit(&mut self, capsule: &Verified) -> Unit {
        if self.tables.len() < self.extents.len() {
            return Unit::Table(self.tables.len());
        }
        let body_at = capsule.prologue.body_at();
        if self.at < body_at {
            return Unit::Padding(usize_of(body_at - self.at).min(4096));
        }
        while let Some(extent) = self.extents.get(self.stream) {
            if self.index < extent.chunks() {
                return Unit::Chunk(self.stream, extent.chunk(self.index));
            }
            self.stream += 1;
            self.index = 0;
        }
        Unit::End
    }

    fn len(&self, unit: &Unit) -> usize {
        match unit {
            Unit::Table(stream) => {
                let extent = self.extents.get(*stream);
                extent.map_or(0, |extent| usize_of(extent.table_len()))
            }
            Unit::Padding(len) => *len,
            Unit::Chunk(_, chunk) => chunk.len,
            Unit::End => 0,
        }
    }

    fn take(&mut self, unit: &Unit, bytes: &[u8]) {
        self.taken += bytes.len();
        match unit {
            Unit::Chunk(..) => self.hasher.update(bytes),
            _ => self.bytes.extend_from_slice(bytes),
        }
    }

    /// Checks a unit that is there whole, and goes to the next.
    fn check(&mut self, unit: &Unit, capsule: &Verified) -> Result<()> {
        match unit {
            Unit::Table(stream) => {
                let table = capsule.table(*stream, std::mem::take(&mut self.bytes))?;
                self.tables.push(table);
            }
            Unit::Padding(_) => check_zero(&self.bytes)?,
            Unit::Chunk(stream, chunk) => {
                let digest = self.hasher.finish();
                if let Some(table) = self.tables.get(*stream) {
                    table.check_digest(*stream, *chunk, &digest)?;
                }
                self.index += 1;
                self.checked.chunks += 1;
            }
            Unit::End => {}
        }
        let len = u64::try_from(self.taken).unwrap_or(u64::MAX);
        self.at = self.at.saturating_add(len);
        self.checked.bytes = self.checked.bytes.saturating_add(len);
        self.taken = 0;
        self.bytes.clear();
        Ok(())
    }
}

impl std::fmt::Debug for PushBody<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PushBody({:?})", self.progress.checked)
    }
}

impl std::fmt::Debug for PausedBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PausedBody({:?})", self.progress.checked)
    }
}
