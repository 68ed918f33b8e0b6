//! Sealing: a state, in a file or in memory, into a capsule.

use std::path::PathBuf;

use kvcap_calls as library;
use pyo3::{exceptions::PyValueError, prelude::*, types::PyBytes};

use crate::{
    call::{source, terms, watched},
    memory::Fresh,
    profile::Profile,
};

/// What was sealed.
#[pyclass(frozen, get_all, module = "kvcap")]
pub(crate) struct Sealed {
    /// The capsule's id.
    id: String,
    /// The capsule; None where it went to a file.
    capsule: Option<Py<PyBytes>>,
    /// Its bytes.
    length: u64,
    /// Bytes of the state file that it stands for.
    state_length: u64,
    /// First position and the one after the last.
    positions: (u64, u64),
    /// When it expires, in seconds since 1970.
    expires: u64,
    /// Things that a user should know of the state, a sentence each.
    notes: Vec<String>,
}

#[pymethods]
impl Sealed {
    fn __repr__(&self) -> String {
        format!("<kvcap.Sealed {}, {} bytes>", self.id, self.length)
    }
}

/// Seals a runtime's saved state, a file or an object in memory, into the file `to` or into memory.
#[pyfunction]
#[pyo3(signature = (state, to = None, *, profile = None, tokens = None, danger_no_prefix = false, runtime = None,
    runtime_version = None, compress = false, history = None, agent_state = None, session = None, sequence = None,
    single_use = false, parent = None, chain = vec![], replace = false, progress = None))]
#[expect(clippy::too_many_arguments, reason = "keyword arguments")]
pub(crate) fn seal(
    py: Python<'_>,
    state: &Bound<'_, PyAny>,
    to: Option<PathBuf>,
    profile: Option<Py<Profile>>,
    tokens: Option<Vec<u32>>,
    danger_no_prefix: bool,
    runtime: Option<String>,
    runtime_version: Option<String>,
    compress: bool,
    history: Option<Vec<u8>>,
    agent_state: Option<Vec<u8>>,
    session: Option<(String, u64, u64)>,
    sequence: Option<u64>,
    single_use: bool,
    parent: Option<PathBuf>,
    chain: Vec<PathBuf>,
    replace: bool,
    progress: Option<Py<PyAny>>,
) -> PyResult<Sealed> {
    if tokens.is_some() && danger_no_prefix {
        return Err(PyValueError::new_err(
            "tokens bind the capsule to a prompt, danger_no_prefix to none",
        ));
    }
    let source = source(state)?;
    let terms = terms(profile, Vec::new(), chain, None, None)?;
    let said = library::Said {
        tokens,
        danger_no_prefix,
        runtime,
        runtime_version,
        compress,
        history,
        agent_state,
        session,
        sequence,
        single_use,
        parent,
    };
    let memory = Fresh::default();
    let made = watched(py, progress, |progress| match &to {
        Some(to) => library::seal_to_file(&source, &terms, said, (to, replace), progress),
        None => library::seal(&source, &terms, said, &memory, progress),
    })?;
    let capsule = match to {
        Some(_) => None,
        None => Some(memory.into_bytes(py)?.unbind()),
    };
    Ok(Sealed {
        id: made.id,
        capsule,
        length: made.length,
        state_length: made.state_length,
        positions: made.positions,
        expires: made.expires,
        notes: made.notes,
    })
}
