//! Key registries that are written.

use std::path::{Path, PathBuf};

use kvcap::{Code, Error};
use kvcap_calls::{self as library, Edit, Root};
use pyo3::prelude::*;

use crate::{
    error::OrRaise,
    results::{Key, Registry},
};

/// A key that is listed: alone, for the issuer that its file names, or with the issuer.
#[derive(FromPyObject)]
pub(crate) enum Added {
    Alone(PathBuf),
    For(PathBuf, String),
}

/// A file, an id or a key's text.
fn text(named: PathBuf) -> kvcap::Result<String> {
    let text = named.into_os_string().into_string();
    text.map_err(|_| Error::new(Code::LocalUsage, "a key or a capsule is named in UTF-8"))
}

/// Makes a root key in the file `path` and its public key in `path.pub`.
#[pyfunction]
#[pyo3(signature = (path, *, passphrase = None))]
pub(crate) fn new_root_key(
    py: Python<'_>,
    path: PathBuf,
    passphrase: Option<String>,
) -> PyResult<Key> {
    let made = py.detach(|| library::new_root_key(&path, passphrase));
    made.map(Key::from).or_raise()
}

/// Makes version 1 of a registry in the file `path`, which lists nothing and is valid for `ttl` seconds.
#[pyfunction]
#[pyo3(signature = (path, *, root_key, ttl, passphrase = None))]
pub(crate) fn create_registry(
    py: Python<'_>,
    path: PathBuf,
    root_key: PathBuf,
    ttl: u64,
    passphrase: Option<String>,
) -> PyResult<Registry> {
    let made = py.detach(|| library::create_registry(&path, root(&root_key, passphrase), ttl));
    made.map(Registry::from).or_raise()
}

/// Writes the next version of a registry, with all of the changes or none; without one it only lives longer.
#[pyfunction]
#[pyo3(signature = (path, *, root_key, add = vec![], retire = vec![], compromise = vec![], revoke = vec![], ttl = None,
    passphrase = None))]
#[allow(clippy::too_many_arguments, reason = "Python's are named")]
pub(crate) fn change_registry(
    py: Python<'_>,
    path: PathBuf,
    root_key: PathBuf,
    add: Vec<Added>,
    retire: Vec<PathBuf>,
    compromise: Vec<PathBuf>,
    revoke: Vec<PathBuf>,
    ttl: Option<u64>,
    passphrase: Option<String>,
) -> PyResult<Registry> {
    let edits = || -> kvcap::Result<Vec<Edit>> {
        let added = add.into_iter().map(|added| {
            Ok(match added {
                Added::Alone(key) => Edit::Add(text(key)?, None),
                Added::For(key, issuer) => Edit::Add(text(key)?, Some(issuer)),
            })
        });
        let each = |named: Vec<PathBuf>, edit: fn(String) -> Edit| {
            named.into_iter().map(move |named| Ok(edit(text(named)?)))
        };
        added
            .chain(each(retire, Edit::Retire))
            .chain(each(compromise, Edit::Compromise))
            .chain(each(revoke, Edit::Revoke))
            .collect()
    };
    let edits = edits().or_raise()?;
    let next =
        py.detach(|| library::change_registry(&path, root(&root_key, passphrase), &edits, ttl));
    next.map(Registry::from).or_raise()
}

fn root(path: &Path, passphrase: Option<String>) -> Root<'_> {
    Root { path, passphrase }
}
