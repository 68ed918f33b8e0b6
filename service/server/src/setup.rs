//! What makes a relay a gateway: an engine, keys of its own, and where sessions are.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use kvcap::{Code, Error, Result};
use kvcap_codecs::Preset;
use kvcap_engines::{
    Address, AttachedSettings, Engine, EngineError, LlamaServer, LlamaServerSettings, MlxLm,
    MlxLmSettings,
};
use kvcap_models::RuntimeOptions;
use kvcap_session::KEEP;
use kvcap_store::SealingKeys;
use serde::Deserialize;

use crate::duration::duration;

/// Setup of a gateway.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The model's runtime.
    pub engine: EngineSetup,
    /// Keys that states are sealed with, and opened.
    pub keys: Keys,
    /// Sessions.
    pub sessions: Sessions,
}

/// The model's runtime: one that is there, or how to begin one.
#[derive(Clone)]
pub enum EngineSetup {
    /// A llama-server as a child of this process.
    LlamaServer(LlamaServerSettings),
    /// A llama-server that somebody else runs.
    Attached(AttachedSettings),
    /// An mlx-lm as a child of this process.
    MlxLm(MlxLmSettings),
    /// One that is there.
    Given(Arc<dyn Engine>),
}

impl fmt::Debug for EngineSetup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::LlamaServer(_) => "LlamaServer",
            Self::Attached(_) => "Attached",
            Self::MlxLm(_) => "MlxLm",
            Self::Given(_) => "Given",
        })
    }
}

impl EngineSetup {
    /// Returns a llama-server as a child, of a program that is else looked for on the path.
    #[must_use]
    pub fn llama_server(
        program: Option<PathBuf>,
        model: PathBuf,
        slots: usize,
        context: u64,
        arguments: Vec<String>,
    ) -> Self {
        let program = program.unwrap_or_else(|| "llama-server".into());
        Self::LlamaServer(LlamaServerSettings {
            slots,
            context,
            arguments,
            ..LlamaServerSettings::new(program, model)
        })
    }

    /// Returns a llama-server that somebody else runs, at an address and with a folder of slots. The model's file is the
    /// one that it names, where none is named here.
    #[must_use]
    pub fn attached(address: &str, states: PathBuf, model: Option<PathBuf>) -> Self {
        Self::Attached(AttachedSettings {
            model,
            ..AttachedSettings::new(address_of(address), states)
        })
    }

    /// Begins the engine.
    ///
    /// # Errors
    /// Those of the engine.
    pub(crate) async fn start(&self) -> std::result::Result<Arc<dyn Engine>, EngineError> {
        match self.clone() {
            Self::LlamaServer(settings) => Ok(Arc::new(LlamaServer::start(settings).await?)),
            Self::Attached(settings) => Ok(Arc::new(LlamaServer::attach(settings).await?)),
            Self::MlxLm(settings) => Ok(Arc::new(MlxLm::start(settings).await?)),
            Self::Given(engine) => Ok(engine),
        }
    }
}

/// Keys of a gateway, by their files, and what its capsules say.
#[derive(Clone, Debug)]
pub struct Keys {
    /// Keys that it seals with, of which the signing key's public half is trusted.
    pub sealing: SealingKeys,
    /// Files of secret wrapping keys, and key folders, that it opens with beside those.
    pub open_keys: Vec<PathBuf>,
    /// Audience of the capsules, one of the gateway's own.
    pub audience: String,
    /// Seconds that a capsule is valid.
    pub ttl: u64,
    /// Encoding of banks.
    pub encoding: Preset,
}

/// Place of the sessions, and times at which they are saved.
#[derive(Clone, Debug)]
pub struct Sessions {
    /// Folder of the sessions.
    pub folder: PathBuf,
    /// Folder of base images, which every request may begin with.
    pub bases: Option<PathBuf>,
    /// Checkpoints of a session that are kept.
    pub keep: usize,
    /// Tokens after which a session is saved behind an answer; it is saved before it leaves its slot in any case.
    pub save_after: u64,
    /// Bytes of states of sessions that nobody has named; the oldest go first.
    pub budget: u64,
    /// Looks for the longest state that a request without a session goes on from.
    pub find: bool,
    /// Records turns of chats as events of their session, in clear in its folder.
    pub record: bool,
    /// Compares once in each life of the engine what a saved state goes on with, restored and not.
    pub probe: bool,
}

