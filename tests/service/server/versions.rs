//! The order of sessions' versions over HTTP (http-v1 §12.1).

use std::{
    sync::{Arc, Barrier, Mutex},
    thread,
};

use kvcap::{
    Context, Draft, Sealer, Section, SectionKind, Session, Terms, WrappingKey,
    binding::{Digest, Model, Runtime, Tokenizer},
};
use kvcap_server::Permission;
use kvcap_testvectors::fixture;
use serde_json::{Value, json};

use crate::support::{AUDIENCE, Relay, Reply, capsule, id, now, relay, signer};

/// A sealed version of a session of `ana` of `acme`.
pub(crate) fn version(session: &str, version: u64, cursor: u64) -> Vec<u8> {
    with(session, version, cursor, |_, _| {})
}

fn with(
    session: &str,
    version: u64,
    cursor: u64,
    change: impl FnOnce(&mut Terms, &mut Context),
) -> Vec<u8> {
    let none = Digest::labelled("kvcap v1 no model", &[]);
    let streams = [SectionKind::History, SectionKind::Other("log".to_owned())];
    let mut context = Context::new(
        Model::new(none, none, none),
        Tokenizer::new(none, 1),
        Runtime::new("kvcap", "history"),
        0..1,
        1,
        streams.map(|kind| Section::new(kind, 40).into()).to_vec(),
    );
    let signer = signer();
    let mut terms = Terms::new(&signer.issuer(), AUDIENCE, now() - 10, now() + 3600);
    terms.tenant = Some("acme".to_owned());
    terms.subject = Some("ana".to_owned());
    terms.session = Some(Session {
        id: session.to_owned(),
        version,
        replay_cursor: cursor,
    });
    change(&mut terms, &mut context);
    let sections = context.streams.len();
    let key = WrappingKey::from_bytes(fixture::WRAP_KEY);
    let draft = Draft::new(terms, context);
    let sealer = Sealer::new(Mutex::new(Vec::new()), draft, &signer, &[&key]).unwrap();
    for _ in 0..sections {
        sealer.write(&[7; 40]).unwrap();
        sealer.end_stream().unwrap();
    }
    sealer.finish().unwrap().0.into_inner().unwrap()
}

fn put(relay: &Relay, path: &str, capsule: &[u8], states: &[&[u8]], after: u64) -> Reply {
    let states: Vec<String> = states.iter().map(|state| id(state)).collect();
    let body = json!({"capsule": id(capsule), "states": states, "after": after}).to_string();
    relay.ask(
        "PUT",
        path,
        &["content-type: application/json"],
        body.as_bytes(),
    )
}

fn keep(relay: &Relay, capsule: &[u8]) {
    assert_eq!(relay.put(capsule).status, 201);
}

fn json(reply: &Reply) -> Value {
    serde_json::from_slice(&reply.body).unwrap()
}

fn code(reply: &Reply) -> u64 {
    json(reply)["code"].as_u64().unwrap()
}

