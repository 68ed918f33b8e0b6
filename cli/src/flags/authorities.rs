//! Whose certificates are accepted of who is asked over HTTPS.

use std::path::PathBuf;

/// Authorities of the user's own.
#[derive(Debug, clap::Args)]
pub(crate) struct AuthoritiesArgs {
    /// Accept certificates of the authorities in this file (PEM) alone, as a company has its own [default: the web's]
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
}

#[cfg(feature = "sync")]
impl AuthoritiesArgs {
    /// The file, if one is given.
    pub(crate) fn file(&self) -> Option<&std::path::Path> {
        self.ca.as_deref()
    }
}
