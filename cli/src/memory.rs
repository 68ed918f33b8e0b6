//! `--state`: what this verifier remembers from one capsule to the next (registry-v1 §5).

use std::path::Path;

use kvcap::{Ledger, Registry, Result, RootPublic, Store, UntrustedRegistry};

use crate::{time, trust};

/// The state file, held so that no other process uses it, and the time since then.
#[derive(Debug)]
pub(crate) struct Memory {
    pub(crate) store: Ledger,
    pub(crate) now: u64,
}

impl Memory {
    /// Waits for the state file, and makes it where there is none.
    ///
    /// # Errors
    /// KVC-940; 412 where the clock went back.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let store = Ledger::new(Store::open(path)?);
        let now = store.observe(time::now())?;
        Ok(Self { store, now })
    }

    /// Remembers a verified registry from the file `path`. Versions between it and the one seen last are
    /// taken from `path.N`, where its writer keeps them.
    ///
    /// # Errors
    /// KVC-309; what is wrong with a version between.
    pub(crate) fn follow(
        &self,
        path: &Path,
        registry: &Registry,
        roots: &[RootPublic],
    ) -> Result<()> {
        let mark = registry.mark();
        let seen = self.store.seen(mark.root)?;
        let next = seen.map_or(mark.version, |seen| seen.version.saturating_add(1));
        for version in next..mark.version {
            let kept = trust::beside(path, &format!(".{version}"));
            if !kept.exists() {
                break;
            }
            let step = UntrustedRegistry::read(&trust::read(&kept)?).and_then(|between| {
                let root = trust::choose(roots, between.signer())?;
                self.store.follow(&between.verify_at_any_time(root)?)
            });
            step.map_err(|error| error.at(kept.display()))?;
        }
        self.store
            .follow(registry)
            .map_err(|error| error.at(path.display()))
    }
}
