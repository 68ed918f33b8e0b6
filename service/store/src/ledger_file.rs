//! What a verifier remembers (registry-v1 §5): where its memory is, and the memory in one file.

use std::{fmt::Debug, path::PathBuf};

use kvcap::{Code, Error, KeyId, Ledger, Mark, MemoryTable, Result};

use crate::{Wait, memory_file::MemoryFile, time};

/// Place of a verifier's memory.
pub trait LedgerSource: Debug + Send + Sync {
    /// Opens the ledger.
    ///
    /// # Errors
    /// KVC-940 where the memory cannot be reached; those of its kind.
    fn open(&self) -> Result<Ledger>;

    /// Opens the ledger, and takes the time since then.
    ///
    /// # Errors
    /// As [`Self::open`]; KVC-412 where the clock went back.
    fn hold(&self) -> Result<(Ledger, u64)> {
        let ledger = self.open()?;
        let now = ledger.observe(time::now())?;
        Ok((ledger, now))
    }
}

/// The ledger in the file at a path, held for as long as one step of verification takes.
#[derive(Clone, Debug)]
pub struct LedgerFile {
    path: PathBuf,
    wait: Wait,
}

/// Contents of a ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Remembered {
    /// The latest time seen, in seconds since 1970; 0 where none was.
    pub latest: u64,
    /// Uses of capsules for one use.
    pub uses: usize,
    /// Sessions with a highest number.
    pub sessions: usize,
    /// The newest registry of each root.
    pub registries: Vec<Mark>,
}

impl LedgerFile {
    /// Returns the ledger in the file `path`, which is made where there is none.
    #[must_use]
    pub fn at(path: PathBuf) -> Self {
        Self {
            path,
            wait: Wait::default(),
        }
    }

    /// Waits so long for another process, and tells of it.
    #[must_use]
    pub fn waiting(self, wait: Wait) -> Self {
        Self { wait, ..self }
    }

    /// Returns what the ledger holds.
    ///
    /// # Errors
    /// As [`LedgerSource::open`], and KVC-940 where there is no file.
    pub fn remembered(&self) -> Result<Remembered> {
        let memory = self.existing()?;
        let count = |table| memory.keys(table).len();
        let (uses, sessions) = (count(MemoryTable::Used), count(MemoryTable::Sessions));
        let roots = memory.keys(MemoryTable::Registries);
        let ledger = Ledger::new(memory);
        let roots = roots.iter().filter_map(|root| root.first_chunk());
        let seen = roots.map(|root| ledger.seen(KeyId(*root)));
        let seen: Vec<Option<Mark>> = seen.collect::<Result<_>>()?;
        Ok(Remembered {
            latest: ledger.latest()?,
            uses,
            sessions,
            registries: seen.into_iter().flatten().collect(),
        })
    }

    /// Sets the latest time seen, and keeps uses, sessions and registries: the repair after a clock that went
    /// wrong (REG-U-1). What has expired between the two times is accepted again.
    ///
    /// # Errors
    /// As [`LedgerSource::open`], and KVC-940 where there is no file; 944 for a time that has not come yet.
    pub fn danger_set_clock(&self, to: u64) -> Result<()> {
        let now = time::now();
        if to > now {
            let what = "a ledger's clock is not set to a time that has not come yet";
            let (at_most, asked) = (time::show_instant(now), time::show_instant(to));
            return Err(
                Error::new(Code::LocalUsage, what).sides(format!("at most {at_most}"), asked)
            );
        }
        Ledger::new(self.existing()?).danger_set_clock(to)
    }

    /// The memory of a file that is there; a lock beside what is not would be left for nothing.
    fn existing(&self) -> Result<MemoryFile> {
        std::fs::symlink_metadata(&self.path)
            .map_err(|error| Error::source(&error, self.path.display()))?;
        MemoryFile::open(&self.path, self.wait)
    }
}

impl LedgerSource for LedgerFile {
    /// Waits until no other process holds the file, and holds it until the ledger is dropped.
    ///
    /// # Errors
    /// KVC-940 where the file cannot be opened, is damaged or no ledger: it is then not replaced by an
    /// empty one. 943 where others may open it.
    fn open(&self) -> Result<Ledger> {
        MemoryFile::open(&self.path, self.wait).map(Ledger::new)
    }
}
