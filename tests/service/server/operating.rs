//! What an operator sees and does: another configuration while it runs, and lines about requests.

use std::{
    io::{self, Write},
    net::TcpStream,
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use kvcap::{Code, Error};
use kvcap_server::{Limits, Log, NewToken, Permission, Settings, Token, Tokens};
use serde_json::Value;

use crate::support::{Relay, capsule, path, regions, relay, relay_by, sealed, verifier};

/// Settings whose one token is new, and its text.
fn other_settings(relay: &Relay) -> (Settings, String) {
    let new = NewToken::generate().unwrap();
    let mut tokens = Tokens::default();
    let token = Token {
        tenant: Some("acme".to_owned()),
        subject: Some("ana".to_owned()),
        may: vec![Permission::Put, Permission::Get],
    };
    tokens.add(new.digest(), token).unwrap();
    let settings = Settings {
        tokens,
        ..relay.settings.clone()
    };
    (settings, new.text().to_owned())
}

#[test]
fn what_begins_after_a_reload_is_judged_by_it() {
    let relay = relay();
    let file = capsule();
    // one that has begun
    let mut begun = relay.client();
    begun.head(&relay.ana, "POST", "/v1/capsules", &[], Some(file.len()));
    begun.send(&file[..regions(&file).1]).unwrap();
    while relay.files().is_empty() {
        thread::yield_now();
    }
    let (mut settings, token) = other_settings(&relay);
    settings.limits.capsule = 150_000;
    relay.running().reload().with(Ok(settings)).unwrap();
    begun.send(&file[regions(&file).1..]).unwrap();
    assert_eq!(begun.reply("POST").status, 201, "what has begun goes on");
    // on the same connection as before
    assert_eq!(
        begun.ask(&relay.ana, "GET", &path(&file), &[], &[]).status,
        401
    );
    assert_eq!(begun.ask(&token, "GET", &path(&file), &[], &[]).status, 200);
    let long = sealed(200_000, |_| {}, |_| {});
    let reply = relay.ask_as(&token, "POST", "/v1/capsules", &[], &long);
    assert_eq!(reply.status, 413, "the new limit");
}

#[test]
fn a_configuration_that_cannot_be_leaves_the_one_before() {
    let relay = relay();
    let reload = relay.running().reload();
    let (right, token) = other_settings(&relay);
    let wrong = Error::new(Code::LocalConfig, "no such key");
    assert_eq!(reload.with(Err(wrong)).unwrap_err().code().number(), 945);
    for change in [
        (|settings: &mut Settings| settings.listen = "127.0.0.1:1".parse().unwrap()) as fn(&mut _),
        |settings| settings.place = kvcap_server::Place::Folder("elsewhere".into()),
        |settings| settings.audit = None,
        |settings| settings.log = Some(Log::to(io::sink())),
    ] {
        let mut settings = right.clone();
        change(&mut settings);
        let refused = reload.with(Ok(settings)).unwrap_err();
        assert_eq!(refused.code().number(), 945);
    }
    let mut nobody = right.clone();
    nobody.verifier.trust.keys = vec!["no key".to_owned()];
    reload.with(Ok(nobody)).unwrap_err();
    let file = capsule();
    assert_eq!(relay.put(&file).status, 201, "all is as it was");
    assert_eq!(
        relay.ask_as(&token, "GET", &path(&file), &[], &[]).status,
        401
    );
    reload.with(Ok(right)).unwrap();
    assert_eq!(
        relay.ask_as(&token, "GET", &path(&file), &[], &[]).status,
        200
    );
}

#[test]
fn connections_beyond_the_limit_wait_until_one_ends() {
    let relay = relay_by(|settings| settings.limits.connections = 2);
    let held: Vec<TcpStream> = (0..2)
        .map(|_| TcpStream::connect(relay.running().address()).unwrap())
        .collect();
    let mut third = relay.client();
    third.head("", "GET", "/healthz", &[], None);
    drop(held);
    assert_eq!(third.reply("GET").status, 200);
}

/// Lines that are kept.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Lines {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }

    fn all(&self) -> Vec<Value> {
        let text = self.text();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }
}

