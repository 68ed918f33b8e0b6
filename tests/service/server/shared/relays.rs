//! Three relays as clients ask them: capsules of two files each, sessions' versions, and whoever revokes.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use kvcap::{
    CapsuleId, Context, Draft, Sealer, Section, SectionKind, Terms, WrappingKey,
    binding::{Digest, Model, Runtime, Tokenizer},
    hazmat::Entropy,
};
use kvcap_testvectors::fixture;
use serde_json::json;

use super::{
    RELAYS,
    history::{Asked, File, Front, Told},
    order::{Keeper, Sealed},
    revocations::Revocations,
};
use crate::{
    support::{AUDIENCE, Client, Reply, id, now, path, signer},
    versions,
};

/// A capsule of a key: two files of one id.
pub(crate) fn capsule(key: usize, file: File) -> Vec<u8> {
    let of = |what: &str| Digest::labelled("a test's digest", &[what.as_bytes()]);
    let model = Model::new(of("model"), of("weights"), of("config"));
    let tokenizer = Tokenizer::new(of("vocabulary"), 32_000);
    let len = 20_000 + usize::from(file);
    let mut section = Section::new(SectionKind::AgentState, len as u64);
    section.chunk_len = 4096;
    let streams = vec![section.into()];
    let runtime = Runtime::new("raw", "safetensors");
    let context = Context::new(model, tokenizer, runtime, 0..1, 1, streams);
    let signer = signer();
    let mut terms = Terms::new(&signer.issuer(), AUDIENCE, now() - 10, now() + 7200);
    terms.tenant = Some("acme".to_owned());
    terms.subject = Some("ana".to_owned());
    let wrap = WrappingKey::from_bytes(fixture::WRAP_KEY);
    let entropy = Entropy::danger_chosen(&key.to_le_bytes());
    let (draft, out) = (Draft::new(terms, context), Mutex::new(Vec::new()));
    let sealer = Sealer::danger_with_entropy(out, draft, &signer, &[&wrap], entropy).unwrap();
    sealer.write(&fixture::noise("relay", len)).unwrap();
    sealer.end_stream().unwrap();
    sealer.finish().unwrap().0.into_inner().unwrap()
}

/// Capsules that were made, by key and file.
type Files = BTreeMap<(usize, File), Arc<Vec<u8>>>;

type Addresses = [Option<SocketAddr>; RELAYS];

/// Three relays, and where they are now.
pub(crate) struct Relays {
    addresses: Mutex<Addresses>,
    token: String,
    files: Mutex<Files>,
    next: AtomicUsize,
    revocations: Revocations,
}

impl Relays {
    pub(crate) fn new(addresses: Addresses, token: &str, revocations: Revocations) -> Self {
        Self {
            addresses: Mutex::new(addresses),
            token: token.to_owned(),
            files: Mutex::default(),
            next: AtomicUsize::default(),
            revocations,
        }
    }

    /// A relay is at another address now, or at none.
    pub(crate) fn is_at(&self, relay: usize, address: Option<SocketAddr>) {
        self.addresses.lock().unwrap()[relay] = address;
    }

    pub(crate) fn revocations(&self) -> &Revocations {
        &self.revocations
    }

    fn file(&self, key: usize, file: File) -> Arc<Vec<u8>> {
        let made = self.files.lock().unwrap().get(&(key, file)).cloned();
        made.unwrap_or_else(|| {
            let made = Arc::new(capsule(key, file));
            let mut files = self.files.lock().unwrap();
            // those of keys that are no longer asked for are made again at the end
            if files.len() > 400 {
                files.pop_first();
            }
            Arc::clone(files.entry((key, file)).or_insert(made))
        })
    }

    /// The number of the relay that is asked next.
    fn next(&self) -> usize {
        self.next.fetch_add(1, Ordering::SeqCst) % RELAYS
    }

    /// Asks a relay: nothing where nobody listens, and no reply of one that was asked and did not answer.
    fn send(&self, relay: usize, method: &str, path: &str, body: &[u8]) -> Option<Option<Reply>> {
        let address = self.addresses.lock().unwrap()[relay]?;
        let mut client = Client::try_connect(address)?;
        Some(client.try_ask(&self.token, method, path, &[], body))
    }

