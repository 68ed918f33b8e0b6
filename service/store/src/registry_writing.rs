//! The next version of a registry's file: changed under a lock, signed by one root or by several (registry-v1 §§4, 8.6).

use std::path::PathBuf;

use kvcap::{
    Change, Code, Error, Proposal, Registry, Result, RootKey, RootPublic, Roots, UntrustedRegistry,
};

use crate::{
    lock::{Lock, Wait},
    output::{self, Readers},
    registry_file::{RegistryFile, bytes, choose_root, verified},
    time,
};

/// Changes of a registry's next version, and the keys that sign it.
#[derive(Clone, Copy, Debug)]
pub struct NextVersion<'n> {
    /// Changes of the listing, in their order.
    pub changes: &'n [Change],
    /// The root keys at hand.
    pub keys: &'n [RootKey],
    /// Roots under which the file has to be before it is changed.
    pub under: &'n [RootPublic],
    /// The time.
    pub now: u64,
    /// Life of the next version, in seconds; as long as the one before where nobody says.
    pub ttl: Option<u64>,
}

/// Statement about roots, made of the registry that it follows.
pub type StatedBy<'s> = &'s dyn Fn(&Registry) -> Result<Roots>;

/// Outcome of a change.
#[derive(Debug)]
pub enum Changed {
    /// It is written.
    Published(Box<Registry>),
    /// It lies beside the registry until more roots have signed.
    Proposed(Box<Proposal>),
}

