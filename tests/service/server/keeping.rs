//! Expiry, revocation, restarts, health and the end.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use kvcap::{Change, Ledger, RootKey};
use kvcap_server::Limits;
use kvcap_store::{LedgerFile, LedgerSource, TrustSources, Verifier};

use crate::support::{
    Registry, capsule, id, now, path, regions, relay, relay_in, relay_with, sealed, verifier,
};

#[test]
fn what_has_served_its_time_is_swept() {
    let registry = Registry::new(90_000);
    let judged_at = |at| registry.verifier_at(at);
    let relay = relay_with(judged_at(now()), Limits::default());
    let (short, long, revoked) = (
        sealed(10, |terms| terms.expires = now() + 60, |_| {}),
        capsule(),
        capsule(),
    );
    for file in [&short, &long, &revoked] {
        assert_eq!(relay.put(file).status, 201);
    }
    let sweep = || relay.running().sweep().unwrap();
    assert_eq!(sweep(), 0);
    relay.running().judge_by(judged_at(now() + 60));
    assert_eq!(sweep(), 1);
    assert_eq!(relay.ask("GET", &path(&short), &[], &[]).status, 404);
    let claims = kvcap::CapsuleId::from_hex(&id(&revoked)).unwrap();
    registry.change(Change::Revoke(claims));
    assert_eq!(
        relay.ask("GET", &path(&revoked), &[], &[]).told(),
        (403, 409)
    );
    assert_eq!(sweep(), 1);
    assert_eq!(relay.ask("GET", &path(&revoked), &[], &[]).status, 404);
    // refused for a reason that may pass: it stays
    let other = Verifier {
        audiences: vec!["another".to_owned()],
        ..judged_at(now() + 60)
    };
    relay.running().judge_by(other);
    assert_eq!(relay.ask("GET", &path(&long), &[], &[]).told(), (403, 405));
    assert_eq!(sweep(), 0);
    relay.running().judge_by(judged_at(now() + 60));
    assert_eq!(relay.ask("GET", &path(&long), &[], &[]).status, 200);
    assert_eq!(relay.files().len(), 1);
}

/// A memory that counts how often it is opened.
#[derive(Debug)]
struct Counted {
    ledger: LedgerFile,
    opened: AtomicUsize,
}

impl LedgerSource for Counted {
    fn open(&self) -> kvcap::Result<Ledger> {
        self.opened.fetch_add(1, Ordering::SeqCst);
        self.ledger.open()
    }
}

#[test]
fn a_sweep_opens_the_memory_as_often_for_many_capsules_as_for_few() {
    let (registry, home) = (Registry::new(90_000), tempfile::tempdir().unwrap());
    let memory = Arc::new(Counted {
        ledger: LedgerFile::at(home.path().join("ledger")),
        opened: AtomicUsize::default(),
    });
    let verifier = Verifier {
        ledger: Some(Arc::<Counted>::clone(&memory)),
        ..registry.verifier_at(now())
    };
    let relay = relay_with(verifier, Limits::default());
    let opened = |capsules: u32| {
        let files: Vec<_> = (0..capsules).map(|_| sealed(10, |_| {}, |_| {})).collect();
        for file in &files {
            assert_eq!(relay.put(file).status, 201);
        }
        let claims = kvcap::CapsuleId::from_hex(&id(&files[0])).unwrap();
        registry.change(Change::Revoke(claims));
        let before = memory.opened.load(Ordering::SeqCst);
        assert_eq!(relay.running().sweep().unwrap(), 1);
        memory.opened.load(Ordering::SeqCst) - before
    };
    let few = opened(1);
    assert_eq!(opened(20), few);
}

#[test]
fn a_relay_knows_what_it_keeps_from_the_files() {
    let limits = Limits {
        tenant: 300_000,
        ..Limits::default()
    };
    let mut first = relay_with(verifier(), limits.clone());
    let (kept, other) = (capsule(), capsule());
    assert_eq!(first.put(&kept).status, 201);
    let tag = first
        .ask("HEAD", &path(&kept), &[], &[])
        .field("etag")
        .unwrap()
        .to_owned();
    first.end();
    let home = std::mem::replace(&mut first.home, tempfile::tempdir().unwrap());
    // what no relay has written is not listed
    let kept_at = first.files().into_iter().next().unwrap();
    fs::write(
        kept_at.with_file_name(format!("{}.kvcap", "1".repeat(32))),
        b"no capsule",
    )
    .unwrap();
    let second = relay_in(home, verifier(), limits);
    let got = second.ask("GET", &path(&kept), &[], &[]);
    assert!(got.body == kept);
    assert_eq!(got.field("etag"), Some(&*tag));
    let nothing = second.ask("GET", &format!("/v1/capsules/{}", "1".repeat(32)), &[], &[]);
    assert_eq!(nothing.status, 404);
    assert_eq!(second.put(&kept).status, 200, "the same header is known");
    assert_eq!(second.put(&other).status, 201);
    // the bytes that were there are counted
    assert_eq!(second.put(&capsule()).told(), (507, 0));
}

