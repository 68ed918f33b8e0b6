//! Relays that share a bucket, a database and an edge, while one or the other dies, stalls, loses what it has, or is cut
//! off: a history of all that was acknowledged is one that a single relay could have given (http-v1 HTTP-K-3 … HTTP-K-6,
//! HTTP-K-10).
//!
//! `tests/scale/run` runs this for half an hour with a bucket of S3.

mod edge;
mod history;
mod links;
mod older;
mod order;
mod planted;
mod relays;
mod revocations;
mod uses;

use std::{
    collections::BTreeMap,
    env, fs,
    process::Command,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::{scope, sleep},
    time::{Duration, Instant},
};

use kvcap::binding::Digest;
use kvcap_server::{Limits, NewToken, Permission, Place, Server, Settings, Token, Tokens};
use kvcap_store::{EdgeSettings, Shared, TrustSources, Verifier};
use kvcap_testkit::{Postgres, Valkey};

use self::{
    history::{Asked, Front, History},
    links::{End, Links},
    older::Older,
    order::Order,
    relays::{One, Relays, capsule},
    revocations::Revocations,
    uses::Uses,
};
use crate::support::{
    Client,
    own_process::{LISTENING, OwnProcess},
    path, verifier,
};

const DATABASE: &str = "KVCAP_TEST_SHARED_DATABASE";
const BUCKET: &str = "KVCAP_TEST_SHARED_BUCKET";
const BURST: &str = "KVCAP_TEST_SHARED_BURST";
const EDGE: &str = "KVCAP_TEST_SHARED_EDGE";
const LISTEN: &str = "KVCAP_TEST_SHARED_LISTEN";
const REGISTRY: &str = "KVCAP_TEST_SHARED_REGISTRY";
const ROOT: &str = "KVCAP_TEST_SHARED_ROOT";
const TOKEN: &str = "KVCAP_TEST_SHARED_TOKEN";

const RELAYS: usize = 3;

