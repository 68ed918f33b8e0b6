//! The one path on which trust is made: untrusted bytes, a trusted signature, a verified capsule
//! (capsule-v1 §3.2).

use std::io::{ErrorKind, Read};

use crate::{
    crypto::schedule,
    digest::Digest,
    error::{Code, Error, Result},
    io::{ReadAt, Sequential, usize_of},
    keys::KeyId,
    limits::Limits,
    manifest::{self, Manifest, Outline, RecipientKind},
    trust::{Trust, ledger::Usage},
    verify::{binding, claims, policy::Policy, step::Step},
    wire::{
        cbor,
        claims::Claims,
        envelope::Envelope,
        prologue::{PROLOGUE, Prologue},
    },
};

/// A capsule's header that is well formed and within limits. Nobody has vouched for it: it can show
/// its [`Claims`], and be verified.
pub struct Untrusted {
    prologue: Prologue,
    envelope: Envelope,
    limits: Limits,
}

/// A capsule whose header a trusted key has signed, that is of what the caller expects and within
/// its validity. It has a [`Manifest`]; its body can be checked without a key, or opened with one.
#[derive(Debug)]
pub struct Verified {
    pub(crate) manifest: Manifest,
    pub(crate) prologue: Prologue,
    pub(crate) ctx: Digest,
    lineage: Digest,
    /// The manifest's bytes as received, for a new header over the same body.
    pub(crate) payload: Vec<u8>,
}

impl Untrusted {
    /// Reads a header from a stream, which is left at the start of the chunk tables.
    ///
    /// # Errors
    /// KVC-101 to 107, KVC-201 to 217, 301 (malformed key id), 306, 401 (malformed claims); 940 where
    /// reading fails.
    pub fn read(reader: &mut impl Read, limits: &Limits) -> Result<Self> {
        let mut bytes = [0; PROLOGUE];
        fill(reader, &mut bytes, || {
            Error::new(
                Code::FramingPrologueShort,
                "the file ends inside its prologue",
            )
        })?;
        let prologue = Prologue::parse(&bytes, limits)?;
        let cut = || Error::new(Code::FramingTruncated, "the file ends inside its envelope");
        let mut envelope = vec![0; usize_of(prologue.envelope_len.into())];
        fill(reader, &mut envelope, cut)?;
        let mut padding = vec![0; usize_of(prologue.tables_at() - prologue.envelope_end())];
        fill(reader, &mut padding, cut)?;
        check_zero(&padding)?;
        Self::of(prologue, &envelope, limits)
    }

    pub(crate) fn of(prologue: Prologue, envelope: &[u8], limits: &Limits) -> Result<Self> {
        Ok(Self {
            prologue,
            envelope: Envelope::parse(envelope)?,
            limits: limits.clone(),
        })
    }

    /// Reads the header of a file or slice.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn read_at(source: &(impl ReadAt + ?Sized), limits: &Limits) -> Result<Self> {
        Self::read(&mut Sequential { source, offset: 0 }, limits)
    }

    /// Returns what the file says of itself.
    #[must_use]
    pub fn claims(&self) -> &Claims {
        &self.envelope.claims
    }

    /// Returns what the file says of its banks, as text for people: for display, never for decisions.
    ///
    /// # Errors
    /// As [`Self::verify`] for a malformed manifest (KVC-201 to 206, 501 to 507, 8xx, 9xx).
    pub fn outline(&self) -> Result<Outline> {
        let payload = self.envelope.unverified_payload();
        let claims = self.claims().clone();
        manifest::decode(payload, claims, self.prologue, &self.limits)
            .map(|manifest| Outline::of(&manifest))
    }

    /// The digest by which a child names this capsule, of a header that a trusted key has signed, whatever
    /// its claims: for finding a parent among files, never for accepting one.
    ///
    /// # Errors
    /// KVC-301, 307 for key and signature; as [`Self::outline`] for the manifest.
    pub fn signed_lineage(&self, trust: &Trust) -> Result<Digest> {
        self.envelope.verify(&trust.find(self.claims().key)?.key)?;
        self.lineage()
    }

    /// The digest by which a child would name this capsule, as the file stands: for display, never for
    /// decisions.
    ///
    /// # Errors
    /// As [`Self::outline`].
    pub fn lineage(&self) -> Result<Digest> {
        let payload = self.envelope.unverified_payload();
        let claims = self.claims().clone();
        manifest::decode(payload, claims, self.prologue, &self.limits)
            .map(|manifest| identity(payload, &manifest).1)
    }

    /// Length that the whole file must have.
    #[must_use]
    pub fn file_len(&self) -> u64 {
        self.prologue.file_len()
    }

    /// Verifies signature, manifest, claims and binding, in the order of capsule-v1 §3.2.
    ///
    /// # Errors
    /// KVC-301 to 312 for key and signature, 2xx and 5xx for the manifest, 402 to 409 for the claims,
    /// 601 to 608 for the binding, 910 for the budget.
    pub fn verify(self, policy: &Policy<'_>) -> Result<Verified> {
        self.verify_in_steps(policy, &mut |_| {})
    }

    /// Verifies as [`Self::verify`] does, and calls `passed` after each step that has passed, to
    /// time it.
    ///
    /// # Errors
    /// As [`Self::verify`].
    pub fn verify_in_steps(
        self,
        policy: &Policy<'_>,
        passed: &mut dyn FnMut(Step),
    ) -> Result<Verified> {
        let stated = self.envelope.claims.clone();
        let key = claims::trusted_key(policy, &stated)?;
        let payload = self.envelope.verify(&key.key)?;
        passed(Step::Signature);
        let manifest = manifest::decode(payload, stated, self.prologue, &policy.limits)?;
        passed(Step::Manifest);
        claims::check_key(policy, key, &manifest)?;
        policy.trust.check_revoked(manifest.claims.id)?;
        claims::check_claims(policy, &manifest.claims.terms)?;
        passed(Step::Claims);
        binding::check_binding(policy, &manifest)?;
        let (ctx, lineage) = identity(payload, &manifest);
        passed(Step::Binding);
        Ok(Verified {
            manifest,
            prologue: self.prologue,
            ctx,
            lineage,
            payload: self.envelope.into_payload(),
        })
    }
}

