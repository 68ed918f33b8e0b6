//! Opened capsules back into their runtime's state file.

use std::sync::Mutex;

use kvcap::{Bank, Code, Context, Error, Members, Result, SectionKind, Workers};
use kvcap_codecs::Scratch;

use crate::{
    adapters::RuntimeKind,
    pipeline::{
        frames::{Wanted, each_frame, lock},
        hadamard,
        receipts::receipts,
        residue::Skeleton,
        whole::{WholeBank, pieces, whole_banks},
    },
    state::{State, WriteAt},
};

/// No codec makes more plain bytes of an encoded one, by a margin.
const MOST: u64 = 8;

/// Account of what was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct OpenReport {
    /// Bytes of the state file.
    pub state_len: u64,
    /// Banks written.
    pub banks: usize,
    /// Plain bytes of banks.
    pub plain_len: u64,
}

/// Returns the length of a capsule's state file, for who opens it into memory.
///
/// # Errors
/// As [`open_state`] for the residue.
pub fn state_len<M: Members>(opened: &M) -> Result<u64> {
    Ok(Skeleton::parse(&residue(opened)?)?.file_len())
}

/// Writes the whole state file of a capsule or chain into `out`: an empty file, or memory that has room
/// for it and is zero where the state has padding. On an error `out` holds part of a state and must not
/// reach a runtime. `progress` hears how many plain bytes of banks are done.
///
/// # Errors
/// As [`kvcap::StreamReader::read`], the codecs (KVC-901 to 905) and [`Skeleton::state`]; 922 for a
/// capsule without residue, or of a runtime that is not known.
pub fn open_state<M: Members>(
    opened: &M,
    out: &dyn WriteAt,
    workers: Workers,
    progress: &mut (dyn FnMut(u64) + Send),
) -> Result<OpenReport> {
    Ok(write_state(opened, out, workers, progress)?.1)
}

/// Writes the whole state file, and gives what its adapter finds there.
pub(crate) fn write_state<M: Members>(
    opened: &M,
    out: &dyn WriteAt,
    workers: Workers,
    progress: &mut (dyn FnMut(u64) + Send),
) -> Result<(State, OpenReport)> {
    let residue = residue(opened)?;
    for member in opened.ancestors().iter().chain([opened.tip()]) {
        // COD-Q-1: a statement that no measurement gives is the sealer's fault, whoever reads it
        receipts(member)?;
    }
    let skeleton = Skeleton::parse(&residue)?;
    let whole = whole_banks(opened)?;
    let kind = kind(&opened.tip().manifest().context)?;
    let state = skeleton.state(kind, &banks(&whole))?;
    hadamard::check_written(&whole, &state)?;
    // a file ends where the state does, even where that is padding
    out.trim(state.file_len)
        .map_err(|error| Error::sink(&error, "output"))?;
    let pieces = pieces(&whole, &state)?;
    let wanted: Vec<_> = pieces.iter().map(|piece| Wanted::all(piece.part)).collect();
    let encoded = pieces.iter().map(|piece| {
        let part = &piece.part;
        let measured = part.capsule.manifest().measured.get(part.stream);
        measured.map_or(0, |measured| measured.encoded_len)
    });
    // shapes may claim what no capsule of this size can give
    let most = encoded
        .fold(0_u64, u64::saturating_add)
        .saturating_mul(MOST);
    if state.file_len <= most {
        out.reserve(state.file_len);
    }
    skeleton.write(out)?;
    let done = Mutex::new((0_u64, progress));
    each_frame(
        &wanted,
        workers,
        Default::default,
        |buffers: &mut (Vec<u8>, Scratch), frame| {
            let Some(piece) = pieces.get(frame.bank) else {
                return Ok(());
            };
            let encoded = (frame.index, frame.encoded);
            let len = frame.codec.write(&piece.placed, out, encoded, buffers)?;
            let len = u64::try_from(len).unwrap_or(0);
            let mut done = lock(&done);
            done.0 += len;
            (done.1)(len);
            Ok(())
        },
    )?;
    let plain_len = lock(&done).0;
    let report = OpenReport {
        state_len: state.file_len,
        banks: whole.len(),
        plain_len,
    };
    Ok((state, report))
}

/// What the state file holds beside banks.
fn residue<M: Members>(opened: &M) -> Result<Vec<u8>> {
    let residue = opened.tip().section(&SectionKind::Residue)?;
    residue.ok_or_else(|| {
        Error::new(
            Code::StateUnsupported,
            "the capsule does not hold what its state file needs beside banks",
        )
    })
}

/// The runtime of a capsule.
pub(crate) fn kind(context: &Context) -> Result<RuntimeKind> {
    RuntimeKind::from_runtime(&context.runtime.name).ok_or_else(|| {
        Error::new(
            Code::StateUnsupported,
            "the capsule is of a runtime that is not known",
        )
        .at(format!("{:?}", context.runtime.name))
    })
}

/// The banks alone, as an adapter finds them in the file.
pub(crate) fn banks<S>(whole: &[WholeBank<'_, S>]) -> Vec<Bank> {
    whole.iter().map(|bank| bank.bank.clone()).collect()
}
