//! Sessions of agents, in files of this user's alone (session-v1).

use std::{
    env,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use kvcap::{CapsuleId, Code, Error, ExpectedSession, Workers};
use kvcap_session::{
    Candidate, Cause, Event, Header, Kind, Names, NewState, Opener, Record, Request, Restorer,
    SavedState, Sealing, files::DeviceTier,
};
use kvcap_states::Continued;
use kvcap_store::{
    output::Output,
    profile::{Setting, state_folder},
    time,
};
use pyo3::{exceptions::PyValueError, prelude::*, types::PyByteArray};

use crate::{
    call::{Source, Terms},
    error::OrRaise,
    profile::Profile,
    progress::Progress,
    seal::{Prepared, Said},
};

/// Sessions of a profile's tenant, one subject or many: `$XDG_STATE_HOME/kvcap/sessions`, or a folder.
#[pyclass(frozen, module = "kvcap")]
pub(crate) struct SessionManager {
    profile: Py<Profile>,
    tier: DeviceTier,
}

#[pymethods]
impl SessionManager {
    #[new]
    #[pyo3(signature = (*, profile = None, folder = None))]
    fn new(
        py: Python<'_>,
        profile: Option<Py<Profile>>,
        folder: Option<PathBuf>,
    ) -> PyResult<Self> {
        let own = || state_folder(&|name| env::var_os(name)).map(|state| state.join("sessions"));
        let folder = folder
            .or_else(own)
            .ok_or_else(|| Error::new(Code::LocalUsage, "there is no home to keep sessions in"));
        Ok(Self {
            profile: Profile::or_own(py, profile)?,
            tier: DeviceTier::at(folder.or_raise()?),
        })
    }

    /// Loads a session by its whole id, or makes it. `user` stands for the profile's subject.
    #[pyo3(signature = (id, *, user = None))]
    fn load_or_create(&self, py: Python<'_>, id: &str, user: Option<String>) -> PyResult<Session> {
        let names = self.names(id, user);
        let made =
            py.detach(|| kvcap_session::Session::load_or_create(&self.tier, &names, time::now()));
        Ok(Session {
            profile: self.profile.clone_ref(py),
            user: names.subject,
            session: Mutex::new(made.or_raise()?),
        })
    }

    /// Returns the ids of a user's sessions, the last written first.
    #[pyo3(signature = (*, user = None))]
    fn sessions(&self, py: Python<'_>, user: Option<String>) -> PyResult<Vec<String>> {
        let mine = self.names("", user);
        let all = py.detach(|| self.tier.changed()).or_raise()?;
        let own = |names: &Names| (&names.tenant, &names.subject) == (&mine.tenant, &mine.subject);
        let mut all: Vec<_> = all.into_iter().filter(|(names, _)| own(names)).collect();
        all.sort_by_key(|(_, changed)| std::cmp::Reverse(*changed));
        Ok(all.into_iter().map(|(names, _)| names.session).collect())
    }
}

impl SessionManager {
    fn names(&self, id: &str, user: Option<String>) -> Names {
        let profile = self.profile.get();
        Names {
            tenant: profile.text(Setting::Tenant).map(str::to_owned),
            subject: user.or_else(|| profile.text(Setting::Subject).map(str::to_owned)),
            session: id.to_owned(),
        }
    }
}

/// A session: an append-only log, and checkpoints with states.
#[pyclass(frozen, module = "kvcap")]
pub(crate) struct Session {
    profile: Py<Profile>,
    user: Option<String>,
    session: Mutex<kvcap_session::Session>,
}

/// A version of a session.
#[pyclass(frozen, get_all, module = "kvcap")]
pub(crate) struct Checkpoint {
    /// Its number, from 1 on.
    version: u64,
    /// When it was made, in seconds since 1970.
    at: u64,
    /// Number of the last event that it has seen.
    replay_cursor: u64,
    /// Turns and messages up to there.
    turns: u64,
    messages: u64,
    /// Id of the capsule with its state, or None.
    capsule: Option<String>,
    /// Tokens that the state covers, 0 without one.
    token_count: u64,
}

impl From<Record> for Checkpoint {
    fn from(record: Record) -> Self {
        Self {
            version: record.version,
            at: record.at,
            replay_cursor: record.replay_cursor,
            turns: record.turns,
            messages: record.messages,
            token_count: record.capsule.as_ref().map_or(0, |state| state.positions),
            capsule: record.capsule.map(|state| state.id),
        }
    }
}

#[pymethods]
impl Checkpoint {
    fn __repr__(&self) -> String {
        format!("<kvcap.Checkpoint {}>", self.version)
    }
}

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
        self.lock().names().session
    }

    /// Tokens that the newest state covers.
    #[getter]
    fn token_count(&self, py: Python<'_>) -> PyResult<u64> {
        let current = self.current(py)?;
        Ok(current.capsule.map_or(0, |state| state.positions))
    }

    /// Turns so far.
    #[getter]
    fn turns(&self, py: Python<'_>) -> PyResult<u64> {
        Ok(self.current(py)?.turns)
    }

    /// Versions of its checkpoints, ascending.
    #[getter]
    fn versions(&self, py: Python<'_>) -> PyResult<Vec<u64>> {
        py.detach(|| self.lock().versions()).or_raise()
    }

    /// Returns number, kind and text of the events, from the first.
    fn events(&self, py: Python<'_>) -> PyResult<Vec<(u64, &'static str, String)>> {
        let events = py.detach(|| self.lock().events()).or_raise()?;
        let row = |event: &Event| (event.seq, event.kind.name(), event.text().to_owned());
        Ok(events.iter().map(row).collect())
    }

    /// Appends an event of a kind (user, assistant, tool, milestone, note), which is kept when this returns.
    fn append(&self, py: Python<'_>, kind: &str, text: &str) -> PyResult<u64> {
        let named = Kind::named(kind).filter(|kind| *kind != Kind::Revert);
        let kind = named.ok_or_else(|| PyValueError::new_err("no such kind of event"))?;
        let event = py.detach(|| self.lock().append(time::now(), kind, text.into()));
        Ok(event.or_raise()?.seq)
    }

    /// Saves a version: the log so far, and a state, which is sealed as an increment where it can be. It is kept when
    /// this returns.
    #[pyo3(signature = (state = None, *, tokens = None, runtime = None, runtime_version = None, progress = None))]
    fn save(
        &self,
        py: Python<'_>,
        state: Option<&Bound<'_, PyAny>>,
        tokens: Option<Vec<u32>>,
        runtime: Option<&str>,
        runtime_version: Option<String>,
        progress: Option<Py<PyAny>>,
    ) -> PyResult<Checkpoint> {
        let source = state.map(Source::of).transpose()?;
        let terms = self.terms(py)?;
        let said = Said {
            tokens,
            runtime: runtime.map(str::parse).transpose().or_raise()?,
            runtime_version,
            ..Said::default()
        };
        let progress = Progress::new(progress);
        let saved = py.detach(|| {
            let mut state = match &source {
                Some(source) => Some(InMemory {
                    prepared: Prepared::new(source, &terms, said)?,
                    continued: None,
                    progress: &progress,
                }),
                None => None,
            };
            let state = state.as_mut().map(|state| -> &mut dyn NewState { state });
            self.lock().checkpoint(time::now(), Cause::Asked, state)
        });
        progress.finish()?;
        saved.or_raise().map(Checkpoint::from)
    }

    /// Takes back what came after a turn, and makes the next version there. Turn 0 is the beginning.
    fn revert_to_turn(&self, py: Python<'_>, turn: u64) -> PyResult<Checkpoint> {
        let reverted = py.detach(|| {
            let mut session = self.lock();
            let cursor = session.end_of_turn(turn)?;
            session.revert(time::now(), cursor)
        });
        reverted.or_raise().map(Checkpoint::from)
    }

    /// Resumes: verifies and opens the best state that is left, or what it has in common with the request's tokens.
    #[pyo3(signature = (*, tokens = None, reserve = 0))]
    fn resume(&self, py: Python<'_>, tokens: Option<Vec<u32>>, reserve: u64) -> PyResult<Resumed> {
        let terms = self.terms(py)?;
        let request = Request {
            context: terms.profile().options().or_raise()?.ctx_size.unwrap_or(0),
            tokens,
            reserve,
            ..Request::default()
        };
        let (resumed, written) = py.detach(|| self.climb(&terms, &request)).or_raise()?;
        let taken = resumed.plan.taken();
        let rung = taken.map_or(kvcap_session::Rung::Fresh, |step| step.rung);
        Ok(Resumed {
            rung: rung.name(),
            sentence: rung.said(false),
            code: resumed.plan.reason().map(Code::number),
            token_count: taken
                .filter(|step| step.state.is_some())
                .map_or(0, |step| step.positions),
            events_after: resumed.events_after(),
            state: written.map(|bytes| PyByteArray::new(py, &bytes).unbind()),
        })
    }

    fn __repr__(&self) -> String {
        format!("<kvcap.Session {:?}>", self.id())
    }
}

