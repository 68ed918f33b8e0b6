//! What calls are given, and how they run: capsules and states by path or in memory, terms, progress.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use kvcap_calls::{Asked, Progress, Source, Terms};
use pyo3::{
    prelude::*,
    types::{PyBytes, PyString},
};

use crate::{
    error::OrRaise,
    memory::{Frozen, Shared},
    profile::Profile,
    tensors::{Lent, Tensors},
};

/// Takes a capsule or a state: a path, or an object with the buffer protocol or DLPack's.
pub(crate) fn source(object: &Bound<'_, PyAny>) -> PyResult<Source> {
    if let Ok(tensors) = object.cast::<Tensors>() {
        return Ok(Source::memory(Lent(tensors.clone().unbind())));
    }
    if let Ok(bytes) = object.cast::<PyBytes>() {
        return Ok(Source::memory(Frozen(bytes.clone().into())));
    }
    // a path is text or says by __fspath__ that it is one; bytes are content
    if !object.is_instance_of::<PyString>() && !object.hasattr("__fspath__")? {
        return Ok(Source::memory(Shared::of(object)?));
    }
    Source::file(&object.extract::<PathBuf>()?).or_raise()
}

/// The checkpoint that a capsule must be: a session's id, or that with version and cursor.
#[derive(FromPyObject)]
pub(crate) enum Judged {
    Id(String),
    Version(String, Option<u64>, Option<u64>),
}

/// Takes the terms that a capsule is judged on.
pub(crate) fn terms(
    profile: Option<Py<Profile>>,
    accept_unchecked: Vec<String>,
    chain: Vec<PathBuf>,
    session: Option<Judged>,
    dtypes: Option<(String, String)>,
) -> PyResult<Terms> {
    let session = session.map(|session| match session {
        Judged::Id(id) => (id, None, None),
        Judged::Version(id, version, cursor) => (id, version, cursor),
    });
    let asked = Asked {
        accept_unchecked,
        chain,
        session,
        dtypes,
    };
    Terms::new(profile.map(|profile| Arc::clone(&profile.get().0)), asked).or_raise()
}

/// Runs a long call without the interpreter, and tells `told` bytes done and bytes in all. What that raises ends the call
/// with its exception, and nothing appears.
pub(crate) fn watched<T: Send>(
    py: Python<'_>,
    told: Option<Py<PyAny>>,
    act: impl FnOnce(&Progress<'_>) -> kvcap::Result<T> + Send,
) -> PyResult<T> {
    let raised = Mutex::new(None);
    let tell = |done: u64, all: u64| {
        let Some(told) = &told else { return true };
        let said = Python::attach(|py| told.call1(py, (done, all)).map(drop));
        let Err(error) = said else { return true };
        let mut raised = raised.lock().unwrap_or_else(PoisonError::into_inner);
        raised.get_or_insert(error);
        false
    };
    let progress = match told {
        Some(_) => Progress::telling(&tell),
        None => Progress::none(),
    };
    let made = py.detach(|| act(&progress));
    let raised = raised.lock().unwrap_or_else(PoisonError::into_inner).take();
    match raised {
        Some(error) => Err(error),
        None => made.or_raise(),
    }
}
