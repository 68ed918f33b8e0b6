//! The registry that relays read, each a copy of its own, as its operator publishes it (registry-v1 §4): which capsules are
//! revoked. What one relay has seen of it all have (HTTP-K-6): an older copy is refused then, with what it would give out.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    thread::sleep,
    time::{Duration, Instant},
};

use kvcap::{CapsuleId, Change};

use super::{REGISTRY, RELAYS, ROOT, Variables};
use crate::support::Registry;

/// Longest time until a relay has seen a version, whatever goes wrong meanwhile.
const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) struct Revocations {
    copies: PathBuf,
    /// The registry, and the number of its newest version.
    operator: Mutex<(Registry, u64)>,
}

impl Revocations {
    /// A registry that lists the capsules' signer, with copies in this folder.
    pub(crate) fn begin(copies: &Path) -> Self {
        let registry = Registry::new(7200);
        let revocations = Self {
            copies: copies.to_owned(),
            operator: Mutex::new((registry, 2)),
        };
        for relay in 0..RELAYS {
            revocations.copy(&revocations.operator(), "", relay, "");
        }
        revocations
    }

    fn operator(&self) -> MutexGuard<'_, (Registry, u64)> {
        self.operator.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How a relay finds its copy.
    pub(crate) fn variables(&self, relay: usize) -> Variables {
        let path = self.place(relay).to_str().unwrap().to_owned();
        vec![(REGISTRY, path), (ROOT, self.operator().0.root())]
    }

    fn place(&self, relay: usize) -> PathBuf {
        self.copies.join(format!("registry-{relay}"))
    }

    /// Copies a file of the registry to a relay, at once; each by its ending.
    fn copy(&self, operator: &(Registry, u64), from: &str, relay: usize, to: &str) {
        let with = |path: PathBuf, ending| PathBuf::from(format!("{}{ending}", path.display()));
        let making = self.copies.join("in-the-making");
        fs::copy(with(operator.0.path(), from), &making).unwrap();
        fs::rename(making, with(self.place(relay), to)).unwrap();
    }

    /// Revokes a capsule. When this returns, every relay's copy says so, and they remember it.
    pub(crate) fn revoke(&self, capsule: CapsuleId, is_seen: impl Fn() -> bool) {
        let mut operator = self.operator();
        operator.0.change(Change::Revoke(capsule));
        let before = format!(".{}", operator.1);
        operator.1 += 1;
        for relay in 0..RELAYS {
            // for memories that have missed it
            self.copy(&operator, &before, relay, &before);
            self.copy(&operator, "", relay, "");
        }
        let begun = Instant::now();
        while !is_seen() {
            assert!(begun.elapsed() < PATIENCE, "no relay sees the registry");
            sleep(Duration::from_millis(100));
        }
    }

    /// Puts a relay's copy back to the version before for a while, as who restores a backup does.
    pub(crate) fn put_back(&self, relay: usize, meanwhile: impl FnOnce()) {
        let operator = self.operator();
        // the first version lists nobody, and is the newest that a relay may remember
        if operator.1 > 2 {
            self.copy(&operator, &format!(".{}", operator.1 - 1), relay, "");
        }
        drop(operator);
        meanwhile();
        self.copy(&self.operator(), "", relay, "");
    }
}
