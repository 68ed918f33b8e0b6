//! A gateway of one test before an engine in memory.

pub(crate) mod capsules;
#[allow(dead_code, reason = "shared with the relay's tests")]
#[path = "../../server/support/client.rs"]
pub(crate) mod client;
pub(crate) mod engine;
#[path = "../../server/support/folder.rs"]
pub(crate) mod folder;
#[path = "../../server/support/own_process.rs"]
pub(crate) mod own_process;
#[path = "../../server/support/resources.rs"]
pub(crate) mod resources;
#[path = "../../server/support/vectors.rs"]
pub(crate) mod vectors;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use kvcap::{RecipientKind, Suite, Terms};
use kvcap_codecs::Preset;
use kvcap_engines::Engine as _;
use kvcap_server::{
    EngineSetup, Keys, Limits, NewToken, Permission, Running, Server, Sessions, Settings, Setup,
    Token, Tokens,
};
use kvcap_states::{Hints, Prompt, SealRequest, parse, seal_state};
use kvcap_store::{
    FreshKey, LedgerFile, Passphrases, SealingKeys, TrustSources, Verifier, key_file,
    output::Readers, time,
};
use kvcap_testkit::capture;
use serde_json::{Value, json};
use tempfile::TempDir;

pub(crate) use client::{Client, Reply};
pub(crate) use engine::{TestEngine, says};

/// Files of a gateway, which outlive it.
pub(crate) struct Home {
    pub(crate) folder: TempDir,
    tokens: Tokens,
    pub(crate) ana: String,
    pub(crate) bob: String,
    /// May complete, and nothing else.
    pub(crate) restores: String,
    pub(crate) operator: String,
    /// May do everything, in a space of no name.
    pub(crate) everything: String,
}

pub(crate) struct Gateway {
    running: Option<Running>,
}

impl Home {
    pub(crate) fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let sign = FreshKey::signing(Some("gateway")).unwrap();
        sign.write(&folder.path().join("sign.key"), false, Readers::Owner, None)
            .unwrap();
        let wrap = FreshKey::wrapping(RecipientKind::Symmetric).unwrap();
        wrap.write(&folder.path().join("wrap.key"), false, Readers::Owner, None)
            .unwrap();
        let mut tokens = Tokens::default();
        let mut token = |subject: Option<&str>, may: &[Permission]| {
            let new = NewToken::generate().unwrap();
            let token = Token {
                tenant: subject.map(|_| "acme".to_owned()),
                subject: subject.map(str::to_owned),
                may: may.to_vec(),
            };
            tokens.add(new.digest(), token).unwrap();
            new.text().to_owned()
        };
        let all = [
            Permission::Put,
            Permission::Get,
            Permission::SessionGet,
            Permission::SessionPut,
            Permission::Restore,
        ];
        let ana = token(Some("ana"), &all);
        let bob = token(Some("bob"), &all);
        let restores = token(Some("ana"), &[Permission::Restore]);
        let operator = token(None, &[Permission::Admin]);
        let everything = token(None, &Permission::ALL);
        Self {
            folder,
            tokens,
            ana,
            bob,
            restores,
            operator,
            everything,
        }
    }

    /// A token that gateways know from now on.
    pub(crate) fn token(
        &mut self,
        tenant: Option<&str>,
        subject: Option<&str>,
        may: &[Permission],
    ) -> String {
        let new = NewToken::generate().unwrap();
        let token = Token {
            tenant: tenant.map(str::to_owned),
            subject: subject.map(str::to_owned),
            may: may.to_vec(),
        };
        self.tokens.add(new.digest(), token).unwrap();
        new.text().to_owned()
    }

    pub(crate) fn verifier(&self) -> Verifier {
        verifier(self.folder.path())
    }

    /// A capsule of `ana`'s for one use, sealed with the gateway's keys.
    pub(crate) fn single_use(&self, engine: &TestEngine, session: &str, prompt: &str) -> Vec<u8> {
        let nobody = Passphrases::none();
        let signer = key_file::signing(&self.path("sign.key"), &nobody).unwrap();
        let key = key_file::wrapping_key(&self.path("wrap.key"), &nobody).unwrap();
        let about = engine.about();
        let source = engine.state(prompt).source().unwrap();
        let hints = Hints::Model(&about.profile.geometry);
        let state = parse(about.kind, &source, hints).unwrap();
        let now = time::now();
        let mut terms = Terms::new(&signer.issuer(), "here", now, now + 600);
        (terms.tenant, terms.subject) = (Some("acme".to_owned()), Some("ana".to_owned()));
        (terms.single_use, terms.renew_until) = (true, now + 600);
        terms.session = Some(kvcap::Session {
            id: session.to_owned(),
            version: 1,
            replay_cursor: 0,
        });
        let mut how = capture(Suite::ChaCha20Poly1305, Prompt::FromState);
        how.runtime_version.clone_from(&about.version);
        let request = SealRequest::new(&state, &source, &about.profile, how, terms, &signer);
        let out = Mutex::new(Vec::new());
        let sealed = seal_state(out, request.to(&[&key]), &mut |_| {}).unwrap();
        sealed.0.into_inner().unwrap()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn gateway(&self, engine: &Arc<TestEngine>) -> Gateway {
        self.gateway_with(engine, |_| {})
    }

    pub(crate) fn gateway_with(
        &self,
        engine: &Arc<TestEngine>,
        change: impl FnOnce(&mut Sessions),
    ) -> Gateway {
        self.gateway_by(engine, |settings| {
            change(&mut settings.gateway.as_mut().unwrap().sessions);
        })
    }

    pub(crate) fn settings(&self, engine: &Arc<TestEngine>) -> Settings {
        settings(self.folder.path(), self.tokens.clone(), engine)
    }

    /// A gateway with what else its settings may say.
    pub(crate) fn gateway_by(
        &self,
        engine: &Arc<TestEngine>,
        change: impl FnOnce(&mut Settings),
    ) -> Gateway {
        let mut settings = self.settings(engine);
        change(&mut settings);
        Gateway::begin(settings)
    }
}

