//! Everything wrong that is handed in as a state: refused with its code, nothing is left behind, and the slot that it was
//! for is as it was.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use kvcap::{Change, RootKey, TrustedKey};
use kvcap_server::Permission;
use kvcap_store::{Passphrases, RegistryFile, TrustSources, Verifier, key_file, time};
use kvcap_testvectors::generate::load;
use serde_json::json;

use crate::support::{
    Client, Gateway, Home, TestEngine,
    capsules::{CAPSULE, bring_back, take_home},
    folder::files,
    vectors::{code, vectors, verifier},
};

const ALL: [Permission; 3] = [Permission::Put, Permission::Get, Permission::Restore];

/// A slot that is not to be touched, and files that are not to become more.
struct Untouched<'a> {
    home: &'a Home,
    engine: &'a Arc<TestEngine>,
    slot: Vec<u32>,
    calls: usize,
    files: BTreeSet<PathBuf>,
}

impl<'a> Untouched<'a> {
    fn now(home: &'a Home, engine: &'a Arc<TestEngine>) -> Self {
        Self {
            home,
            engine,
            slot: engine.slot(0),
            calls: engine.calls.lock().unwrap().len(),
            files: files(&home.path("kept")),
        }
    }

    /// The slot alone.
    fn check_slot(&self, what: &str) {
        assert!(self.engine.slot(0) == self.slot, "{what}: the slot changed");
        let calls = self.engine.calls.lock().unwrap();
        assert_eq!(calls.len(), self.calls, "{what}: {:?}", calls.last());
    }

    fn check(&self, what: &str) {
        self.check_slot(what);
        assert_eq!(files(&self.home.path("kept")), self.files, "{what}");
        self.engine.wait_for_no_file();
    }
}

/// A session in the only slot, and its capsule.
fn occupied(gateway: &Gateway, home: &Home) -> Vec<u8> {
    gateway.complete(
        &home.ana,
        "good",
        "a state that is not to be harmed by anything",
    );
    take_home(gateway, &home.ana, "good")
}

#[test]
fn every_vector_is_refused_and_touches_no_slot() {
    let (_, vectors) = vectors();
    let (mut home, engine) = (Home::new(), TestEngine::new(1, true));
    let mut texts = BTreeMap::new();
    for (_, context) in &vectors {
        let names = (context.organisation.clone(), context.subject.clone());
        texts.entry(names).or_insert_with_key(|(tenant, subject)| {
            home.token(tenant.as_deref(), subject.as_deref(), &ALL)
        });
    }
    let gateway = home.gateway(&engine);
    occupied(&gateway, &home);
    let before = Untouched::now(&home, &engine);
    let (mut with_code, mut without) = (0, 0);
    for (vector, context) in &vectors {
        let name = vector["name"].as_str().unwrap();
        let Ok(verifier) = verifier(context, home.folder.path()) else {
            continue;
        };
        gateway.judge_by(verifier);
        let names = (context.organisation.clone(), context.subject.clone());
        let file = load(Path::new(vector["file"].as_str().unwrap()));
        let told = bring_back(&gateway, &texts[&names], "good", &file).told();
        // what a relay would keep is not of this model, or not for this gateway's keys
        let expected = code(vector);
        match expected != 0 && context.parents.is_empty() && told.1 != 612 {
            true => assert_eq!(told.1, expected, "{name}: {told:?}"),
            false => assert_ne!(told.1, 0, "{name}: {told:?}"),
        }
        // trust that cannot be read is the gateway's own trouble
        let class = told.0 / 100 == 4 || (told.0 == 503 && vector["stage"] == "trust");
        assert!(class, "{name}: {told:?}");
        before.check_slot(name);
        // what is kept would not be looked at again: others have its header
        if let Ok(untrusted) = kvcap::Untrusted::read_at(&*file, &kvcap::Limits::default()) {
            let path = format!("/v1/capsules/{}", untrusted.claims().id);
            gateway.ask(&texts[&names], "DELETE", &path, &[], &[]);
        }
        match expected {
            0 => without += 1,
            _ => with_code += 1,
        }
    }
    assert!(with_code > 250, "{with_code} and {without}");
    assert!(without > 120, "{with_code} and {without}");
    before.check("all of them");
}

#[test]
fn what_is_cut_or_overlong_or_ambiguous_touches_no_slot() {
    let (home, engine) = (Home::new(), TestEngine::new(1, true));
    let gateway = home.gateway(&engine);
    let capsule = occupied(&gateway, &home);
    let before = Untouched::now(&home, &engine);
    for cut in [0, 1, 63, 64, 4095, 4096, capsule.len() / 2] {
        let told = bring_back(&gateway, &home.ana, "good", &capsule[..cut]).told();
        assert_eq!(told.0, 422, "{cut}: {told:?}");
        // a length that is not kept: the connection ends in the middle
        let mut client = head(&gateway, &home.ana, "good", &[], Some(capsule.len()));
        client.send(&capsule[..cut]).unwrap();
        client.end_sending();
        let reply = client.try_reply("POST");
        assert!(reply.is_none_or(|reply| reply.status == 400), "{cut}");
        before.check(&format!("cut at {cut}"));
    }
    for (at, len) in [(12, 4), (16, 8), (24, 8)] {
        let mut wrong = capsule.clone();
        wrong[at..at + len].fill(0xff);
        let told = bring_back(&gateway, &home.ana, "good", &wrong).told();
        assert_eq!(told, (422, 105), "{at}");
    }
    let mut client = head(&gateway, &home.ana, "good", &[], Some(usize::MAX >> 1));
    assert_eq!(client.reply("POST").status, 413);
    for fields in [
        "content-length: 5\r\ncontent-length: 6",
        "content-length: +5",
        "transfer-encoding: chunked, identity",
        "content-length: 5\r\ntransfer-encoding: xchunked",
        "content-length : 5",
    ] {
        let mut client = head(&gateway, &home.ana, "good", &[fields], None);
        let _sent = client.send(b"0\r\n\r\nPOST /v1/sessions/good/revert HTTP/1.1\r\n\r\n");
        let reply = client.try_reply("POST");
        assert!(
            reply.is_none_or(|reply| (400..500).contains(&reply.status)),
            "{fields}"
        );
        assert!(client.try_reply("GET").is_none(), "{fields}");
    }
    for session in [
        "..",
        "%2e%2e",
        "a%2Fb",
        "..%2F..%2Fkept",
        "%00",
        "good%0d%0a",
    ] {
        let told = bring_back(&gateway, &home.ana, session, &capsule).told();
        assert!((400..500).contains(&told.0), "{session}: {told:?}");
        before.check_slot(session);
    }
    // some of these are kept: a session's name is no matter of a relay's
    engine.wait_for_no_file();
}

