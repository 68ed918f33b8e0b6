//! What calls are given: capsules and states by path or in memory, and on what terms they are judged.

use std::path::PathBuf;

use kvcap::{ExpectedSession, Limits, Result, Untrusted};
use kvcap_models::ModelProfile;
use kvcap_store::{Ancestors, Judge, Unchecked, Verifier, input};
use pyo3::prelude::*;

use crate::{
    error::OrRaise,
    memory::{Bytes, Shared, Tensors},
    profile::Profile,
};

/// A capsule or a state: a path, or an object with the buffer protocol.
pub(crate) struct Source {
    pub(crate) bytes: Bytes,
    /// `-` for memory, which has no folder.
    pub(crate) path: PathBuf,
}

impl Source {
    pub(crate) fn of(object: &Bound<'_, PyAny>) -> PyResult<Self> {
        let memory = |bytes| Self {
            bytes,
            path: "-".into(),
        };
        if let Ok(tensors) = object.cast::<Tensors>() {
            return Ok(memory(Bytes::Tensors(tensors.clone().unbind())));
        }
        // a path is text or says by __fspath__ that it is one; bytes are content
        let is_path =
            object.is_instance_of::<pyo3::types::PyString>() || object.hasattr("__fspath__")?;
        if !is_path {
            return Ok(memory(Bytes::Memory(Shared::of(object)?)));
        }
        let mut path: PathBuf = object.extract()?;
        if input::is_stdin(&path) {
            // a file of that name: stdin is the program's
            path = "./-".into();
        }
        let file = input::file(&path).or_raise()?;
        let bytes = Bytes::File(file);
        Ok(Self { bytes, path })
    }

    /// Says of an error which input it is about.
    pub(crate) fn at(&self, error: kvcap::Error) -> kvcap::Error {
        match self.bytes {
            Bytes::File(_) => input::at(error, &self.path),
            _ => error,
        }
    }

    /// Reads a capsule's header.
    pub(crate) fn header(&self) -> Result<Untrusted> {
        let read = Untrusted::read_at(&self.bytes, &Limits::default());
        read.map_err(|error| self.at(error))
    }
}

/// The checkpoint that a capsule must be: a session's id, or that with version and cursor.
#[derive(FromPyObject)]
pub(crate) enum Checkpoint {
    Id(String),
    Version(String, Option<u64>, Option<u64>),
}

/// On what terms a capsule is judged.
pub(crate) struct Terms {
    pub(crate) profile: Py<Profile>,
    pub(crate) verifier: Verifier,
    accepted: Vec<Unchecked>,
    chain: Vec<PathBuf>,
    session: Option<ExpectedSession>,
    dtypes: Option<(String, String)>,
}

impl Terms {
    pub(crate) fn new(
        py: Python<'_>,
        profile: Option<Py<Profile>>,
        accepted: &[String],
        chain: Vec<PathBuf>,
        session: Option<Checkpoint>,
    ) -> PyResult<Self> {
        let profile = Profile::or_own(py, profile)?;
        let verifier = profile.get().verifier();
        let accepted = accepted.iter().map(|name| name.parse());
        let accepted = accepted.collect::<Result<_>>().or_raise()?;
        let session = session.map(|session| match session {
            Checkpoint::Id(id) => ExpectedSession {
                id,
                version: None,
                replay_cursor: None,
            },
            Checkpoint::Version(id, version, replay_cursor) => ExpectedSession {
                id,
                version,
                replay_cursor,
            },
        });
        Ok(Self {
            profile,
            verifier,
            accepted,
            chain,
            session,
            dtypes: None,
        })
    }

    /// Expects keys and values of these element types.
    pub(crate) fn of_types(self, dtypes: Option<(String, String)>) -> Self {
        Self { dtypes, ..self }
    }

    pub(crate) fn profile(&self) -> &Profile {
        self.profile.get()
    }

    pub(crate) fn model(&self) -> Result<Option<ModelProfile>> {
        self.profile().model(&|_, _| {})
    }

    /// Makes a judge, for capsules of `model` if there is one.
    pub(crate) fn judge<'a>(&'a self, model: Option<&'a ModelProfile>) -> Result<Judge<'a>> {
        self.judge_of(model, self.session.clone())
    }

    /// Makes a judge, for capsules of this session too.
    pub(crate) fn judge_of<'a>(
        &'a self,
        model: Option<&'a ModelProfile>,
        session: Option<ExpectedSession>,
    ) -> Result<Judge<'a>> {
        let mut expected = self.profile().expected(model)?;
        expected.session = session;
        expected.dtypes.clone_from(&self.dtypes);
        let judge = self.verifier.judge()?.expecting(expected);
        Ok(judge.danger_without(&self.accepted))
    }

    pub(crate) fn ancestors<'a>(&'a self, tip: &'a std::path::Path) -> Ancestors<'a> {
        let given = &self.chain;
        Ancestors { tip, given }
    }
}
