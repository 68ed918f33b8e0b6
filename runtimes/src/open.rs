//! An opened capsule back into its runtime's state file.

use std::fs::File;

use kvcap::{Bank, Code, Context, Error, Opened, ReadAt, Result, Rows, RowsEntry, SectionKind};

use crate::{
    RuntimeKind, Skeleton,
    bank_io::{BankCodec, Buffers, listed_rows},
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
    progress: &mut dyn FnMut(u64),
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
    let mut buffers = Buffers::default();
    let mut plain_len = 0;
    for ((index, entry), placed) in context.banks().zip(&state.banks) {
        let codec = BankCodec::new(entry, &context.rotations, listed_rows(opened, entry)?);
        let mut reader = opened.stream(index)?;
        codec.decode(
            &mut buffers,
            &mut reader,
            0..codec.frames(),
            |frame, plain| {
                placed.write_frame(out, frame, plain)?;
                let len = u64::try_from(plain.len()).unwrap_or(0);
                plain_len += len;
                progress(len);
                Ok(())
            },
        )?;
    }
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