/// What a relay is told.
type Variables = Vec<(&'static str, String)>;

/// A relay in its own process: another test kills it.
#[test]
fn a_relay_of_several() {
    let variables = [DATABASE, BUCKET, TOKEN].map(env::var);
    let [Ok(database), Ok(bucket), Ok(digest)] = variables else {
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
    let listen = env::var(LISTEN).unwrap_or_else(|_| "127.0.0.1:0".to_owned());
    // so many requests in all, or as many as come
    let burst = env::var(BURST).map_or(u32::MAX, |burst| burst.parse().unwrap());
    let limits = Limits {
        rate: if burst == u32::MAX { burst } else { 0 },
        burst,
        sweep: Duration::from_secs(1),
        ..Limits::default()
    };
    let mut verifier = Verifier {
        at: None,
        ..verifier()
    };
    if let (Ok(registry), Ok(root)) = (env::var(REGISTRY), env::var(ROOT)) {
        verifier.trust = TrustSources {
            registries: vec![registry.into()],
            roots: vec![root],
            ..TrustSources::default()
        };
    }
    let running = Server::bind(Settings {
        #[cfg(feature = "gateway")]
        gateway: None,
        listen: listen.parse().unwrap(),
        place: Place::Shared {
            database: database.into(),
            bucket,
            edge: env::var(EDGE)
                .ok()
                .map(|path| EdgeSettings::at(path.into())),
        },
        verifier,
        audit: None,
        log: None,
        tls: None,
        inspector: None,
        tokens,
        limits,
    })
    .unwrap()
    .start()
    .unwrap();
    eprintln!("{LISTENING}{}", running.address());
    running.wait().unwrap();
}

/// Numbers that nobody can foresee, and that are the same each time.
fn random(seed: &mut u64, below: u64) -> u64 {
    *seed = seed
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1_442_695_040_888_963_407);
    (*seed >> 33) % below
}

/// Operations of keys that all workers have in common for a while.
fn load(front: &impl Front, history: &History, number: u64, is_over: &dyn Fn() -> bool) {
    let mut seed = number + 1;
    let mut asked = 0;
    while !is_over() {
        let key = usize::try_from(asked / 8 * 2 + random(&mut seed, 2)).unwrap();
        asked += 1;
        let what = match random(&mut seed, 256) {
            0 => Asked::Revoke,
            1..128 => Asked::Put(u8::from(random(&mut seed, 2) == 1)),
            128..224 => Asked::Get,
            _ => Asked::Delete,
        };
        history.ask(front, key, what);
    }
}

/// One thing that goes wrong.
#[derive(Clone, Copy, Debug)]
enum Wrong {
    /// A relay is killed, and another begins in its place.
    Killed,
    /// A relay stands still for a second.
    Stalled,
    /// The database is killed, and begins again from its log.
    Database,
    /// Every lease has ended, as for who was silent for too long.
    Leases,
    /// The bucket's server, where there is one, stands still for two seconds.
    Bucket,
    /// The edge loses all it has.
    EdgeFlushed,
    /// The edge is killed, and begins again with nothing.
    EdgeKilled,
    /// The edge stands still for a second.
    EdgeStalled,
    /// A relay's copy of the registry is the version before for a second.
    RegistryBack,
    /// The link of a relay to one of them is cut, for one to two seconds; in half of them leases end meanwhile.
    Cut(End),
}

impl Wrong {
    /// Each as often as it is here.
    const ALL: [Self; 10] = [
        Self::Killed,
        Self::Stalled,
        Self::Killed,
        Self::Leases,
        Self::Database,
        Self::Bucket,
        Self::EdgeFlushed,
        Self::EdgeKilled,
        Self::EdgeStalled,
        Self::RegistryBack,
    ];

    /// Those of a network with links, as often again.
    const CUTS: [Self; 6] = [
        Self::Cut(End::Database),
        Self::Cut(End::Bucket),
        Self::Cut(End::Edge),
        Self::Cut(End::Database),
        Self::Cut(End::Bucket),
        Self::Cut(End::Edge),
    ];
}

#[test]
fn what_relays_that_share_acknowledge_one_relay_could_have() {
    let seconds = env::var("KVCAP_SCALE_SECONDS").map_or(12, |text| text.parse().unwrap());
    let home = tempfile::tempdir().unwrap();
    let (database, local) = (home.path().join("database"), home.path().join("bucket"));
    fs::create_dir(&local).unwrap();
    let of_folder = format!("file://{}", local.display());
    // one of its own in a bucket that others use
    let of_server = |url: String| format!("{url}/{}", std::process::id());
    let bucket = env::var("KVCAP_SCALE_BUCKET").map_or(of_folder, of_server);
    let links = Links::made();
    let (postgres, mut valkey) = match links {
        None => (Postgres::start(), Valkey::start()),
        Some(_) => (Postgres::start_in_network(), Valkey::start_in_network()),
    };
    let postgres = Mutex::new(postgres);
    postgres.lock().unwrap().write_address(&database);
    let edge = home.path().join("edge");
    valkey.write_address(&edge);
    let new = NewToken::generate().unwrap();
    let revocations = Revocations::begin(home.path());
    let of_registry: Vec<_> = (0..RELAYS).map(|at| revocations.variables(at)).collect();
    let told = |relay: usize| {
        let mut variables = vec![
            (DATABASE, database.to_str().unwrap().to_owned()),
            (BUCKET, bucket.clone()),
            (EDGE, edge.to_str().unwrap().to_owned()),
            (TOKEN, new.digest().to_string()),
        ];
        variables.extend(of_registry[relay].clone());
        if links.is_some() {
            let postgres = postgres.lock().unwrap();
            variables.extend(Links::variables(home.path(), &postgres, relay));
        }
        variables
    };
    let within = |relay| links.as_ref().map(|links| links.within(relay));
    let start = |relay| {
        let program = env::current_exe().unwrap();
        let mut command = within(relay).unwrap_or_else(|| Command::new("env"));
        command.arg(program);
        OwnProcess::start_by(command, "shared::a_relay_of_several", told(relay))
    };
    let older = Older::named();
    let first = |relay| match &older {
        None => start(relay),
        Some(older) => OwnProcess::begin(older.command(within(relay), &told(relay))),
    };
    let mut processes: Vec<OwnProcess> = (0..RELAYS).map(first).collect();
    let addresses = std::array::from_fn(|at| Some(processes[at].address));
    let relays = Relays::new(addresses, new.text(), revocations);
    let (history, over) = (History::new(), AtomicBool::new(false));
    let order = Order::new();
    let uses = Uses::default();
    let mut wrong = BTreeMap::<String, u32>::new();
    let mut olders = [older.is_some(); RELAYS];
    scope(|scope| {
        for number in 0..6 {
            let (relays, history, over) = (&relays, &history, &over);
            scope.spawn(move || load(&relays, history, number, &|| over.load(Ordering::SeqCst)));
        }
        // an earlier version may not know of sessions' versions
        for number in 0..if older.is_none() { 3 } else { 0 } {
            let (relays, order, over) = (&relays, &order, &over);
            scope.spawn(move || order.load(&relays, number, &|| over.load(Ordering::SeqCst)));
        }
        for _ in 0..2 {
            let (uses, over) = (&uses, &over);
            let (database, bucket) = (&database, &bucket);
            scope.spawn(move || uses.of_another(database, bucket, over));
        }
        // also when something here panics: nobody would ever tell them
        let _over = Over(&over);
        let (began, mut seed) = (Instant::now(), u64::from(std::process::id()));
        while began.elapsed() < Duration::from_secs(seconds) {
            sleep(Duration::from_millis(300 + random(&mut seed, 1200)));
            let relay = usize::try_from(random(&mut seed, RELAYS as u64)).unwrap();
            let mut all = Wrong::ALL.to_vec();
            if links.is_some() {
                all.extend(Wrong::CUTS);
            }
            let what = all[usize::try_from(random(&mut seed, all.len() as u64)).unwrap()];
            if older.is_some() && relay == RELAYS - 1 && matches!(what, Wrong::Killed) {
                // an older one stays to the end; those that are killed come back as this version
                continue;
            }
            *wrong.entry(format!("{what:?}")).or_default() += 1;
            match what {
                Wrong::Killed => {
                    relays.is_at(relay, None);
                    processes[relay].kill();
                    processes[relay] = start(relay);
                    olders[relay] = false;
                    relays.is_at(relay, Some(processes[relay].address));
                }
                Wrong::Stalled => {
                    signal("STOP", processes[relay].child.id());
                    sleep(Duration::from_secs(1));
                    signal("CONT", processes[relay].child.id());
                }
                Wrong::Database => postgres.lock().unwrap().kill_and_start(),
                Wrong::Leases => end_leases(&postgres.lock().unwrap()),
                Wrong::Bucket => {
                    if let Ok(server) = env::var("KVCAP_SCALE_BUCKET_PROCESS") {
                        let server = server.parse().unwrap();
                        signal("STOP", server);
                        sleep(Duration::from_secs(2));
                        signal("CONT", server);
                    }
                }
                Wrong::EdgeFlushed => drop(valkey.ask(&["FLUSHALL"])),
                Wrong::EdgeKilled => {
                    valkey.kill();
                    valkey.start_again();
                }
                Wrong::EdgeStalled => {
                    valkey.stop();
                    sleep(Duration::from_secs(1));
                    valkey.go_on();
                }
                Wrong::RegistryBack => {
                    let meanwhile = || sleep(Duration::from_secs(1));
                    relays.revocations().put_back(relay, meanwhile);
                }
                Wrong::Cut(end) => {
                    let links = links.as_ref().unwrap();
                    let half = Duration::from_millis(500 + random(&mut seed, 500));
                    links.cut(relay, end);
                    sleep(half);
                    if random(&mut seed, 2) == 0 {
                        end_leases(&postgres.lock().unwrap());
                    }
                    sleep(half);
                    links.mend(relay, end);
                }
            }
        }
    });
    let begun = Instant::now();
    all_say_the_same(&relays, &history, &order);
    for process in &mut processes {
        process.kill();
    }
    if let Some(older) = &older {
        let left = olders.iter().filter(|is_older| **is_older).count();
        let again = older.begins(within(0), &told(0));
        eprintln!("{left} of {RELAYS} were older to the end; begun once more: {again}");
    }
    let ((keys, operations), (sessions, versions)) = (history.len(), order.len());
    eprintln!(
        "{operations} operations of {keys} keys, {} of them revoked, {versions} versions of {sessions} sessions, {} uses; \
         what went wrong: {wrong:?}",
        history.revoked(),
        uses.granted()
    );
    assert!(operations > 100, "hardly anything was done");
    assert!(versions > 0 || older.is_some(), "no version was put");
    if let Some((key, operations)) = history.wrong() {
        panic!("no relay could have said this of {key}: {operations:#?}");
    }
    if let Some(wrong) = order.wrong() {
        panic!("no order explains what was told {wrong}");
    }
    uses.check();
    eprintln!(
        "judged {} s after the last of it",
        begun.elapsed().as_secs()
    );
    no_orphan_is_left(
        &postgres.lock().unwrap(),
        &Shared::connect(&database, &bucket).unwrap(),
    );
    eprintln!("swept {} s after the last of it", begun.elapsed().as_secs());
}

/// Tells the load that it is over, at the end of a block.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Asks each relay for every key and session, after all is over.
fn all_say_the_same(relays: &Relays, history: &History, order: &Order) {
    for session in order.names() {
        for relay in 0..RELAYS {
            let mut tries = 0..600;
            while order
                .read(session, || relays.read_one(relay, session))
                .is_none()
            {
                assert!(tries.next().is_some(), "nothing is said of {session}");
                sleep(Duration::from_millis(100));
            }
        }
    }
    let keys = history.keys();
    scope(|scope| {
        for keys in keys.chunks(keys.len().div_ceil(6).max(1)) {
            scope.spawn(move || {
                for (key, relay) in keys
                    .iter()
                    .flat_map(|key| (0..RELAYS).map(move |at| (key, at)))
                {
                    history.ask(&One { relays, relay }, *key, Asked::Get);
                }
            });
        }
    });
}

#[test]
fn a_relay_without_its_database_says_so() {
    let home = tempfile::tempdir().unwrap();
    let (database, bucket) = (home.path().join("database"), home.path().join("bucket"));
    fs::create_dir(&bucket).unwrap();
    let mut postgres = Postgres::start();
    postgres.write_address(&database);
    let new = NewToken::generate().unwrap();
    let variables = [
        (DATABASE, database.to_str().unwrap().to_owned()),
        (BUCKET, format!("file://{}", bucket.display())),
        (TOKEN, new.digest().to_string()),
    ];
    let mut relay = OwnProcess::start("shared::a_relay_of_several", variables);
    let (address, file) = (relay.address, capsule(1, 0));
    let ask = |method, path: &str, body: &[u8]| {
        let reply = Client::connect(address).ask(new.text(), method, path, &[], body);
        reply.status
    };
    assert_eq!(ask("POST", "/v1/capsules", &file), 201);
    postgres.kill();
    assert_eq!(ask("GET", &path(&file), &[]), 503);
    assert_eq!(ask("POST", "/v1/capsules", &capsule(2, 0)), 503);
    assert_eq!(ask("GET", "/readyz", &[]), 503);
    assert_eq!(ask("GET", "/healthz", &[]), 200);
    postgres.start_again();
    assert_eq!(ask("GET", "/readyz", &[]), 200);
    assert_eq!(ask("GET", &path(&file), &[]), 200);
    assert_eq!(ask("POST", "/v1/capsules", &file), 200);
    // and the bucket
    let away = home.path().join("away");
    fs::rename(&bucket, &away).unwrap();
    assert_eq!(ask("GET", &path(&file), &[]), 503);
    fs::rename(&away, &bucket).unwrap();
    assert_eq!(ask("GET", &path(&file), &[]), 200);
    relay.kill();
}

fn signal(name: &str, process: u32) {
    let sent = Command::new("kill")
        .args([&format!("-{name}"), &process.to_string()])
        .status();
    assert!(sent.unwrap().success());
}

/// Ends every lease, but for one that a relay has in hand at this moment: who is cut off may have it until it is no more.
fn end_leases(postgres: &Postgres) {
    let _ended = postgres.sql(
        "UPDATE kvcap_claim SET until = now() - interval '1 second'
         WHERE ctid IN (SELECT ctid FROM kvcap_claim FOR UPDATE SKIP LOCKED)",
    );
}

/// After a sweep every object has its row.
fn no_orphan_is_left(postgres: &Postgres, shared: &Shared) {
    end_leases(postgres);
    // and an hour has passed, after which garbage is removed once more
    let _older = postgres.sql("UPDATE kvcap_garbage SET since = since - interval '2 hours'");
    let store = shared.store();
    while store.sweep().unwrap() > 0 {}
    assert_eq!(postgres.sql("SELECT count(*) FROM kvcap_claim"), "0");
    let counted = "SELECT count(*) FROM kvcap_tenant t WHERE coming <> 0 OR
                   kept <> (SELECT coalesce(sum(bytes), 0) FROM kvcap_capsule c WHERE c.tenant = t.tenant)";
    assert_eq!(
        postgres.sql(counted),
        "0",
        "what is counted is what is there"
    );
    let rows: u64 = postgres
        .sql("SELECT count(*) FROM kvcap_capsule")
        .parse()
        .unwrap();
    assert_eq!(shared.objects().unwrap(), rows, "objects and rows");
    let mut whole = 0;
    let every = store.each(&mut |name| {
        let (_, file) = store.open(name)?.unwrap();
        let mut last = [0];
        file.read_exact_at(file.len() - 1, &mut last).unwrap();
        whole += 1;
        Ok(())
    });
    every.unwrap();
    assert_eq!(whole, rows, "each row has its object");
}