    fn ask_one(&self, relay: usize, key: usize, asked: Asked) -> Option<Told> {
        let of = |file| self.file(key, file);
        let place = path(&of(0));
        let reply = match asked {
            Asked::Put(file) => self.send(relay, "POST", "/v1/capsules", &of(file)),
            Asked::Get => self.send(relay, "GET", &place, &[]),
            Asked::Delete => self.send(relay, "DELETE", &place, &[]),
            Asked::Revoke => {
                let ready = |at| self.send(at, "GET", "/readyz", &[]).flatten();
                let is_ready = |at| ready(at).is_some_and(|reply| reply.status == 200);
                let capsule = CapsuleId::from_hex(&id(&of(0))).unwrap();
                let is_seen = || (0..RELAYS).any(is_ready);
                self.revocations.revoke(capsule, is_seen);
                return Some(Told::Done);
            }
        };
        let Some(reply) = reply? else {
            return Some(Told::Nothing);
        };
        match (asked, reply.told()) {
            (Asked::Put(_), (200 | 201, _)) | (Asked::Delete, (204, _)) => Some(Told::Done),
            (Asked::Put(_), (409, 941)) => Some(Told::Another),
            // somebody else brings it, or the lease was lost: nothing of this one is kept
            (Asked::Put(_), (409, 947)) => None,
            (Asked::Put(_) | Asked::Get, (403, 409)) => Some(Told::Revoked),
            (Asked::Get, (200, _)) => {
                let file = (0..2).find(|file| *of(*file) == reply.body);
                // an answer that breaks off says nothing, and bytes that nobody has put are wrong
                let whole = reply.field("content-length").unwrap() == reply.body.len().to_string();
                assert!(file.is_some() || !whole, "other bytes under {place}");
                Some(file.map_or(Told::Nothing, Told::Found))
            }
            (Asked::Get | Asked::Delete, (404, _)) => Some(Told::Absent),
            (_, (503, _)) => Some(Told::Nothing),
            (asked, told) => panic!("{asked:?} was answered by {told:?}"),
        }
    }

    /// The versions that a relay says a session has.
    pub(crate) fn read_one(&self, relay: usize, session: usize) -> Option<Vec<Sealed>> {
        let path = format!("/v1/versions/{session}");
        let reply = self.send(relay, "GET", &path, &[])??;
        match reply.told() {
            (200, _) => {
                let told = reply.json();
                let versions = told["versions"].as_array().unwrap().iter().enumerate();
                let sealed = versions.map(|(at, version)| {
                    assert_eq!(version["version"], at + 1, "a gap in {told}");
                    version["capsule"].as_str().unwrap().to_owned()
                });
                Some(sealed.collect())
            }
            (404, _) => Some(Vec::new()),
            (503, _) => None,
            told => panic!("the versions of {session} were asked for: {told:?}"),
        }
    }
}

impl Front for &Relays {
    fn ask(&self, key: usize, asked: Asked) -> Option<Told> {
        self.ask_one(self.next(), key, asked)
    }
}

impl Keeper for &Relays {
    fn seal(&self, session: usize, version: usize) -> Option<Sealed> {
        let number = u64::try_from(version).unwrap();
        let file = versions::version(&session.to_string(), number, number);
        let reply = self.send(self.next(), "POST", "/v1/capsules", &file)??;
        match reply.told() {
            (201, _) => Some(id(&file)),
            (409, 947) | (503, _) => None,
            told => panic!("a version's capsule was put: {told:?}"),
        }
    }

    fn put(&self, session: usize, version: usize, sealed: &Sealed) -> Told {
        let path = format!("/v1/versions/{session}/{version}");
        let body = json!({"capsule": sealed, "after": version - 1}).to_string();
        let Some(Some(reply)) = self.send(self.next(), "PUT", &path, body.as_bytes()) else {
            return Told::Nothing;
        };
        match reply.told() {
            (200 | 201, _) => Told::Done,
            (422, 954) => Told::Another,
            (503, _) => Told::Nothing,
            told => panic!("version {version} of {session} was put: {told:?}"),
        }
    }

    fn read(&self, session: usize) -> Option<Vec<Sealed>> {
        self.read_one(self.next(), session)
    }
}

/// One relay of three.
pub(crate) struct One<'a> {
    pub(crate) relays: &'a Relays,
    pub(crate) relay: usize,
}

impl Front for One<'_> {
    fn ask(&self, key: usize, asked: Asked) -> Option<Told> {
        self.relays.ask_one(self.relay, key, asked)
    }
}
