//! A short-lived word that a registry's version is still the newest (registry-v1 §8.5).

use crate::{
    digest::Digest,
    error::{Code, Error, Result},
    keys::KeyId,
    limits::MAX_SKEW,
    text::show_instant,
    trust::{
        registry::{Mark, RootKey, root::root_id, roots::Roots},
        stale,
    },
    wire::{
        cbor::{self, Field},
        cose::{self, Profile, Sign1},
    },
};

const PROFILE: Profile = Profile {
    content: "application/vnd.kvcap.timestamp+cbor",
    typ: "application/vnd.kvcap.timestamp",
    claims: false,
};

/// Longest life of a timestamp, in seconds: a week.
const LONGEST_LIFE: u64 = 7 * 86_400;

/// A timestamp that is well formed. Nobody has vouched for it.
#[derive(Clone)]
pub(super) struct Timestamp {
    bytes: Vec<u8>,
    signer: KeyId,
    of: Mark,
    issued_at: u64,
    pub(super) expires: u64,
}

impl Timestamp {
    /// REG-M-11, its form.
    pub(super) fn read(bytes: &[u8]) -> Result<Self> {
        let signed = Sign1::parse(bytes)?;
        let (signer, _) = PROFILE.parse(signed.protected())?;
        let value = cbor::decode(signed.unverified_payload())?;
        let mut fields = Field::new(&value, "timestamp", Code::RegistryMalformed).fields()?;
        let format = fields.required(1, "format (1)")?;
        let issued_at = fields.required(2, "issued at (2)")?.uint()?;
        let expires = fields.required(3, "expires (3)")?;
        let root = KeyId(fields.required(4, "chain (4)")?.array_of()?);
        let version = fields.required(5, "version (5)")?.uint()?;
        let digest = Digest(fields.required(6, "digest (6)")?.array_of()?);
        fields.end()?;
        if format.uint()? != 1 {
            return Err(format.wrong("is not 1"));
        }
        let life = expires.uint()?.saturating_sub(issued_at);
        if !(1..=LONGEST_LIFE).contains(&life) {
            return Err(expires.wrong("is not within a week after it was issued"));
        }
        Ok(Self {
            bytes: bytes.to_vec(),
            signer,
            of: Mark {
                root,
                version,
                digest,
            },
            issued_at,
            expires: expires.uint()?,
        })
    }

    /// REG-M-11: by a key that the roots name for it, of this version, and current.
    pub(super) fn verify(&self, roots: &Roots, of: &Mark, now: u64) -> Result<()> {
        let mut keys = roots.timestamp_keys.iter();
        let key = keys
            .find(|key| root_id(key) == self.signer)
            .ok_or_else(|| {
                let what = "the timestamp is not signed by a key that the roots name for it";
                Error::new(Code::RegistryUnsigned, what).at(self.signer)
            })?;
        Sign1::parse(&self.bytes)?.verify(key).map_err(|error| {
            Error::new(Code::RegistryUnsigned, error.what().to_owned()).at("timestamp")
        })?;
        if self.of != *of {
            let what = "the timestamp is of another version of the registry";
            return Err(Error::new(Code::RegistryStale, what)
                .sides(format_args!("version {}", of.version), self.of.version));
        }
        if now >= self.expires {
            return Err(stale(now, self.expires));
        }
        if now.saturating_add(MAX_SKEW) < self.issued_at {
            let what = "the clock lies before the timestamp was issued";
            return Err(Error::new(Code::ClaimsClock, what).sides(
                format_args!("at least {}", show_instant(self.issued_at)),
                show_instant(now),
            ));
        }
        Ok(())
    }

    /// The bytes of one.
    ///
    /// # Errors
    /// KVC-313 for a life that is none, or longer than a week; 948.
    pub(super) fn sign(of: &Mark, key: &RootKey, now: u64, expires: u64) -> Result<Vec<u8>> {
        let payload = cbor::encode(&cbor::map([
            (1, Some(cbor::uint(1))),
            (2, Some(cbor::uint(now))),
            (3, Some(cbor::uint(expires))),
            (4, Some(cbor::bytes(of.root.0))),
            (5, Some(cbor::uint(of.version))),
            (6, Some(cbor::bytes(of.digest.0))),
        ]));
        let header = PROFILE.header(key.public_id(), None);
        let bytes = cose::sign(&header, &payload, key.key())?;
        Self::read(&bytes)?;
        Ok(bytes)
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl std::fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Timestamp(until {})", self.expires)
    }
}
