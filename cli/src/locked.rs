//! One writer at a time: a lock file beside what is written.
//!
//! The system lets go of the lock when its holder ends, however it ends. The file stays: removing it
//! would let two writers hold locks on two files of one name.

use std::{
    fs::{File, OpenOptions},
    path::Path,
};

use kvcap::{Error, Result};

use crate::trust::beside;

/// A held lock; dropping it lets go.
#[derive(Debug)]
pub(crate) struct Lock(#[expect(dead_code, reason = "held, not read")] File);

impl Lock {
    /// Waits until nobody else writes `path`.
    ///
    /// # Errors
    /// KVC-940.
    pub(crate) fn of(path: &Path) -> Result<Self> {
        let name = beside(path, ".lock");
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).write(true);
        let file = options
            .open(&name)
            .and_then(|file| file.lock().map(|()| file))
            .map_err(|error| Error::io(&error, name.display()))?;
        Ok(Self(file))
    }
}
