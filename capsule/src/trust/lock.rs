//! One writer at a time: a lock file beside what is written.

use std::{
    fs::{File, OpenOptions},
    path::Path,
};

use crate::error::{Error, Result};

/// A held lock; dropping it lets go, and so does the system when its holder ends, however it ends.
///
/// The lock file stays: removing it would let two writers hold locks on two files of one name.
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "held, not read")] File);

impl Lock {
    /// Waits until nobody else writes `path`, and holds `path.lock`.
    ///
    /// # Errors
    /// KVC-940.
    pub fn of(path: &Path) -> Result<Self> {
        let mut name = path.as_os_str().to_owned();
        name.push(".lock");
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).write(true);
        let file = options.open(&name).and_then(|file| {
            file.lock()?;
            Ok(file)
        });
        file.map(Self)
            .map_err(|error| Error::io(&error, Path::new(&name).display()))
    }
}
