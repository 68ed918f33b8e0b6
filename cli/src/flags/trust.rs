//! Whom to trust, and what is remembered.

use std::path::PathBuf;

use clap::Args;
use kvcap::Result;
use kvcap_store::{LedgerFile, TrustSources, Verifier};

use crate::ui::usage;

/// Whom to trust.
#[derive(Debug, Args)]
pub(crate) struct TrustArgs {
    /// Who may have signed it: a KEY.pub file, the key's text, or a key registry (with
    /// --registry-root)
    #[arg(long, value_name = "PUB|REGISTRY", required = true)]
    trust: Vec<String>,
    /// The root whose signature a registry must have: a ROOT.pub file, or its text
    #[arg(long, value_name = "PUB")]
    registry_root: Vec<String>,
    /// What is remembered from one capsule to the next: the latest time and registry seen, single uses,
    /// sessions. Made where there is none
    #[arg(long, alias = "state", value_name = "FILE")]
    ledger: Option<PathBuf>,
}

impl TrustArgs {
    /// A verifier that trusts these, as of `at` or now.
    ///
    /// # Errors
    /// KVC-944 for a ledger as of another time.
    pub(crate) fn verifier(&self, at: Option<u64>) -> Result<Verifier> {
        if at.is_some() && self.ledger.is_some() {
            return usage("--at cannot be combined with --ledger", "--ledger, --at");
        }
        let sources = TrustSources {
            items: self.trust.clone(),
            roots: self.registry_root.clone(),
        };
        Ok(Verifier {
            ledger: self.ledger.clone().map(LedgerFile::at),
            at,
            ..Verifier::new(sources)
        })
    }
}