impl RegistryFile<'_> {
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

    /// Writes the next version of a registry of one root, over whatever another writer has written in the meantime, and
    /// keeps the one before as `PATH.N`. It is valid for `ttl` seconds from `now`, or as long as the one before.
    ///
    /// # Errors
    /// KVC-3xx for what cannot be changed; 308 where more roots have to sign; 309 where a version was written after this
    /// one; 941 where `PATH.N` is something else; 940, also where the path is a link: the next version would replace that
    /// alone.
    pub fn change(
        self,
        changes: &[Change],
        root: &RootKey,
        now: u64,
        ttl: Option<u64>,
    ) -> Result<Registry> {
        let under = [root.public()];
        let next = NextVersion {
            changes,
            keys: std::slice::from_ref(root),
            under: &under,
            now,
            ttl,
        };
        self.write(next, None, false)
            .and_then(|changed| match changed {
                Changed::Published(registry) => Ok(*registry),
                Changed::Proposed(_) => Err(self.of(unfinished())),
            })
    }

    /// Writes the next version of a registry of one root or several. Where more of them have to sign, what they are to sign lies
    /// beside it as `PATH.proposed`.
    ///
    /// # Errors
    /// As [`Self::change`]; 308 for a key whose signature counts for nothing; 941 where something is proposed already.
    pub fn propose(self, next: NextVersion<'_>) -> Result<Changed> {
        self.write(next, None, true)
    }

    /// Puts the registry under other roots from then on: `roots` makes their statement of the registry as it is.
    ///
    /// # Errors
    /// As [`Self::propose`], and those of `roots`.
    pub fn propose_roots(self, next: NextVersion<'_>, roots: StatedBy<'_>) -> Result<Changed> {
        self.write(next, Some(roots), true)
    }

    fn write(
        self,
        next: NextVersion<'_>,
        roots: Option<StatedBy<'_>>,
        propose: bool,
    ) -> Result<Changed> {
        self.check_no_link()?;
        // a lock beside what is no registry would be left for nothing
        self.current(next.under)?;
        let _lock = Lock::of(self.0, Wait::default())?;
        let (old, registry) = self.current(next.under)?;
        let listing = registry.listing();
        let ttl = next.ttl.unwrap_or(listing.expires - listing.issued_at);
        // another writer may have been faster within this second, never later than now
        let now = next.now.max(time::now());
        let expires = now.saturating_add(ttl);
        let roots = roots.map(|roots| roots(&registry)).transpose()?;
        if roots.is_none() && registry.roots().is_none() {
            let [root] = next.keys else {
                let what = "a registry of one root is signed by that alone";
                return Err(self.of(Error::new(Code::LocalUsage, what)));
            };
            let bytes = registry
                .next(next.changes, root, now, expires)
                .map_err(|error| self.of(error))?;
            let written = self.publish((&old, &registry), &bytes, next.under)?;
            return Ok(Changed::Published(Box::new(written)));
        }
        let mut proposal = registry
            .propose(next.changes, roots.as_ref(), now, expires)
            .map_err(|error| self.of(error))?;
        for key in next.keys {
            proposal.sign(key).map_err(|error| self.of(error))?;
        }
        match self.is_complete(&proposal, next.under)? {
            true => {
                let bytes = proposal.to_bytes();
                let written = self.publish((&old, &registry), &bytes, next.under)?;
                Ok(Changed::Published(Box::new(written)))
            }
            false if propose => {
                output::write(
                    &self.proposed(),
                    false,
                    Readers::Umask,
                    &proposal.to_bytes(),
                )?;
                Ok(Changed::Proposed(Box::new(proposal)))
            }
            false => Err(self.of(unfinished())),
        }
    }

    /// Reads what is proposed.
    ///
    /// # Errors
    /// KVC-940 where nothing is; as [`Proposal::read`].
    pub fn proposal(self, under: &[RootPublic]) -> Result<Proposal> {
        let (_, registry) = self.current(under)?;
        Proposal::read(&bytes(&self.proposed())?, &registry)
            .map_err(|error| error.at(self.proposed().display()))
    }

    /// Signs what is proposed, if it still is what the signers have seen, and publishes it once enough have.
    ///
    /// # Errors
    /// KVC-309 where it is another by now; as [`Self::propose`].
    pub fn sign(self, seen: &Proposal, keys: &[RootKey], under: &[RootPublic]) -> Result<Changed> {
        self.check_no_link()?;
        let _lock = Lock::of(self.0, Wait::default())?;
        let (old, registry) = self.current(under)?;
        let path = self.proposed();
        let mut proposal = self.proposal(under)?;
        if proposal.listing()? != seen.listing()? || proposal.roots() != seen.roots() {
            let what = "another change was proposed meanwhile";
            return Err(Error::new(Code::RegistryVersion, what).at(path.display()));
        }
        for key in keys {
            proposal.sign(key).map_err(|error| self.of(error))?;
        }
        if !self.is_complete(&proposal, under)? {
            output::write(&path, true, Readers::Umask, &proposal.to_bytes())?;
            return Ok(Changed::Proposed(Box::new(proposal)));
        }
        let bytes = proposal.to_bytes();
        let written = self.publish((&old, &registry), &bytes, under)?;
        self.withdraw()?;
        Ok(Changed::Published(Box::new(written)))
    }

    /// Removes what is proposed.
    ///
    /// # Errors
    /// KVC-940.
    pub fn withdraw(self) -> Result<()> {
        let path = self.proposed();
        std::fs::remove_file(&path).map_err(|error| Error::sink(&error, path.display()))
    }

    /// Puts a new timestamp, valid for `ttl` seconds, into the file.
    ///
    /// # Errors
    /// KVC-308 where the roots do not name the key for it; 313 for a life longer than a week; 940.
    pub fn stamp(
        self,
        key: &RootKey,
        under: &[RootPublic],
        now: u64,
        ttl: u64,
    ) -> Result<Registry> {
        self.check_no_link()?;
        self.current(under)?;
        let _lock = Lock::of(self.0, Wait::default())?;
        let (_, registry) = self.current(under)?;
        let stamped = registry.stamp(key, now, now.saturating_add(ttl));
        let bytes = stamped.map_err(|error| self.of(error))?;
        output::write(self.0, true, Readers::Umask, &bytes)?;
        self.verify(under, now)
    }

    /// Replaces the file by its next version, and keeps it as `PATH.N`.
    fn publish(
        self,
        (old, registry): (&[u8], &Registry),
        next: &[u8],
        under: &[RootPublic],
    ) -> Result<Registry> {
        let version = registry.listing().version;
        let kept = self.version(version);
        let follows = self.version(version.saturating_add(1));
        for (path, expected) in [(&kept, Some(registry.mark())), (&follows, None)] {
            if !path.exists() {
                continue;
            }
            let found = bytes(path)?;
            if UntrustedRegistry::read(&found).is_err() {
                output::check_absent(path, false)?;
            }
            let found = verified(&found, under).ok().map(|found| found.mark());
            if found.is_none() || found != expected {
                let what = "another version was written after this one: the file is older than its writer's last";
                return Err(Error::new(Code::RegistryVersion, what).at(path.display()));
            }
        }
        // of a killed run
        if !kept.exists() {
            output::write(&kept, false, Readers::Umask, old)?;
        }
        output::write(self.0, true, Readers::Umask, next)?;
        verified(next, under).map_err(|error| self.of(error))
    }

    fn is_complete(self, proposal: &Proposal, under: &[RootPublic]) -> Result<bool> {
        let root = choose_root(under, &UntrustedRegistry::read(&proposal.to_bytes())?)?;
        match proposal.complete(root) {
            Ok(_) => Ok(true),
            Err(_)
                if proposal
                    .signatures()
                    .map_err(|error| self.of(error))?
                    .iter()
                    .any(|(have, want)| have < want) =>
            {
                Ok(false)
            }
            Err(error) => Err(self.of(error)),
        }
    }

    fn check_no_link(self) -> Result<()> {
        match self.0.is_symlink() {
            true => {
                let what = "this is a link: change the registry that it points to";
                Err(self.of(Error::new(Code::LocalIo, what)))
            }
            false => Ok(()),
        }
    }

    fn proposed(self) -> PathBuf {
        let mut name = self.0.as_os_str().to_owned();
        name.push(".proposed");
        name.into()
    }
}

fn unfinished() -> Error {
    Error::new(
        Code::RegistryUnsigned,
        "more of the registry's roots have to sign this",
    )
}