impl Session {
    fn lock(&self) -> MutexGuard<'_, kvcap_session::Session> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn current(&self, py: Python<'_>) -> PyResult<Record> {
        py.detach(|| self.lock().status())
            .or_raise()
            .map(|status| status.current)
    }

    /// On whose behalf states are sealed and judged: the session's user.
    fn terms(&self, py: Python<'_>) -> PyResult<Terms> {
        let profile = self.profile.get().on_behalf_of(self.user.clone());
        Terms::new(py, Some(Py::new(py, profile)?), &[], Vec::new(), None)
    }

    fn climb(
        &self,
        terms: &Terms,
        request: &Request,
    ) -> kvcap::Result<(kvcap_session::Resumed, Option<Vec<u8>>)> {
        let model = terms.model()?;
        let keys = terms.profile().keys_to_open();
        let judge = |session: Option<ExpectedSession>| terms.judge_of(model.as_ref(), session);
        let ask = |_: &Path| terms.profile().passphrase();
        let passphrases = terms.profile().passphrases(&ask);
        let mut reader = Reader {
            opener: Opener {
                judge: &judge,
                keys: &keys,
                passphrases: &passphrases,
                workers: Workers::all(),
            },
            request: request.tokens.as_deref(),
            written: None,
        };
        let session = self.lock();
        let resumed = session.resume(request, &mut reader, time::now_in_milliseconds())?;
        Ok((resumed, reader.written))
    }
}