fn verifier(home: &Path) -> Verifier {
    let trusted = home.join("sign.key.pub").to_string_lossy().into_owned();
    Verifier {
        audiences: vec!["here".to_owned()],
        ledger: Some(Arc::new(LedgerFile::at(home.join("ledger")))),
        ..Verifier::new(TrustSources::keys(vec![trusted]))
    }
}

/// Settings of a gateway whose files are in a folder.
pub(crate) fn settings(home: &Path, tokens: Tokens, engine: &Arc<TestEngine>) -> Settings {
    let engine = EngineSetup::Given(Arc::clone(engine) as Arc<dyn kvcap_engines::Engine>);
    Settings {
        listen: "127.0.0.1:0".parse().unwrap(),
        place: kvcap_server::Place::Folder(home.join("kept")),
        verifier: verifier(home),
        audit: Some(home.join("audit")),
        log: None,
        tls: None,
        inspector: None,
        tokens,
        limits: Limits {
            rate: 1_000_000,
            burst: 1_000_000,
            ..Limits::default()
        },
        gateway: Some(Setup {
            engine,
            keys: Keys {
                sealing: SealingKeys {
                    sign_key: home.join("sign.key"),
                    wrap_keys: vec![home.join("wrap.key")],
                    recipients: Vec::new(),
                    issuer: None,
                },
                open_keys: Vec::new(),
                audience: "here".to_owned(),
                ttl: 3600,
                encoding: Preset::Exact,
            },
            sessions: Sessions::at(home.join("sessions")),
        }),
    }
}

impl Gateway {
    pub(crate) fn begin(settings: Settings) -> Self {
        Self {
            running: Some(Server::bind(settings).unwrap().start().unwrap()),
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.running.as_ref().unwrap().address()
    }

    /// Judges by another verifier from now on.
    pub(crate) fn judge_by(&self, verifier: Verifier) {
        self.running.as_ref().unwrap().judge_by(verifier);
    }

    pub(crate) fn connect(&self) -> Client {
        Client::connect(self.address())
    }

    pub(crate) fn ask(
        &self,
        token: &str,
        method: &str,
        path: &str,
        fields: &[&str],
        body: &[u8],
    ) -> Reply {
        let mut client = self.connect();
        let fields: Vec<&str> = fields
            .iter()
            .copied()
            .chain(["connection: close"])
            .collect();
        client.ask(token, method, path, &fields, body)
    }

    pub(crate) fn post(&self, token: &str, path: &str, body: &Value) -> Reply {
        self.ask(token, "POST", path, &[], body.to_string().as_bytes())
    }

    /// A completion of a session.
    pub(crate) fn complete(&self, token: &str, session: &str, prompt: &str) -> Reply {
        let body = json!({"prompt": prompt, "prompt_cache_key": session});
        self.post(token, "/v1/completions", &body)
    }

    /// Ends it, and waits.
    pub(crate) fn end(mut self) {
        let running = self.running.take().unwrap();
        running.stop().now();
        running.wait().unwrap();
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if let Some(running) = &self.running {
            running.stop().now();
        }
    }
}

/// Text of an answer.
pub(crate) fn said(reply: &Reply) -> String {
    assert_eq!(
        reply.status,
        200,
        "{}",
        String::from_utf8_lossy(&reply.body)
    );
    reply.json()["choices"][0]["text"]
        .as_str()
        .unwrap()
        .to_owned()
}

/// Rung, where the state was from, and tokens that were restored and evaluated.
pub(crate) fn told(reply: &Reply) -> (&str, &str, u64, u64) {
    let field = |name: &str| reply.field(name).unwrap_or_default();
    let number = |name: &str| field(name).parse().unwrap_or(u64::MAX);
    (
        field("x-kvcap-rung"),
        field("x-kvcap-from"),
        number("x-kvcap-restored"),
        number("x-kvcap-evaluated"),
    )
}
