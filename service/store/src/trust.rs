//! Whom a verifier trusts: public keys by themselves, and registries under their roots (registry-v1).

use std::path::Path;

use kvcap::{Ledger, Result, Trust, TrustedKey};

use crate::{
    key_file,
    registry_file::{RegistryFile, roots},
};

/// Names of keys and registries that a verifier trusts, and of the roots of the registries.
#[derive(Clone, Debug, Default)]
pub struct TrustSources {
    /// Each a public key's file, its text, or a registry's file.
    pub items: Vec<String>,
    /// Each a root's public key's file, or its text.
    pub roots: Vec<String>,
}

impl TrustSources {
    /// Loads the keys as of `now`. A registry has to follow the one that `ledger` has seen, and becomes
    /// the one that it has seen.
    ///
    /// # Errors
    /// KVC-3xx for keys and registries, 309 where a registry does not follow, 94x for files.
    pub fn load(&self, ledger: Option<&Ledger>, now: u64) -> Result<Trust> {
        let roots = roots(&self.roots)?;
        let mut trust = Trust::none();
        let mut keys = Vec::new();
        for item in &self.items {
            if let Some(bytes) = registry_bytes(item)? {
                let file = RegistryFile::at(Path::new(item));
                let registry = file.verify_bytes(&bytes, &roots, now)?;
                if let Some(ledger) = ledger {
                    file.follow(ledger, &registry, &roots)?;
                }
                trust.merge(registry.trust())?;
                continue;
            }
            let key = key_file::public(item)?;
            // one key named twice is one key
            if !keys.contains(&key) {
                keys.push(key);
                trust.add(TrustedKey::new(key))?;
            }
        }
        Ok(trust)
    }
}

/// Returns the bytes of a registry, where `item` names one.
fn registry_bytes(item: &str) -> Result<Option<Vec<u8>>> {
    if key_file::is_text(item) {
        return Ok(None);
    }
    let bytes = RegistryFile::at(Path::new(item)).bytes()?;
    // a key file is text
    let registry = bytes.first().is_some_and(|first| !first.is_ascii());
    Ok(registry.then_some(bytes))
}
