//! Sessions of agents, in files of this user's alone (session-v1).

use std::{
    env,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use kvcap::{CapsuleId, Code, Error, ExpectedSession, Result, Workers};
use kvcap_session::{
    Candidate, Cause, Event, Header, Kind, Names, NewState, Opener, Record, Request, Restorer,
    Rung, SavedState, Sealing, files::DeviceTier,
};
use kvcap_states::Continued;
use kvcap_store::{
    output::Output,
    profile::{Setting, state_folder},
    time,
};

use crate::{
    profile::{Given, Profile},
    progress::Progress,
    seal::{Prepared, Said},
    source::Source,
    terms::{Asked, Terms},
};

/// Sessions of a profile's tenant, one subject or many: `$XDG_STATE_HOME/kvcap/sessions`, or a folder.
pub struct SessionManager {
    profile: Arc<Profile>,
    tier: DeviceTier,
}

impl SessionManager {
    /// Takes a profile, the user's own where none is given, and a folder.
    ///
    /// # Errors
    /// KVC-944 where there is neither a folder nor a home, KVC-945 for the user's configuration.
    pub fn new(profile: Option<Arc<Profile>>, folder: Option<PathBuf>) -> Result<Self> {
        let own = || state_folder(&|name| env::var_os(name)).map(|state| state.join("sessions"));
        let folder = folder
            .or_else(own)
            .ok_or_else(|| Error::new(Code::LocalUsage, "there is no home to keep sessions in"))?;
        let profile = match profile {
            Some(profile) => profile,
            None => Arc::new(Profile::load(None, Given::default(), None)?),
        };
        Ok(Self {
            profile,
            tier: DeviceTier::at(folder),
        })
    }

    /// Loads a session by its whole id, or makes it. `user` stands for the profile's subject.
    ///
    /// # Errors
    /// KVC-95x, KVC-940, KVC-947.
    pub fn load_or_create(&self, id: &str, user: Option<String>) -> Result<Session> {
        let names = self.names(id, user);
        let made = kvcap_session::Session::load_or_create(&self.tier, &names, time::now())?;
        Ok(Session {
            profile: Arc::clone(&self.profile),
            user: names.subject,
            session: Mutex::new(made),
        })
    }

    /// Returns the ids of a user's sessions, the last written first.
    ///
    /// # Errors
    /// KVC-940.
    pub fn sessions(&self, user: Option<String>) -> Result<Vec<String>> {
        let mine = self.names("", user);
        let all = self.tier.changed()?;
        let own = |names: &Names| (&names.tenant, &names.subject) == (&mine.tenant, &mine.subject);
        let mut all: Vec<_> = all.into_iter().filter(|(names, _)| own(names)).collect();
        all.sort_by_key(|(_, changed)| std::cmp::Reverse(*changed));
        Ok(all.into_iter().map(|(names, _)| names.session).collect())
    }

    fn names(&self, id: &str, user: Option<String>) -> Names {
        let profile = &self.profile;
        Names {
            tenant: profile.text(Setting::Tenant).map(str::to_owned),
            subject: user.or_else(|| profile.text(Setting::Subject).map(str::to_owned)),
            session: id.to_owned(),
        }
    }
}

/// A session: an append-only log, and checkpoints with states.
pub struct Session {
    profile: Arc<Profile>,
    user: Option<String>,
    session: Mutex<kvcap_session::Session>,
}

/// A version of a session.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    /// Its number, from 1 on.
    pub version: u64,
    /// Time when it was made, in seconds since 1970.
    pub at: u64,
    /// Number of the last event that it has seen.
    pub replay_cursor: u64,
    /// Turns up to there.
    pub turns: u64,
    /// Messages up to there.
    pub messages: u64,
    /// Id of the capsule with its state.
    pub capsule: Option<String>,
    /// Tokens that the state covers, 0 without one.
    pub token_count: u64,
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

/// A rung that a session was resumed on, and its state.
#[derive(Clone, Debug)]
pub struct Resumed {
    /// Rung that was taken: exact, shorter, history-only, fresh.
    pub rung: &'static str,
    /// Sentence for the user on what that means.
    pub sentence: String,
    /// Code of the reason that it is no better one.
    pub code: Option<u16>,
    /// The state file.
    pub state: Option<Vec<u8>>,
    /// Tokens that the state covers.
    pub token_count: u64,
    /// Events after it that are to be read again; none where the state was cut.
    pub events_after: Option<u64>,
}

impl Session {
    /// Returns the session's id.
    #[must_use]
    pub fn id(&self) -> String {
        self.lock().names().session
    }

    /// Returns the newest version.
    ///
    /// # Errors
    /// KVC-95x, KVC-940.
    pub fn current(&self) -> Result<Checkpoint> {
        Ok(self.lock().status()?.current.into())
    }

    /// Returns the versions of its checkpoints, ascending.
    ///
    /// # Errors
    /// KVC-95x, KVC-940.
    pub fn versions(&self) -> Result<Vec<u64>> {
        self.lock().versions()
    }

    /// Returns number, kind and text of the events, from the first.
    ///
    /// # Errors
    /// KVC-95x, KVC-940.
    pub fn events(&self) -> Result<Vec<(u64, &'static str, String)>> {
        let events = self.lock().events()?;
        let row = |event: &Event| (event.seq, event.kind.name(), event.text().to_owned());
        Ok(events.iter().map(row).collect())
    }

    /// Appends an event of a kind (user, assistant, tool, milestone, note), which is kept when this returns.
    ///
    /// # Errors
    /// KVC-944 for another kind; KVC-95x, KVC-940, KVC-947.
    pub fn append(&self, kind: &str, text: &str) -> Result<u64> {
        let named = Kind::named(kind).filter(|kind| *kind != Kind::Revert);
        let kind =
            named.ok_or_else(|| Error::new(Code::LocalUsage, "no such kind of event").at(kind))?;
        Ok(self.lock().append(time::now(), kind, text.into())?.seq)
    }

    /// Saves a version: the log so far, and a state, which is sealed as an increment where it can be. It is kept when
    /// this returns.
    ///
    /// # Errors
    /// As [`seal`](crate::seal); KVC-95x, KVC-947.
    pub fn save(
        &self,
        state: Option<&Source>,
        said: Said,
        progress: &Progress<'_>,
    ) -> Result<Checkpoint> {
        let terms = self.terms()?;
        let mut state = match state {
            Some(source) => Some(InMemory {
                prepared: Prepared::new(source, &terms, said)?,
                continued: None,
                progress,
            }),
            None => None,
        };
        let state = state.as_mut().map(|state| -> &mut dyn NewState { state });
        let saved = self.lock().checkpoint(time::now(), Cause::Asked, state);
        saved.map(Checkpoint::from)
    }

    /// Takes back what came after a turn, and makes the next version there. Turn 0 is the beginning.
    ///
    /// # Errors
    /// KVC-955 for a turn that is not there; KVC-95x, KVC-940, KVC-947.
    pub fn revert_to_turn(&self, turn: u64) -> Result<Checkpoint> {
        let mut session = self.lock();
        let cursor = session.end_of_turn(turn)?;
        session.revert(time::now(), cursor).map(Checkpoint::from)
    }

    /// Resumes: verifies and opens the best state that is left, or what it has in common with the request's tokens.
    ///
    /// # Errors
    /// KVC-95x, KVC-940; what a state is refused for is a rung's reason.
    pub fn resume(&self, tokens: Option<Vec<u32>>, reserve: u64) -> Result<Resumed> {
        let terms = self.terms()?;
        let request = Request {
            context: terms.profile().options()?.ctx_size.unwrap_or(0),
            tokens,
            reserve,
            ..Request::default()
        };
        let (resumed, state) = self.climb(&terms, &request)?;
        let taken = resumed.plan.taken();
        let rung = taken.map_or(Rung::Fresh, |step| step.rung);
        Ok(Resumed {
            rung: rung.name(),
            sentence: rung.said(false),
            code: resumed.plan.reason().map(Code::number),
            token_count: taken
                .filter(|step| step.state.is_some())
                .map_or(0, |step| step.positions),
            events_after: resumed.events_after(),
            state,
        })
    }

    fn lock(&self) -> MutexGuard<'_, kvcap_session::Session> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns on whose behalf its states are sealed and judged: the session's user.
    ///
    /// # Errors
    /// As [`Terms::new`].
    pub fn terms(&self) -> Result<Terms> {
        let profile = self.profile.on_behalf_of(self.user.clone());
        Terms::new(Some(Arc::new(profile)), Asked::default())
    }

    fn climb(
        &self,
        terms: &Terms,
        request: &Request,
    ) -> Result<(kvcap_session::Resumed, Option<Vec<u8>>)> {
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

/// A state of the caller's, as a session saves it.
struct InMemory<'a> {
    prepared: Prepared<'a>,
    continued: Option<Continued>,
    progress: &'a Progress<'a>,
}

impl NewState for InMemory<'_> {
    fn expires(&self) -> u64 {
        self.prepared.parties.terms.expires
    }

    fn continues(&mut self, parent: &SavedState) -> Result<()> {
        let continued = self.prepared.continued(&parent.path)?;
        if !continued.leaves_rows_out() {
            let what = "every bank of the state is whole: an increment would save nothing";
            return Err(Error::new(Code::LineageBinding, what));
        }
        self.continued = Some(continued);
        Ok(())
    }

    fn seal(&mut self, output: &Output, sealing: Sealing<'_>) -> Result<CapsuleId> {
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
    fn judge(&mut self, state: &Candidate) -> Result<Header> {
        self.opener.header(state)
    }

    fn common(&mut self, state: &Candidate, request: &[u32]) -> Result<Option<u64>> {
        self.opener.common(state, request)
    }

    fn restore(&mut self, state: &Candidate, positions: u64) -> Result<()> {
        let out = Mutex::new(Vec::new());
        self.opener
            .write(state, positions, self.request, &out, &mut |_| {})?;
        self.written = Some(out.into_inner().unwrap_or_default());
        Ok(())
    }
}
