//! The key registry: which keys may sign what, and which capsules are revoked, signed by an offline
//! root key and numbered without a gap (registry-v1).
//!
//! ```text
//! bytes ─read→ UntrustedRegistry ─verify(root, now)→ Registry ─trust()→ Trust
//!                                                     └─next(changes, root key)→ bytes of version N+1
//! ```

mod bundle;
mod change;
mod listing;
mod note;
mod proposal;
mod root;
mod roots;
mod timestamp;

use crate::{
    digest::Digest,
    error::{Code, Error, Result},
    keys::{KeyId, PublicKey},
    limits::{MAX_REGISTRY, MAX_SKEW},
    text::show_instant,
    trust::{Trust, expired},
    wire::cose::{self, Profile, Sign1},
};

pub use change::Change;
pub use listing::{Listing, Revoked};
pub use proposal::Proposal;
pub use root::{RootKey, RootPublic};
pub use roots::{Root, Roots};

use bundle::{Bundle, Walked};
use root::Anchor;

const PROFILE: Profile = Profile {
    content: "application/vnd.kvcap.keys+cbor",
    typ: "application/vnd.kvcap.registry",
    claims: false,
};

/// A registry that is well formed outside. Nobody has vouched for it.
pub struct UntrustedRegistry(Form);

enum Form {
    /// Signed by one root.
    Lone {
        signed: Sign1,
        signer: KeyId,
        digest: Digest,
    },
    /// Under statements about several.
    Bundle(Box<Bundle>),
}

/// A registry that its root has signed and that has not expired.
#[derive(Clone, Debug)]
pub struct Registry {
    listing: Listing,
    mark: Mark,
    under: Option<Box<Under>>,
    /// When its timestamp ends.
    fresh_until: Option<u64>,
    /// The one root that signed it.
    root_key: Option<PublicKey>,
}

