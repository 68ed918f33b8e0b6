//! The calls: seal, verify, open, inspect, model ids and keys.

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use kvcap::{Code, Error};
use kvcap_calls::{self as library, Asked, Progress, Said, Terms};
use kvcap_states::Selection;
use napi::bindgen_prelude::{Buffer, Uint8Array};
use napi_derive::napi;

use crate::{
    call::{Calling, Outcome, Watch, calling, natural, number, outcome, whole},
    profile::{Profile, Settings, given},
    results::{Claims, Key, Model, SessionClaims, Verdict},
    source::{Given, Later},
};

/// Demands on a capsule beside the profile.
#[napi(object)]
#[derive(Default)]
pub struct Wanted {
    pub accept_unchecked: Option<Vec<String>>,
    pub chain: Option<Vec<String>>,
    pub session: Option<String>,
    pub session_version: Option<i64>,
    pub replay_cursor: Option<i64>,
    pub key_dtype: Option<String>,
    pub value_dtype: Option<String>,
}

/// On what terms a capsule is judged, once the call runs.
fn terms(profile: Option<Profile>, wanted: Wanted) -> kvcap::Result<Terms> {
    let version = whole(wanted.session_version, "sessionVersion")?;
    let cursor = whole(wanted.replay_cursor, "replayCursor")?;
    let chain = wanted.chain.unwrap_or_default();
    Terms::new(
        profile.map(|profile| profile.0),
        Asked {
            accept_unchecked: wanted.accept_unchecked.unwrap_or_default(),
            chain: chain.into_iter().map(Into::into).collect(),
            session: wanted.session.map(|id| (id, version, cursor)),
            dtypes: wanted.key_dtype.zip(wanted.value_dtype),
        },
    )
}

#[napi(object)]
pub struct SealOptions {
    pub tokens: Option<Vec<u32>>,
    pub danger_no_prefix: Option<bool>,
    pub runtime: Option<String>,
    pub runtime_version: Option<String>,
    pub compress: Option<bool>,
    pub history: Option<Uint8Array>,
    pub agent_state: Option<Uint8Array>,
    pub session: Option<SessionClaims>,
    pub sequence: Option<i64>,
    pub single_use: Option<bool>,
    pub parent: Option<String>,
    pub chain: Option<Vec<String>>,
    pub replace: Option<bool>,
}

impl SealOptions {
    pub(crate) fn said(&self) -> kvcap::Result<Said> {
        let bytes = |bytes: &Option<Uint8Array>| bytes.as_ref().map(|bytes| bytes.to_vec());
        let session = match &self.session {
            Some(session) => Some((
                session.id.clone(),
                natural(session.version, "version")?,
                natural(session.replay_cursor, "replayCursor")?,
            )),
            None => None,
        };
        Ok(Said {
            tokens: self.tokens.clone(),
            danger_no_prefix: self.danger_no_prefix.unwrap_or(false),
            runtime: self.runtime.clone(),
            runtime_version: self.runtime_version.clone(),
            compress: self.compress.unwrap_or(false),
            history: bytes(&self.history),
            agent_state: bytes(&self.agent_state),
            session,
            sequence: whole(self.sequence, "sequence")?,
            single_use: self.single_use.unwrap_or(false),
            parent: self.parent.clone().map(Into::into),
        })
    }
}

#[napi(object)]
pub struct Sealed {
    pub id: String,
    pub capsule: Option<Buffer>,
    pub length: i64,
    pub state_length: i64,
    pub positions: Vec<i64>,
    pub expires: i64,
    pub notes: Vec<String>,
}

#[napi(ts_return_type = "Promise<Sealed | Refused>")]
pub fn seal(
    state: Given,
    to: Option<String>,
    profile: Option<&Profile>,
    options: SealOptions,
    watch: &Watch,
) -> Calling<Sealed> {
    let (state, profile, watch) = (Later::from(state), profile.cloned(), watch.clone());
    // arrays of the caller's are read here: they are the loop's
    let said = options.said();
    let wanted = Wanted {
        chain: options.chain,
        ..Wanted::default()
    };
    let replace = options.replace.unwrap_or(false);
    calling(move || {
        let (said, terms, source) = (said?, terms(profile, wanted)?, state.open()?);
        let told = |done, all| watch.told(done, all);
        let progress = Progress::telling(&told);
        let (made, capsule) = match to {
            Some(to) => {
                let to = (Path::new(&to), replace);
                let made = library::seal_to_file(&source, &terms, said, to, &progress)?;
                (made, None)
            }
            None => {
                let out = Mutex::new(Vec::new());
                let made = library::seal(&source, &terms, said, &out, &progress)?;
                let bytes = out.into_inner().unwrap_or_else(PoisonError::into_inner);
                (made, Some(bytes.into()))
            }
        };
        Ok(Sealed {
            id: made.id,
            capsule,
            length: number(made.length),
            state_length: number(made.state_length),
            positions: vec![number(made.positions.0), number(made.positions.1)],
            expires: number(made.expires),
            notes: made.notes,
        })
    })
}

#[napi(ts_return_type = "Promise<Verdict | Refused>")]
pub fn verify(
    source: Given,
    profile: Option<&Profile>,
    wanted: Wanted,
    header_only: bool,
    watch: &Watch,
) -> Calling<Verdict> {
    let (source, profile, watch) = (Later::from(source), profile.cloned(), watch.clone());
    calling(move || {
        let (terms, source) = (terms(profile, wanted)?, source.open()?);
        let told = |done, all| watch.told(done, all);
        library::verify(source, &terms, header_only, &Progress::telling(&told)).map(Verdict::from)
    })
}