#[test]
fn a_version_is_put_once_after_the_newest_and_told() {
    let relay = relay();
    let (one, two, state) = (
        version("fix it/ü", 1, 4),
        version("fix it/ü", 3, 9),
        capsule(),
    );
    let path = |version: u64| format!("/v1/versions/fix%20it%2F%C3%BC/{version}");
    let all = "/v1/versions/fix%20it%2F%C3%BC";
    assert_eq!(relay.ask("GET", all, &[], &[]).status, 404);
    // what it names is kept first
    assert_eq!(put(&relay, &path(1), &one, &[], 0).status, 404);
    keep(&relay, &one);
    assert_eq!(put(&relay, &path(1), &one, &[&state], 0).status, 404);
    keep(&relay, &state);
    let first = put(&relay, &path(1), &one, &[&state], 0);
    assert_eq!(first.status, 201);
    let told = json(&first);
    assert_eq!((&told["version"], &told["cursor"]), (&json!(1), &json!(4)));
    assert_eq!(told["expires"], now() + 3600);
    assert_eq!(put(&relay, &path(1), &one, &[&state], 0).status, 200);
    keep(&relay, &two);
    let late = put(&relay, &path(3), &two, &[], 0);
    assert_eq!((late.status, code(&late)), (422, 954));
    assert_eq!(put(&relay, &path(3), &two, &[&state], 1).status, 201);
    let listed = json(&relay.ask("GET", all, &[], &[]));
    assert_eq!(listed["session"], "fix it/ü");
    assert_eq!(listed["versions"][0], told);
    assert_eq!(listed["versions"][1]["version"], 3);
    assert_eq!(listed["versions"][1]["states"], json!([id(&state)]));
    let later = json(&relay.ask("GET", &format!("{all}?after=1"), &[], &[]));
    assert_eq!(later["versions"], json!([listed["versions"][1]]));
    let none = json(&relay.ask("GET", &format!("{all}?after=3"), &[], &[]));
    assert_eq!(none["versions"], json!([]));
    let newest = json(&relay.ask("GET", "/v1/versions", &[], &[]));
    assert_eq!(newest["sessions"][0]["session"], "fix it/ü");
    assert_eq!(newest["sessions"][0]["version"], 3);
    assert_eq!(newest["sessions"].as_array().unwrap().len(), 1);
    let after = relay.ask("GET", "/v1/versions?after=fix%20it%2F%C3%BC", &[], &[]);
    assert_eq!(json(&after), json!({"sessions": []}));
}

#[test]
fn what_is_no_version_of_the_session_is_none() {
    let relay = relay();
    let right = version("s", 1, 4);
    let export = with("s", 1, 4, |_, context| _ = context.streams.pop());
    let nameless = with("s", 1, 4, |terms, _| terms.session = None);
    let state = capsule();
    for capsule in [&right, &export, &nameless, &state] {
        keep(&relay, capsule);
    }
    for (path, capsule, wanted) in [
        ("/v1/versions/s/1", &export, 956),
        ("/v1/versions/s/1", &state, 956),
        ("/v1/versions/s/1", &nameless, 413),
        ("/v1/versions/s/2", &right, 413),
        ("/v1/versions/other/1", &right, 413),
    ] {
        let refused = put(&relay, path, capsule, &[], 0);
        assert_eq!(code(&refused), wanted, "{path}");
    }
    let long = "a".repeat(1025);
    for (path, status) in [
        ("/v1/versions/s/0".to_owned(), 404),
        ("/v1/versions/s/01".to_owned(), 404),
        ("/v1/versions/s/-1".to_owned(), 404),
        ("/v1/versions/s/9007199254740992".to_owned(), 422),
        (format!("/v1/versions/{long}/1"), 422),
        ("/v1/versions/a%00b/1".to_owned(), 422),
    ] {
        assert_eq!(put(&relay, &path, &right, &[], 0).status, status, "{path}");
    }
    let fields = ["content-type: application/json"];
    let ask = |body: String| relay.ask("PUT", "/v1/versions/s/1", &fields, body.as_bytes());
    let own = id(&right);
    let many = vec![own.clone(); 65];
    for (body, status) in [
        (json!({}), 400),
        (json!({"capsule": own, "after": -1}), 400),
        (json!({"capsule": own, "after": 0, "more": 1}), 400),
        (json!({"capsule": "x", "after": 0}), 404),
        (
            json!({"capsule": own, "after": 9_007_199_254_740_992_u64}),
            422,
        ),
        (json!({"capsule": own, "after": 0, "states": many}), 422),
    ] {
        assert_eq!(ask(body.to_string()).status, status, "{body}");
    }
    assert_eq!(ask("x".repeat(20_000)).status, 413);
    assert_eq!(
        relay.ask("GET", "/v1/versions/s?after=x", &[], &[]).status,
        400
    );
    assert_eq!(relay.ask("GET", "/v1/versions/s", &[], &[]).status, 404);
}

