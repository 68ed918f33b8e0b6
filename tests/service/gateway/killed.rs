//! A gateway that is killed at any moment, and its engine beside it: what was acknowledged is there and verifies, and what
//! may be used once is not used twice.

use std::{
    collections::BTreeMap,
    env,
    path::Path,
    process::Command,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use kvcap::binding::Digest;
use kvcap_server::{NewToken, Permission, Server, Token, Tokens};
use serde_json::{Value, json};

use crate::support::{
    Client, Home, Reply, TestEngine,
    capsules::CAPSULE,
    own_process::{LISTENING, OwnProcess},
    said, says, settings,
};

const FOLDER: &str = "KVCAP_TEST_GATEWAY_FOLDER";
const TOKEN: &str = "KVCAP_TEST_GATEWAY_TOKEN";

/// A number below `end` that nobody chose.
fn chance(end: u64) -> u64 {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).unwrap();
    u64::from_le_bytes(bytes) % end
}

/// The gateway that another test kills: its own process, whose engine stops by itself now and then.
#[test]
fn a_gateway_in_a_process_of_its_own() {
    let (Ok(folder), Ok(digest)) = (env::var(FOLDER), env::var(TOKEN)) else {
        return;
    };
    let mut tokens = Tokens::default();
    let token = Token {
        tenant: Some("acme".to_owned()),
        subject: Some("ana".to_owned()),
        may: Permission::ALL.to_vec(),
    };
    tokens
        .add(Digest::from_hex(&digest).unwrap(), token)
        .unwrap();
    let engine = TestEngine::new(2, true);
    let running = Server::bind(settings(Path::new(&folder), tokens, &engine));
    let running = running.unwrap().start().unwrap();
    eprintln!("{LISTENING}{}", running.address());
    thread::spawn(move || {
        loop {
            thread::sleep(Duration::from_millis(20 + chance(300)));
            engine.die();
        }
    });
    running.wait().unwrap();
}

struct Killable {
    process: OwnProcess,
    token: String,
}

impl Killable {
    fn start(folder: &Path, token: &NewToken) -> Self {
        let process = OwnProcess::start(
            "killed::a_gateway_in_a_process_of_its_own",
            [
                (FOLDER, folder.to_str().unwrap().to_owned()),
                (TOKEN, token.digest().to_string()),
            ],
        );
        Self {
            process,
            token: token.text().to_owned(),
        }
    }

    /// An answer; none once it is gone. An engine that stops is waited for.
    fn ask(&self, method: &str, path: &str, fields: &[&str], body: &[u8]) -> Option<Reply> {
        loop {
            let fields: Vec<&str> = fields
                .iter()
                .copied()
                .chain(["connection: close"])
                .collect();
            let mut client = Client::try_connect(self.process.address)?;
            let reply = client.try_ask(&self.token, method, path, &fields, body)?;
            if reply.status != 503 {
                assert_ne!(reply.status, 500, "{method} {path}");
                return Some(reply);
            }
        }
    }

    fn post(&self, path: &str, body: &Value) -> Option<Reply> {
        self.ask("POST", path, &[], body.to_string().as_bytes())
    }

    fn complete(&self, session: &str, prompt: &str) -> Option<Reply> {
        let body = json!({"prompt": prompt, "prompt_cache_key": session});
        self.post("/v1/completions", &body)
    }
}

/// A checkpoint that was acknowledged, and a request that goes on from it.
#[derive(Clone)]
struct Saved {
    version: u64,
    positions: u64,
    text: String,
}

/// What was acknowledged.
#[derive(Default)]
struct Told {
    checkpoints: BTreeMap<String, Saved>,
    /// The digest of each capsule that is kept, by its path.
    kept: BTreeMap<String, Digest>,
    /// Session of each capsule for one use, and how often it was used, by its id.
    uses: BTreeMap<String, (String, usize)>,
    /// Checkpoints that were there after a kill.
    outlived: usize,
}

fn digest(file: &[u8]) -> Digest {
    Digest::labelled("a test's digest", &[file])
}

#[test]
fn what_was_acknowledged_outlives_gateway_and_engine() {
    let (home, engine) = (Home::new(), TestEngine::new(1, true));
    let new = NewToken::generate().unwrap();
    let told: Mutex<Told> = Mutex::default();
    let (began, seconds) = (Instant::now(), env::var("KVCAP_KILL_SECONDS"));
    let seconds: u64 = seconds.map_or(0, |text| text.parse().unwrap());
    let mut round = 0;
    while round < 4 || began.elapsed() < Duration::from_secs(seconds) {
        let mut gateway = Killable::start(home.folder.path(), &new);
        check(&gateway, &mut told.lock().unwrap());
        let done = AtomicUsize::new(0);
        let least = 4 + usize::try_from(chance(24)).unwrap();
        thread::scope(|scope| {
            for number in 0..4 {
                let worker = Worker {
                    gateway: &gateway,
                    told: &told,
                    done: &done,
                    name: format!("{round}-{number}"),
                };
                let (home, engine) = (&home, &engine);
                scope.spawn(move || match number % 2 {
                    0 => worker.converses(),
                    _ => worker.uses_once(home, engine),
                });
            }
            while done.load(Ordering::SeqCst) < least {
                thread::yield_now();
            }
            Command::new("kill")
                .args(["-9", &gateway.process.child.id().to_string()])
                .status()
                .unwrap();
        });
        gateway.process.kill();
        round += 1;
    }
    let mut gateway = Killable::start(home.folder.path(), &new);
    let mut told = told.into_inner().unwrap();
    check(&gateway, &mut told);
    gateway.process.kill();
    eprintln!(
        "killed {round} times: {} checkpoints, {} capsules, {} for one use, {} of them used",
        told.outlived,
        told.kept.len(),
        told.uses.len(),
        told.uses.values().map(|(_, uses)| uses).sum::<usize>(),
    );
    assert!(told.outlived > 0 && !told.kept.is_empty() && !told.uses.is_empty());
}

