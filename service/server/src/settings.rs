//! Settings of a relay, and the file that says them: every key known, every fault with its line.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use kvcap::{Code, Error, Result, binding::Digest};
use kvcap_store::{EdgeSettings, LedgerFile, TrustSources, Verifier, profile::read_unchanged};
use serde::Deserialize;

use crate::{
    duration::duration,
    inspector::Inspector,
    limits::Limits,
    log::Log,
    place::Place,
    policy::Policy,
    tls::Tls,
    tokens::{Permission, Token, Tokens},
};

/// Longest file, in bytes.
const LONGEST: u64 = 4 << 20;

/// Settings of a relay.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Address to listen at.
    pub listen: SocketAddr,
    /// Place of the capsules.
    pub place: Place,
    /// Whom to trust, what to remember, for which audiences; tenant and subject are the callers'.
    pub verifier: Verifier,
    /// File in which requests are recorded, if they are.
    pub audit: Option<PathBuf>,
    /// Sink of lines about requests, if they are written.
    pub log: Option<Log>,
    /// Certificate, where connections are by TLS.
    pub tls: Option<Tls>,
    /// Callers.
    pub tokens: Tokens,
    /// Limits.
    pub limits: Limits,
    /// Page that verifies in a browser, if there is one.
    pub inspector: Option<Inspector>,
    /// Setup of the model behind it, which makes it a gateway.
    #[cfg(feature = "gateway")]
    pub gateway: Option<crate::setup::Setup>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct File {
    listen: SocketAddr,
    folder: Option<PathBuf>,
    shared: Option<SharedTable>,
    audiences: Vec<String>,
    #[serde(default)]
    trust: Vec<String>,
    #[serde(default)]
    registries: Vec<PathBuf>,
    #[serde(default)]
    registry_roots: Vec<String>,
    ledger: Option<PathBuf>,
    audit: Option<PathBuf>,
    #[serde(default)]
    log: bool,
    inspector: Option<PathBuf>,
    tls: Option<TlsTable>,
    scope: Option<String>,
    #[serde(default, deserialize_with = "duration")]
    max_lifetime: Option<Duration>,
    #[serde(default)]
    limits: LimitsTable,
    #[serde(default)]
    tokens: Vec<TokenTable>,
    #[cfg(feature = "gateway")]
    keys: Option<crate::setup::KeysTable>,
    #[cfg(feature = "gateway")]
    engine: Option<crate::setup::EngineTable>,
    #[cfg(feature = "gateway")]
    sessions: Option<crate::setup::SessionsTable>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct SharedTable {
    database: PathBuf,
    bucket: String,
    edge: Option<PathBuf>,
    edge_bytes: Option<u64>,
    edge_capsules: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenTable {
    digest: String,
    tenant: Option<String>,
    subject: Option<String>,
    may: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct TlsTable {
    certificate: PathBuf,
    key: PathBuf,
    client_authorities: Option<PathBuf>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct LimitsTable {
    capsule: Option<u64>,
    envelope: Option<u32>,
    tables: Option<u64>,
    tenant: Option<u64>,
    uploads: Option<usize>,
    tenant_uploads: Option<usize>,
    rate: Option<u32>,
    burst: Option<u32>,
    connections: Option<usize>,
    #[serde(deserialize_with = "duration")]
    head: Option<Duration>,
    #[serde(deserialize_with = "duration")]
    silence: Option<Duration>,
    slowest: Option<u64>,
    #[serde(deserialize_with = "duration")]
    resumable: Option<Duration>,
    #[serde(deserialize_with = "duration")]
    sweep: Option<Duration>,
    #[serde(deserialize_with = "duration")]
    ending: Option<Duration>,
}

impl Settings {
    /// Reads settings from a file that its user or root alone can change. Paths in it are relative to its folder.
    ///
    /// # Errors
    /// KVC-945 with the line, 940.
    pub fn read(path: &Path) -> Result<Self> {
        let text = read_unchanged(path, LONGEST)?;
        let file: File = toml::from_str(&text).map_err(|error| {
            let at = error.span().map_or(0, |span| span.start);
            let before = text.as_bytes().get(..at).unwrap_or_default();
            let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
            let what = error
                .message()
                .lines()
                .next()
                .unwrap_or_default()
                .to_owned();
            Error::new(Code::LocalConfig, what).at(format_args!("{}:{line}", path.display()))
        })?;
        file.settings(path.parent().unwrap_or(Path::new(".")))
            .map_err(|error| error.at(path.display()))
    }

    /// Loads whom is trusted, and makes sure that the folder, if it is there, is a folder of one user. Returns the
    /// number of keys.
    ///
    /// # Errors
    /// KVC-3xx for keys and registries, 412 for the clock, 94x for files.
    pub fn check(&self) -> Result<usize> {
        self.place.check()?;
        Ok(self.verifier.judge()?.trust().ids().count())
    }

    pub(crate) fn policy(&self) -> Policy {
        Policy {
            verifier: Arc::new(self.verifier.clone()),
            tokens: Arc::new(self.tokens.clone()),
            limits: self.limits.clone(),
            tls: self.tls.clone(),
            inspector: self.inspector.clone(),
        }
    }
}

impl File {
    fn settings(self, folder: &Path) -> Result<Settings> {
        let mut tokens = Tokens::default();
        for (number, table) in (1_usize..).zip(&self.tokens) {
            table
                .add_to(&mut tokens)
                .map_err(|error| error.at(format_args!("tokens, number {number}")))?;
        }
        // a key is its text, or its file
        let key = |text: &String| match folder.join(text) {
            path if path.is_file() => path.to_string_lossy().into_owned(),
            _ => text.clone(),
        };
        let trust = TrustSources {
            keys: self.trust.iter().map(key).collect(),
            registries: self
                .registries
                .iter()
                .map(|path| folder.join(path))
                .collect(),
            roots: self.registry_roots.iter().map(key).collect(),
        };
        let missing = |what: &'static str| Err(Error::new(Code::LocalConfig, what));
        if trust.is_empty() {
            return missing("nobody is trusted: trust, or registries and registry-roots");
        }
        if self.audiences.is_empty() {
            return missing("audiences is empty: no capsule would be accepted");
        }
        let place = match (self.folder, self.shared) {
            (Some(own), None) => Place::Folder(folder.join(own)),
            (None, Some(shared)) => shared.place(folder)?,
            _ => return missing("capsules are kept in a folder, or shared"),
        };
        let is_shared = matches!(place, Place::Shared { .. });
        if is_shared && self.ledger.is_some() {
            return missing("relays that share a database remember in it: leave ledger out");
        }
        #[cfg(feature = "gateway")]
        if is_shared && self.engine.is_some() {
            return missing("a gateway keeps capsules in a folder of its own");
        }
        #[cfg(feature = "gateway")]
        let gateway = crate::setup::read(
            folder,
            &self.audiences,
            self.keys,
            self.engine,
            self.sessions,
        )?;
        let mut verifier = Verifier::new(trust);
        if let Some(path) = self.ledger {
            verifier.ledger = Some(Arc::new(LedgerFile::at(folder.join(path))));
        }
        verifier.audiences = self.audiences;
        if let Some(scope) = self.scope {
            verifier.scope = scope;
        }
        if let Some(longest) = self.max_lifetime {
            verifier.max_lifetime = longest.as_secs();
        }
        let tls = self.tls.map(|tls| {
            let clients = tls.client_authorities.map(|path| folder.join(path));
            let (certificate, key) = (folder.join(tls.certificate), folder.join(tls.key));
            Tls::read(&certificate, &key, clients.as_deref())
        });
        let inspector = self
            .inspector
            .map(|path| Inspector::read(&folder.join(path)));
        Ok(Settings {
            listen: self.listen,
            place,
            verifier,
            audit: self.audit.map(|path| folder.join(path)),
            log: self.log.then(|| Log::to(std::io::stderr())),
            tls: tls.transpose()?,
            tokens,
            limits: self.limits.limits(),
            inspector: inspector.transpose()?.or_else(Inspector::built_in),
            #[cfg(feature = "gateway")]
            gateway,
        })
    }
}

impl SharedTable {
    fn place(self, folder: &Path) -> Result<Place> {
        let edge = match self.edge {
            None if self.edge_bytes.is_some() || self.edge_capsules.is_some() => {
                let what = "edge-bytes and edge-capsules are of an edge: say where it is";
                return Err(Error::new(Code::LocalConfig, what));
            }
            None => None,
            Some(address) => {
                let usual = EdgeSettings::at(folder.join(address));
                Some(EdgeSettings {
                    bytes: self.edge_bytes.unwrap_or(usual.bytes),
                    capsules: self.edge_capsules.unwrap_or(usual.capsules),
                    ..usual
                })
            }
        };
        Ok(Place::Shared {
            database: folder.join(self.database),
            bucket: self.bucket,
            edge,
        })
    }
}

impl TokenTable {
    fn add_to(&self, tokens: &mut Tokens) -> Result<()> {
        let wrong = |what: &'static str| Error::new(Code::LocalConfig, what);
        let digest = Digest::from_hex(&self.digest)
            .ok_or_else(|| wrong("digest is not the 64 digits that a new token is shown with"))?;
        let permission = |name: &String| {
            let known = Permission::ALL
                .into_iter()
                .find(|known| known.name() == name);
            known.ok_or_else(|| {
                let names = Permission::ALL.map(Permission::name).join(", ");
                wrong("there is no such permission").sides(names, format_args!("{name:?}"))
            })
        };
        let token = Token {
            tenant: self.tenant.clone(),
            subject: self.subject.clone(),
            may: self.may.iter().map(permission).collect::<Result<_>>()?,
        };
        tokens.add(digest, token)
    }
}

impl LimitsTable {
    fn limits(self) -> Limits {
        let usual = Limits::default();
        Limits {
            capsule: self.capsule.unwrap_or(usual.capsule),
            envelope: self.envelope.unwrap_or(usual.envelope).min(usual.envelope),
            tables: self.tables.unwrap_or(usual.tables).min(usual.tables),
            tenant: self.tenant.unwrap_or(usual.tenant),
            uploads: self.uploads.unwrap_or(usual.uploads),
            tenant_uploads: self.tenant_uploads.unwrap_or(usual.tenant_uploads),
            rate: self.rate.unwrap_or(usual.rate),
            burst: self.burst.unwrap_or(usual.burst),
            connections: self.connections.unwrap_or(usual.connections),
            head: self.head.unwrap_or(usual.head),
            silence: self.silence.unwrap_or(usual.silence),
            slowest: self.slowest.unwrap_or(usual.slowest),
            resumable: self.resumable.unwrap_or(usual.resumable),
            sweep: self.sweep.unwrap_or(usual.sweep),
            ending: self.ending.unwrap_or(usual.ending),
        }
    }
}
