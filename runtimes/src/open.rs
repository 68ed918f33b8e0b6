//! An opened capsule back into its runtime's state file.

use std::{fs::File, sync::Mutex};

use kvcap::{
    Bank, Code, Context, Error, Opened, Part, ReadAt, Result, Rows, RowsEntry, SectionKind, Workers,
};
use kvcap_codecs::Scratch;

use crate::{
    RuntimeKind, Skeleton,
    bank_io::listed_rows,
    frames::{each_frame, lock},
};

/// What was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenReport {
    /// Bytes of the state file.
    pub state_len: u64,
    /// Banks written.
    pub banks: usize,
    /// Plain bytes of banks.
    pub plain_len: u64,
}

/// Writes the whole state file into `out`, which is empty. On an error `out` holds part of a state
/// and must not reach a runtime. `progress` hears how many plain bytes of banks are done.
///
/// # Errors
/// As [`kvcap::StreamReader::read`], the codecs (KVC-901 to 905) and [`Skeleton::state`]; 922 for a
/// capsule without residue, or of a runtime that is not known.
pub fn open_state<S: ReadAt>(
    opened: &Opened<S>,
    out: &File,
    workers: Workers,
    progress: &mut (dyn FnMut(u64) + Send),
) -> Result<OpenReport> {
    let context = &opened.manifest().context;
    let kind = RuntimeKind::from_runtime(&context.runtime.name).ok_or_else(|| {
        Error::new(
            Code::StateUnsupported,
            "the capsule is of a runtime that is not known",
        )
        .at(format!("{:?}", context.runtime.name))
    })?;
    let residue = opened.section(&SectionKind::Residue)?.ok_or_else(|| {
        Error::new(
            Code::StateUnsupported,
            "the capsule does not hold what its state file needs beside banks",
        )
    })?;
    let skeleton = Skeleton::parse(&residue)?;
    let described = described_banks(opened, context)?;
    let state = skeleton.state(kind, &described)?;
    out.set_len(state.file_len)
        .map_err(|error| Error::io(&error, "output"))?;
    skeleton.write(out)?;
    let parts: Vec<Part<'_, S>> = context
        .banks()
        .map(|(stream, bank)| Part {
            capsule: opened,
            stream,
            bank,
        })
        .collect();
    let done = Mutex::new((0_u64, progress));
    each_frame(
        &parts,
        workers,
        Default::default,
        |(plain, scratch): &mut (Vec<u8>, Scratch), frame| {
            let plain = frame
                .codec
                .plain(frame.index, frame.encoded, plain, scratch)?;
            let Some(placed) = state.banks.get(frame.bank) else {
                return Ok(());
            };
            placed.write_frame(out, frame.index, plain)?;
            let len = u64::try_from(plain.len()).unwrap_or(0);
            let mut done = lock(&done);
            done.0 += len;
            (done.1)(len);
            Ok(())
        },
    )?;
    let plain_len = lock(&done).0;
    Ok(OpenReport {
        state_len: state.file_len,
        banks: described.len(),
        plain_len,
    })
}

/// The banks of a capsule in the order of its body, which is that of the state file.
pub(crate) fn described_banks<S: ReadAt>(
    opened: &Opened<S>,
    context: &Context,
) -> Result<Vec<Bank>> {
    context
        .banks()
        .map(|(_, entry)| {
            Ok(Bank {
                role: entry.role,
                layer: entry.layer,
                index: entry.index,
                dtype: entry.dtype,
                shape: entry.shape.clone(),
                rows: match entry.rows {
                    RowsEntry::From(start) => Rows::From(start),
                    RowsEntry::Listed(_) => Rows::Listed(listed_rows(opened, entry)?),
                    RowsEntry::None => Rows::None,
                },
                window: entry.window,
            })
        })
        .collect()
}
