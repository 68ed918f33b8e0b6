//! Whom a verifier trusts: public keys by themselves, and registries under their roots (registry-v1).

use std::path::{Path, PathBuf};

use kvcap::{
    Code, Error, KeyId, Ledger, MAX_REGISTRY, Registry, Result, RootPublic, Trust, TrustedKey,
    UntrustedRegistry,
};

use crate::{input, key_file};

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
            match registry_bytes(item)? {
                Some(bytes) => {
                    let path = Path::new(item);
                    let registry = verify_registry(path, &bytes, &roots, now)?;
                    if let Some(ledger) = ledger {
                        follow_registry(ledger, path, &registry, &roots)?;
                    }
                    trust.merge(registry.trust())?;
                }
                None => {
                    let key = key_file::public(item)?;
                    // one key named twice is one key
                    if !keys.contains(&key) {
                        keys.push(key);
                        trust.add(TrustedKey::new(key))?;
                    }
                }
            }
        }
        Ok(trust)
    }
}

/// Remembers a verified registry from the file `path`. Versions between it and the one seen last are taken
/// from `path.N`, where its writer keeps them (registry-v1 G-7).
///
/// # Errors
/// KVC-309; those of a version between.
pub fn follow_registry(
    ledger: &Ledger,
    path: &Path,
    registry: &Registry,
    roots: &[RootPublic],
) -> Result<()> {
    let mark = registry.mark();
    let seen = ledger.seen(mark.root)?;
    let next = seen.map_or(mark.version, |seen| seen.version.saturating_add(1));
    for version in next..mark.version {
        let kept = beside(path, &format!(".{version}"));
        if !kept.exists() {
            break;
        }
        let step = UntrustedRegistry::read(&read_registry(&kept)?).and_then(|between| {
            let root = choose_root(roots, between.signer())?;
            ledger.follow(&between.verify_at_any_time(root)?)
        });
        step.map_err(|error| error.at(kept.display()))?;
    }
    ledger
        .follow(registry)
        .map_err(|error| error.at(path.display()))
}

/// Reads the roots of these files or texts.
///
/// # Errors
/// KVC-942, 940, 305.
pub fn roots(texts: &[String]) -> Result<Vec<RootPublic>> {
    texts
        .iter()
        .map(|text| key_file::root_public(text))
        .collect()
}

/// Returns the bytes of a registry, where `item` names one.
fn registry_bytes(item: &str) -> Result<Option<Vec<u8>>> {
    if key_file::is_text(item) {
        return Ok(None);
    }
    let bytes = read_registry(Path::new(item))?;
    // a key file is text
    let registry = bytes.first().is_some_and(|first| !first.is_ascii());
    Ok(registry.then_some(bytes))
}

/// Reads the bytes of a registry's file.
///
/// # Errors
/// KVC-940, 944.
pub fn read_registry(path: &Path) -> Result<Vec<u8>> {
    input::small(path, u64::try_from(MAX_REGISTRY).unwrap_or(u64::MAX))
}

/// Verifies a registry as of `now` under whichever of the roots it names.
///
/// # Errors
/// As [`UntrustedRegistry::read`] and [`UntrustedRegistry::verify`]; 944 where no root was given.
pub fn verify_registry(
    path: &Path,
    bytes: &[u8],
    roots: &[RootPublic],
    now: u64,
) -> Result<Registry> {
    let verified = UntrustedRegistry::read(bytes).and_then(|untrusted| {
        let root = choose_root(roots, untrusted.signer())?;
        untrusted.verify(root, now)
    });
    verified.map_err(|error| error.at(path.display()))
}

/// Chooses the root that a registry names as its signer.
///
/// # Errors
/// KVC-944 where there are no roots, 310 where it is none of them.
pub fn choose_root(roots: &[RootPublic], signer: KeyId) -> Result<&RootPublic> {
    if roots.is_empty() {
        let what = "a registry is verified by its root: give the root's public key";
        return Err(Error::new(Code::LocalUsage, what));
    }
    let known = || {
        let ids: Vec<String> = roots.iter().map(|root| root.id().to_string()).collect();
        ids.join(" or ")
    };
    roots
        .iter()
        .find(|root| root.id() == signer)
        .ok_or_else(|| {
            let what = "the registry is not signed by this root";
            Error::new(Code::RegistryUnsigned, what).sides(known(), signer)
        })
}

/// Returns the key id that `text` names: the id itself, a public key's file, or its text.
///
/// # Errors
/// KVC-942, 940.
pub fn key_id(text: &str) -> Result<KeyId> {
    match hex16(text) {
        Some(id) => Ok(KeyId(id)),
        None => key_file::public(text).map(|key| key.id()),
    }
}

/// Returns the sixteen bytes of 32 hexadecimal digits.
#[must_use]
pub fn hex16(text: &str) -> Option<[u8; 16]> {
    let mut id = [0; 16];
    if text.len() != 32 || !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    for (byte, pair) in id.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(id)
}

/// Returns the path beside `path` with `more` at the end of its name.
#[must_use]
pub fn beside(path: &Path, more: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(more);
    name.into()
}
