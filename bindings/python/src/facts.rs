//! What a capsule says of itself, what a model is, and keys in files.

use std::path::PathBuf;

use kvcap_calls as library;
use pyo3::{prelude::*, types::PyDict};

use crate::{
    call::source,
    error::OrRaise,
    profile::given,
    results::{Claims, Key, Model},
};

/// Reads what a capsule says of itself: its header alone, no key. Nobody has vouched for any of it.
#[pyfunction]
#[pyo3(signature = (source))]
pub(crate) fn inspect(py: Python<'_>, source: &Bound<'_, PyAny>) -> PyResult<Claims> {
    let source = self::source(source)?;
    let read = py.detach(|| library::inspect(&source));
    read.map(Claims::from).or_raise()
}

/// Reads a model's identity: a folder, a GGUF file or a .kvid file; its weights are hashed once and then remembered.
#[pyfunction]
#[pyo3(signature = (model, **settings))]
pub(crate) fn model_id(
    py: Python<'_>,
    model: PathBuf,
    settings: Option<&Bound<'_, PyDict>>,
) -> PyResult<Model> {
    let given = given(settings)?;
    let read = py.detach(|| library::model_id(&model, given));
    read.map(Model::from).or_raise()
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
    let made = py.detach(|| library::new_signing_key(&path, issuer, passphrase));
    made.map(Key::from).or_raise()
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
    let made = py.detach(|| library::new_wrapping_key(&path, kind, passphrase));
    made.map(Key::from).or_value_error()
}

/// Reads a public signing key: a file, or the key's text.
#[pyfunction]
pub(crate) fn read_public_key(key: &str) -> PyResult<Key> {
    library::read_public_key(key).map(Key::from).or_raise()
}
