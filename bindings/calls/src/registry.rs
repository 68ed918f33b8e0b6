//! Key registries that are written: which keys may seal, and which capsules are revoked (registry-v1).

use std::path::Path;

use kvcap::{Change, Result, RootKey, TrustedKey};
use kvcap_store::{FreshKey, Passphrases, RegistryFile, key_file, revocable_id, time};
use zeroize::Zeroizing;

use crate::{keys, keys::Key, profile::begin};

/// The secret root key that signs a registry: its file, and the passphrase that it is under.
pub struct Root<'a> {
    /// Its file.
    pub path: &'a Path,
    /// Its passphrase.
    pub passphrase: Option<String>,
}

/// A change to a registry. A key is its id, a file of a public key, or its text.
#[derive(Clone, Debug)]
pub enum Edit {
    /// Lists a key for an issuer; without one, for the issuer that the key's file names.
    Add(String, Option<String>),
    /// Ends a key's signing now; what it signed before stays good.
    Retire(String),
    /// Voids everything that a key has ever signed.
    Compromise(String),
    /// Revokes a capsule: a file, which a key of the registry has signed, or an id, which nobody verifies.
    Revoke(String),
}

/// A version of a registry.
#[derive(Clone, Debug)]
pub struct Registry {
    /// Its number, from 1 on.
    pub version: u64,
    /// Id of its root key.
    pub root: String,
    /// Time when it was signed, in seconds since 1970.
    pub issued_at: u64,
    /// Time of expiry.
    pub expires: u64,
    /// Ids of the keys that it lists.
    pub keys: Vec<String>,
    /// Ids of the capsules that it revokes.
    pub revoked: Vec<String>,
}

impl From<kvcap::Registry> for Registry {
    fn from(made: kvcap::Registry) -> Self {
        let listing = made.listing();
        let (keys, revoked) = (listing.keys.iter(), listing.revoked.iter());
        Self {
            version: listing.version,
            root: made.mark().root.to_string(),
            issued_at: listing.issued_at,
            expires: listing.expires,
            keys: keys.map(|listed| listed.key.id().to_string()).collect(),
            revoked: revoked.map(|gone| gone.capsule.to_string()).collect(),
        }
    }
}

/// Makes a root key in the file `path` and its public key in `path.pub`.
///
/// # Errors
/// KVC-940, KVC-941.
pub fn new_root_key(path: &Path, passphrase: Option<String>) -> Result<Key> {
    keys::written(&FreshKey::root()?, path, passphrase)
}

/// Makes version 1 of a registry, which lists nothing and is valid for `ttl` seconds.
///
/// # Errors
/// KVC-941 where the file exists; KVC-940, KVC-942, KVC-943, KVC-946 for the root key.
pub fn create_registry(file: &Path, root: Root<'_>, ttl: u64) -> Result<Registry> {
    begin();
    let made = RegistryFile::at(file).create(&root.read()?, time::now(), ttl)?;
    Ok(made.into())
}

/// Writes the next version of a registry, with all of the changes or none; without one it only lives longer. It is valid for
/// `ttl` seconds, or as long as the one before.
///
/// # Errors
/// KVC-3xx for what cannot be changed; KVC-944 for a key without an issuer whose own another key speaks for; KVC-94x for
/// files and keys; as the verifier for a capsule's file.
pub fn change_registry(
    file: &Path,
    root: Root<'_>,
    edits: &[Edit],
    ttl: Option<u64>,
) -> Result<Registry> {
    begin();
    let (root, now) = (root.read()?, time::now());
    let changes = edits.iter().map(|edit| edit.change(file, &root, now));
    let changes = changes.collect::<Result<Vec<_>>>()?;
    let next = RegistryFile::at(file).change(&changes, &root, now, ttl)?;
    Ok(next.into())
}

impl Root<'_> {
    fn read(self) -> Result<RootKey> {
        let passphrase = self.passphrase.map(Zeroizing::new);
        let ask = |_: &Path| Ok(passphrase.clone().unwrap_or_default());
        let known = match &passphrase {
            Some(_) => Passphrases::asking(&ask),
            None => Passphrases::none(),
        };
        key_file::root(self.path, &known)
    }
}

impl Edit {
    fn change(&self, file: &Path, root: &RootKey, now: u64) -> Result<Change> {
        Ok(match self {
            Self::Add(key, issuer) => {
                let key = key_file::trusted(key)?;
                let under = [root.public()];
                let entry = RegistryFile::at(file).entry(key, issuer.as_deref(), &under)?;
                Change::Add(Box::new(entry))
            }
            Self::Retire(key) => Change::Retire {
                key: key_file::key_id(key)?,
                sign_until: now,
                verify_until: TrustedKey::NO_END,
            },
            Self::Compromise(key) => Change::Compromise(key_file::key_id(key)?),
            Self::Revoke(capsule) => Change::Revoke(revocable_id(file, &[root.public()], capsule)?),
        })
    }
}
