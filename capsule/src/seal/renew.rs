//! A new header over the same body: other times, scope or recipients (lineage-v1 §1).
//!
//! What enters the body's keys is copied as the bytes that were verified, never encoded again, and the
//! new header goes through the one path on which trust is made before anybody gets it.

use std::io::{self, Read, Seek, SeekFrom, Write};

use crate::{
    crypto::{
        recipient::{self, Recipient},
        wrapping_key::WrappingKey,
    },
    error::{Code, Error, Result},
    hazmat::Entropy,
    io::usize_of,
    keys::SigningKey,
    limits::{Limits, MAX_LIFETIME},
    manifest::{self, Keys, Manifest, WrappedKey},
    trust::Trust,
    verify::{
        body::check_len,
        claims::past_renewal,
        policy::Policy,
        untrusted::{Untrusted, Verified},
    },
    wire::{
        cbor,
        claims::{Claims, Terms},
        envelope,
        prologue::Prologue,
    },
};

/// Signer of a new header, and the trust by which the old one is judged.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Reissuer<'a> {
    /// The key that signs: one of the capsule's issuer.
    pub key: &'a SigningKey,
    /// The keys that are trusted. The signing key must be one of them, for the capsule's issuer.
    pub trust: &'a Trust,
    /// The time, in seconds since 1970: the new `iat`.
    pub now: u64,
    /// Longest lifetime of the new header, in seconds.
    pub max_lifetime: u64,
}

impl<'a> Reissuer<'a> {
    /// Returns who signs by `key` at `now`, for the longest lifetime that is allowed.
    #[must_use]
    pub const fn new(key: &'a SigningKey, trust: &'a Trust, now: u64) -> Self {
        Self {
            key,
            trust,
            now,
            max_lifetime: MAX_LIFETIME,
        }
    }
}

/// New times and scope.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Renewal {
    /// The new `exp`.
    pub expires: u64,
    /// The new scope; the old one where `None`.
    pub scope: Option<String>,
    /// True if the new scope may hold words that the old one has not.
    pub widen_scope: bool,
}

impl Renewal {
    /// Returns a renewal until `expires` with the scope that there is.
    #[must_use]
    pub const fn until(expires: u64) -> Self {
        Self {
            expires,
            scope: None,
            widen_scope: false,
        }
    }
}

/// New recipients.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Rewrap<'a> {
    /// Recipients, who shall be able to open the capsule.
    pub to: &'a [Recipient<'a>],
    /// True to keep the existing recipients.
    pub keep: bool,
    /// The new audience, for a hand-over; the old one where `None`.
    pub audience: Option<String>,
}

impl<'a> Rewrap<'a> {
    /// Returns a rewrapping for these recipients in place of those that there are, for the same audience.
    #[must_use]
    pub const fn to(to: &'a [Recipient<'a>]) -> Self {
        Self {
            to,
            keep: false,
            audience: None,
        }
    }
}

/// A signed header that fits a body that is there already: [`Self::write`] puts the two together.
#[derive(Debug)]
pub struct Reissued {
    verified: Verified,
    envelope: Vec<u8>,
    /// The file that the body is in.
    old: Prologue,
}

impl Verified {
    /// Returns the capsule with new times and scope, signed again. Needs no secret of the body.
    ///
    /// # Errors
    /// KVC-404 past [`Terms::renew_until`] or `max_lifetime`; 408 for a wider scope that was not asked
    /// for; 301 to 312 where the signing key is not one that is trusted for the issuer; 401.
    pub fn renew(&self, renewal: &Renewal, by: &Reissuer<'_>) -> Result<Reissued> {
        let old = &self.manifest.claims.terms;
        let cap = old.renew_until;
        if renewal.expires > cap {
            return Err(past_renewal(cap, renewal.expires));
        }
        let scope = renewal.scope.as_ref().unwrap_or(&old.scope);
        let had = |word: &str| old.scope.split(' ').any(|old| old == word);
        if !renewal.widen_scope && !scope.split(' ').all(had) {
            let what = "a renewal does not widen the scope unless asked to";
            return Err(Error::new(Code::ClaimsScope, what).names(&[&old.scope], Some(scope)));
        }
        let terms = Terms {
            expires: renewal.expires,
            scope: scope.clone(),
            ..old.clone()
        };
        self.reissue(terms, self.payload.clone(), by)
    }

    /// Returns the capsule for other recipients, signed again. `key` opens it now; no body byte is
    /// read.
    ///
    /// # Errors
    /// KVC-809, 803, 804 for `key`; 808 for a recipient that stands twice, 503 for too many; 301 to 312
    /// where the signing key is not one that is trusted for the issuer.
    pub fn rewrap(
        &self,
        key: &WrappingKey,
        rewrap: &Rewrap<'_>,
        by: &Reissuer<'_>,
    ) -> Result<Reissued> {
        self.rewrap_with(key, rewrap, by, Entropy::system())
    }