#[test]
fn nobody_sees_another_s_order() {
    let relay = relay();
    let one = version("s", 1, 4);
    keep(&relay, &one);
    assert_eq!(put(&relay, "/v1/versions/s/1", &one, &[], 0).status, 201);
    let body = json!({"capsule": id(&one), "after": 0}).to_string();
    for token in [&relay.bob, &relay.other, &relay.nobody] {
        let ask = |method, path| relay.ask_as(token, method, path, &[], body.as_bytes());
        assert_eq!(ask("GET", "/v1/versions/s").status, 404);
        assert_eq!(ask("PUT", "/v1/versions/s/1").status, 404);
        assert_eq!(ask("DELETE", "/v1/versions/s").status, 404);
        let listed = relay.ask_as(token, "GET", "/v1/versions", &[], &[]);
        assert_eq!(json(&listed), json!({"sessions": []}));
    }
    // who may only put and get capsules
    for (method, path) in [
        ("GET", "/v1/versions"),
        ("GET", "/v1/versions/s"),
        ("PUT", "/v1/versions/s/1"),
        ("DELETE", "/v1/versions/s"),
    ] {
        let status = relay.ask_as(&relay.operator, method, path, &[], &[]).status;
        assert_eq!(status, 403, "{method} {path}");
        assert_eq!(relay.ask_as("", method, path, &[], &[]).status, 401);
    }
    assert!(!Permission::ALL.is_empty());
}

#[test]
fn a_session_is_erased_with_what_no_other_names() {
    let relay = relay();
    let (one, two) = (version("s", 1, 4), version("branch", 1, 4));
    let (own, shared) = (capsule(), capsule());
    for capsule in [&one, &two, &own, &shared] {
        keep(&relay, capsule);
    }
    let states: [&[u8]; 2] = [&own, &shared];
    assert_eq!(
        put(&relay, "/v1/versions/s/1", &one, &states, 0).status,
        201
    );
    let states: [&[u8]; 1] = [&shared];
    assert_eq!(
        put(&relay, "/v1/versions/branch/1", &two, &states, 0).status,
        201
    );
    assert_eq!(relay.ask("DELETE", "/v1/versions/s", &[], &[]).status, 204);
    assert_eq!(relay.ask("DELETE", "/v1/versions/s", &[], &[]).status, 404);
    let there = |file: &[u8]| {
        let path = format!("/v1/capsules/{}", id(file));
        relay.ask("HEAD", &path, &[], &[]).status == 200
    };
    assert!(!there(&one) && !there(&own));
    assert!(there(&two) && there(&shared));
    assert_eq!(
        relay.ask("GET", "/v1/versions/branch", &[], &[]).status,
        200
    );
    assert_eq!(
        relay.ask("DELETE", "/v1/versions/branch", &[], &[]).status,
        204
    );
    assert!(relay.files().is_empty(), "{:?}", relay.files());
}

#[test]
fn of_two_devices_one_is_first_and_a_relay_that_begins_again_knows_it() {
    let mut relay = relay();
    let devices: Vec<Vec<u8>> = (0..8).map(|_| version("s", 1, 4)).collect();
    for capsule in &devices {
        keep(&relay, capsule);
    }
    let begin = Arc::new(Barrier::new(devices.len()));
    let statuses: Vec<(u16, Vec<u8>)> = thread::scope(|scope| {
        let asked: Vec<_> = devices
            .iter()
            .map(|capsule| {
                let (relay, begin) = (&relay, Arc::clone(&begin));
                scope.spawn(move || {
                    begin.wait();
                    let reply = put(relay, "/v1/versions/s/1", capsule, &[], 0);
                    (reply.status, capsule.clone())
                })
            })
            .collect();
        asked
            .into_iter()
            .map(|asked| asked.join().unwrap())
            .collect()
    });
    let won: Vec<&Vec<u8>> = statuses
        .iter()
        .filter_map(|(status, capsule)| (*status == 201).then_some(capsule))
        .collect();
    assert_eq!(
        won.len(),
        1,
        "{:?}",
        statuses.iter().map(|s| s.0).collect::<Vec<_>>()
    );
    let won = id(won[0]);
    relay.end();
    let mut again = relay.settings.clone();
    again.listen = "127.0.0.1:0".parse().unwrap();
    relay.running = Some(kvcap_server::Server::bind(again).unwrap().start().unwrap());
    let told = json(&relay.ask("GET", "/v1/versions/s", &[], &[]));
    assert_eq!(told["versions"][0]["capsule"], won);
    assert_eq!(told["versions"].as_array().unwrap().len(), 1);
}

