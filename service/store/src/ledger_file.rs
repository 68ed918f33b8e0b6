//! What a verifier remembers, kept in one file (registry-v1 §5).

use std::path::PathBuf;

use kvcap::{Ledger, Result, Store};

use crate::time;

/// The ledger in the file at a path, held for as long as one step of verification takes.
#[derive(Clone, Debug)]
pub struct LedgerFile {
    path: PathBuf,
}

impl LedgerFile {
    /// Returns the ledger in the file `path`, which is made where there is none.
    #[must_use]
    pub fn at(path: PathBuf) -> Self {
        Self { path }
    }

    /// Waits until no other process holds the file, and takes the time since then.
    ///
    /// # Errors
    /// KVC-940; 412 where the clock went back.
    pub fn hold(&self) -> Result<(Store, u64)> {
        let store = Store::open(&self.path)?;
        let now = store.observe(time::now())?;
        Ok((store, now))
    }
}
