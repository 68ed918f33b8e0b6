//! Writing a registry under several roots, whose holders sign one after the other (registry-v1 §8.6).

use crate::{
    error::{Code, Error, Result},
    keys::PublicKey,
    trust::registry::{
        Change, Listing, Registry, Root, RootKey, RootPublic, Roots, UntrustedRegistry,
        bundle::Bundle, timestamp::Timestamp,
    },
};

/// The next version of a registry, which still lacks signatures.
#[derive(Clone, Debug)]
pub struct Proposal {
    before: Registry,
    bundle: Bundle,
}

impl Roots {
    /// The statement that follows the one of `before`, or the first of one root's registry.
    ///
    /// # Errors
    /// KVC-302, 305, 313 for roots that a reader would refuse; 314 where there is no next number.
    pub fn next(
        before: &Registry,
        threshold: u64,
        roots: Vec<Root>,
        timestamp_keys: Vec<PublicKey>,
        now: u64,
        expires: u64,
    ) -> Result<Self> {
        let (mut roots, mut timestamp_keys) = (roots, timestamp_keys);
        roots.sort_by_key(Root::id);
        timestamp_keys.sort_by_key(super::root::root_id);
        let seen = before.roots_mark();
        let version = seen.map_or(0, |seen| seen.version).checked_add(1);
        let version = version.ok_or_else(|| {
            let what = "there is no number after this statement's";
            Error::new(Code::RegistryRoots, what)
        })?;
        let next = Self {
            version,
            issued_at: now,
            expires,
            chain: before.mark.root,
            threshold,
            roots,
            timestamp_keys,
            previous: seen.map(|seen| seen.digest),
        };
        next.encode()?;
        Ok(next)
    }
}

impl Registry {
    /// Proposes the next version, with `changes` made in their order, under the roots of this one or under others.
    ///
    /// # Errors
    /// As [`Registry::next`], without 308; 313 where a registry of one root stays one of one root.
    pub fn propose(
        &self,
        changes: &[Change],
        roots: Option<&Roots>,
        now: u64,
        expires: u64,
    ) -> Result<Proposal> {
        let before = self.under.as_ref().map(|under| &under.bundle);
        if before.is_none() && roots.is_none() {
            let what = "a registry of one root is signed by it at once";
            return Err(Error::new(Code::RegistryMalformed, what));
        }
        let listing = self.next_listing(changes, now, expires)?;
        Ok(Proposal {
            before: self.clone(),
            bundle: Bundle::followed_by(before, roots, &listing)?,
        })
    }

    /// The bytes of this registry with a new timestamp.
    ///
    /// # Errors
    /// KVC-308 where the roots do not name the key for it; 313 for a life that is longer than a week; 948.
    pub fn stamp(&self, key: &RootKey, now: u64, expires: u64) -> Result<Vec<u8>> {
        let named = |under: &&super::Under| {
            let keys = &under.walked.newest.timestamp_keys;
            keys.contains(&key.key().public())
        };
        let under = self.under.as_deref().filter(named).ok_or_else(|| {
            let what = "the registry's roots do not name this key for timestamps";
            super::unsigned(what).at(key.public_id())
        })?;
        let timestamp = Timestamp::sign(&self.mark, key, now, expires)?;
        Ok(under.bundle.stamped(&timestamp)?.encode())
    }
}

impl Proposal {
    /// Reads a proposal that continues `before`.
    ///
    /// # Errors
    /// KVC-2xx, 313 for its form; 309 and 314 where it continues another version.
    pub fn read(bytes: &[u8], before: &Registry) -> Result<Self> {
        let bundle = Bundle::read(bytes)?;
        let listing = Listing::decode(bundle.unverified_listing())?;
        let seen = before.mark();
        let next = seen.version.checked_add(1) == Some(listing.version);
        if !next || listing.previous != Some(seen.digest) {
            let what = "the proposal does not follow the registry";
            return Err(Error::new(Code::RegistryVersion, what).sides(
                format_args!("a version after {}", seen.version),
                listing.version,
            ));
        }
        let old = before.under.as_ref().map(|under| &under.bundle);
        if !bundle.continues(old) {
            let what = "the proposal's statements about roots do not follow the registry's";
            return Err(Error::new(Code::RegistryRoots, what));
        }
        Ok(Self {
            before: before.clone(),
            bundle,
        })
    }

    /// Its bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        self.bundle.encode()
    }

    /// Returns the listing that it would be.
    ///
    /// # Errors
    /// KVC-313.
    pub fn listing(&self) -> Result<Listing> {
        Listing::decode(self.bundle.unverified_listing())
    }

    /// Returns the statement that it would make of the registry's roots.
    #[must_use]
    pub fn roots(&self) -> Option<&Roots> {
        self.bundle.unverified_roots()
    }

    /// Returns whether it changes the roots.
    #[must_use]
    pub fn changes_roots(&self) -> bool {
        let before = self.before.under.as_ref().map(|under| &under.bundle);
        self.bundle.is_newer_than(before)
    }

    /// Signs whatever the key's signature counts for.
    ///
    /// # Errors
    /// KVC-308 where it counts for nothing; 948.
    pub fn sign(&mut self, root: &RootKey) -> Result<()> {
        let new = self.changes_roots();
        match self.bundle.sign(root, self.before.roots(), new)? {
            true => Ok(()),
            false => {
                let what = "this is none of the registry's roots";
                Err(super::unsigned(what).at(root.public_id()))
            }
        }
    }

    /// Counts the signatures that each group of roots has given, and those that it takes. One counts whose root speaks for all
    /// that the group's roots list or give (registry-v1 REG-M-9, REG-M-14).
    ///
    /// # Errors
    /// KVC-308 for a signature that does not verify; 316 where too few of the roots speak for it, whoever signs.
    pub fn signatures(&self) -> Result<Vec<(u64, u64)>> {
        self.bundle
            .wanting(self.before.roots(), self.changes_roots())
    }

    /// The registry that it is, once enough have signed.
    ///
    /// # Errors
    /// KVC-308 or 316 where signatures are missing; as [`UntrustedRegistry::verify_at_any_time`].
    pub fn complete(&self, root: &RootPublic) -> Result<Registry> {
        UntrustedRegistry::read(&self.to_bytes())?.verify_at_any_time(root)
    }
}
