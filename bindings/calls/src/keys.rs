//! Keys in files.

use std::path::{Path, PathBuf};

use kvcap::{Code, Error, RecipientKind, Result};
use kvcap_store::{FreshKey, key_file, output::Readers};
use zeroize::Zeroizing;

use crate::profile::begin;

/// Public half of a key, and where it lies. The secret stays in its file.
#[derive(Clone, Debug)]
pub struct Key {
    /// Its id, in hexadecimal.
    pub id: String,
    /// The public key's text; none for a symmetric key.
    pub public: Option<String>,
    /// The issuer that a signing key speaks for.
    pub issuer: Option<String>,
    /// The file of the public key.
    pub public_path: Option<PathBuf>,
}

/// Makes a signing key in the file `path` and its public key in `path.pub`.
///
/// # Errors
/// KVC-940, KVC-941, KVC-944.
pub fn new_signing_key(
    path: &Path,
    issuer: Option<&str>,
    passphrase: Option<String>,
) -> Result<Key> {
    written(&FreshKey::signing(issuer)?, path, passphrase)
}

/// Makes a wrapping key in the file `path`: `symmetric`, or `x25519` or `x-wing`, whose public key goes to `path.pub`.
///
/// # Errors
/// KVC-940, KVC-941; KVC-944 for another kind.
pub fn new_wrapping_key(path: &Path, kind: &str, passphrase: Option<String>) -> Result<Key> {
    let kind = match kind {
        "symmetric" => RecipientKind::Symmetric,
        "x25519" => RecipientKind::X25519,
        "x-wing" => RecipientKind::XWing,
        _ => {
            let what = "a wrapping key is symmetric, x25519 or x-wing";
            return Err(Error::new(Code::LocalUsage, what));
        }
    };
    written(&FreshKey::wrapping(kind)?, path, passphrase)
}

/// Reads a public signing key: a file, or the key's text.
///
/// # Errors
/// KVC-940, KVC-942.
pub fn read_public_key(key: &str) -> Result<Key> {
    let trusted = key_file::trusted(key)?;
    Ok(Key {
        id: trusted.key.id().to_string(),
        public: Some(trusted.key.to_text()),
        issuer: Some(trusted.issuer),
        public_path: None,
    })
}

pub(crate) fn written(key: &FreshKey, path: &Path, passphrase: Option<String>) -> Result<Key> {
    begin();
    let passphrase = passphrase.map(Zeroizing::new);
    let passphrase = passphrase.as_ref().map(|text| text.as_str());
    let public_path = key.write(path, false, Readers::Umask, passphrase)?;
    Ok(Key {
        id: key.id.to_string(),
        public: key.public.clone(),
        issuer: key.issuer.clone(),
        public_path,
    })
}
