//! A relay that is killed at any moment: what it acknowledged is there, and nothing else is.

use std::{
    collections::BTreeMap,
    env, fs,
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    sync::Mutex,
    thread,
};

use kvcap::binding::Digest;
use kvcap_server::{Limits, NewToken, Permission, Server, Settings, Token, Tokens};

use crate::support::{Client, id, path, sealed, verifier_at};

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
        folder: folder.into(),
        verifier: verifier_at(time.parse().unwrap()),
        audit: None,
        tokens,
        limits,
    })
    .unwrap()
    .start()
    .unwrap();
    eprintln!("listening at {}", running.address());
    running.wait().unwrap();
}

fn spawn(folder: &Path, digest: &str) -> (Child, SocketAddr) {
    let mut child = Command::new(env::current_exe().unwrap())
        .args([
            "--exact",
            "killed::a_relay_in_a_process_of_its_own",
            "--nocapture",
        ])
        .env(FOLDER, folder)
        .env(TOKEN, digest)
        .env(TIME, crate::support::now().to_string())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let found = lines.map_while(Result::ok).find_map(|line| {
        let address = line.split_once("listening at ")?.1;
        address.parse().ok()
    });
    (child, found.unwrap())
}

#[test]
fn what_was_acknowledged_outlives_the_relay() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("kept");
    let new = NewToken::generate().unwrap();
    let (token, digest) = (new.text(), new.digest().to_string());
    let kept: Mutex<BTreeMap<String, Vec<u8>>> = Mutex::default();
    for round in 0..6 {
        let (mut child, address) = spawn(&folder, &digest);
        // all of what was acknowledged before is given back
        for (path, file) in &*kept.lock().unwrap() {
            let reply = Client::connect(address).ask(token, "GET", path, &[], &[]);
            assert!(reply.status == 200 && reply.body == *file, "{path}");
        }
        let before = kept.lock().unwrap().len();
        thread::scope(|scope| {
            for _ in 0..6 {
                scope.spawn(|| {
                    loop {
                        let file = sealed(150_000, |_| {}, |_| {});
                        let Ok(stream) = std::net::TcpStream::connect(address) else {
                            return;
                        };
                        drop(stream);
                        let acknowledged = std::panic::catch_unwind(|| {
                            let mut client = Client::connect(address);
                            client.head(token, "POST", "/v1/capsules", &[], Some(file.len()));
                            client.send(&file).ok()?;
                            client.try_reply("POST").filter(|reply| reply.status == 201)
                        });
                        match acknowledged {
                            Ok(Some(_)) => drop(kept.lock().unwrap().insert(path(&file), file)),
                            _ => return,
                        }
                    }
                });
            }
            // in the middle of it
            while kept.lock().unwrap().len() < before + 3 + round {
                thread::yield_now();
            }
            child.kill().unwrap();
            child.wait().unwrap();
        });
    }
    let (mut child, address) = spawn(&folder, &digest);
    let kept = kept.into_inner().unwrap();
    for (path, file) in &kept {
        let reply = Client::connect(address).ask(token, "GET", path, &[], &[]);
        assert!(reply.status == 200 && reply.body == *file, "{path}");
    }
    // every file that has a capsule's name is a whole one
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
    assert!(whole >= kept.len());
    child.kill().unwrap();
    child.wait().unwrap();
}
