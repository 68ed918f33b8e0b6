//! Record of who asked for what, and how it was answered (http-v1 HTTP-O-4).

use std::{
    fs::OpenOptions,
    io::Write,
    path::PathBuf,
    sync::{Mutex, PoisonError},
};

use kvcap::{Error, Result};
use kvcap_store::private;
use serde_json::Value;

/// A file of lines, only ever appended to. It is opened for each line, so that it may be moved away.
#[derive(Debug)]
pub(crate) struct Audit {
    path: PathBuf,
    turn: Mutex<()>,
}

impl Audit {
    /// The record in a file, which is made where there is none.
    ///
    /// # Errors
    /// As [`Self::append`].
    pub(crate) fn at(path: PathBuf) -> Result<Self> {
        let audit = Self {
            path,
            turn: Mutex::new(()),
        };
        audit.write(&[])?;
        Ok(audit)
    }

    /// Appends a line.
    ///
    /// # Errors
    /// KVC-943 where others may open the file; 940.
    pub(crate) fn append(&self, entry: &Value) -> Result<()> {
        self.write(format!("{entry}\n").as_bytes())
    }

    fn write(&self, bytes: &[u8]) -> Result<()> {
        let failed = |error: std::io::Error| Error::sink(&error, self.path.display());
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let mut options = OpenOptions::new();
        let mut file =
            private::open(&self.path, options.create(true).append(true)).map_err(failed)?;
        private::check(&file, &self.path)?;
        file.write_all(bytes).map_err(failed)
    }
}
