//! Sweeping: what has served its time goes (http-v1 §8).

use std::{
    fs,
    sync::{Mutex, PoisonError},
};

use kvcap::{Code, Result, Untrusted, binding::Digest};
use kvcap_store::{Judge, Name};

use super::Relay;

/// Digest of the registries that all capsules were last held against.
#[derive(Debug, Default)]
pub(super) struct Swept(Mutex<Option<Digest>>);

impl Relay {
    /// Removes what has served its time. Returns the number of capsules that went.
    pub(crate) fn sweep(&self) -> Result<usize> {
        self.uploads.sweep(self.policy().limits.resumable);
        self.store.sweep()?;
        // before they are loaded: a later version makes the next sweep look at all capsules again
        let registries = self.registries();
        // once for all capsules: whoever loads trust has every relay wait for what they remember
        let verifier = self.verifier();
        let judge = verifier.judge()?;
        let now = judge.now();
        let mut swept = self.swept.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut removed = 0;
        // what cannot be removed now is tried again
        let mut remove = |name| removed += usize::from(self.store.remove(name).unwrap_or(false));
        self.store.expired(now)?.into_iter().for_each(&mut remove);
        if *swept != registries {
            let mut judge = Some(judge);
            self.store.each(&mut |name| {
                if self.is_void(&mut judge, name)? {
                    remove(name);
                }
                Ok(())
            })?;
        }
        *swept = registries;
        Ok(removed)
    }

    /// The registries as they are, so that a change is seen.
    fn registries(&self) -> Option<Digest> {
        let verifier = self.verifier();
        let files = verifier.trust.registries.iter();
        let contents: Vec<Vec<u8>> = files.filter_map(|path| fs::read(path).ok()).collect();
        let parts: Vec<&[u8]> = contents.iter().map(Vec::as_slice).collect();
        Some(Digest::labelled("kvcap relay registries", &parts))
    }

    /// Whether nobody will accept a capsule again: it is revoked, or its key is compromised.
    fn is_void(&self, judge: &mut Option<Judge<'_>>, name: Name) -> Result<bool> {
        let limits = self.policy().limits.reader();
        let Some((_, file)) = self.store.open(name)? else {
            return Ok(false);
        };
        let Ok(untrusted) = Untrusted::read_at(&*file, &limits) else {
            return Ok(false);
        };
        let terms = untrusted.claims().terms.clone();
        *judge = judge.take().map(|judge| judge.danger_as_stated(&terms));
        let void = [
            Code::ClaimsExpired,
            Code::ClaimsRevoked,
            Code::KeyCompromised,
        ];
        let refused = judge
            .as_ref()
            .and_then(|judge| judge.verify(untrusted).err());
        Ok(refused.is_some_and(|error| void.contains(&error.code())))
    }
}