impl Sessions {
    /// Returns the defaults for a folder.
    #[must_use]
    pub const fn at(folder: PathBuf) -> Self {
        Self {
            folder,
            bases: None,
            keep: KEEP,
            save_after: 256,
            budget: 16 << 30,
            find: false,
            record: false,
            probe: true,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct EngineTable {
    /// `llama-server`, `attached` or `mlx-lm`.
    kind: String,
    model: Option<PathBuf>,
    /// The program, or the Python that has mlx-lm.
    program: Option<PathBuf>,
    slots: Option<usize>,
    context: Option<u64>,
    #[serde(default)]
    arguments: Vec<String>,
    /// As `--runtime-opt` has it.
    #[serde(default)]
    options: Vec<String>,
    log: Option<PathBuf>,
    /// `HOST:PORT` or the path of a socket.
    address: Option<String>,
    /// The folder of slots of an attached server.
    states: Option<PathBuf>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct KeysTable {
    sign_key: PathBuf,
    #[serde(default)]
    wrap_keys: Vec<PathBuf>,
    #[serde(default)]
    recipients: Vec<String>,
    issuer: Option<String>,
    audience: Option<String>,
    #[serde(default, deserialize_with = "duration")]
    ttl: Option<Duration>,
    encoding: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(crate) struct SessionsTable {
    folder: Option<PathBuf>,
    bases: Option<PathBuf>,
    keep: Option<usize>,
    save_after: Option<u64>,
    budget: Option<u64>,
    find: bool,
    record: bool,
    probe: Option<bool>,
}

/// Time that a capsule is valid by default, in seconds.
pub(crate) const TTL: u64 = 7 * 86_400;

/// Reads the tables of a gateway, of which one does not go without the other. Paths are relative to `folder`.
///
/// # Errors
/// KVC-945.
pub(crate) fn read(
    folder: &Path,
    audiences: &[String],
    keys: Option<KeysTable>,
    engine: Option<EngineTable>,
    sessions: Option<SessionsTable>,
) -> Result<Option<Setup>> {
    let wrong = |what: &'static str| Error::new(Code::LocalConfig, what);
    let (keys, engine) = match (keys, engine) {
        (Some(keys), Some(engine)) => (keys, engine),
        (None, None) if sessions.is_none() => return Ok(None),
        _ => return Err(wrong("a gateway has the tables engine and keys")),
    };
    if keys.wrap_keys.is_empty() {
        return Err(wrong(
            "keys names no wrap-keys: what is sealed could not be opened",
        ));
    }
    let encoding = keys.encoding.as_deref().unwrap_or(Preset::Exact.name());
    let encoding = Preset::from_name(encoding);
    let recipient = |text: &String| match folder.join(text) {
        path if path.is_file() => path.to_string_lossy().into_owned(),
        _ => text.clone(),
    };
    let sessions = sessions.unwrap_or_default();
    let usual = Sessions::at(folder.join(sessions.folder.unwrap_or_else(|| "sessions".into())));
    Ok(Some(Setup {
        engine: engine.setup(folder)?,
        keys: Keys {
            sealing: SealingKeys {
                sign_key: folder.join(keys.sign_key),
                wrap_keys: keys
                    .wrap_keys
                    .iter()
                    .map(|path| folder.join(path))
                    .collect(),
                recipients: keys.recipients.iter().map(recipient).collect(),
                issuer: keys.issuer,
            },
            open_keys: Vec::new(),
            audience: match keys.audience {
                Some(audience) => audience,
                None => audiences.first().cloned().unwrap_or_default(),
            },
            ttl: keys.ttl.map_or(TTL, |ttl| ttl.as_secs()),
            encoding: encoding.ok_or_else(|| wrong("there is no such encoding"))?,
        },
        sessions: Sessions {
            bases: sessions.bases.map(|path| folder.join(path)),
            keep: sessions.keep.unwrap_or(usual.keep),
            save_after: sessions.save_after.unwrap_or(usual.save_after),
            budget: sessions.budget.unwrap_or(usual.budget),
            find: sessions.find,
            record: sessions.record,
            probe: sessions.probe.unwrap_or(usual.probe),
            ..usual
        },
    }))
}

impl EngineTable {
    fn setup(self, folder: &Path) -> Result<EngineSetup> {
        let lacks = |what: &'static str| {
            let error = Error::new(
                Code::LocalConfig,
                "the table engine lacks a key that its kind needs",
            );
            error.at(what)
        };
        let path = |path: Option<PathBuf>, what| {
            path.map(|path| folder.join(path))
                .ok_or_else(|| lacks(what))
        };
        // a program's name alone is looked for on the path
        let program = self
            .program
            .map(|program| match program.components().count() {
                1 => program,
                _ => folder.join(program),
            });
        let options = RuntimeOptions::parse(&self.options)?;
        let log = self.log.map(|log| folder.join(log));
        match self.kind.as_str() {
            "llama-server" => {
                let program = program.unwrap_or_else(|| "llama-server".into());
                let usual = LlamaServerSettings::new(program, path(self.model, "model")?);
                Ok(EngineSetup::LlamaServer(LlamaServerSettings {
                    slots: self.slots.unwrap_or(usual.slots),
                    context: self.context.unwrap_or(usual.context),
                    arguments: self.arguments,
                    options,
                    log,
                    ..usual
                }))
            }
            "attached" => {
                let address = self.address.ok_or_else(|| lacks("address"))?;
                let usual =
                    AttachedSettings::new(address_of(&address), path(self.states, "states")?);
                Ok(EngineSetup::Attached(AttachedSettings {
                    model: self.model.map(|model| folder.join(model)),
                    options,
                    ..usual
                }))
            }
            "mlx-lm" => {
                let program = program.unwrap_or_else(|| "python3".into());
                let usual = MlxLmSettings::new(program, path(self.model, "model")?);
                Ok(EngineSetup::MlxLm(MlxLmSettings {
                    slots: self.slots.unwrap_or(usual.slots),
                    context: self.context.unwrap_or(usual.context),
                    log,
                    ..usual
                }))
            }
            kind => {
                let what = "the kinds of engines are llama-server, attached and mlx-lm";
                Err(Error::new(Code::LocalConfig, what).at(format_args!("{kind:?}")))
            }
        }
    }
}

/// An address: a socket by its path, else host and port; `http://` before them says nothing more.
pub(crate) fn address_of(text: &str) -> Address {
    match text.starts_with('/') {
        true => Address::Socket(text.into()),
        false => {
            let text = text.strip_prefix("http://").unwrap_or(text);
            Address::Tcp(text.trim_end_matches('/').to_owned())
        }
    }
}
