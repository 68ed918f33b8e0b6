//! Which public keys a verifier trusts, for what and when (capsule-v1 §8).

pub(crate) mod equivalence;
pub(crate) mod ledger;
pub(crate) mod registry;

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    error::{Code, Error, Result},
    keys::{CapsuleId, KeyId, PublicKey, SigningKey, issuer_in},
    text::show_instant,
};

/// Permission of a trusted key, and its time (CAP-K-1 … CAP-K-4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustedKey {
    /// The key.
    pub key: PublicKey,
    /// The only issuer it signs for.
    pub issuer: String,
    /// Things that it signs.
    pub purpose: Purpose,
    /// Suites it signs for.
    pub suites: Vec<u64>,
    /// Start of its window, in seconds.
    pub not_before: u64,
    /// End of signing: a capsule's `iat` is before it. [`Self::NO_END`] for none.
    pub sign_until: u64,
    /// End of verifying. [`Self::NO_END`] for none.
    pub verify_until: u64,
    /// State of its life: active, retired or compromised.
    pub status: Status,
}

/// Things that a key signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Capsules.
    Capsules,
    /// Statements about models, never capsules.
    Statements,
}

/// State of a key's life: only an active one signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It signs.
    Active,
    /// It signs no more; what it signed before its end of signing stays good.
    Retired,
    /// Others may know its secret: whatever it signed is void, whenever it says that it did.
    Compromised,
}

macro_rules! numbered {
    ($type:ident: $($variant:ident = $number:literal $name:literal,)+) => {
        impl $type {
            /// Its number in a registry.
            #[must_use]
            pub const fn number(self) -> u64 {
                match self { $(Self::$variant => $number,)+ }
            }

            /// Its name.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            pub(crate) const fn from_number(number: u64) -> Option<Self> {
                match number { $($number => Some(Self::$variant),)+ _ => None }
            }
        }
    };
}
numbered! { Purpose: Capsules = 1 "capsules", Statements = 2 "statements", }
numbered! { Status: Active = 0 "active", Retired = 1 "retired", Compromised = 2 "compromised", }

impl TrustedKey {
    /// The end of a window that has none.
    pub const NO_END: u64 = u64::MAX;

    /// A key trusted for every suite and time, to sign capsules of one issuer.
    #[must_use]
    pub fn new(key: PublicKey, issuer: &str) -> Self {
        Self {
            key,
            issuer: issuer.to_owned(),
            purpose: Purpose::Capsules,
            suites: vec![1, 2],
            not_before: 0,
            sign_until: Self::NO_END,
            verify_until: Self::NO_END,
            status: Status::Active,
        }
    }

    /// The key in a public key file's text, trusted for the issuer that it names there, or for its own
    /// ([`PublicKey::own_issuer`]).
    ///
    /// # Errors
    /// KVC-942 for another form, KVC-305 for a weak key.
    pub fn from_text(text: &str) -> Result<Self> {
        let key = PublicKey::from_text(text)?;
        let issuer = issuer_in(text)?.unwrap_or_else(|| key.own_issuer());
        Ok(Self::new(key, &issuer))
    }
}

impl From<&SigningKey> for TrustedKey {
    fn from(key: &SigningKey) -> Self {
        Self::new(key.public(), &key.issuer())
    }
}

/// The public keys that a verifier trusts, and the capsules that it refuses all the same.
#[derive(Clone, Debug)]
pub struct Trust {
    keys: BTreeMap<KeyId, TrustedKey>,
    revoked: BTreeSet<CapsuleId>,
    /// The first second at which the registry behind it has expired.
    expires: u64,
    /// The first second at which its timestamp has expired, where it has one.
    fresh_until: Option<u64>,
}

impl Trust {
    /// Trusts nobody.
    #[must_use]
    pub fn none() -> Self {
        Self {
            keys: BTreeMap::new(),
            revoked: BTreeSet::new(),
            expires: TrustedKey::NO_END,
            fresh_until: None,
        }
    }

    /// Trusts these keys but not the revoked capsules, until `expires`.
    pub(crate) fn until(
        expires: u64,
        fresh_until: Option<u64>,
        keys: impl Iterator<Item = TrustedKey>,
        revoked: impl Iterator<Item = CapsuleId>,
    ) -> Self {
        Self {
            keys: keys.map(|key| (key.key.id(), key)).collect(),
            revoked: revoked.collect(),
            expires,
            fresh_until,
        }
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

    /// Trusts everyone whom `other` trusts, until the first of the two expires; what either revokes is
    /// revoked.
    ///
    /// # Errors
    /// KVC-311 where both trust a key: which of the two windows would count?
    pub fn merge(&mut self, other: Self) -> Result<()> {
        for key in other.keys.into_values() {
            self.add(key)?;
        }
        self.revoked.extend(other.revoked);
        self.expires = self.expires.min(other.expires);
        self.fresh_until = match (self.fresh_until, other.fresh_until) {
            (Some(one), Some(two)) => Some(one.min(two)),
            (one, two) => one.or(two),
        };
        Ok(())
    }

    /// The ids of the trusted keys.
    pub fn ids(&self) -> impl Iterator<Item = KeyId> {
        self.keys.keys().copied()
    }

    /// Returns the issuer that a trusted key speaks for.
    #[must_use]
    pub fn issuer_of(&self, id: KeyId) -> Option<&str> {
        self.keys.get(&id).map(|key| key.issuer.as_str())
    }

    pub(crate) fn find(&self, id: KeyId) -> Result<&TrustedKey> {
        // whom a verifier trusts is nobody's business but its own
        let unknown = || Error::new(Code::KeyUnknown, "no trusted key has the capsule's key id");
        self.keys.get(&id).ok_or_else(|| unknown().at(id))
    }

    /// Refuses to go by a registry that has expired since it was verified.
    pub(crate) fn check_current(&self, now: u64) -> Result<()> {
        if now >= self.expires && self.expires != TrustedKey::NO_END {
            return Err(expired(now, self.expires));
        }
        match self.fresh_until {
            Some(end) if now >= end => Err(stale(now, end)),
            _ => Ok(()),
        }
    }

    pub(crate) fn check_revoked(&self, capsule: CapsuleId) -> Result<()> {
        match self.revoked.contains(&capsule) {
            true => Err(Error::new(Code::ClaimsRevoked, "the capsule is revoked").at(capsule)),
            false => Ok(()),
        }
    }
}

impl Default for Trust {
    fn default() -> Self {
        Self::none()
    }
}

impl From<TrustedKey> for Trust {
    fn from(key: TrustedKey) -> Self {
        Self {
            keys: BTreeMap::from([(key.key.id(), key)]),
            ..Self::none()
        }
    }
}

/// The key's public half, for the issuer that it speaks for.
impl From<&SigningKey> for Trust {
    fn from(key: &SigningKey) -> Self {
        Self::from(TrustedKey::from(key))
    }
}

pub(crate) fn expired(now: u64, expires: u64) -> Error {
    Error::new(Code::RegistryExpired, "the key registry has expired").sides(
        format_args!("an end after {}", show_instant(now)),
        show_instant(expires),
    )
}

pub(crate) fn stale(now: u64, expires: u64) -> Error {
    Error::new(
        Code::RegistryStale,
        "the registry's timestamp has expired: a newer version may be held back",
    )
    .sides(
        format_args!("an end after {}", show_instant(now)),
        show_instant(expires),
    )
}