#[test]
fn a_request_leaves_one_line_and_keeps_its_id() {
    let lines = Lines::default();
    let sink = lines.clone();
    let mut relay = relay_by(|settings| settings.log = Some(Log::to(sink)));
    let file = capsule();
    let reply = relay.ask(
        "POST",
        "/v1/capsules",
        &["x-request-id: agent-7.1_a"],
        &file,
    );
    assert_eq!(reply.field("x-request-id"), Some("agent-7.1_a"));
    let new = relay.ask_as(&relay.bob, "GET", &path(&file), &[], &[]);
    let id = new.field("x-request-id").unwrap().to_owned();
    assert_eq!(id.len(), 32);
    let again = relay.ask_as(&relay.bob, "POST", "/v1/capsules", &[], &file);
    assert_ne!(again.field("x-request-id"), Some(&*id));
    relay.ask("GET", "/nothing/here", &[], &[]);
    relay
        .running()
        .reload()
        .with(Ok(relay.settings.clone()))
        .unwrap();
    relay.end();
    let lines = lines.all();
    let events: Vec<&str> = lines
        .iter()
        .filter_map(|line| line["event"].as_str())
        .collect();
    assert_eq!(events, ["listening", "reload", "ending"]);
    let requests: Vec<&Value> = lines
        .iter()
        .filter(|line| line["event"].is_null())
        .collect();
    let told: Vec<_> = requests
        .iter()
        .map(|line| {
            assert!(line["at"].is_number() && line["seconds"].is_number());
            let text = |name: &str| line[name].as_str().unwrap_or("-").to_owned();
            let number = |name: &str| line[name].as_u64().unwrap();
            (
                text("method"),
                text("path"),
                number("status"),
                number("code"),
            )
        })
        .collect();
    let line =
        |method: &str, path: &str, status, code| (method.to_owned(), path.to_owned(), status, code);
    assert_eq!(
        told,
        [
            line("POST", "/v1/capsules", 201, 0),
            line("GET", "/v1/capsules/{id}", 404, 0),
            line("POST", "/v1/capsules", 403, 406),
            line("GET", "-", 404, 0),
        ]
    );
    assert_eq!(requests[0]["request"], "agent-7.1_a");
    assert_eq!(requests[1]["request"], id);
}

#[test]
fn no_line_has_what_a_caller_said() {
    let lines = Lines::default();
    let sink = lines.clone();
    let mut relay = relay_by(|settings| settings.log = Some(Log::to(sink)));
    let file = capsule();
    assert_eq!(relay.put(&file).status, 201);
    let odd = [
        format!("x-request-id: {}", relay.ana),
        "x-request-id: two words".to_owned(),
        "x-request-id: \"},{".to_owned(),
        format!("x-request-id: {}", "a".repeat(65)),
    ];
    for field in &odd {
        let reply = relay.ask("GET", &path(&file), &[field], &[]);
        assert_eq!(reply.field("x-request-id").unwrap().len(), 32, "{field}");
    }
    // secrets where they do not belong
    let secret = format!("/{}?token={}", relay.ana, relay.ana);
    relay.ask_as("", "GET", &secret, &[], &[]);
    relay.ask_as("", "GET", &format!("/v1/capsules/{}", relay.ana), &[], &[]);
    relay.ask(
        "POST",
        "/v1/capsules",
        &[],
        b"a prompt that nobody should read",
    );
    let short = relay_by(|_| {}).bob.clone();
    relay.ask_as(&short, "GET", "/metrics", &[], &[]);
    relay.end();
    let (text, all) = (lines.text(), lines.all());
    assert_eq!(all.iter().filter(|line| line["event"].is_null()).count(), 9);
    for said in [
        &relay.ana[..],
        &short,
        &relay.ana[13..40],
        "acme",
        "ana",
        "cache.example.com",
        "prompt",
        "two words",
        &crate::support::id(&file),
        &crate::support::signer().public().id().to_string(),
        relay.home.path().to_str().unwrap(),
    ] {
        assert!(!text.contains(said), "{said} is in {text}");
    }
}

#[test]
fn a_sink_that_is_broken_refuses_nobody() {
    struct Broken;
    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
    }
    let relay = relay_by(|settings| settings.log = Some(Log::to(Broken)));
    assert_eq!(relay.put(&capsule()).status, 201);
}

#[test]
fn limits_of_time_are_those_of_the_newest_configuration() {
    let relay = relay();
    let settings = Settings {
        limits: Limits {
            head: Duration::from_millis(200),
            ..Limits::default()
        },
        verifier: verifier(),
        ..relay.settings.clone()
    };
    relay.running().reload().with(Ok(settings)).unwrap();
    let mut silent = relay.client();
    assert!(silent.try_reply("GET").is_none(), "the connection ends");
}
