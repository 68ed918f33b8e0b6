//! Sessions of agents, in files of this user's alone (session-v1).

use std::{path::PathBuf, sync::Arc};

use kvcap_calls as library;
use pyo3::{exceptions::PyValueError, prelude::*, types::PyByteArray};

use crate::{
    call::{source, watched},
    error::OrRaise,
    profile::Profile,
    results::Checkpoint,
    seal::{To, sealed},
};

/// Sessions of a profile's tenant, one subject or many: `$XDG_STATE_HOME/kvcap/sessions`, or a folder.
#[pyclass(frozen, module = "kvcap")]
pub(crate) struct SessionManager(library::SessionManager);

#[pymethods]
impl SessionManager {
    #[new]
    #[pyo3(signature = (*, profile = None, folder = None))]
    fn new(profile: Option<Py<Profile>>, folder: Option<PathBuf>) -> PyResult<Self> {
        let profile = profile.map(|profile| Arc::clone(&profile.get().0));
        let made = library::SessionManager::new(profile, folder);
        made.map(Self).or_raise()
    }

    /// Loads a session by its whole id, or makes it. `user` stands for the profile's subject.
    #[pyo3(signature = (id, *, user = None))]
    fn load_or_create(&self, py: Python<'_>, id: &str, user: Option<String>) -> PyResult<Session> {
        let loaded = py.detach(|| self.0.load_or_create(id, user));
        loaded.map(Session).or_raise()
    }

    /// Returns the ids of a user's sessions, the last written first.
    #[pyo3(signature = (*, user = None))]
    fn sessions(&self, py: Python<'_>, user: Option<String>) -> PyResult<Vec<String>> {
        py.detach(|| self.0.sessions(user)).or_raise()
    }
}

/// A session: an append-only log, and checkpoints with states.
#[pyclass(frozen, module = "kvcap")]
pub(crate) struct Session(library::Session);

/// What a session was resumed with.
#[pyclass(frozen, get_all, module = "kvcap")]
pub(crate) struct Resumed {
    /// Rung that was taken: exact, shorter, history-only, fresh.
    rung: &'static str,
    /// Sentence for the user on what that means.
    sentence: String,
    /// Code of the reason that it is no better one, or None.
    code: Option<u16>,
    /// The state file, or None.
    state: Option<Py<PyByteArray>>,
    /// Tokens that the state covers.
    token_count: u64,
    /// Events after it that are to be read again; None where the state was cut.
    events_after: Option<u64>,
}

#[pymethods]
impl Session {
    /// The session's id.
    #[getter]
    fn id(&self) -> String {
        self.0.id()
    }

    /// Tokens that the newest state covers.
    #[getter]
    fn token_count(&self, py: Python<'_>) -> PyResult<u64> {
        Ok(py.detach(|| self.0.current()).or_raise()?.token_count)
    }

    /// Turns so far.
    #[getter]
    fn turns(&self, py: Python<'_>) -> PyResult<u64> {
        Ok(py.detach(|| self.0.current()).or_raise()?.turns)
    }

    /// Versions of its checkpoints, ascending.
    #[getter]
    fn versions(&self, py: Python<'_>) -> PyResult<Vec<u64>> {
        py.detach(|| self.0.versions()).or_raise()
    }

    /// Returns number, kind and text of the events, from the first.
    fn events(&self, py: Python<'_>) -> PyResult<Vec<(u64, &'static str, String)>> {
        py.detach(|| self.0.events()).or_raise()
    }

    /// Appends an event of a kind (user, assistant, tool, milestone, note), which is kept when this returns.
    fn append(&self, py: Python<'_>, kind: &str, text: &str) -> PyResult<u64> {
        py.detach(|| self.0.append(kind, text)).or_value_error()
    }

    /// Saves a version: the log so far, and a state, which is sealed as an increment where it can be. It is kept when
    /// this returns. The state goes to `to` too, a file or a stream, as a capsule that needs no other one.
    #[pyo3(signature = (state = None, to = None, *, tokens = None, runtime = None, runtime_version = None,
        progress = None))]
    #[expect(clippy::too_many_arguments, reason = "keyword arguments")]
    fn save(
        &self,
        py: Python<'_>,
        state: Option<&Bound<'_, PyAny>>,
        to: Option<&Bound<'_, PyAny>>,
        tokens: Option<Vec<u32>>,
        runtime: Option<String>,
        runtime_version: Option<String>,
        progress: Option<Py<PyAny>>,
    ) -> PyResult<Checkpoint> {
        let source = state.map(source).transpose()?;
        if to.is_some() && source.is_none() {
            return Err(PyValueError::new_err(
                "without a state nothing goes to `to`",
            ));
        }
        let said = library::Said {
            tokens,
            runtime,
            runtime_version,
            ..library::Said::default()
        };
        let (told, again) = (progress.as_ref().map(|it| it.clone_ref(py)), said.clone());
        let saved = watched(py, told, |progress| {
            self.0.save(source.as_ref(), said, progress)
        })?;
        if let (Some(to), Some(source)) = (to, &source) {
            let said = library::Said {
                session: Some((self.0.id(), saved.version, saved.replay_cursor)),
                ..again
            };
            let terms = py.detach(|| self.0.terms()).or_raise()?;
            sealed(
                py,
                (source, &terms, said),
                To::of(Some(to), false)?,
                progress,
            )?;
        }
        Ok(Checkpoint::from(saved))
    }

    /// Takes back what came after a turn, and makes the next version there. Turn 0 is the beginning.
    fn revert_to_turn(&self, py: Python<'_>, turn: u64) -> PyResult<Checkpoint> {
        let reverted = py.detach(|| self.0.revert_to_turn(turn));
        reverted.map(Checkpoint::from).or_raise()
    }

    /// Resumes: verifies and opens the best state that is left, or what it has in common with the request's tokens.
    #[pyo3(signature = (*, tokens = None, reserve = 0))]
    fn resume(&self, py: Python<'_>, tokens: Option<Vec<u32>>, reserve: u64) -> PyResult<Resumed> {
        let resumed = py.detach(|| self.0.resume(tokens, reserve)).or_raise()?;
        let state = resumed.state.map(|bytes| PyByteArray::new(py, &bytes));
        Ok(Resumed {
            rung: resumed.rung,
            sentence: resumed.sentence,
            code: resumed.code,
            state: state.map(Bound::unbind),
            token_count: resumed.token_count,
            events_after: resumed.events_after,
        })
    }

    fn __repr__(&self) -> String {
        format!("<kvcap.Session {:?}>", self.id())
    }
}
