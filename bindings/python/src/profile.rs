//! Settings of a profile.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use kvcap_calls::{Given, Profile as Library};
use pyo3::{
    exceptions::{PyTypeError, PyValueError},
    prelude::*,
    types::{PyDict, PyList, PyString, PyTuple},
};

use crate::error::OrRaise;

/// Settings that hold for the calls it is given to: whom to trust, whose keys, which model, for whom and how long.
///
/// `Profile(...)` is what its arguments say and nothing else; `Profile.load(...)` begins with the user's configuration
/// and the `KVCAP_*` variables, as the program does. Arguments are the settings of docs/reference/config.md with `_`
/// for `-`; lists may be lists.
#[pyclass(frozen, module = "kvcap")]
pub(crate) struct Profile(pub(crate) Arc<Library>);

#[pymethods]
impl Profile {
    #[new]
    #[pyo3(signature = (*, passphrase = None, **settings))]
    fn new(passphrase: Option<String>, settings: Option<&Bound<'_, PyDict>>) -> PyResult<Self> {
        made(Library::new(given(settings)?, passphrase))
    }

    #[staticmethod]
    #[pyo3(signature = (name = None, *, passphrase = None, **settings))]
    fn load(
        name: Option<&str>,
        passphrase: Option<String>,
        settings: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Self> {
        made(Library::load(name, given(settings)?, passphrase))
    }

    /// Makes a profile with keys of its own in the user's configuration, as `kvcap init` does, and loads it.
    #[staticmethod]
    #[pyo3(signature = (name = "default", *, issuer = None, passphrase = None, **settings))]
    fn create(
        py: Python<'_>,
        name: &str,
        issuer: Option<&str>,
        passphrase: Option<String>,
        settings: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Self> {
        let given = given(settings)?;
        made(py.detach(|| Library::create(name, issuer, given, passphrase)))
    }

    /// The profile's name in the configuration, or None.
    #[getter]
    fn name(&self) -> Option<&str> {
        self.0.name()
    }

    /// All that is set: paths and public keys, no secret.
    #[getter]
    fn settings(&self) -> BTreeMap<String, Vec<String>> {
        self.0.settings()
    }

    fn __repr__(&self) -> String {
        let names: Vec<String> = self.settings().into_keys().collect();
        let name = self.name().unwrap_or("none");
        format!("<kvcap.Profile {name}: {}>", names.join(", "))
    }
}

fn made(profile: kvcap::Result<Library>) -> PyResult<Profile> {
    profile.map(|made| Profile(Arc::new(made))).or_raise()
}

/// Keyword arguments as settings.
pub(crate) fn given(settings: Option<&Bound<'_, PyDict>>) -> PyResult<Given> {
    let mut given = Given::default();
    for (name, value) in settings.into_iter().flatten() {
        let name: String = name.extract()?;
        if value.is_none() {
            continue;
        }
        if !Given::knows(&name) {
            return Err(PyTypeError::new_err(format!("no such setting: {name}")));
        }
        let many = value.is_instance_of::<PyList>() || value.is_instance_of::<PyTuple>();
        let texts: PyResult<_> = match many {
            true => value.try_iter()?.map(|item| text(&item?)).collect(),
            false => text(&value).map(|text| vec![text]),
        };
        given.set(&name, texts?).map_err(|refused| {
            PyValueError::new_err(match many {
                true => format!("{name} is one value, not a list"),
                false => refused.to_string(),
            })
        })?;
    }
    Ok(given)
}

/// A text, a number or a path as flags write it.
fn text(value: &Bound<'_, PyAny>) -> PyResult<String> {
    if let Ok(text) = value.cast::<PyString>() {
        return Ok(text.to_string());
    }
    if let Ok(number) = value.extract::<u64>() {
        return Ok(number.to_string());
    }
    let path: PathBuf = value.extract()?;
    let path = path.into_os_string().into_string();
    path.map_err(|_| PyValueError::new_err("the path is not text in UTF-8"))
}