impl Verified {
    /// Repeats what time changes, by the trust and the time of `policy` now: steps 4, 7 and 8. To be
    /// called when a body has arrived that was not there when the header was verified (capsule-v1 §3.2).
    ///
    /// # Errors
    /// KVC-310 for an expired registry; 301 to 304, 312 for the key; 409 for a revoked capsule; 402 to 404
    /// for its times.
    pub fn verify_again(&self, policy: &Policy<'_>) -> Result<()> {
        let key = claims::trusted_key(policy, &self.manifest.claims)?;
        claims::check_key(policy, key, &self.manifest)?;
        policy.trust.check_revoked(self.manifest.claims.id)?;
        claims::check_time(policy, &self.manifest.claims.terms)
    }

    /// Returns what the issuer has signed.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The digest by which a child names this capsule (lineage-v1 §2).
    #[must_use]
    pub fn lineage(&self) -> Digest {
        self.lineage
    }

    /// Returns what using it at `now`, in seconds since 1970, means to a ledger.
    #[must_use]
    pub fn usage(&self, now: u64) -> Usage {
        Usage::of(&self.ctx, &self.manifest.claims.terms, now)
    }

    /// The keys that open it, and their kinds.
    pub fn recipients(&self) -> impl Iterator<Item = (KeyId, RecipientKind)> {
        let recipients = &self.manifest.keys.recipients;
        recipients.iter().map(|entry| (entry.key, entry.kind))
    }

    /// Length that the whole file has.
    #[must_use]
    pub fn file_len(&self) -> u64 {
        self.prologue.file_len()
    }
}

impl std::fmt::Debug for Untrusted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Untrusted({:?})", self.claims().id)
    }
}

/// The digest of what the body is bound to, and the one by which children name the capsule (§9.1, lineage-v1 §2).
fn identity(payload: &[u8], manifest: &Manifest) -> (Digest, Digest) {
    let ranges = cbor::raw_ranges(payload, [2, 3]).unwrap_or_default();
    let [context, measured] = ranges.map(|range| payload.get(range).unwrap_or_default());
    let ctx = schedule::context_digest(&manifest.claims, context);
    let keys = &manifest.keys;
    let lineage = Digest::labelled(
        "kvcap v1 lineage",
        &[&ctx.0, &keys.salt, &keys.commitment.0, measured],
    );
    (ctx, lineage)
}

pub(crate) fn check_zero(bytes: &[u8]) -> Result<()> {
    if bytes.iter().fold(0, |all, byte| all | byte) == 0 {
        return Ok(());
    }
    Err(Error::new(
        Code::FramingPadding,
        "a padding byte or unused table row is not zero",
    ))
}

/// `read_exact` goes on after short and interrupted reads; only a real end is `cut`.
pub(crate) fn fill(reader: &mut impl Read, buf: &mut [u8], cut: impl Fn() -> Error) -> Result<()> {
    reader.read_exact(buf).map_err(|error| match error.kind() {
        ErrorKind::UnexpectedEof => cut(),
        _ => Error::source(&error, "capsule"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes that cancel each other out are not zero.
    #[test]
    fn padding_is_zero_byte_by_byte() {
        assert!(check_zero(&[]).is_ok() && check_zero(&[0; 100]).is_ok());
        for padding in [[1, 0, 0, 0], [0, 0, 0, 128], [7, 0, 7, 0], [1, 1, 1, 1]] {
            assert_eq!(
                check_zero(&padding).unwrap_err().code(),
                Code::FramingPadding
            );
        }
    }
}
