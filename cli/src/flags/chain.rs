//! Where the ancestors of a capsule are.

use std::path::{Path, PathBuf};

use kvcap_store::Ancestors;

/// Where ancestors are.
#[derive(Debug, clap::Args)]
pub(crate) struct ChainArgs {
    /// The capsules that it continues, in any order, or folders to find them in [default: the
    /// capsule's own folder]
    #[arg(long, value_name = "PATH", num_args = 1..)]
    chain: Vec<PathBuf>,
}

impl ChainArgs {
    /// What somebody said of where the ancestors are.
    pub(crate) fn given(&self) -> &[PathBuf] {
        &self.chain
    }

    /// Where to look for the ancestors of the capsule at `tip`.
    pub(crate) fn of<'a>(&'a self, tip: &'a Path) -> Ancestors<'a> {
        Ancestors {
            tip,
            given: &self.chain,
        }
    }
}
