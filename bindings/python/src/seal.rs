//! Sealing: a state, in a file or in memory, into a capsule.

use std::path::PathBuf;

use kvcap_calls as library;
use pyo3::{
    exceptions::PyValueError,
    prelude::*,
    types::{PyBytes, PyMemoryView},
};

use crate::{
    call::{source, terms, watched},
    memory::Fresh,
    profile::Profile,
};

/// Where a capsule goes.
pub(crate) enum To {
    /// Memory that is returned.
    Memory,
    /// A file, which may be replaced.
    File(PathBuf, bool),
    /// An object with `write`, which is given it once it is whole.
    Stream(Py<PyAny>),
}

impl To {
    pub(crate) fn of(to: Option<&Bound<'_, PyAny>>, replace: bool) -> PyResult<Self> {
        match to {
            None => Ok(Self::Memory),
            Some(to) if to.hasattr("write")? => Ok(Self::Stream(to.clone().unbind())),
            Some(to) => Ok(Self::File(to.extract()?, replace)),
        }
    }
}

/// What was sealed.
#[pyclass(frozen, get_all, module = "kvcap")]
pub(crate) struct Sealed {
    /// The capsule's id.
    id: String,
    /// The capsule; None where it went to a file or a stream.
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

/// Seals a runtime's saved state, a file or an object in memory, into the file or the stream `to`, or into memory.
#[pyfunction]
#[pyo3(signature = (state, to = None, *, profile = None, tokens = None, danger_no_prefix = false, runtime = None,
    runtime_version = None, compress = false, history = None, agent_state = None, session = None, sequence = None,
    single_use = false, parent = None, chain = vec![], replace = false, progress = None))]
#[expect(clippy::too_many_arguments, reason = "keyword arguments")]
pub(crate) fn seal(
    py: Python<'_>,
    state: &Bound<'_, PyAny>,
    to: Option<&Bound<'_, PyAny>>,
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
    sealed(py, (&source, &terms, said), To::of(to, replace)?, progress)
}

/// Seals to where it shall go.
pub(crate) fn sealed(
    py: Python<'_>,
    (source, terms, said): (&library::Source, &library::Terms, library::Said),
    to: To,
    progress: Option<Py<PyAny>>,
) -> PyResult<Sealed> {
    let memory = Fresh::default();
    let made = watched(py, progress, |progress| match &to {
        To::File(path, replace) => {
            library::seal_to_file(source, terms, said, (path, *replace), progress)
        }
        To::Memory | To::Stream(_) => library::seal(source, terms, said, &memory, progress),
    })?;
    let capsule = match to {
        To::File(..) => None,
        To::Memory => Some(memory.into_bytes(py)?.unbind()),
        To::Stream(stream) => {
            write_all(stream.bind(py), &memory.into_bytes(py)?)?;
            None
        }
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

/// Gives a stream all of it: one without a buffer may take a part at a time.
fn write_all(stream: &Bound<'_, PyAny>, bytes: &Bound<'_, PyBytes>) -> PyResult<()> {
    let (length, mut at) = (bytes.as_bytes().len(), 0);
    let view = PyMemoryView::from(bytes)?;
    let slice = view.py().import("builtins")?.getattr("slice")?;
    while at < length {
        let rest = view.call_method1("__getitem__", (slice.call1((at, length))?,))?;
        // one that says nothing has taken all
        let taken: Option<usize> = stream.call_method1("write", (rest,))?.extract()?;
        at += taken.unwrap_or(length);
    }
    Ok(())
}
