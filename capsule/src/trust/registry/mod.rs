//! The key registry: which keys may sign what, and which capsules are revoked, signed by an offline
//! root key and numbered without a gap (registry-v1).
//!
//! ```text
//! bytes ─read→ UntrustedRegistry ─verify(root, now)→ Registry ─trust()→ Trust
//!                                                     └─next(changes, root key)→ bytes of version N+1
//! ```

mod change;
mod listing;
mod root;

use crate::{
    digest::Digest,
    error::{Code, Error, Result},
    keys::KeyId,
    limits::{MAX_REGISTRY, MAX_SKEW},
    text::show_instant,
    trust::{Trust, expired},
    wire::cose::{self, Profile, Sign1},
};

pub use change::Change;
pub use listing::{Listing, Revoked};
pub use root::{RootKey, RootPublic};

const PROFILE: Profile = Profile {
    content: "application/vnd.kvcap.keys+cbor",
    typ: "application/vnd.kvcap.registry",
    claims: false,
};

/// A registry that is well formed outside. Nobody has vouched for it.
pub struct UntrustedRegistry {
    signed: Sign1,
    signer: KeyId,
    digest: Digest,
}

/// A registry that its root has signed and that has not expired.
#[derive(Clone, Debug)]
pub struct Registry {
    listing: Listing,
    mark: Mark,
}

/// Mark of the newest registry that a verifier has seen of one root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The root.
    pub root: KeyId,
    /// Its newest version.
    pub version: u64,
    /// Digest of that version's bytes.
    pub digest: Digest,
}

impl UntrustedRegistry {
    /// Reads a registry's envelope.
    ///
    /// # Errors
    /// KVC-313 where it is too long, 308 where it is no COSE_Sign1, else 201 to 217, 301 and 306 as for a
    /// capsule's envelope.
    pub fn read(bytes: &[u8]) -> Result<Self> {
        if bytes.len() > MAX_REGISTRY {
            return Err(Error::new(
                Code::RegistryMalformed,
                "the registry is longer than a registry may be",
            )
            .sides(
                format_args!("at most {MAX_REGISTRY} bytes"),
                format_args!("{} bytes", bytes.len()),
            ));
        }
        if !bytes.starts_with(&[cose::TAG_18]) {
            return Err(unsigned("the registry is not a signed document"));
        }
        let signed = Sign1::parse(bytes)?;
        let (signer, _) = PROFILE.parse(signed.protected())?;
        Ok(Self {
            signed,
            signer,
            digest: Digest::labelled("kvcap v1 registry", &[bytes]),
        })
    }

    /// Returns what the file says, before anyone vouched for it: for display, never for decisions.
    ///
    /// # Errors
    /// As [`Self::verify`] for a malformed listing.
    pub fn danger_unverified_listing(&self) -> Result<Listing> {
        Listing::decode(self.signed.unverified_payload())
    }

    /// The id of the root that is said to have signed it.
    #[must_use]
    pub fn signer(&self) -> KeyId {
        self.signer
    }

    /// Verifies the root's signature, the listing and its validity at `now`.
    ///
    /// # Errors
    /// KVC-308 for the signature; 2xx, 302, 305, 311, 313 for the listing; 310 where it has expired, 412
    /// where it was issued after `now`.
    pub fn verify(self, root: &RootPublic, now: u64) -> Result<Registry> {
        let registry = self.verify_at_any_time(root)?;
        let listing = &registry.listing;
        if now >= listing.expires {
            return Err(expired(now, listing.expires));
        }
        if now.saturating_add(MAX_SKEW) < listing.issued_at {
            return Err(Error::new(
                Code::ClaimsClock,
                "the clock lies before the registry was issued",
            )
            .sides(
                format_args!("at least {}", show_instant(listing.issued_at)),
                show_instant(now),
            ));
        }
        Ok(registry)
    }

    /// Verifies a registry that may have expired: to write the next version, or to step over it.
    ///
    /// # Errors
    /// As [`Self::verify`], without 310 and 412.
    pub fn verify_at_any_time(self, root: &RootPublic) -> Result<Registry> {
        if self.signer != root.id() {
            return Err(
                unsigned("the registry is not signed by this root").sides(root.id(), self.signer)
            );
        }
        let payload = self.signed.verify(root.key()).map_err(|error| {
            Error::new(Code::RegistryUnsigned, error.what().to_owned()).at("registry")
        })?;
        let listing = Listing::decode(payload)?;
        if listing.keys.iter().any(|key| key.key == *root.key()) {
            return Err(Error::new(
                Code::KeyPurpose,
                "the root itself is listed as a key",
            ));
        }
        let mark = Mark {
            root: self.signer,
            version: listing.version,
            digest: self.digest,
        };
        Ok(Registry { listing, mark })
    }
}

impl Registry {
    /// Returns what the root has signed.
    #[must_use]
    pub fn listing(&self) -> &Listing {
        &self.listing
    }

    /// Returns what to remember of it.
    #[must_use]
    pub fn mark(&self) -> Mark {
        self.mark
    }

    /// The keys and revocations, to verify capsules by until the registry expires.
    #[must_use]
    pub fn trust(&self) -> Trust {
        self.listing.trust()
    }

    /// Refuses a registry that is neither the one seen last nor the one after it.
    ///
    /// # Errors
    /// KVC-309 for an older version, another of the same number, one that does not follow the one seen,
    /// or a number left out.
    pub fn follows(&self, seen: &Mark) -> Result<()> {
        let found = self.mark.version;
        let wrong = |what, expected: u64| {
            Err(Error::new(Code::RegistryVersion, what)
                .sides(format_args!("version {expected}"), found))
        };
        if self.mark == *seen {
            return Ok(());
        }
        match found.checked_sub(seen.version) {
            None => wrong("the registry is older than one seen before", seen.version),
            Some(0) => wrong("two registries have one version", seen.version),
            Some(1) if self.listing.previous == Some(seen.digest) => Ok(()),
            Some(1) => wrong("the registry does not follow the one seen before", found),
            Some(_) => wrong("versions of the registry are missing", seen.version + 1),
        }
    }
}

fn unsigned(what: &'static str) -> Error {
    Error::new(Code::RegistryUnsigned, what)
}

impl std::fmt::Debug for UntrustedRegistry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "UntrustedRegistry({})", self.digest)
    }
}

#[cfg(test)]
mod tests;