/// A part of a state.
#[napi(object)]
pub struct Part {
    pub layers: Option<Vec<u32>>,
    pub positions: Option<Vec<i64>>,
}

impl Part {
    fn selection(self) -> kvcap::Result<Option<Selection>> {
        let refused = |name| Error::new(Code::LocalUsage, "a range has two numbers").at(name);
        let layers = match self.layers.as_deref() {
            Some([from, to]) => Some(*from..*to),
            Some(_) => return Err(refused("layers")),
            None => None,
        };
        let positions = match self.positions.as_deref() {
            Some([from, to]) => Some(natural(*from, "positions")?..natural(*to, "positions")?),
            Some(_) => return Err(refused("positions")),
            None => None,
        };
        let any = layers.is_some() || positions.is_some();
        Ok(any.then_some(Selection { layers, positions }))
    }
}

#[napi(object)]
pub struct Opened {
    pub verdict: Verdict,
    pub state: Option<Buffer>,
    pub length: i64,
    pub tokens: Option<Vec<u32>>,
}

#[napi(ts_return_type = "Promise<Opened | Refused>")]
#[allow(clippy::too_many_arguments, reason = "index.js takes an object")]
pub fn open(
    source: Given,
    to: Option<String>,
    replace: bool,
    profile: Option<&Profile>,
    wanted: Wanted,
    tokens: Option<Vec<u32>>,
    part: Part,
    watch: &Watch,
) -> Calling<Opened> {
    let (source, profile, watch) = (Later::from(source), profile.cloned(), watch.clone());
    calling(move || {
        let (terms, source, part) = (terms(profile, wanted)?, source.open()?, part.selection()?);
        let told = |done, all| watch.told(done, all);
        let progress = Progress::telling(&told);
        let (tokens, part) = (tokens.as_deref(), part.as_ref());
        let (opened, length, state) = match to {
            Some(to) => {
                let to = (Path::new(&to), replace);
                let (opened, length) =
                    library::open_to_file(source, terms, tokens, part, to, &progress)?;
                (opened, length, None)
            }
            None => {
                let opened = library::open(source, terms, tokens)?;
                let state = opened.read(part, &progress)?;
                (opened, state.len() as u64, Some(state.into()))
            }
        };
        Ok(Opened {
            tokens: opened.tokens()?,
            verdict: opened.verdict().clone().into(),
            state,
            length: number(length),
        })
    })
}

/// A capsule that is verified as its bytes come.
#[napi]
pub struct Verifying(Arc<Mutex<Option<library::Verifying>>>);

#[napi]
impl Verifying {
    #[napi(constructor)]
    pub fn new() -> Self {
        Self(Arc::new(Mutex::new(None)))
    }

    #[napi(ts_return_type = "Promise<boolean | Refused>")]
    pub fn begin(&self, profile: Option<&Profile>, wanted: Wanted) -> Calling<bool> {
        let (mine, profile) = (Arc::clone(&self.0), profile.cloned());
        calling(move || {
            let begun = library::Verifying::new(terms(profile, wanted)?)?;
            *mine.lock().unwrap_or_else(PoisonError::into_inner) = Some(begun);
            Ok(true)
        })
    }

    /// Takes the next bytes: a copy of them, so that what is verified is what was given.
    #[napi(ts_return_type = "Promise<Verdict | null | Refused>")]
    pub fn feed(&self, piece: Uint8Array) -> Calling<Option<Verdict>> {
        let (mine, piece) = (Arc::clone(&self.0), piece.to_vec());
        calling(move || {
            let mut mine = mine.lock().unwrap_or_else(PoisonError::into_inner);
            let said = mine.as_mut().ok_or_else(unbegun)?.feed(&piece)?;
            Ok(said.map(Verdict::from))
        })
    }

    #[napi(ts_return_type = "Promise<Verdict | Refused>")]
    pub fn finish(&self) -> Calling<Verdict> {
        let mine = Arc::clone(&self.0);
        calling(move || {
            let mut mine = mine.lock().unwrap_or_else(PoisonError::into_inner);
            mine.as_mut()
                .ok_or_else(unbegun)?
                .finish()
                .map(Verdict::from)
        })
    }
}

fn unbegun() -> Error {
    Error::new(
        Code::LocalUsage,
        "this capsule was refused before its first byte",
    )
}

#[napi(ts_return_type = "Promise<Claims | Refused>")]
pub fn inspect(source: Given) -> Calling<Claims> {
    let source = Later::from(source);
    calling(move || library::inspect(&source.open()?).map(Claims::from))
}

#[napi(ts_return_type = "Promise<Model | Refused>")]
pub fn model_id(model: String, settings: Settings) -> Calling<Model> {
    calling(move || library::model_id(Path::new(&model), given(settings)?).map(Model::from))
}

#[napi(ts_return_type = "Promise<Key | Refused>")]
pub fn new_signing_key(
    path: String,
    issuer: Option<String>,
    passphrase: Option<String>,
) -> Calling<Key> {
    calling(move || {
        library::new_signing_key(Path::new(&path), issuer.as_deref(), passphrase).map(Key::from)
    })
}

#[napi(ts_return_type = "Promise<Key | Refused>")]
pub fn new_wrapping_key(path: String, kind: String, passphrase: Option<String>) -> Calling<Key> {
    calling(move || library::new_wrapping_key(Path::new(&path), &kind, passphrase).map(Key::from))
}

#[napi]
pub fn read_public_key(key: String) -> Outcome<Key> {
    outcome(library::read_public_key(&key).map(Key::from))
}
