//! Uses of capsules for one use, by verifiers that share a ledger: each is granted once.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use kvcap::{Terms, Usage, binding::Digest};
use kvcap_store::{LedgerSource, Shared};

use crate::support::now;

/// Uses of capsules for one use, by verifiers that share a ledger.
#[derive(Default)]
pub(crate) struct Uses {
    next: AtomicU64,
    granted: Mutex<BTreeMap<u64, u32>>,
}

impl Uses {
    /// Another server's verifier.
    pub(crate) fn of_another(&self, database: &Path, bucket: &str, over: &AtomicBool) {
        let shared = Shared::connect(database, bucket).unwrap();
        while !over.load(Ordering::SeqCst) {
            // each is tried by whoever comes, some times
            let id = self.next.fetch_add(1, Ordering::SeqCst) / 4;
            let mut terms = Terms::new("acme", "a", now(), now() + 100);
            terms.single_use = true;
            let usage = Usage::of(
                &Digest::labelled("a use", &[&id.to_le_bytes()]),
                &terms,
                now(),
            );
            let used = shared.open().and_then(|ledger| ledger.record(&usage));
            match used {
                Ok(()) => {
                    *self
                        .granted
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .entry(id)
                        .or_default() += 1
                }
                Err(error) => assert!([410, 940].contains(&error.code().number()), "{error}"),
            }
        }
    }

    pub(crate) fn granted(&self) -> usize {
        self.granted.lock().unwrap().len()
    }

    pub(crate) fn check(&self) {
        let granted = self.granted.lock().unwrap();
        let twice: Vec<_> = granted.iter().filter(|(_, times)| **times > 1).collect();
        assert!(twice.is_empty(), "used twice: {twice:?}");
        assert!(!granted.is_empty(), "nothing was used at all");
    }
}
