//! A key registry in a file: verified under its root, followed from version to version, changed under a lock
//! (registry-v1 §§2–4).

use std::path::{Path, PathBuf};

use kvcap::{
    Change, Code, Error, KeyId, Ledger, MAX_REGISTRY, Registry, Result, RootKey, RootPublic,
    TrustedKey, UntrustedRegistry,
};

use crate::{
    input, key_file,
    lock::{Lock, Wait},
    output::{self, Readers},
    time,
};

/// The registry in the file at a path; the versions before it may lie beside it as `PATH.N`.
#[derive(Clone, Copy, Debug)]
pub struct RegistryFile<'a>(&'a Path);

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
            let root = choose_root(roots, untrusted.signer())?;
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
                let root = choose_root(roots, between.signer())?;
                ledger.follow(&between.verify_at_any_time(root)?)
            });
            step.map_err(|error| error.at(kept.display()))?;
        }
        ledger.follow(registry).map_err(|error| self.of(error))
    }

    /// Makes version 1, which lists nothing and is valid for `ttl` seconds from `now`.
    ///
    /// # Errors
    /// KVC-941 where the file exists; 940.
    pub fn create(self, root: &RootKey, now: u64, ttl: u64) -> Result<Registry> {
        output::check_absent(self.0, false)?;
        let bytes = Registry::first(root, now, now.saturating_add(ttl))?;
        output::write(self.0, false, Readers::Umask, &bytes)?;
        UntrustedRegistry::read(&bytes)?.verify_at_any_time(&root.public())
    }

    /// Writes the next version, over whatever another writer has written in the meantime, and keeps the one
    /// before as `PATH.N`. It is valid for `ttl` seconds from `now`, or as long as the one before.
    ///
    /// # Errors
    /// KVC-3xx for what cannot be changed; 309 where a version was written after this one; 941 where `PATH.N` is
    /// something else; 940, also where the path is a link: the next version would replace that alone.
    pub fn change(
        self,
        changes: &[Change],
        root: &RootKey,
        now: u64,
        ttl: Option<u64>,
    ) -> Result<Registry> {
        if self.0.is_symlink() {
            let what = "this is a link: change the registry that it points to";
            return Err(self.of(Error::new(Code::LocalIo, what)));
        }
        // a lock beside what is no registry would be left for nothing
        self.current(root)?;
        let _lock = Lock::of(self.0, Wait::default())?;
        let (old, registry) = self.current(root)?;
        let listing = registry.listing();
        let ttl = ttl.unwrap_or(listing.expires - listing.issued_at);
        // another writer may have been faster within this second, never later than now
        let now = now.max(time::now());
        let next = registry
            .next(changes, root, now, now.saturating_add(ttl))
            .map_err(|error| self.of(error))?;
        let kept = self.version(listing.version);
        let follows = self.version(listing.version.saturating_add(1));
        for (path, expected) in [(&kept, Some(&old)), (&follows, None)] {
            if !path.exists() {
                continue;
            }
            let found = bytes(path)?;
            if UntrustedRegistry::read(&found).is_err() {
                output::check_absent(path, false)?;
            }
            if expected != Some(&found) {
                let what = "another version was written after this one: the file is older than its writer's last";
                return Err(Error::new(Code::RegistryVersion, what).at(path.display()));
            }
        }
        // of a killed run
        if !kept.exists() {
            output::write(&kept, false, Readers::Umask, &old)?;
        }
        output::write(self.0, true, Readers::Umask, &next)?;
        UntrustedRegistry::read(&next)?.verify_at_any_time(&root.public())
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
        root: &RootKey,
    ) -> Result<TrustedKey> {
        let key = key_file::given_to(key, issuer)?;
        let (_, registry) = self.current(root)?;
        let mut keys = registry.listing().keys.iter();
        if issuer.is_none()
            && keys.any(|listed| listed.issuer == key.issuer && listed.key != key.key)
        {
            let what = "another key speaks for the issuer that the key's file names: name the issuer if this one does too";
            return Err(Error::new(Code::LocalUsage, what).at(format_args!("{:?}", key.issuer)));
        }
        Ok(key)
    }

    fn current(self, root: &RootKey) -> Result<(Vec<u8>, Registry)> {
        let bytes = self.bytes()?;
        let registry = UntrustedRegistry::read(&bytes)
            .and_then(|untrusted| untrusted.verify_at_any_time(&root.public()))
            .map_err(|error| self.of(error))?;
        Ok((bytes, registry))
    }

    fn version(self, version: u64) -> PathBuf {
        let mut name = self.0.as_os_str().to_owned();
        name.push(format!(".{version}"));
        name.into()
    }

    fn of(self, error: Error) -> Error {
        error.at(self.0.display())
    }
}

fn bytes(path: &Path) -> Result<Vec<u8>> {
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
