//! Whom a verifier trusts: public keys by themselves, or registries under their roots (registry-v1).

use std::path::PathBuf;

use kvcap::{Code, Error, Ledger, Registry, Result, Trust};

use crate::{
    key_file,
    registry_file::{RegistryFile, roots},
};

/// Names of whom a verifier trusts. What a name stands for is said by its field and never found out from
/// the file's bytes: who serves the file of a registry cannot make a key of it.
#[derive(Clone, Debug, Default)]
pub struct TrustSources {
    /// Each a public key's file, or its text. They are trusted by themselves, so there are none where a
    /// root is given: nobody would revoke them.
    pub keys: Vec<String>,
    /// Each a registry's file, signed by one of the roots.
    pub registries: Vec<PathBuf>,
    /// Each a root's public key's file, or its text.
    pub roots: Vec<String>,
}

impl TrustSources {
    /// Returns the sources that are these public keys, each a file or the key's text.
    #[must_use]
    pub fn keys(keys: Vec<String>) -> Self {
        Self {
            keys,
            ..Self::default()
        }
    }

    /// Returns whether nobody is named.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty() && self.registries.is_empty() && self.roots.is_empty()
    }

    /// Loads the keys as of `now`. A registry has to follow the one that `ledger` has seen, and becomes
    /// the one that it has seen; of every root that it has seen there has to be one (registry-v1 REG-U-2).
    ///
    /// # Errors
    /// KVC-944 for a root without a registry, a registry without a root, or keys beside them; 3xx for keys
    /// and registries, 309 where a registry does not follow or is missing, 94x for files.
    pub fn load(&self, ledger: Option<&Ledger>, now: u64) -> Result<Trust> {
        self.check()?;
        let roots = roots(&self.roots)?;
        let mut trust = Trust::none();
        let mut keys = Vec::new();
        for item in &self.keys {
            let key = key_file::trusted(item)?;
            // one key named twice is one key
            if !keys.contains(&key) {
                keys.push(key.clone());
                trust.add(key)?;
            }
        }
        let mut verified = Vec::new();
        for path in &self.registries {
            let file = RegistryFile::at(path);
            let registry = file.verify(&roots, now)?;
            trust.merge(registry.trust())?;
            verified.push((file, registry));
        }
        if let Some(ledger) = ledger {
            check_none_missing(ledger, verified.iter().map(|(_, registry)| registry))?;
            for (file, registry) in &verified {
                file.follow(ledger, registry, &roots)?;
            }
        }
        Ok(trust)
    }

    fn check(&self) -> Result<()> {
        let (registries, roots) = (!self.registries.is_empty(), !self.roots.is_empty());
        let what = match (registries, roots) {
            (true, false) => "a registry is verified by its root: give the root's public key",
            (false, true) => "a root signs registries, and none is given",
            _ if roots && !self.keys.is_empty() => {
                "where a root is given, nothing but registries under it is trusted: list the key in one"
            }
            _ => return Ok(()),
        };
        Err(Error::new(Code::LocalUsage, what))
    }
}

/// REG-U-2: trust does not become weaker than what the ledger has seen.
fn check_none_missing<'a>(
    ledger: &Ledger,
    registries: impl Iterator<Item = &'a Registry>,
) -> Result<()> {
    let given: Vec<_> = registries.map(|registry| registry.mark().root).collect();
    match ledger
        .roots()?
        .into_iter()
        .find(|root| !given.contains(root))
    {
        None => Ok(()),
        Some(root) => {
            let what = "the ledger has seen a registry of this root, and none of it is given now";
            Err(Error::new(Code::RegistryVersion, what).at(root))
        }
    }
}
