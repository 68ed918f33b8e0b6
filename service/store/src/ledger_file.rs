//! What a verifier remembers, kept in one file (registry-v1 §5).

use std::path::PathBuf;

use kvcap::{Ledger, Result};

use crate::{redb_memory::RedbMemory, time};

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

    /// Waits until no other process holds the file, and holds it until the ledger is dropped.
    ///
    /// # Errors
    /// KVC-940 where the file cannot be opened or is no ledger: it is then not replaced by an empty one.
    pub fn open(&self) -> Result<Ledger> {
        RedbMemory::open(&self.path).map(Ledger::new)
    }

    /// Opens the ledger, and takes the time since then.
    ///
    /// # Errors
    /// As [`Self::open`]; KVC-412 where the clock went back.
    pub fn hold(&self) -> Result<(Ledger, u64)> {
        let ledger = self.open()?;
        let now = ledger.observe(time::now())?;
        Ok((ledger, now))
    }
}