/// A state of Python's, as a session saves it.
struct InMemory<'a> {
    prepared: Prepared<'a>,
    continued: Option<Continued>,
    progress: &'a Progress,
}

impl NewState for InMemory<'_> {
    fn expires(&self) -> u64 {
        self.prepared.parties.terms.expires
    }

    fn continues(&mut self, parent: &SavedState) -> kvcap::Result<()> {
        let continued = self.prepared.continued(&parent.path)?;
        if !continued.leaves_rows_out() {
            let what = "every bank of the state is whole: an increment would save nothing";
            return Err(Error::new(Code::LineageBinding, what));
        }
        self.continued = Some(continued);
        Ok(())
    }

    fn seal(&mut self, output: &Output, sealing: Sealing<'_>) -> kvcap::Result<CapsuleId> {
        let mut terms = self.prepared.parties.terms.clone();
        terms.session = Some(sealing.claims);
        let continued = self.continued.take().filter(|_| sealing.parent.is_some());
        let sealed = self
            .prepared
            .seal(output, terms, sealing.sections, continued, self.progress);
        Ok(sealed?.sealed.id)
    }
}

/// Reads states for the ladder, into memory.
struct Reader<'a> {
    opener: Opener<'a>,
    request: Option<&'a [u32]>,
    written: Option<Vec<u8>>,
}

impl Restorer for Reader<'_> {
    fn judge(&mut self, state: &Candidate) -> kvcap::Result<Header> {
        self.opener.header(state)
    }

    fn common(&mut self, state: &Candidate, request: &[u32]) -> kvcap::Result<Option<u64>> {
        self.opener.common(state, request)
    }

    fn restore(&mut self, state: &Candidate, positions: u64) -> kvcap::Result<()> {
        let out = Mutex::new(Vec::new());
        self.opener
            .write(state, positions, self.request, &out, &mut |_| {})?;
        self.written = Some(out.into_inner().unwrap_or_default());
        Ok(())
    }
}
