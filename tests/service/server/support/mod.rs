//! A relay of one test, capsules to upload, and a client that can do what no client should.

pub(crate) mod client;
pub(crate) mod folder;
pub(crate) mod own_process;
pub(crate) mod resources;
pub(crate) mod vectors;

use std::{
    collections::BTreeSet,
    path::PathBuf,
    sync::{Mutex, OnceLock},
};

use kvcap::{
    Change, Context, Draft, RootKey, Sealer, Section, SectionKind, SigningKey, Terms, TrustedKey,
    WrappingKey,
    binding::{Digest, Model, Runtime, Tokenizer},
};
use kvcap_server::{Limits, NewToken, Permission, Running, Server, Settings, Token, Tokens};
use kvcap_store::{RegistryFile, TrustSources, Verifier, time};
use kvcap_testvectors::fixture;
use tempfile::TempDir;

pub(crate) use client::{Client, Reply};

/// The time of all capsules: when the tests began.
pub(crate) fn now() -> u64 {
    static BEGAN: OnceLock<u64> = OnceLock::new();
    *BEGAN.get_or_init(time::now)
}

pub(crate) const AUDIENCE: &str = "cache.example.com";

pub(crate) fn signer() -> SigningKey {
    SigningKey::from_seed(&fixture::SIGN_SEED)
}

/// A verifier of the test's own time that trusts the test's signer.
pub(crate) fn verifier() -> Verifier {
    verifier_at(now())
}

pub(crate) fn verifier_at(at: u64) -> Verifier {
    let sources = TrustSources::keys(vec![signer().public().to_text()]);
    Verifier {
        audiences: vec![AUDIENCE.to_owned()],
        at: Some(at),
        ..Verifier::new(sources)
    }
}

/// A registry of one root, valid for so many seconds, that lists the test's signer; and the verifiers that follow it.
pub(crate) struct Registry {
    home: TempDir,
    root: RootKey,
}

impl Registry {
    pub(crate) fn new(seconds: u64) -> Self {
        let registry = Self {
            home: tempfile::tempdir().unwrap(),
            root: RootKey::generate().unwrap(),
        };
        RegistryFile::at(&registry.path())
            .create(&registry.root, now() - 100, seconds)
            .unwrap();
        registry.change(Change::Add(Box::new(TrustedKey::from(&signer()))));
        registry
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.home.path().join("registry")
    }

    pub(crate) fn root(&self) -> String {
        self.root.public().to_text()
    }

    pub(crate) fn change(&self, change: Change) {
        RegistryFile::at(&self.path())
            .change(&[change], &self.root, now() - 50, None)
            .unwrap();
    }

    pub(crate) fn verifier_at(&self, at: u64) -> Verifier {
        Verifier {
            trust: TrustSources {
                registries: vec![self.path()],
                roots: vec![self.root()],
                ..TrustSources::default()
            },
            ..verifier_at(at)
        }
    }
}

/// A relay that listens at a port of its own; it ends with the test.
pub(crate) struct Relay {
    pub(crate) running: Option<Running>,
    pub(crate) settings: Settings,
    pub(crate) folder: PathBuf,
    /// Tokens: of `ana` of `acme`, of `bob` of `acme`, of `ana` of `other`, of nobody, and of an operator.
    pub(crate) ana: String,
    pub(crate) bob: String,
    pub(crate) other: String,
    pub(crate) nobody: String,
    pub(crate) operator: String,
    pub(crate) home: TempDir,
}

pub(crate) fn relay() -> Relay {
    relay_with(verifier(), Limits::default())
}

pub(crate) fn relay_with(verifier: Verifier, limits: Limits) -> Relay {
    let home = TempDir::new().unwrap();
    relay_in(home, verifier, limits)
}

pub(crate) fn relay_in(home: TempDir, verifier: Verifier, limits: Limits) -> Relay {
    relay_of(home, verifier, limits, |_| {})
}

/// A relay with what else its settings may say.
pub(crate) fn relay_by(change: impl FnOnce(&mut Settings)) -> Relay {
    relay_of(
        TempDir::new().unwrap(),
        verifier(),
        Limits::default(),
        change,
    )
}

