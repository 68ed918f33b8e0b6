//! Files of what a device has measured of a session (session-v1 §10): `observations.jsonl`, a line a resume, and
//! `claim.json`, the resume that no runtime has answered for yet. They are no part of the session: their loss changes
//! figures alone.

use std::{
    fs::{self, OpenOptions},
    io::{self, Read},
    path::Path,
};

use kvcap::{Code, Error, Result};
use kvcap_store::{
    operation::{self, Operation},
    output::{self, Readers},
    private,
};

use super::{
    device::DeviceWriter,
    log::{self, Log},
};

const OBSERVATIONS: &str = "observations.jsonl";
const CLAIM: &str = "claim.json";

/// Most lines of the file; one more drops the older half.
const MOST: usize = 2048;

/// Longest claim that is read, in bytes.
const LONGEST: u64 = 1 << 20;

/// Returns the lines of observations in a session's folder.
///
/// # Errors
/// KVC-943 where others may read them; 940.
pub(crate) fn read(folder: &Path) -> Result<Log> {
    Log::read(&folder.join(OBSERVATIONS))
}

/// Appends an observation; of too many the newest half is kept.
///
/// # Errors
/// KVC-947 where the lock was taken away; 943, 940.
pub(crate) fn append(writer: &DeviceWriter, line: &[u8]) -> Result<()> {
    let folder = writer.held()?;
    let path = folder.join(OBSERVATIONS);
    let held = read(folder)?;
    let count = usize::try_from(held.len()).unwrap_or(MOST);
    if count < MOST {
        return log::append(&path, &held, line);
    }
    let newest = held.lines().skip(count - MOST / 2).chain([line]);
    let text: Vec<u8> = newest.flat_map(|line| [line, b"\n"].concat()).collect();
    output::write(&path, true, Readers::Owner, &text)
}

/// Returns the claim in a session's folder.
///
/// # Errors
/// KVC-943 where others may read it; 910 for one that is too long; 940.
pub(crate) fn claim(folder: &Path) -> Result<Option<Vec<u8>>> {
    let path = folder.join(CLAIM);
    let failed = |error| Error::source(&error, path.display());
    let file = match private::open(&path, OpenOptions::new().read(true)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(failed)?,
    };
    private::check(&file, &path)?;
    let mut text = Vec::new();
    file.take(LONGEST + 1)
        .read_to_end(&mut text)
        .map_err(failed)?;
    match text.len() as u64 > LONGEST {
        true => Err(Error::new(Code::ResourceBudget, "the claim is too long").at(path.display())),
        false => Ok(Some(text)),
    }
}

/// Puts the claim in the place of the one before.
///
/// # Errors
/// As [`append`].
pub(crate) fn put_claim(writer: &DeviceWriter, text: &[u8]) -> Result<()> {
    output::write(&writer.held()?.join(CLAIM), true, Readers::Owner, text)
}

/// Removes the claim: it was answered for.
///
/// # Errors
/// As [`append`].
pub(crate) fn settle(writer: &DeviceWriter) -> Result<()> {
    let path = writer.held()?.join(CLAIM);
    operation::before(Operation::Remove(&path))
        .and_then(|()| fs::remove_file(&path))
        .map_err(|error| Error::sink(&error, path.display()))
}
