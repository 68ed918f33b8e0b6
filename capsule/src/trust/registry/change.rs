//! Writing registries: the first version, and each next one (registry-v1 §4).

use crate::{
    error::{Code, Error, Result},
    keys::{CapsuleId, KeyId},
    text::show_instant,
    trust::{
        Status, TrustedKey,
        registry::{Listing, PROFILE, Registry, Revoked, RootKey},
    },
    wire::cose,
};

/// One change from a version to the next.
#[derive(Clone, Debug)]
pub enum Change {
    /// Lists one more key.
    Add(Box<TrustedKey>),
    /// The key signs nothing from `sign_until` on; what it signed before stays good until
    /// `verify_until`.
    Retire {
        /// The key.
        key: KeyId,
        /// The first second at which it signs no more; an earlier end that is listed stays.
        sign_until: u64,
        /// The first second at which nothing of it is accepted; [`TrustedKey::NO_END`] leaves what is
        /// listed.
        verify_until: u64,
    },
    /// Nothing that the key has ever signed is accepted any more. There is no way back.
    Compromise(KeyId),
    /// The capsule is not accepted any more, whoever signed it.
    Revoke(CapsuleId),
}

impl Registry {
    /// The bytes of a registry's first version, which lists nothing.
    ///
    /// # Errors
    /// KVC-313 where it would expire before `now`.
    pub fn first(root: &RootKey, now: u64, expires: u64) -> Result<Vec<u8>> {
        let listing = Listing {
            version: 1,
            issued_at: now,
            expires,
            previous: None,
            keys: Vec::new(),
            revoked: Vec::new(),
        };
        sign(&listing, root)
    }

    /// The bytes of the next version, with `changes` made in their order. Without any it only lives
    /// longer.
    ///
    /// # Errors
    /// KVC-308 where `root` did not sign this version; 309 where there is no next number; 412 where `now` is before it was issued; 301, 304
    /// and 311 for changes that cannot be made; 302 and 313 for a listing that a reader would refuse.
    pub fn next(
        &self,
        changes: &[Change],
        root: &RootKey,
        now: u64,
        expires: u64,
    ) -> Result<Vec<u8>> {
        let id = root.public_id();
        if id != self.mark.root || self.under.is_some() {
            return Err(Error::new(
                Code::RegistryUnsigned,
                "this root alone did not sign the version before",
            )
            .sides(self.mark.root, id));
        }
        let listing = self.next_listing(changes, now, expires)?;
        let public = root.key().public();
        if listing.keys.iter().any(|key| key.key == public) {
            return Err(super::lists_root());
        }
        sign(&listing, root)
    }

    /// The next version's listing.
    pub(super) fn next_listing(
        &self,
        changes: &[Change],
        now: u64,
        expires: u64,
    ) -> Result<Listing> {
        if now < self.listing.issued_at {
            return Err(Error::new(
                Code::ClaimsClock,
                "the clock lies before the registry was issued",
            )
            .sides(
                format_args!("at least {}", show_instant(self.listing.issued_at)),
                show_instant(now),
            ));
        }
        let version = self.listing.version.checked_add(1).ok_or_else(|| {
            Error::new(
                Code::RegistryVersion,
                "there is no number after this version's",
            )
        })?;
        let mut listing = Listing {
            version,
            issued_at: now,
            expires,
            previous: Some(self.mark.digest),
            ..self.listing.clone()
        };
        for change in changes {
            listing.apply(change, now)?;
        }
        Ok(listing)
    }
}

#[cfg(feature = "hazmat")]
impl RootKey {
    /// The bytes of a registry with this payload, whatever it is: for tests that begin behind the signature.
    #[must_use]
    pub fn danger_sign(&self, payload: &[u8]) -> Vec<u8> {
        let header = PROFILE.header(self.public_id(), None);
        // nothing, of a root that is kept elsewhere and refuses
        cose::sign(&header, payload, self.key()).unwrap_or_default()
    }
}

impl Listing {
    fn apply(&mut self, change: &Change, now: u64) -> Result<()> {
        match change {
            Change::Add(key) => {
                let id = key.key.id();
                match self.keys.binary_search_by_key(&id, |key| key.key.id()) {
                    Ok(_) => {
                        let what = "the registry lists this key already";
                        return Err(Error::new(Code::RegistryDuplicateKey, what).at(id));
                    }
                    Err(at) => self.keys.insert(at, (**key).clone()),
                }
            }
            Change::Retire {
                key,
                sign_until,
                verify_until,
            } => {
                let entry = self.find(*key)?;
                if entry.status == Status::Compromised {
                    let what = "a compromised key is not retired";
                    return Err(Error::new(Code::KeyCompromised, what).at(key));
                }
                entry.status = Status::Retired;
                entry.sign_until = entry.sign_until.min(*sign_until);
                entry.verify_until = entry.verify_until.min(*verify_until);
            }
            Change::Compromise(key) => self.find(*key)?.status = Status::Compromised,
            Change::Revoke(capsule) => {
                let found = self.revoked.binary_search_by_key(capsule, |r| r.capsule);
                if let Err(place) = found {
                    let (capsule, at) = (*capsule, now);
                    self.revoked.insert(place, Revoked { capsule, at });
                }
            }
        }
        Ok(())
    }

    fn find(&mut self, id: KeyId) -> Result<&mut TrustedKey> {
        let mut keys = self.keys.iter_mut();
        keys.find(|key| key.key.id() == id)
            .ok_or_else(|| Error::new(Code::KeyUnknown, "the registry lists no such key").at(id))
    }
}

fn sign(listing: &Listing, root: &RootKey) -> Result<Vec<u8>> {
    let header = PROFILE.header(root.public_id(), None);
    let bytes = cose::sign(&header, &listing.encode()?, root.key())?;
    super::UntrustedRegistry::read(&bytes)?;
    Ok(bytes)
}