fn relay_of(
    home: TempDir,
    verifier: Verifier,
    limits: Limits,
    change: impl FnOnce(&mut Settings),
) -> Relay {
    let mut tokens = Tokens::default();
    let mut token = |tenant: Option<&str>, subject: Option<&str>, may: &[Permission]| {
        let new = NewToken::generate().unwrap();
        let token = Token {
            tenant: tenant.map(str::to_owned),
            subject: subject.map(str::to_owned),
            may: may.to_vec(),
        };
        tokens.add(new.digest(), token).unwrap();
        new.text().to_owned()
    };
    let both = [
        Permission::Put,
        Permission::Get,
        Permission::SessionPut,
        Permission::SessionGet,
    ];
    let ana = token(Some("acme"), Some("ana"), &both);
    let bob = token(Some("acme"), Some("bob"), &both);
    let other = token(Some("other"), Some("ana"), &both);
    let nobody = token(None, None, &both);
    let operator = token(None, None, &[Permission::Admin]);
    let folder = home.path().join("kept");
    let mut settings = Settings {
        listen: "127.0.0.1:0".parse().unwrap(),
        place: kvcap_server::Place::Folder(folder.clone()),
        verifier,
        audit: Some(home.path().join("audit")),
        log: None,
        tls: None,
        tokens,
        limits,
        inspector: None,
        #[cfg(feature = "gateway")]
        gateway: None,
    };
    change(&mut settings);
    let running = Server::bind(settings.clone()).unwrap().start().unwrap();
    Relay {
        running: Some(running),
        settings,
        folder,
        ana,
        bob,
        other,
        nobody,
        operator,
        home,
    }
}

impl Relay {
    pub(crate) fn running(&self) -> &Running {
        self.running.as_ref().unwrap()
    }

    pub(crate) fn client(&self) -> Client {
        Client::connect(self.running().address())
    }

    /// One request by `ana` on a connection of its own.
    pub(crate) fn ask(&self, method: &str, path: &str, fields: &[&str], body: &[u8]) -> Reply {
        self.ask_as(&self.ana, method, path, fields, body)
    }

    pub(crate) fn ask_as(
        &self,
        token: &str,
        method: &str,
        path: &str,
        fields: &[&str],
        body: &[u8],
    ) -> Reply {
        self.client().ask(token, method, path, fields, body)
    }

    /// Uploads by `ana`.
    pub(crate) fn put(&self, file: &[u8]) -> Reply {
        self.ask("POST", "/v1/capsules", &[], file)
    }

    /// The files that are kept or in the making, but not the lock.
    pub(crate) fn files(&self) -> BTreeSet<PathBuf> {
        let mut found = folder::files(&self.folder);
        found.remove(&self.folder.join("lock"));
        found
    }

    /// Ends it, and waits.
    pub(crate) fn end(&mut self) {
        let running = self.running.take().unwrap();
        running.stop().now();
        running.wait().unwrap();
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        if let Some(running) = &self.running {
            running.stop().now();
        }
    }
}

/// A capsule of `ana` of `acme`, of some 100 kB in chunks of 4 KiB.
pub(crate) fn capsule() -> Vec<u8> {
    sealed(100_000, |_| {}, |_| {})
}

/// A capsule with a section of so many bytes.
pub(crate) fn sealed(
    len: usize,
    terms: impl FnOnce(&mut Terms),
    context: impl FnOnce(&mut Context),
) -> Vec<u8> {
    let of = |what: &str| Digest::labelled("a test's digest", &[what.as_bytes()]);
    let model = Model::new(of("model"), of("weights"), of("config"));
    let tokenizer = Tokenizer::new(of("vocabulary"), 32_000);
    let mut section = Section::new(SectionKind::AgentState, len as u64);
    section.chunk_len = 4096;
    let runtime = Runtime::new("raw", "safetensors");
    let streams = vec![section.into()];
    let mut of_context = Context::new(model, tokenizer, runtime, 0..1, 1, streams);
    context(&mut of_context);
    let signer = signer();
    let mut of_terms = Terms::new(&signer.issuer(), AUDIENCE, now() - 10, now() + 3600);
    of_terms.tenant = Some("acme".to_owned());
    of_terms.subject = Some("ana".to_owned());
    terms(&mut of_terms);
    let key = WrappingKey::from_bytes(fixture::WRAP_KEY);
    let draft = Draft::new(of_terms, of_context);
    let sealer = Sealer::new(Mutex::new(Vec::new()), draft, &signer, &[&key]).unwrap();
    sealer.write(&fixture::noise("relay", len)).unwrap();
    sealer.end_stream().unwrap();
    sealer.finish().unwrap().0.into_inner().unwrap()
}

/// Where the tables of a file begin, and its body.
pub(crate) fn regions(file: &[u8]) -> (usize, usize) {
    let number = |at: usize, len: usize| {
        let mut bytes = [0; 8];
        bytes[..len].copy_from_slice(&file[at..at + len]);
        u64::from_le_bytes(bytes) as usize
    };
    let tables_at = (64 + number(12, 4)).next_multiple_of(4096);
    (
        tables_at,
        (tables_at + number(16, 8)).next_multiple_of(4096),
    )
}

/// The id of a capsule, as its own header says it.
pub(crate) fn id(file: &[u8]) -> String {
    let untrusted = kvcap::Untrusted::read_at(file, &kvcap::Limits::default()).unwrap();
    untrusted.claims().id.to_string()
}

pub(crate) fn path(file: &[u8]) -> String {
    format!("/v1/capsules/{}", id(file))
}
