//! Whom to trust, and what is remembered.

use std::{path::PathBuf, sync::Arc};

use clap::Args;
use kvcap::Result;
use kvcap_store::{LedgerSource, TrustSources, Verifier};

use super::WaitArgs;
use crate::ui::usage;

/// Public keys, or registries under their roots. What a flag's value is, the flag says: no file's bytes do.
#[derive(Debug, Args)]
pub(crate) struct SourcesArgs {
    /// Who may have signed it: a KEY.pub file, or the key's text
    #[arg(long, value_name = "PUB")]
    trust: Vec<String>,
    /// A key registry that lists who may have signed it, with --registry-root. Nothing else is then
    /// trusted
    #[arg(long, value_name = "REGISTRY")]
    registry: Vec<PathBuf>,
    /// The root whose signature a registry must have: a ROOT.pub file, or its text
    #[arg(long, value_name = "PUB")]
    registry_root: Vec<String>,
}

impl SourcesArgs {
    pub(crate) fn sources(&self) -> TrustSources {
        TrustSources {
            keys: self.trust.clone(),
            registries: self.registry.clone(),
            roots: self.registry_root.clone(),
        }
    }
}

/// Whom to trust.
#[derive(Debug, Args)]
pub(crate) struct TrustArgs {
    #[command(flatten)]
    sources: SourcesArgs,
    /// What is remembered from one capsule to the next: the latest time and registry seen, single uses,
    /// sessions. Made where there is none
    #[arg(long, alias = "state", value_name = "FILE")]
    ledger: Option<PathBuf>,
    #[command(flatten)]
    wait: WaitArgs,
}

impl TrustArgs {
    /// A verifier that trusts these, as of `at` or now.
    ///
    /// # Errors
    /// KVC-944 where nobody is to be trusted, and for a ledger as of another time.
    pub(crate) fn verifier(&self, at: Option<u64>) -> Result<Verifier> {
        if at.is_some() && self.ledger.is_some() {
            return usage("--at cannot be combined with --ledger", "--ledger, --at");
        }
        let sources = self.sources.sources();
        if sources.is_empty() {
            return usage(
                "say who may have signed: a public key, a registry with its root, or a profile (kvcap init)",
                "--trust, --registry",
            );
        }
        Ok(Verifier {
            ledger: self
                .ledger
                .clone()
                .map(|path| Arc::new(self.wait.ledger(path)) as Arc<dyn LedgerSource>),
            at,
            ..Verifier::new(sources)
        })
    }
}