#[test]
fn a_version_goes_when_its_capsule_expires_and_what_follows_it() {
    let relay = relay();
    let short = |terms: &mut Terms, _: &mut Context| {
        terms.expires = now() + 5;
        terms.renew_until = now() + 5;
    };
    let (one, two) = (with("s", 1, 4, short), version("s", 2, 4));
    for capsule in [&one, &two] {
        keep(&relay, capsule);
    }
    assert_eq!(put(&relay, "/v1/versions/s/1", &one, &[], 0).status, 201);
    assert_eq!(put(&relay, "/v1/versions/s/2", &two, &[], 1).status, 201);
    relay
        .running()
        .judge_by(crate::support::verifier_at(now() + 6));
    assert_eq!(relay.running().sweep().unwrap(), 1);
    assert_eq!(relay.ask("GET", "/v1/versions/s", &[], &[]).status, 404);
    let next = version("s", 3, 5);
    keep(&relay, &next);
    assert_eq!(put(&relay, "/v1/versions/s/3", &next, &[], 0).status, 201);
}

/// Three relays over one bucket and one database have one order, whichever of them is asked.
#[test]
#[cfg(all(unix, feature = "shared"))]
fn relays_that_share_have_one_order() {
    let home = tempfile::tempdir().unwrap();
    let postgres = kvcap_testkit::Postgres::start();
    std::fs::create_dir(home.path().join("bucket")).unwrap();
    let database = home.path().join("database");
    postgres.write_address(&database);
    let relays: Vec<Relay> = (0..3)
        .map(|_| {
            crate::support::relay_by(|settings| {
                settings.place = kvcap_server::Place::Shared {
                    database: database.clone(),
                    bucket: format!("file://{}/bucket", home.path().display()),
                    edge: None,
                };
            })
        })
        .collect();
    let devices: Vec<Vec<u8>> = (0..9).map(|_| version("s", 1, 4)).collect();
    for (at, capsule) in devices.iter().enumerate() {
        keep(&relays[at % 3], capsule);
    }
    let begin = Arc::new(Barrier::new(devices.len()));
    let statuses: Vec<u16> = thread::scope(|scope| {
        let asked: Vec<_> = devices
            .iter()
            .enumerate()
            .map(|(at, capsule)| {
                let (relay, begin) = (&relays[at % 3], Arc::clone(&begin));
                scope.spawn(move || {
                    begin.wait();
                    put(relay, "/v1/versions/s/1", capsule, &[], 0).status
                })
            })
            .collect();
        asked
            .into_iter()
            .map(|asked| asked.join().unwrap())
            .collect()
    });
    let won = statuses.iter().filter(|status| **status == 201).count();
    assert_eq!(won, 1, "{statuses:?}");
    assert!(statuses.iter().all(|status| [201, 422].contains(status)));
    let told: Vec<Value> = relays
        .iter()
        .map(|relay| json(&relay.ask("GET", "/v1/versions/s", &[], &[])))
        .collect();
    assert!(told.iter().all(|one| *one == told[0]));
    let (next, state) = (version("s", 2, 4), capsule());
    keep(&relays[0], &next);
    keep(&relays[1], &state);
    let second = put(&relays[2], "/v1/versions/s/2", &next, &[&state], 1);
    assert_eq!(second.status, 201);
    assert_eq!(
        relays[1].ask("DELETE", "/v1/versions/s", &[], &[]).status,
        204
    );
    for relay in &relays {
        assert_eq!(relay.ask("GET", "/v1/versions/s", &[], &[]).status, 404);
        let path = format!("/v1/capsules/{}", id(&state));
        assert_eq!(relay.ask("HEAD", &path, &[], &[]).status, 404);
    }
}
