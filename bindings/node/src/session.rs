//! Sessions of agents (session-v1).

use std::sync::{Arc, OnceLock};

use kvcap::{Code, Error};
use kvcap_calls::{self as library, Progress};
use napi::bindgen_prelude::Buffer;
use napi_derive::napi;

use crate::{
    call::{Calling, Outcome, Watch, calling, number, outcome},
    calls::SealOptions,
    profile::Profile,
    source::{Given, Later},
};

/// A version of a session.
#[napi(object)]
pub struct Checkpoint {
    pub version: i64,
    pub at: i64,
    pub replay_cursor: i64,
    pub turns: i64,
    pub messages: i64,
    pub capsule: Option<String>,
    pub token_count: i64,
}

impl From<library::Checkpoint> for Checkpoint {
    fn from(made: library::Checkpoint) -> Self {
        Self {
            version: number(made.version),
            at: number(made.at),
            replay_cursor: number(made.replay_cursor),
            turns: number(made.turns),
            messages: number(made.messages),
            capsule: made.capsule,
            token_count: number(made.token_count),
        }
    }
}

/// A rung that a session was resumed on, and its state.
#[napi(object)]
pub struct Resumed {
    pub rung: String,
    pub sentence: String,
    pub code: Option<String>,
    pub state: Option<Buffer>,
    pub token_count: i64,
    pub events_after: Option<i64>,
}

/// An event of a session's log.
#[napi(object)]
pub struct Event {
    pub seq: i64,
    pub kind: String,
    pub text: String,
}

#[napi]
pub struct SessionManager(Arc<OnceLock<library::SessionManager>>);

fn missing() -> Error {
    Error::new(
        Code::LocalUsage,
        "there is no session: loading it was refused",
    )
}

#[napi]
impl SessionManager {
    #[napi(constructor)]
    pub fn new() -> Self {
        Self(Arc::default())
    }

    #[napi]
    pub fn begin(&self, profile: Option<&Profile>, folder: Option<String>) -> Outcome<bool> {
        let profile = profile.map(|profile| Arc::clone(&profile.0));
        let made = library::SessionManager::new(profile, folder.map(Into::into));
        outcome(made.map(|made| self.0.set(made).is_ok()))
    }

    #[napi(ts_return_type = "Promise<boolean | Refused>")]
    pub fn load_or_create(
        &self,
        id: String,
        user: Option<String>,
        into: &Session,
    ) -> Calling<bool> {
        let (mine, into) = (Arc::clone(&self.0), Arc::clone(&into.0));
        calling(move || {
            let session = mine.get().ok_or_else(missing)?.load_or_create(&id, user)?;
            Ok(into.set(session).is_ok())
        })
    }

    #[napi(ts_return_type = "Promise<string[] | Refused>")]
    pub fn sessions(&self, user: Option<String>) -> Calling<Vec<String>> {
        let mine = Arc::clone(&self.0);
        calling(move || mine.get().ok_or_else(missing)?.sessions(user))
    }
}

#[napi]
pub struct Session(Arc<OnceLock<library::Session>>);

impl Session {
    fn calling<T>(
        &self,
        act: impl FnOnce(&library::Session) -> kvcap::Result<T> + Send + 'static,
    ) -> Calling<T>
    where
        T: napi::bindgen_prelude::ToNapiValue + napi::bindgen_prelude::TypeName + Send + 'static,
    {
        let mine = Arc::clone(&self.0);
        calling(move || act(mine.get().ok_or_else(missing)?))
    }
}

#[napi]
impl Session {
    #[napi(constructor)]
    pub fn new() -> Self {
        Self(Arc::default())
    }

    #[napi(getter)]
    pub fn id(&self) -> String {
        self.0.get().map(library::Session::id).unwrap_or_default()
    }

    #[napi(ts_return_type = "Promise<Checkpoint | Refused>")]
    pub fn current(&self) -> Calling<Checkpoint> {
        self.calling(|session| session.current().map(Checkpoint::from))
    }

    #[napi(ts_return_type = "Promise<number[] | Refused>")]
    pub fn versions(&self) -> Calling<Vec<i64>> {
        self.calling(|session| Ok(session.versions()?.into_iter().map(number).collect()))
    }

    #[napi(ts_return_type = "Promise<Event[] | Refused>")]
    pub fn events(&self) -> Calling<Vec<Event>> {
        self.calling(|session| {
            let event = |(seq, kind, text): (u64, &str, String)| Event {
                seq: number(seq),
                kind: kind.to_owned(),
                text,
            };
            Ok(session.events()?.into_iter().map(event).collect())
        })
    }

    #[napi(ts_return_type = "Promise<number | Refused>")]
    pub fn append(&self, kind: String, text: String) -> Calling<i64> {
        self.calling(move |session| session.append(&kind, &text).map(number))
    }

    #[napi(ts_return_type = "Promise<Checkpoint | Refused>")]
    pub fn save(
        &self,
        state: Option<Given>,
        options: SealOptions,
        watch: &Watch,
    ) -> Calling<Checkpoint> {
        let (state, said, watch) = (state.map(Later::from), options.said(), watch.clone());
        self.calling(move |session| {
            let source = state.map(Later::open).transpose()?;
            let told = |done, all| watch.told(done, all);
            let progress = Progress::telling(&told);
            session
                .save(source.as_ref(), said?, &progress)
                .map(Checkpoint::from)
        })
    }

    #[napi(ts_return_type = "Promise<Checkpoint | Refused>")]
    pub fn revert_to_turn(&self, turn: i64) -> Calling<Checkpoint> {
        self.calling(move |session| {
            let turn = u64::try_from(turn);
            let turn = turn.map_err(|_| Error::new(Code::LocalUsage, "a turn is 0 or more"))?;
            session.revert_to_turn(turn).map(Checkpoint::from)
        })
    }

    #[napi(ts_return_type = "Promise<Resumed | Refused>")]
    pub fn resume(&self, tokens: Option<Vec<u32>>, reserve: i64) -> Calling<Resumed> {
        self.calling(move |session| {
            let resumed = session.resume(tokens, u64::try_from(reserve).unwrap_or(0))?;
            Ok(Resumed {
                rung: resumed.rung.to_owned(),
                sentence: resumed.sentence,
                code: resumed.code.map(|code| format!("KVC-{code}")),
                state: resumed.state.map(Into::into),
                token_count: number(resumed.token_count),
                events_after: resumed.events_after.map(number),
            })
        })
    }
}