#[test]
fn who_is_slow_touches_no_slot() {
    let (home, engine) = (Home::new(), TestEngine::new(1, true));
    let gateway = home.gateway_by(&engine, |settings| {
        settings.limits.silence = Duration::from_millis(200);
    });
    let capsule = occupied(&gateway, &home);
    let before = Untouched::now(&home, &engine);
    for sent in [0, 100, capsule.len() - 1] {
        let mut client = head(&gateway, &home.ana, "good", &[], Some(capsule.len()));
        client.send(&capsule[..sent]).unwrap();
        assert_eq!(client.reply("POST").told(), (408, 0), "{sent}");
        before.check(&format!("silent after {sent}"));
    }
}

#[test]
fn who_may_not_touches_no_slot() {
    let (mut home, engine) = (Home::new(), TestEngine::new(1, true));
    let elsewhere = home.token(Some("elsewhere"), Some("ana"), &ALL);
    let nobody = home.token(None, None, &ALL);
    let gateway = home.gateway(&engine);
    let capsule = occupied(&gateway, &home);
    let before = Untouched::now(&home, &engine);
    for (token, told) in [
        (&*elsewhere, (403, 407)),
        (&nobody, (403, 406)),
        (&home.bob, (403, 406)),
        (&home.restores, (403, 0)),
        (&home.operator, (403, 0)),
        ("", (401, 0)),
    ] {
        let reply = bring_back(&gateway, token, "good", &capsule);
        assert_eq!(reply.told(), told);
        before.check("a capsule of another's");
    }
    // one that is kept is nobody else's either
    let kept = gateway.ask(&home.ana, "POST", "/v1/capsules", &[], &capsule);
    assert_eq!(kept.status, 201);
    let body = json!({"capsule": kept.json()["id"]});
    for token in [&elsewhere, &nobody, &home.bob] {
        let reply = gateway.post(token, "/v1/sessions/good/resume", &body);
        assert_eq!(reply.told(), (404, 0));
        before.check_slot("a kept capsule of another's");
    }
}

#[test]
fn what_was_kept_and_then_expired_or_was_revoked_touches_no_slot() {
    let (home, engine) = (Home::new(), TestEngine::new(1, true));
    let gateway = home.gateway(&engine);
    let capsule = occupied(&gateway, &home);
    let kept = gateway.ask(&home.ana, "POST", "/v1/capsules", &[], &capsule);
    let id = kept.json()["id"].as_str().unwrap().to_owned();
    let before = Untouched::now(&home, &engine);
    let resume = || {
        let body = json!({"capsule": id});
        gateway.post(&home.ana, "/v1/sessions/good/resume", &body)
    };
    gateway.judge_by(Verifier {
        at: Some(time::now() + 7200),
        ..home.verifier()
    });
    assert_eq!(resume().told(), (403, 402));
    before.check_slot("expired");
    // a registry that lists the gateway's key, and then revokes the capsule
    let root = RootKey::generate().unwrap();
    let path = home.path("registry");
    let registry = RegistryFile::at(&path);
    registry.create(&root, time::now() - 100, 7200).unwrap();
    let signer = key_file::signing(&home.path("sign.key"), &Passphrases::none()).unwrap();
    let change = |change| registry.change(&[change], &root, time::now() - 50, None);
    change(Change::Add(Box::new(TrustedKey::from(&signer)))).unwrap();
    gateway.judge_by(Verifier {
        trust: TrustSources {
            registries: vec![home.path("registry")],
            roots: vec![root.public().to_text()],
            ..TrustSources::default()
        },
        ..home.verifier()
    });
    let revoked = kvcap::CapsuleId::from_hex(&id).unwrap();
    change(Change::Revoke(revoked)).unwrap();
    assert_eq!(resume().told(), (403, 409));
    let again = bring_back(&gateway, &home.ana, "good", &capsule);
    assert_eq!(again.told(), (403, 409));
    before.check("revoked");
}

/// The head of a request that hands a capsule in.
fn head(
    gateway: &Gateway,
    token: &str,
    session: &str,
    fields: &[&str],
    len: Option<usize>,
) -> Client {
    let mut client = Client::connect(gateway.address());
    let typ = format!("content-type: {CAPSULE}");
    let fields: Vec<&str> = fields.iter().copied().chain([&*typ]).collect();
    let path = format!("/v1/sessions/{session}/resume");
    client.head(token, "POST", &path, &fields, len);
    client
}
