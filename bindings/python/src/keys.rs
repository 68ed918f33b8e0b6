//! Keys in files.

use std::path::{Path, PathBuf};

use kvcap::RecipientKind;
use kvcap_store::{FreshKey, key_file, output::Readers};
use pyo3::{exceptions::PyValueError, prelude::*};
use zeroize::Zeroizing;

use crate::error::OrRaise;

/// Public half of a key, and where it lies. The secret stays in its file.
#[pyclass(frozen, get_all, module = "kvcap")]
pub(crate) struct Key {
    /// Its id, in hexadecimal.
    id: String,
    /// The public key's text, or None for a symmetric key.
    public: Option<String>,
    /// The issuer that a signing key speaks for.
    issuer: Option<String>,
    /// The file of the public key, or None.
    public_path: Option<PathBuf>,
}

#[pymethods]
impl Key {
    fn __repr__(&self) -> String {
        format!("<kvcap.Key {}>", self.id)
    }
}

/// Makes a signing key in the file `path` and its public key in `path.pub`.
#[pyfunction]
#[pyo3(signature = (path, *, issuer = None, passphrase = None))]
pub(crate) fn new_signing_key(
    py: Python<'_>,
    path: PathBuf,
    issuer: Option<&str>,
    passphrase: Option<String>,
) -> PyResult<Key> {
    py.detach(|| written(&FreshKey::signing(issuer)?, &path, passphrase))
        .or_raise()
}

/// Makes a wrapping key in the file `path`: symmetric, or a key pair whose public key goes to `path.pub`.
#[pyfunction]
#[pyo3(signature = (path, *, kind = "symmetric", passphrase = None))]
pub(crate) fn new_wrapping_key(
    py: Python<'_>,
    path: PathBuf,
    kind: &str,
    passphrase: Option<String>,
) -> PyResult<Key> {
    let kind = match kind {
        "symmetric" => RecipientKind::Symmetric,
        "x25519" => RecipientKind::X25519,
        "x-wing" => RecipientKind::XWing,
        _ => {
            return Err(PyValueError::new_err(
                "a wrapping key is symmetric, x25519 or x-wing",
            ));
        }
    };
    py.detach(|| written(&FreshKey::wrapping(kind)?, &path, passphrase))
        .or_raise()
}

/// Reads a public signing key: a file, or the key's text.
#[pyfunction]
pub(crate) fn read_public_key(key: &str) -> PyResult<Key> {
    let trusted = key_file::trusted(key).or_raise()?;
    Ok(Key {
        id: trusted.key.id().to_string(),
        public: Some(trusted.key.to_text()),
        issuer: Some(trusted.issuer),
        public_path: None,
    })
}

fn written(key: &FreshKey, path: &Path, passphrase: Option<String>) -> kvcap::Result<Key> {
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
