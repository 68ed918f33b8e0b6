//! A key registry in a file: verified under its root, and followed from version to version (registry-v1 §§2, 3, 8).

use std::path::{Path, PathBuf};

use kvcap::{
    Code, Error, Ledger, MAX_REGISTRY, Registry, Result, RootPublic, TrustedKey, UntrustedRegistry,
};

use crate::{input, key_file};

/// The registry in the file at a path; the versions before it may lie beside it as `PATH.N`.
#[derive(Clone, Copy, Debug)]
pub struct RegistryFile<'a>(pub(crate) &'a Path);

impl<'a> RegistryFile<'a> {
    /// Returns the registry in the file `path`.
    #[must_use]
    pub fn at(path: &'a Path) -> Self {
        Self(path)
    }

    /// Reads the file's bytes.
    ///
    /// # Errors
    /// KVC-940, 944.
    fn bytes(self) -> Result<Vec<u8>> {
        bytes(self.0)
    }

    /// Reads the registry; nobody has vouched for it.
    ///
    /// # Errors
    /// As [`Self::bytes`] and [`UntrustedRegistry::read`].
    pub fn read(self) -> Result<UntrustedRegistry> {
        UntrustedRegistry::read(&self.bytes()?).map_err(|error| self.of(error))
    }

    /// Verifies the registry as of `now` under whichever of the roots it names.
    ///
    /// # Errors
    /// As [`Self::read`], [`choose_root`] and [`UntrustedRegistry::verify`].
    pub fn verify(self, roots: &[RootPublic], now: u64) -> Result<Registry> {
        let verified = UntrustedRegistry::read(&self.bytes()?).and_then(|untrusted| {
            let root = choose_root(roots, &untrusted)?;
            untrusted.verify(root, now)
        });
        verified.map_err(|error| self.of(error))
    }

    /// Remembers a registry that was verified from this file. Versions between it and the one seen last are
    /// taken from `PATH.N`, where its writer keeps them (registry-v1 REG-G-7).
    ///
    /// # Errors
    /// KVC-309; those of a version between.
    pub fn follow(self, ledger: &Ledger, registry: &Registry, roots: &[RootPublic]) -> Result<()> {
        let mark = registry.mark();
        let seen = ledger.seen(mark.root)?;
        let next = seen.map_or(mark.version, |seen| seen.version.saturating_add(1));
        for version in next..mark.version {
            let kept = self.version(version);
            if !kept.exists() {
                break;
            }
            let step = UntrustedRegistry::read(&bytes(&kept)?).and_then(|between| {
                let root = choose_root(roots, &between)?;
                ledger.follow(&between.verify_at_any_time(root)?)
            });
            step.map_err(|error| error.at(kept.display()))?;
        }
        ledger.follow(registry).map_err(|error| self.of(error))
    }

    /// Returns `key` as the registry may list it: for `issuer`, or for the one that the key's file names, unless another key of
    /// the registry speaks for that.
    ///
    /// # Errors
    /// KVC-944 where another key speaks for it; 312 where the key's file names another issuer; as [`Self::read`]; KVC-310 where
    /// the root is another.
    pub fn entry(
        self,
        key: TrustedKey,
        issuer: Option<&str>,
        roots: &[RootPublic],
    ) -> Result<TrustedKey> {
        let key = key_file::given_to(key, issuer)?;
        let (_, registry) = self.current(roots)?;
        let mut keys = registry.listing().keys.iter();
        if issuer.is_none()
            && keys.any(|listed| listed.issuer == key.issuer && listed.key != key.key)
        {
            let what = "another key speaks for the issuer that the key's file names: name the issuer if this one does too";
            return Err(Error::new(Code::LocalUsage, what).at(format_args!("{:?}", key.issuer)));
        }
        Ok(key)
    }

    pub(crate) fn current(self, roots: &[RootPublic]) -> Result<(Vec<u8>, Registry)> {
        let bytes = self.bytes()?;
        let registry = verified(&bytes, roots).map_err(|error| self.of(error))?;
        Ok((bytes, registry))
    }

    pub(crate) fn version(self, version: u64) -> PathBuf {
        let mut name = self.0.as_os_str().to_owned();
        name.push(format!(".{version}"));
        name.into()
    }

    pub(crate) fn of(self, error: Error) -> Error {
        error.at(self.0.display())
    }
}

pub(crate) fn bytes(path: &Path) -> Result<Vec<u8>> {
    input::small(path, u64::try_from(MAX_REGISTRY).unwrap_or(u64::MAX))
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

pub(crate) fn verified(bytes: &[u8], roots: &[RootPublic]) -> Result<Registry> {
    let untrusted = UntrustedRegistry::read(bytes)?;
    let root = choose_root(roots, &untrusted)?;
    untrusted.verify_at_any_time(root)
}

/// Chooses the root that a registry names as its signer, or with which its statements about roots begin.
///
/// # Errors
/// KVC-944 where there are no roots; where it is none of them, 308, or 314 of a registry under several roots.
pub fn choose_root<'r>(
    roots: &'r [RootPublic],
    registry: &UntrustedRegistry,
) -> Result<&'r RootPublic> {
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
        .find(|root| registry.is_under(root))
        .ok_or_else(|| {
            let (code, what) = match registry.danger_unverified_roots() {
                None => (
                    Code::RegistryUnsigned,
                    "the registry is not signed by this root",
                ),
                Some(_) => (
                    Code::RegistryRoots,
                    "the registry's statements about roots do not begin with this root",
                ),
            };
            Error::new(code, what).sides(known(), registry.signer())
        })
}
