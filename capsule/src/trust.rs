//! Which public keys a verifier trusts, for what and when (capsule-v1 §7).

use std::collections::BTreeMap;

use crate::{
    error::{Code, Error, Result},
    keys::{KeyId, PublicKey},
};

/// What a trusted key may do, and when (K-1 … K-4).
#[derive(Clone, Debug)]
pub struct TrustedKey {
    /// The key.
    pub key: PublicKey,
    /// The only issuer it signs for; any where `None`.
    pub issuer: Option<String>,
    /// Whether it signs capsules (rather than registries).
    pub for_capsules: bool,
    /// Suites it signs for.
    pub suites: Vec<u64>,
    /// Start of its window, in seconds.
    pub not_before: u64,
    /// End of signing: a capsule's `iat` is before it. [`Self::NO_END`] for none.
    pub sign_until: u64,
    /// End of verifying. [`Self::NO_END`] for none.
    pub verify_until: u64,
    /// Whether its secret is known to others.
    pub compromised: bool,
}

impl TrustedKey {
    /// The end of a window that has none.
    pub const NO_END: u64 = u64::MAX;

    /// A key trusted for every issuer, suite and time.
    #[must_use]
    pub fn new(key: PublicKey) -> Self {
        Self {
            key,
            issuer: None,
            for_capsules: true,
            suites: vec![1, 2],
            not_before: 0,
            sign_until: Self::NO_END,
            verify_until: Self::NO_END,
            compromised: false,
        }
    }
}

/// The public keys that a verifier trusts.
#[derive(Clone, Debug, Default)]
pub struct Trust {
    keys: BTreeMap<KeyId, TrustedKey>,
}

impl Trust {
    /// Trusts nobody.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// Trusts one more key.
    ///
    /// # Errors
    /// KVC-311 where a key with this id is there already.
    pub fn add(&mut self, key: TrustedKey) -> Result<()> {
        let id = key.key.id();
        if self.keys.contains_key(&id) {
            return Err(
                Error::new(Code::RegistryDuplicateKey, "two trusted keys have one id").at(id),
            );
        }
        self.keys.insert(id, key);
        Ok(())
    }

    /// The ids of the trusted keys.
    pub fn ids(&self) -> impl Iterator<Item = KeyId> {
        self.keys.keys().copied()
    }

    pub(crate) fn find(&self, id: KeyId) -> Result<&TrustedKey> {
        self.keys.get(&id).ok_or_else(|| {
            let known = match self.keys.len() {
                0 => "none".to_owned(),
                _ => self
                    .ids()
                    .map(|id| id.to_string())
                    .collect::<Vec<_>>()
                    .join(" or "),
            };
            Error::new(Code::KeyUnknown, "no trusted key has the capsule's key id").sides(known, id)
        })
    }
}

impl From<PublicKey> for Trust {
    fn from(key: PublicKey) -> Self {
        Self {
            keys: BTreeMap::from([(key.id(), TrustedKey::new(key))]),
        }
    }
}
