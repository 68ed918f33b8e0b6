//! Who seals a capsule and who may open it: the one way from key files to a capsule's parties.

use std::path::PathBuf;

use kvcap::{Recipient, RecipientPublicKey, Result, SigningKey, Terms, WrappingKey};

use crate::{Passphrases, WrapKeys, key_file};

/// Keys to seal with, by their files.
#[derive(Clone, Debug)]
pub struct SealingKeys {
    /// File of the secret signing key.
    pub sign_key: PathBuf,
    /// Files of secret wrapping keys, and key folders: who holds them can open the capsule.
    pub wrap_keys: Vec<PathBuf>,
    /// Public keys of others who can, each a file or its text.
    pub recipients: Vec<String>,
    /// Issuer; the signing key's file says it where this does not.
    pub issuer: Option<String>,
}

/// Signer of what is sealed, and its readers beside the tenants' own keys.
#[derive(Debug)]
pub struct Sealer {
    /// The key that signs.
    pub signer: SigningKey,
    issuer: String,
    wrap_keys: Vec<PathBuf>,
    public: Vec<RecipientPublicKey>,
}

/// Keys and terms that a capsule is sealed with.
#[non_exhaustive]
pub struct Parties {
    /// Statements of who seals, for whom and until when.
    pub terms: Terms,
    /// The key that signs.
    pub signer: SigningKey,
    wrapping: Vec<WrappingKey>,
    public: Vec<RecipientPublicKey>,
}

impl SealingKeys {
    /// Reads the signing key and the public ones.
    ///
    /// # Errors
    /// KVC-312 for another issuer than the key's; 94x for keys and files.
    pub fn read(&self, passphrases: &Passphrases<'_>) -> Result<Sealer> {
        let signer = key_file::signing(&self.sign_key, passphrases)?;
        let issuer = self.issuer.clone().unwrap_or_else(|| signer.issuer());
        key_file::check_issuer(&signer, &issuer)?;
        Ok(Sealer {
            signer,
            issuer,
            wrap_keys: self.wrap_keys.clone(),
            public: key_file::recipients(&self.recipients)?,
        })
    }
}

impl Sealer {
    /// Returns the issuer.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Makes terms for an audience, from `now` until `expires`, in seconds since 1970.
    #[must_use]
    pub fn terms(&self, audience: &str, now: u64, expires: u64) -> Terms {
        Terms::new(&self.issuer, audience, now, expires)
    }

    /// Reads the wrapping keys that a tenant's capsules are sealed for at `now`. They are read each time, so that a key
    /// that is destroyed seals and opens nothing more.
    ///
    /// # Errors
    /// KVC-94x for keys and files.
    pub fn wrapping(
        &self,
        tenant: Option<&str>,
        now: u64,
        passphrases: &Passphrases<'_>,
    ) -> Result<Vec<WrappingKey>> {
        WrapKeys::read(&self.wrap_keys, passphrases)?.sealing(tenant, now)
    }

    /// Returns who may open what is sealed for these keys too.
    #[must_use]
    pub fn recipients<'k>(&'k self, wrapping: &'k [WrappingKey]) -> Vec<Recipient<'k>> {
        key_file::all(wrapping, &self.public)
    }

    /// Returns the parties of a capsule with these terms.
    ///
    /// # Errors
    /// As [`wrapping`](Self::wrapping).
    pub fn parties(self, terms: Terms, passphrases: &Passphrases<'_>) -> Result<Parties> {
        Ok(Parties {
            wrapping: self.wrapping(terms.tenant.as_deref(), terms.issued_at, passphrases)?,
            public: self.public,
            signer: self.signer,
            terms,
        })
    }
}

impl Parties {
    /// Returns who may open it.
    #[must_use]
    pub fn recipients(&self) -> Vec<Recipient<'_>> {
        key_file::all(&self.wrapping, &self.public)
    }
}