/// All that was acknowledged is so still: capsules to the last byte, states by what they restore, and uses once.
fn check(gateway: &Killable, told: &mut Told) {
    for (path, expected) in &told.kept {
        let reply = gateway.ask("GET", path, &[], &[]).unwrap();
        assert!(
            reply.status == 200 && digest(&reply.body) == *expected,
            "{path}"
        );
    }
    for (session, saved) in std::mem::take(&mut told.checkpoints) {
        let path = format!("/v1/sessions/{session}");
        let shown = gateway.ask("GET", &path, &[], &[]).unwrap().json();
        let version = shown["checkpoint"]["version"].as_u64().unwrap();
        assert!(version >= saved.version, "{session}: {shown}");
        let text = format!("{} and at last", saved.text);
        let asked = gateway.complete(&session, &text).unwrap();
        assert_eq!(said(&asked), says(&text, 4), "{session}");
        let restored: u64 = asked.field("x-kvcap-restored").unwrap().parse().unwrap();
        assert!(restored >= saved.positions, "{session}: {restored}");
        told.outlived += 1;
    }
    for (id, (session, uses)) in &mut told.uses {
        let body = json!({"capsule": id});
        let path = format!("/v1/sessions/{session}/resume");
        let reply = gateway.post(&path, &body).unwrap();
        match reply.status {
            200 => *uses += 1,
            _ => assert_eq!(reply.told(), (403, 410), "{id}"),
        }
        assert!(*uses <= 1, "{id} was used {uses} times");
    }
}

struct Worker<'a> {
    gateway: &'a Killable,
    told: &'a Mutex<Told>,
    done: &'a AtomicUsize,
    name: String,
}

impl Worker<'_> {
    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap()
    }

    fn did(&self) {
        self.done.fetch_add(1, Ordering::SeqCst);
    }

    /// A conversation that grows, is saved, and whose capsules are put.
    fn converses(&self) {
        let session = format!("talk-{}", self.name);
        let mut text = format!("The conversation {session} begins here");
        while self.turn(&session, &mut text).is_some() {
            if text.len() > 1500 {
                text.truncate(40);
            }
        }
    }

    fn turn(&self, session: &str, text: &mut String) -> Option<()> {
        let asked = self.gateway.complete(session, text)?;
        assert_eq!(said(&asked), says(text, 4));
        *text = format!("{text}{} and goes on", said(&asked));
        let path = format!("/v1/sessions/{session}/checkpoint");
        let saved = self.gateway.post(&path, &json!({}))?;
        // an engine that has stopped has taken with it what was not saved yet
        if saved.status / 100 == 2 {
            let told = saved.json();
            let saved = Saved {
                version: told["version"].as_u64().unwrap(),
                positions: told["state"]["positions"].as_u64().unwrap(),
                text: text.clone(),
            };
            self.told().checkpoints.insert(session.to_owned(), saved);
            self.did();
        }
        let accept = format!("accept: {CAPSULE}");
        let taken = self.gateway.ask("POST", &path, &[&accept], &[])?;
        if taken.status == 201 {
            let put = self.gateway.ask("POST", "/v1/capsules", &[], &taken.body)?;
            assert_eq!(put.status / 100, 2, "{put:?}");
            let path = put.field("location").unwrap().to_owned();
            self.told().kept.insert(path, digest(&taken.body));
            self.did();
        }
        Some(())
    }

    /// Capsules that may be used once, by two at a time.
    fn uses_once(&self, home: &Home, engine: &Arc<TestEngine>) {
        for number in 0.. {
            let session = format!("once-{}-{number}", self.name);
            let capsule = home.single_use(engine, &session, "a state that may be restored once");
            let Some(put) = self.gateway.ask("POST", "/v1/capsules", &[], &capsule) else {
                return;
            };
            let id = put.json()["id"].as_str().unwrap().to_owned();
            self.told().uses.insert(id.clone(), (session.clone(), 0));
            let body = json!({"capsule": id});
            let path = format!("/v1/sessions/{session}/resume");
            let used = thread::scope(|scope| {
                let both = [(); 2].map(|()| scope.spawn(|| self.gateway.post(&path, &body)));
                both.map(|one| one.join().unwrap())
            });
            for reply in used.into_iter().flatten() {
                match reply.status {
                    200 => self.told().uses.get_mut(&id).unwrap().1 += 1,
                    _ => assert_eq!(reply.told(), (403, 410)),
                }
            }
            self.did();
        }
    }
}
