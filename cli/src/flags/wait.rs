//! How long to wait for a ledger.

use std::{path::PathBuf, time::Duration};

use kvcap_store::{LedgerFile, Wait};

use super::duration;
use crate::ui::waiting;

/// How long to wait for a ledger that another process holds.
#[derive(Debug, clap::Args)]
pub(crate) struct WaitArgs {
    /// Longest wait for a ledger that another process holds
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = duration)]
    wait: u64,
}

impl WaitArgs {
    /// The ledger in this file.
    pub(crate) fn ledger(&self, path: PathBuf) -> LedgerFile {
        LedgerFile::at(path).waiting(Wait {
            at_most: Duration::from_secs(self.wait),
            told: waiting,
        })
    }
}