/// The file of a registry under several roots, and what was verified of its statements.
#[derive(Clone, Debug)]
struct Under {
    bundle: Bundle,
    walked: Walked,
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
        if bytes.starts_with(&[bundle::ARRAY_3]) {
            let bundle = Bundle::read(bytes)?;
            return Ok(Self(Form::Bundle(Box::new(bundle))));
        }
        if !bytes.starts_with(&[cose::TAG_18]) {
            return Err(unsigned("the registry is not a signed document"));
        }
        let signed = Sign1::parse(bytes)?;
        let (signer, _) = PROFILE.parse(signed.protected())?;
        let digest = Digest::labelled("kvcap v1 registry", &[bytes]);
        Ok(Self(Form::Lone {
            signed,
            signer,
            digest,
        }))
    }

    /// Returns what the file says, before anyone vouched for it: for display, never for decisions.
    ///
    /// # Errors
    /// As [`Self::verify`] for a malformed listing.
    pub fn danger_unverified_listing(&self) -> Result<Listing> {
        Listing::decode(match &self.0 {
            Form::Lone { signed, .. } => signed.unverified_payload(),
            Form::Bundle(bundle) => bundle.unverified_listing(),
        })
    }

    /// Returns what the file says of its roots, before anyone vouched for it; `None` of one root alone.
    #[must_use]
    pub fn danger_unverified_roots(&self) -> Option<&Roots> {
        match &self.0 {
            Form::Lone { .. } => None,
            Form::Bundle(bundle) => bundle.unverified_roots(),
        }
    }

    /// The id of the root that is said to have signed it, or with which its statements about roots are said to begin.
    #[must_use]
    pub fn signer(&self) -> KeyId {
        match &self.0 {
            Form::Lone { signer, .. } => *signer,
            Form::Bundle(bundle) => bundle.chain(),
        }
    }

    /// Returns whether it says that it is under this root.
    #[must_use]
    pub fn is_under(&self, root: &RootPublic) -> bool {
        match &self.0 {
            Form::Lone { signer, .. } => root.key().is_some() && root.id() == *signer,
            Form::Bundle(bundle) => bundle.is_under(root),
        }
    }

    /// Verifies the root's signature, the listing and its validity at `now`.
    ///
    /// # Errors
    /// KVC-308 for signatures; 314 for statements about roots; 2xx, 302, 305, 311, 313, 316 for the listing; 310 where it
    /// has expired, 315 where its timestamp has, 412 where it was issued after `now`.
    pub fn verify(self, root: &RootPublic, now: u64) -> Result<Registry> {
        let mut registry = self.verify_at_any_time(root)?;
        if let Some(Under { bundle, walked }) = registry.under.as_deref() {
            registry.fresh_until = bundle.check_current(&walked.newest, &registry.mark, now)?;
        }
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
    /// As [`Self::verify`], without 310, 315 and 412.
    pub fn verify_at_any_time(self, root: &RootPublic) -> Result<Registry> {
        let registry = match self.0 {
            Form::Bundle(bundle) => {
                let walked = bundle.walk(root)?;
                let listing = bundle.listing(&walked.newest)?;
                Registry {
                    mark: bundle.mark(&listing),
                    listing,
                    under: Some(Box::new(Under {
                        bundle: *bundle,
                        walked,
                    })),
                    fresh_until: None,
                    root_key: None,
                }
            }
            Form::Lone {
                signed,
                signer,
                digest,
            } => {
                let key = match root.anchor() {
                    Anchor::Key(key) if signer == root.id() => key,
                    _ => {
                        let what = "the registry is not signed by this root";
                        return Err(unsigned(what).sides(root.id(), signer));
                    }
                };
                let payload = signed.verify(key).map_err(|error| {
                    Error::new(Code::RegistryUnsigned, error.what().to_owned()).at("registry")
                })?;
                let listing = Listing::decode(payload)?;
                if listing.keys.iter().any(|listed| listed.key == *key) {
                    return Err(lists_root());
                }
                Registry {
                    mark: Mark {
                        root: signer,
                        version: listing.version,
                        digest,
                    },
                    listing,
                    under: None,
                    fresh_until: None,
                    root_key: Some(*key),
                }
            }
        };
        for key in &registry.listing.keys {
            root.check_speaks(&key.issuer)?;
        }
        Ok(registry)
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
        self.listing.trust(self.ends(), self.fresh_until)
    }

    /// The first second at which it, or what it says of its roots, has expired.
    fn ends(&self) -> u64 {
        let roots = self.roots().map(|roots| roots.expires);
        self.listing.expires.min(roots.unwrap_or(u64::MAX))
    }

    /// Returns what it says of its roots; `None` of one root alone.
    #[must_use]
    pub fn roots(&self) -> Option<&Roots> {
        self.under.as_ref().map(|under| &under.walked.newest)
    }

    /// Returns the digest of that statement, by which a verifier may be given it.
    #[must_use]
    pub fn root_public(&self) -> Option<RootPublic> {
        let newest = self.under.as_ref()?.walked.passed.last()?;
        Some(RootPublic::of_statement(newest.1))
    }

    /// Returns when its timestamp ends; `None` where its roots want none, or it was verified as of any time.
    #[must_use]
    pub fn fresh_until(&self) -> Option<u64> {
        self.fresh_until
    }

    /// Returns what to remember of its statements about roots.
    #[must_use]
    pub fn roots_mark(&self) -> Option<Mark> {
        let (version, digest) = *self.under.as_ref()?.walked.passed.last()?;
        Some(Mark {
            root: self.mark.root,
            version,
            digest,
        })
    }

    /// Refuses a registry whose statements about roots are older than those seen, or go another way (REG-M-12).
    ///
    /// # Errors
    /// KVC-314.
    pub fn follows_roots(&self, seen: &Mark) -> Result<()> {
        let refused = |what, found: u64| {
            Err(Error::new(Code::RegistryRoots, what)
                .sides(format_args!("version {}", seen.version), found))
        };
        let Some(under) = &self.under else {
            return refused(
                "statements about the registry's roots were seen, and it has none",
                0,
            );
        };
        let passed = &under.walked.passed;
        let newest = passed.last().map_or(0, |(version, _)| *version);
        let began = passed.first().map_or(0, |(version, _)| *version);
        match passed.iter().find(|(version, _)| *version == seen.version) {
            Some((_, digest)) if *digest == seen.digest => Ok(()),
            Some(_) => refused("two statements about roots have one version", seen.version),
            // the verifier was given a newer one since
            None if began > seen.version => Ok(()),
            None => refused(
                "the statement about roots is older than one seen before",
                newest,
            ),
        }
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

fn lists_root() -> Error {
    Error::new(Code::KeyPurpose, "the root itself is listed as a key")
}

/// Of an issuer, or of all.
fn out_of_scope(issuer: Option<&str>) -> Error {
    let Some(issuer) = issuer else {
        let what = "roots that are limited to issuers give what takes roots that are not";
        return Error::new(Code::RegistryScope, what);
    };
    let what =
        "the roots that signed the registry may not speak for an issuer that it lists or gives";
    Error::new(Code::RegistryScope, what).at(crate::text::printable(issuer))
}

fn unsigned(what: &'static str) -> Error {
    Error::new(Code::RegistryUnsigned, what)
}

impl std::fmt::Debug for UntrustedRegistry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "UntrustedRegistry(of {})", self.signer())
    }
}

#[cfg(test)]
mod tests;