    /// Does what [`Self::rewrap`] does with chosen randomness: for test vectors only.
    ///
    /// # Errors
    /// As [`Self::rewrap`].
    #[cfg(feature = "hazmat")]
    pub fn danger_rewrap_with_entropy(
        &self,
        key: &WrappingKey,
        rewrap: &Rewrap<'_>,
        by: &Reissuer<'_>,
        entropy: Entropy,
    ) -> Result<Reissued> {
        self.rewrap_with(key, rewrap, by, entropy)
    }

    fn rewrap_with(
        &self,
        key: &WrappingKey,
        rewrap: &Rewrap<'_>,
        by: &Reissuer<'_>,
        mut entropy: Entropy,
    ) -> Result<Reissued> {
        let (content, _) = self.unlock(key)?;
        let Manifest { claims, keys, .. } = &self.manifest;
        let kept = keys.recipients.iter().filter(|_| rewrap.keep).cloned();
        let mut recipients: Vec<WrappedKey> = kept.collect();
        for to in rewrap.to {
            recipients.push(recipient::wrap(
                &content,
                *to,
                self.content_of(),
                &mut entropy,
            )?);
        }
        let keys = manifest::encode_keys(&Keys {
            recipients,
            ..keys.clone()
        });
        let [place] = cbor::raw_ranges(&self.payload, [4]).unwrap_or_default();
        let mut payload = self.payload.clone();
        payload.splice(place, keys);
        let mut terms = claims.terms.clone();
        if let Some(audience) = &rewrap.audience {
            terms.audience.clone_from(audience);
        }
        self.reissue(terms, payload, by)
    }

    fn reissue(&self, terms: Terms, payload: Vec<u8>, by: &Reissuer<'_>) -> Result<Reissued> {
        let old = &self.manifest.claims;
        let claims = Claims {
            id: old.id,
            key: by.key.public().id(),
            terms: Terms {
                issued_at: by.now,
                ..terms
            },
        };
        let envelope = envelope::seal(&claims, &payload, by.key)?;
        let limits = Limits::default();
        let prologue = Prologue::new(
            u32::try_from(envelope.len()).unwrap_or(u32::MAX),
            self.prologue.tables_len,
            self.prologue.body_len,
            &limits,
        )?;
        let policy = Policy {
            max_lifetime: by.max_lifetime,
            ..Policy::danger_as_stated(by.trust, by.now, &claims.terms)
        };
        let verified = Untrusted::of(prologue, &envelope, &limits)?.verify(&policy)?;
        if (verified.ctx, verified.lineage()) != (self.ctx, self.lineage()) {
            let what = "a new header says something else of the body";
            return Err(Error::new(Code::ManifestInconsistent, what).sides(self.ctx, verified.ctx));
        }
        Ok(Reissued {
            verified,
            envelope,
            old: self.prologue,
        })
    }
}

impl Reissued {
    /// The capsule as it will be.
    #[must_use]
    pub fn verified(&self) -> &Verified {
        &self.verified
    }

    /// Bytes of the old file.
    #[must_use]
    pub fn old_len(&self) -> u64 {
        self.old.file_len()
    }

    /// Writes the new capsule to `out`, which is empty. `old` is the file that was verified; its tables
    /// and body are copied as they are, and the prologue is written last. Between two files the copy is
    /// the operating system's (`copy_file_range`, which shares the blocks where the file system can).
    ///
    /// # Errors
    /// KVC-106, 807, 108 where `old` has not the length that its header states; 940.
    pub fn write(&self, old: &mut (impl Read + Seek), out: &mut (impl Write + Seek)) -> Result<()> {
        let from = |error: io::Error| Error::source(&error, "capsule");
        let to = |error: io::Error| Error::sink(&error, "output");
        check_len(self.old, old.seek(SeekFrom::End(0)).map_err(from)?)?;
        let new = self.verified.prologue;
        let padding = vec![0; usize_of(new.tables_at() - new.envelope_end())];
        out.seek(SeekFrom::Start(64))
            .and_then(|_| out.write_all(&self.envelope))
            .and_then(|()| out.write_all(&padding))
            .map_err(to)?;
        old.seek(SeekFrom::Start(self.old.tables_at()))
            .map_err(from)?;
        let rest = self.old.file_len() - self.old.tables_at();
        let copied = match io::copy(&mut (&mut *old).take(rest), out) {
            Ok(copied) => copied,
            // the copy may be the system's own, which does not say which side has failed
            Err(error) => {
                return Err(match old.read(&mut [0]) {
                    Ok(_) => to(error),
                    Err(_) => from(error),
                });
            }
        };
        check_len(self.old, self.old.tables_at() + copied)?;
        out.seek(SeekFrom::Start(0))
            .and_then(|_| out.write_all(&new.to_bytes()))
            .and_then(|()| out.flush())
            .map_err(to)
    }
}