#[test]
fn health_is_told_to_everybody_and_trust_is_part_of_it() {
    let relay = relay();
    let told = |path: &str| relay.ask_as("", "GET", path, &[], &[]).told();
    assert_eq!((told("/healthz"), told("/readyz")), ((200, 0), (200, 0)));
    let nowhere = Verifier {
        trust: TrustSources {
            registries: vec![relay.home.path().join("no-registry")],
            roots: vec![RootKey::generate().unwrap().public().to_text()],
            ..TrustSources::default()
        },
        ..verifier()
    };
    relay.running().judge_by(nowhere);
    assert_eq!((told("/healthz"), told("/readyz")), ((200, 0), (503, 940)));
    assert_eq!(relay.put(&capsule()).told(), (503, 940));
}

#[test]
fn metrics_count_verdicts_bytes_and_what_is_kept() {
    let relay = relay();
    let (file, expired) = (capsule(), sealed(10, |terms| terms.expires = now(), |_| {}));
    assert_eq!(relay.put(&file).status, 201);
    assert_eq!(relay.put(&expired).status, 403);
    assert_eq!(
        relay
            .ask("GET", &path(&file), &["range: bytes=0-99"], &[])
            .status,
        206
    );
    let reply = relay.ask_as(&relay.operator, "GET", "/metrics", &[], &[]);
    assert_eq!(
        reply.field("content-type"),
        Some("text/plain; version=0.0.4")
    );
    let text = String::from_utf8(reply.body).unwrap();
    for line in [
        "kvcap_verify_seconds_count{outcome=\"accepted\",code=\"0\"} 2".to_owned(),
        "kvcap_verify_seconds_bucket{outcome=\"refused\",code=\"402\",le=\"+Inf\"} 1".to_owned(),
        "kvcap_bytes_total{direction=\"out\"} 100".to_owned(),
        "kvcap_capsules 1".to_owned(),
        format!("kvcap_capsule_bytes {}", file.len()),
        "kvcap_uploads 0".to_owned(),
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
    let received = text
        .lines()
        .find_map(|line| line.strip_prefix("kvcap_bytes_total{direction=\"in\"} "));
    assert!(received.unwrap().parse::<usize>().unwrap() >= file.len());
    for name in ["acme", "ana", "cache.example.com"] {
        assert!(!text.contains(name), "{name}");
    }
}

#[test]
fn requests_are_recorded_before_they_are_answered() {
    let relay = relay();
    let file = capsule();
    assert_eq!(relay.put(&file).status, 201);
    let token = relay.bob.clone();
    assert_eq!(
        relay
            .ask_as(&token, "POST", "/v1/capsules", &[], &file)
            .told(),
        (403, 406)
    );
    assert_eq!(relay.ask("DELETE", &path(&file), &[], &[]).status, 204);
    assert_eq!(relay.ask_as("", "GET", &path(&file), &[], &[]).status, 401);
    let audit = relay.home.path().join("audit");
    let text = fs::read_to_string(&audit).unwrap();
    let line = |line: &str| {
        let mut line: serde_json::Value = serde_json::from_str(line).unwrap();
        let at = line.as_object_mut().unwrap().remove("at");
        assert!(at.unwrap().as_u64() >= Some(now()));
        line
    };
    let lines: Vec<serde_json::Value> = text.lines().map(line).collect();
    let entry = |subject, method, path: &str, status, code, location: Option<String>| {
        serde_json::json!({
            "tenant": "acme", "subject": subject, "method": method, "path": path,
            "status": status, "code": code, "location": location,
        })
    };
    let expected = [
        entry("ana", "POST", "/v1/capsules", 201, 0, Some(path(&file))),
        entry("bob", "POST", "/v1/capsules", 403, 406, None),
        entry("ana", "DELETE", &path(&file), 204, 0, None),
    ];
    assert_eq!(lines, expected);
    assert!(!text.contains("kvcap-token"));
    fs::remove_file(&audit).unwrap();
    fs::create_dir(&audit).unwrap();
    assert_eq!(relay.ask("GET", &path(&file), &[], &[]).told(), (503, 940));
}

#[test]
fn an_end_loses_nothing_that_was_begun() {
    let mut relay = relay();
    let files: Vec<Vec<u8>> = (0..8).map(|_| capsule()).collect();
    let mut clients = Vec::new();
    for file in &files {
        let mut client = relay.client();
        client.head(&relay.ana, "POST", "/v1/capsules", &[], Some(file.len()));
        client.send(&file[..regions(file).1]).unwrap();
        clients.push(client);
    }
    while relay.files().len() < files.len() {
        thread::yield_now();
    }
    let running = relay.running.take().unwrap();
    let address = running.address();
    running.stop().now();
    // who comes now is not let in
    while std::net::TcpStream::connect(address).is_ok() {
        thread::yield_now();
    }
    for (client, file) in clients.iter_mut().zip(&files) {
        client.send(&file[regions(file).1..]).unwrap();
        assert_eq!(client.reply("POST").status, 201);
    }
    running.wait().unwrap();
    assert_eq!(relay.files().len(), files.len());
    for path in relay.files() {
        let kept = fs::read(path).unwrap();
        assert!(files.contains(&kept));
    }
}
