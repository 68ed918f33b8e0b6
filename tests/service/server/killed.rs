//! A relay that is killed at any moment: what it acknowledged is there, and nothing else is.

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    net::SocketAddr,
    path::Path,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use kvcap::binding::Digest;
use kvcap_server::{Limits, NewToken, Permission, Server, Settings, Token, Tokens};

use crate::support::{
    Client, id,
    own_process::{LISTENING, OwnProcess},
    path, sealed, verifier_at,
};

const FOLDER: &str = "KVCAP_TEST_RELAY_FOLDER";
const TOKEN: &str = "KVCAP_TEST_RELAY_TOKEN";
const TIME: &str = "KVCAP_TEST_RELAY_TIME";

/// The relay that another test kills: its own process, and this file's other test its parent.
#[test]
fn a_relay_in_a_process_of_its_own() {
    let (Ok(folder), Ok(digest), Ok(time)) = (env::var(FOLDER), env::var(TOKEN), env::var(TIME))
    else {
        return;
    };
    let mut tokens = Tokens::default();
    let token = Token {
        tenant: Some("acme".to_owned()),
        subject: Some("ana".to_owned()),
        may: vec![Permission::Put, Permission::Get],
    };
    tokens
        .add(Digest::from_hex(&digest).unwrap(), token)
        .unwrap();
    let limits = Limits {
        rate: u32::MAX,
        burst: u32::MAX,
        ..Limits::default()
    };
    let running = Server::bind(Settings {
        #[cfg(feature = "gateway")]
        gateway: None,
        listen: "127.0.0.1:0".parse().unwrap(),
        place: kvcap_server::Place::Folder(folder.into()),
        verifier: verifier_at(time.parse().unwrap()),
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

fn start(folder: &Path, digest: &str) -> OwnProcess {
    OwnProcess::start(
        "killed::a_relay_in_a_process_of_its_own",
        [
            (FOLDER, folder.to_str().unwrap().to_owned()),
            (TOKEN, digest.to_owned()),
            (TIME, crate::support::now().to_string()),
        ],
    )
}

/// What a caller was told, and what he then knows.
#[derive(Default)]
struct Told {
    /// The digest of each capsule that is kept, by its path.
    kept: BTreeMap<String, Digest>,
    /// Whose deletion was acknowledged, or was asked for when the relay was killed.
    gone: BTreeSet<String>,
    asked: BTreeSet<String>,
}

/// Most capsules at once: who uploads more deletes one first.
const MOST: usize = 40;

fn digest(file: &[u8]) -> Digest {
    Digest::labelled("a test's digest", &[file])
}

#[test]
fn what_was_acknowledged_outlives_the_relay() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("kept");
    let new = NewToken::generate().unwrap();
    let (token, of_token) = (new.text(), new.digest().to_string());
    let told: Mutex<Told> = Mutex::default();
    let (began, seconds) = (Instant::now(), env::var("KVCAP_KILL_SECONDS"));
    let seconds: u64 = seconds.map_or(0, |text| text.parse().unwrap());
    let mut round = 0;
    // six times at least
    while round < 6 || began.elapsed() < Duration::from_secs(seconds) {
        let mut relay = start(&folder, &of_token);
        let address = relay.address;
        check(address, token, &told.lock().unwrap());
        let uploads = AtomicUsize::new(0);
        // a moment that nobody chose, and not before something was acknowledged
        let mut chance = [0];
        getrandom::fill(&mut chance).unwrap();
        let least = 1 + usize::from(chance[0] % 16);
        thread::scope(|scope| {
            for number in 0..6 {
                let (told, uploads) = (&told, &uploads);
                scope.spawn(move || {
                    while work(address, token, number, told).is_some() {
                        uploads.fetch_add(1, Ordering::SeqCst);
                    }
                });
            }
            while uploads.load(Ordering::SeqCst) < least {
                thread::yield_now();
            }
            relay.kill();
        });
        round += 1;
    }
    let mut relay = start(&folder, &of_token);
    let address = relay.address;
    let told = told.into_inner().unwrap();
    check(address, token, &told);
    // every file that has a capsule's name is a whole one, and given back
    let mut whole = 0;
    for space in fs::read_dir(&folder).unwrap() {
        let space = space.unwrap().path();
        if !space.is_dir() {
            continue;
        }
        for entry in fs::read_dir(space).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            let Some(named) = name.strip_suffix(".kvcap") else {
                assert!(name.ends_with(".kvcap.tmp"), "{name}");
                continue;
            };
            let file = fs::read(entry.path()).unwrap();
            assert_eq!(id(&file), named);
            let got = Client::connect(address).ask(token, "GET", &path(&file), &[], &[]);
            assert!(got.body == file);
            whole += 1;
        }
    }
    // one whose deletion was asked for when the relay was killed may be there, or not
    let sure = told.kept.keys().filter(|path| !told.asked.contains(*path));
    assert!(whole >= sure.count());
    eprintln!(
        "killed {round} times: {} deleted, {} kept, {whole} there",
        told.gone.len(),
        told.kept.len()
    );
    relay.kill();
}

/// All that was acknowledged is so still.
fn check(address: SocketAddr, token: &str, told: &Told) {
    for (path, expected) in &told.kept {
        let reply = Client::connect(address).ask(token, "GET", path, &[], &[]);
        if told.asked.contains(path) && reply.status == 404 {
            continue;
        }
        assert!(
            reply.status == 200 && digest(&reply.body) == *expected,
            "{path}"
        );
    }
    for path in &told.gone {
        let reply = Client::connect(address).ask(token, "GET", path, &[], &[]);
        assert_eq!(reply.status, 404, "{path} has come back");
    }
}

/// An upload, at once or in two parts, and a deletion where there is much; none once the relay does not answer.
fn work(address: SocketAddr, token: &str, number: usize, told: &Mutex<Told>) -> Option<()> {
    let file = sealed(150_000, |_| {}, |_| {});
    let ask = |method: &str, path: &str, fields: &[&str], body: &[u8]| {
        let mut client = Client::try_connect(address)?;
        client.try_ask(token, method, path, fields, body)
    };
    let reply = match number % 2 {
        0 => ask("POST", "/v1/capsules", &[], &file)?,
        _ => {
            let (first, rest) = file.split_at(70_000);
            let begun = ask("POST", "/v1/capsules", &["upload-complete: ?0"], first)?;
            let upload = begun.field("location").unwrap().to_owned();
            let fields = [
                "content-type: application/partial-upload",
                "upload-offset: 70000",
                "upload-complete: ?1",
            ];
            ask("PATCH", &upload, &fields, rest)?
        }
    };
    assert_eq!(reply.status, 201, "{reply:?}");
    let oldest = {
        let mut told = told.lock().unwrap();
        told.kept.insert(path(&file), digest(&file));
        let first = told.kept.keys().find(|path| !told.asked.contains(*path));
        let oldest = first.filter(|_| told.kept.len() > MOST).cloned();
        told.asked.extend(oldest.clone());
        oldest
    };
    if let Some(oldest) = oldest {
        // one that was asked for when the relay was killed may be done
        let reply = ask("DELETE", &oldest, &[], &[])?;
        assert_eq!(reply.status, 204, "{reply:?}");
        let mut told = told.lock().unwrap();
        told.kept.remove(&oldest);
        told.gone.insert(oldest);
    }
    Some(())
}
