//! Verification: of a whole capsule, and of bytes as they come.

use std::path::PathBuf;

use kvcap_calls as library;
use pyo3::{prelude::*, pybacked::PyBackedBytes};

use crate::{
    call::{self, Judged, terms, watched},
    error::OrRaise,
    profile::Profile,
    results::Verdict,
};

/// Verifies a capsule with public keys alone: header, then every byte of the body and of its ancestors.
#[pyfunction]
#[pyo3(signature = (source, *, profile = None, header_only = false, accept_unchecked = vec![], chain = vec![],
    session = None, dtypes = None, progress = None))]
#[expect(clippy::too_many_arguments, reason = "keyword arguments")]
pub(crate) fn verify(
    py: Python<'_>,
    source: &Bound<'_, PyAny>,
    profile: Option<Py<Profile>>,
    header_only: bool,
    accept_unchecked: Vec<String>,
    chain: Vec<PathBuf>,
    session: Option<Judged>,
    dtypes: Option<(String, String)>,
    progress: Option<Py<PyAny>>,
) -> PyResult<Verdict> {
    let source = call::source(source)?;
    let terms = terms(profile, accept_unchecked, chain, session, dtypes)?;
    watched(py, progress, |progress| {
        library::verify(source, &terms, header_only, progress)
    })
    .map(Verdict::from)
}

/// A capsule verified as its bytes come: `feed` pieces of any length, then `finish`.
///
/// The header is judged with its last byte. A refusal is raised by the call that has seen it, and by every one after.
#[pyclass(module = "kvcap")]
pub(crate) struct Verifying(library::Verifying);

#[pymethods]
impl Verifying {
    #[new]
    #[pyo3(signature = (*, profile = None, accept_unchecked = vec![], session = None))]
    fn new(
        py: Python<'_>,
        profile: Option<Py<Profile>>,
        accept_unchecked: Vec<String>,
        session: Option<Judged>,
    ) -> PyResult<Self> {
        let terms = terms(profile, accept_unchecked, Vec::new(), session, None)?;
        let begun = py.detach(|| library::Verifying::new(terms));
        begun.map(Self).or_raise()
    }

    /// Takes the next bytes, and gives the header's verdict once it is judged, None before.
    fn feed(&mut self, py: Python<'_>, piece: &Bound<'_, PyAny>) -> PyResult<Option<Verdict>> {
        // a piece is copied: whoever verifies must read the bytes that were verified
        let piece = py.import("builtins")?.getattr("bytes")?.call1((piece,))?;
        let piece: PyBackedBytes = piece.extract()?;
        let judged = py.detach(|| self.0.feed(&piece)).or_raise()?;
        Ok(judged.map(Verdict::from))
    }

    /// Says that no more bytes come, and accepts the capsule, if it still may be.
    fn finish(&mut self, py: Python<'_>) -> PyResult<Verdict> {
        let accepted = py.detach(|| self.0.finish());
        accepted.map(Verdict::from).or_raise()
    }
}
