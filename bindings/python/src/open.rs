//! Opening: a verified capsule's state into a file or into memory.

use std::path::PathBuf;

use kvcap_calls as library;
use kvcap_states::Selection;
use pyo3::{prelude::*, types::PyByteArray};

use crate::{
    call::{self, Judged, terms, watched},
    error::OrRaise,
    memory::filled,
    profile::Profile,
    results::Verdict,
};

/// What was opened.
#[pyclass(frozen, get_all, module = "kvcap")]
pub(crate) struct Opened {
    /// Judgement of the capsule.
    verdict: Py<Verdict>,
    /// The state, or the part that was asked for; None where it went to a file.
    state: Option<Py<PyByteArray>>,
    /// Its bytes.
    length: u64,
    /// Token ids that were sealed beside it, or None.
    tokens: Option<Vec<u32>>,
}

#[pymethods]
impl Opened {
    fn __repr__(&self) -> String {
        format!("<kvcap.Opened {} bytes>", self.length)
    }
}

/// Verifies a capsule and opens it: the runtime's state file into the file `to` or into memory, or layers or positions
/// alone as plain tensors (safetensors).
#[pyfunction]
#[pyo3(signature = (source, to = None, *, profile = None, tokens = None, layers = None, positions = None,
    accept_unchecked = vec![], chain = vec![], session = None, dtypes = None, replace = false, progress = None))]
#[expect(clippy::too_many_arguments, reason = "keyword arguments")]
pub(crate) fn open(
    py: Python<'_>,
    source: &Bound<'_, PyAny>,
    to: Option<PathBuf>,
    profile: Option<Py<Profile>>,
    tokens: Option<Vec<u32>>,
    layers: Option<(u32, u32)>,
    positions: Option<(u64, u64)>,
    accept_unchecked: Vec<String>,
    chain: Vec<PathBuf>,
    session: Option<Judged>,
    dtypes: Option<(String, String)>,
    replace: bool,
    progress: Option<Py<PyAny>>,
) -> PyResult<Opened> {
    let source = call::source(source)?;
    let terms = terms(profile, accept_unchecked, chain, session, dtypes)?;
    let part = (layers.is_some() || positions.is_some()).then(|| Selection {
        layers: layers.map(|(from, to)| from..to),
        positions: positions.map(|(from, to)| from..to),
    });
    let (tokens, part) = (tokens.as_deref(), part.as_ref());
    let (opened, length, state) = match &to {
        Some(to) => {
            let (opened, length) = watched(py, progress, |progress| {
                library::open_to_file(source, terms, tokens, part, (to, replace), progress)
            })?;
            (opened, length, None)
        }
        None => {
            let opened = py.detach(|| library::open(source, terms, tokens));
            let opened = opened.or_raise()?;
            let (length, state) = in_memory(py, &opened, part, progress)?;
            (opened, length, Some(state.unbind()))
        }
    };
    Ok(Opened {
        verdict: Py::new(py, Verdict::from(opened.verdict().clone()))?,
        state,
        length,
        tokens: py.detach(|| opened.tokens()).or_raise()?,
    })
}

fn in_memory<'py>(
    py: Python<'py>,
    opened: &library::Opened,
    part: Option<&Selection>,
    progress: Option<Py<PyAny>>,
) -> PyResult<(u64, Bound<'py, PyByteArray>)> {
    if part.is_some() {
        let read = watched(py, progress, |progress| opened.read(part, progress))?;
        let length = u64::try_from(read.len())?;
        return Ok((length, PyByteArray::new(py, &read)));
    }
    // written where it stays
    let length = py.detach(|| opened.state_len()).or_raise()?;
    let state = filled(py, length, |out| {
        watched(py, progress, |progress| opened.write(None, out, progress)).map(drop)
    })?;
    Ok((length, state))
}
