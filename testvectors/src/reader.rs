//! Runs a file and a context through the library, by each of its ways in.

use std::{
    io::{self, Read},
    path::Path,
};

use kvcap::{
    Chain, Fed, InMemory, Ledger, Limits, Members as _, Opened, Policy, PushHeader, ReadAt, Result,
    Stream, Trust, Untrusted, Verified, Workers,
};

use crate::{
    case::Stage,
    context::{Context, Memory},
    decode,
};

/// A way into the library.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// Random access to bytes in memory: verify the header, open, read.
    Slice,
    /// Random access to a file.
    File,
    /// A stream that gives one byte at a time (a page, after the first 100 KiB): verify header and
    /// body, then open and read.
    OneByte,
    /// A stream that gives some bytes at a time and is interrupted in between.
    Ragged,
    /// Pushed in pieces of this many bytes (a page, after the first 100 KiB of single bytes): verify
    /// header and body, then open and read.
    Push(usize),
}

impl Entry {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Slice,
        Self::File,
        Self::OneByte,
        Self::Ragged,
        Self::Push(1),
        Self::Push(7),
        Self::Push(4096),
        Self::Push(usize::MAX),
    ];

    /// Returns true if the body is checked before it is opened.
    #[must_use]
    pub const fn checks_body(self) -> bool {
        matches!(self, Self::OneByte | Self::Ragged | Self::Push(_))
    }
}

/// Result of a reader on a vector.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// The code, 0 for acceptance.
    pub code: u16,
    /// Code that a remote caller is told (CAP-A-3).
    pub public: u16,
    /// The step that refused.
    pub stage: Option<Stage>,
    /// Every byte that was given out, stream after stream.
    pub released: Vec<u8>,
    /// The decoded banks, where everything was read whole.
    pub banks: Vec<Option<Vec<u8>>>,
}

/// A ledger of its own, and what was opened before.
struct Kept {
    ledger: Ledger,
    opened: Vec<String>,
}

impl Kept {
    fn new(memory: &Memory) -> Result<Self> {
        let ledger = Ledger::new(InMemory::default());
        if let Some(latest) = memory.latest {
            ledger.confirm(latest)?;
        }
        Ok(Self {
            ledger,
            opened: memory.opened.clone(),
        })
    }
}

/// A reader that gives a piece at a time; piece lengths follow from the offset.
struct Pieces<'a> {
    bytes: &'a [u8],
    ragged: bool,
    calls: usize,
}

impl Read for Pieces<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.calls += 1;
        if self.ragged && self.calls.is_multiple_of(3) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let piece = match self.calls {
            calls if self.ragged => calls * 37 % 1021,
            // the largest vectors have 64 MiB
            100_000.. => 4096,
            _ => 1,
        };
        let len = piece.max(1).min(buf.len());
        self.bytes.read(&mut buf[..len])
    }
}

/// Pieces that are pushed, and what the header left of the last.
struct Pushed<'a> {
    bytes: &'a [u8],
    left: &'a [u8],
    size: usize,
    calls: usize,
}

impl<'a> Pushed<'a> {
    fn piece(&mut self) -> Option<&'a [u8]> {
        self.calls += 1;
        let size = match self.size {
            // the largest vectors have 64 MiB
            1..4096 if self.calls > 100_000 => 4096,
            size => size,
        };
        let (now, later) = self.bytes.split_at(size.min(self.bytes.len()));
        self.bytes = later;
        (!now.is_empty()).then_some(now)
    }

    fn header(&mut self, limits: &Limits) -> Result<Untrusted> {
        let mut header = PushHeader::new(limits);
        while let Some(piece) = self.piece() {
            self.left = piece;
            match header.feed(&mut self.left)? {
                Fed::More(more) => header = more,
                Fed::Header(untrusted) => return Ok(*untrusted),
            }
        }
        Err(header.end())
    }

    fn body(&mut self, verified: &Verified, policy: &Policy<'_>) -> Result<()> {
        let mut body = verified.push_body().feed(self.left)?;
        while let Some(piece) = self.piece() {
            // put aside between any two pieces
            body = verified.resume_body(body.feed(piece)?.pause())?;
        }
        body.finish()?.accept(policy).map(drop)
    }
}

/// Verifies and opens `file` in `context`. For [`Entry::File`], `path` is the file's.
#[must_use]
pub fn run(entry: Entry, file: &[u8], path: &Path, context: &Context) -> Outcome {
    let mut outcome = Outcome::default();
    let mut stage = Stage::Trust;
    let result = match entry {
        Entry::File => kvcap::SourceFile::open(path)
            .and_then(|source| steps(entry, source, file, context, &mut stage, &mut outcome)),
        _ => steps(entry, file, file, context, &mut stage, &mut outcome),
    };
    match result {
        Ok(()) => stage = Stage::Accept,
        Err(error) => {
            outcome.code = error.code().number();
            outcome.public = error.public().code().number();
        }
    }
    outcome.stage = Some(stage);
    outcome
}

fn steps(
    entry: Entry,
    source: impl ReadAt,
    bytes: &[u8],
    context: &Context,
    stage: &mut Stage,
    outcome: &mut Outcome,
) -> Result<()> {
    let trust = context.trust()?;
    let memory = context.memory.as_ref().map(Kept::new).transpose()?;
    let start = match &memory {
        Some(kept) => kept.ledger.observe(context.now)?,
        None => context.now,
    };
    let limits = context.limits();
    let mut pieces = Pieces {
        bytes,
        ragged: entry == Entry::Ragged,
        calls: 0,
    };
    let mut pushed = Pushed {
        bytes,
        left: &[],
        size: match entry {
            Entry::Push(size) => size,
            _ => 0,
        },
        calls: 0,
    };
    let mut header = || {
        if let Entry::Push(_) = entry {
            pushed.header(&limits)
        } else if entry.checks_body() {
            Untrusted::read(&mut pieces, &limits)
        } else {
            Untrusted::read_at(&source, &limits)
        }
    };
    let verify = |untrusted: Untrusted, now| {
        context.with_policy(&trust, now, |policy| untrusted.verify(policy))
    };
    *stage = Stage::Header;
    let untrusted = header()?;
    *stage = Stage::Verify;
    let verified = verify(untrusted, start)?;
    let arrived = context.later.unwrap_or(start);
    *stage = Stage::Body;
    match entry {
        Entry::OneByte => {
            verified.check_body(&mut pieces, Workers::ONE, &mut |_| {})?;
        }
        Entry::Ragged => {
            verified.check_body(&mut pieces, Workers::new(3), &mut |_| {})?;
        }
        Entry::Push(_) => {
            context.with_policy(&trust, arrived, |policy| pushed.body(&verified, policy))?;
        }
        _ if context.wrapping_key.is_none() => {
            verified.check_body_at(&source, Workers::new(2), &mut |_| {})?;
        }
        _ => {}
    }
    context.with_policy(&trust, arrived, |policy| verified.verify_again(policy))?;
    if !context.parents.is_empty() {
        return chained(entry, verified, bytes, context, &trust, stage, outcome);
    }
    let Some(key) = context.key() else {
        return Ok(());
    };
    *stage = Stage::Open;
    let unlocked = verified.open(source, &key)?;
    if let Some(kept) = &memory {
        for before in &kept.opened {
            let file = context.file(before);
            let read = Untrusted::read_at(file.as_slice(), &limits)?;
            let unlocked = verify(read, start)?.open(file.as_slice(), &key)?;
            let _used = unlocked.record(&kept.ledger, start)?;
        }
    }
    let opened = match &memory {
        Some(kept) => unlocked.record(&kept.ledger, start)?,
        None => unlocked.release()?,
    };
    if context.reads.is_empty() {
        return give(&opened, stage, outcome);
    }
    *stage = Stage::Read;
    for range in &context.reads {
        let mut reader = opened.stream(range.stream)?;
        reader.read(range.start..range.end, &mut outcome.released)?;
    }
    Ok(())
}

/// Verifies the parents too, and gives out every member from the root to the tip.
fn chained(
    entry: Entry,
    tip: Verified,
    bytes: &[u8],
    context: &Context,
    trust: &Trust,
    stage: &mut Stage,
    outcome: &mut Outcome,
) -> Result<()> {
    *stage = Stage::Chain;
    let parents: Vec<Vec<u8>> = context
        .parents
        .iter()
        .map(|name| context.file(name))
        .collect();
    let chain = context.with_policy(trust, context.now, |policy| {
        let mut chain = Chain::new(tip, bytes);
        for parent in &parents {
            let untrusted = Untrusted::read_at(parent.as_slice(), &context.limits())?;
            chain = chain.extend(untrusted, parent, policy)?;
        }
        Ok(chain)
    })?;
    *stage = Stage::Body;
    if entry.checks_body() {
        for (verified, source) in chain.members().skip(1) {
            verified.check_body_at(*source, Workers::ONE, &mut |_| {})?;
        }
    }
    let Some(key) = context.key() else {
        return Ok(());
    };
    *stage = Stage::Open;
    let opened = chain.open(&[key])?.release()?;
    for member in opened.ancestors().iter().chain([opened.tip()]) {
        give(member, stage, outcome)?;
    }
    Ok(())
}

/// Reads every stream, then decodes every bank.
fn give<S: ReadAt>(opened: &Opened<S>, stage: &mut Stage, outcome: &mut Outcome) -> Result<()> {
    *stage = Stage::Read;
    let mut streams = Vec::new();
    for index in 0..opened.manifest().context.streams.len() {
        let mut bytes = Vec::new();
        let read = read_whole(opened, index, &mut bytes);
        outcome.released.extend_from_slice(&bytes);
        read?;
        streams.push(bytes);
    }
    *stage = Stage::Decode;
    decode::receipts(opened.manifest(), &streams)?;
    for (index, bytes) in streams.iter().enumerate() {
        let bank = match &opened.manifest().context.streams[index] {
            Stream::Bank(bank) => Some(decode::bank(bank, opened.manifest(), &streams, bytes)?),
            Stream::Section(_) => None,
        };
        outcome.banks.push(bank);
    }
    Ok(())
}

fn read_whole<S: ReadAt>(opened: &Opened<S>, index: usize, out: &mut Vec<u8>) -> Result<()> {
    let mut reader = opened.stream(index)?;
    reader.read(0..reader.len(), out)
}
