//! Uploads in one request.

use std::{fs, io::Cursor, thread};

use kvcap::Change;
use kvcap_server::Limits;
use serde_json::json;

use crate::support::{
    Registry, capsule, id, now, path, regions, relay, relay_with, sealed, signer, verifier,
    verifier_at,
};

#[test]
fn what_is_put_comes_back_byte_for_byte() {
    let relay = relay();
    let file = capsule();
    let put = relay.ask(
        "PUT",
        &path(&file),
        &["content-type: application/vnd.kvcap"],
        &file,
    );
    assert_eq!(put.status, 201);
    assert_eq!(put.field("location"), Some(&*path(&file)));
    assert_eq!(put.field("content-type"), Some("application/json"));
    let unchecked = [
        "model",
        "prompt",
        "freshness",
        "runtime-version",
        "context-size",
    ];
    let facts = json!({"id": id(&file), "bytes": file.len(), "expires": now() + 3600, "unchecked": unchecked});
    assert_eq!(put.json(), facts);
    let got = relay.ask("GET", &path(&file), &[], &[]);
    assert_eq!(got.status, 200);
    assert_eq!(got.field("etag"), put.field("etag"));
    assert!(got.body == file);
    assert_eq!(relay.files().len(), 1);
    // by PUT under another id
    let other = capsule();
    let wrong = relay.ask("PUT", &path(&file), &[], &other);
    assert_eq!(wrong.told(), (422, 507));
    let coded = relay.ask("POST", "/v1/capsules", &["content-encoding: gzip"], &other);
    assert_eq!(coded.status, 415);
    let typed = relay.ask("POST", "/v1/capsules", &["content-type: text/html"], &other);
    assert_eq!(typed.status, 415);
    assert_eq!(relay.files().len(), 1);
}

#[test]
fn a_header_is_checked_and_nothing_is_kept() {
    let relay = relay();
    let file = capsule();
    let (tables_at, _) = regions(&file);
    for sent in [&file[..tables_at], &file[..]] {
        let checked = relay.ask("POST", "/v1/capsules:check", &[], sent);
        assert_eq!(checked.status, 200);
        assert_eq!(checked.field("location"), None);
        let facts = checked.json();
        assert_eq!(facts["id"], id(&file));
        assert_eq!(
            facts["unchecked"].as_array().unwrap().last(),
            Some(&json!("body"))
        );
    }
    let cut = relay.ask("POST", "/v1/capsules:check", &[], &file[..tables_at - 1]);
    assert_eq!(cut.told(), (422, 106));
    let expired = sealed(10, |terms| terms.expires = now(), |_| {});
    let told = relay
        .ask("POST", "/v1/capsules:check", &[], &expired)
        .told();
    assert_eq!(told, (403, 402));
    assert_eq!(relay.files().len(), 0);
}

#[test]
fn a_refusal_comes_before_the_body() {
    let relay = relay();
    let file = sealed(100_000, |terms| terms.expires = now(), |_| {});
    let (tables_at, _) = regions(&file);
    let mut client = relay.client();
    client.head(&relay.ana, "POST", "/v1/capsules", &[], Some(file.len()));
    client.send(&file[..tables_at - 1]).unwrap();
    client.send(&file[tables_at - 1..tables_at]).unwrap();
    // not a byte of the body was sent
    let reply = client.reply("POST");
    assert_eq!(reply.told(), (403, 402));
    assert_eq!(reply.field("connection"), Some("close"));
    assert!(
        client.try_reply("POST").is_none(),
        "the connection has ended"
    );

    // the prologue, with its last byte
    let mut client = relay.client();
    client.head(&relay.ana, "POST", "/v1/capsules", &[], Some(file.len()));
    client.send(&[0; 64]).unwrap();
    assert_eq!(client.reply("POST").told(), (422, 102));

    // who may not is told before he is asked for anything
    let expecting = ["expect: 100-continue"];
    let mut client = relay.client();
    client.head("", "POST", "/v1/capsules", &expecting, Some(file.len()));
    assert_eq!(client.line(), "HTTP/1.1 401 Unauthorized");
    let mut client = relay.client();
    client.head(
        &relay.ana,
        "POST",
        "/v1/capsules",
        &expecting,
        Some(1 << 40),
    );
    assert_eq!(client.line(), "HTTP/1.1 413 Payload Too Large");
    let mut client = relay.client();
    client.head(
        &relay.ana,
        "POST",
        "/v1/capsules",
        &expecting,
        Some(file.len()),
    );
    assert_eq!(client.line(), "HTTP/1.1 100 Continue");
    assert_eq!(relay.files().len(), 0);
}

#[test]
fn a_wrong_chunk_ends_the_upload_with_its_last_byte() {
    let relay = relay();
    let mut file = capsule();
    let (_, body_at) = regions(&file);
    file[body_at + 5000] ^= 1;
    let mut client = relay.client();
    client.head(&relay.ana, "POST", "/v1/capsules", &[], Some(file.len()));
    client.send(&file[..body_at + 2 * 4096]).unwrap();
    assert_eq!(client.reply("POST").told(), (422, 805));
    assert_eq!(relay.files().len(), 0);
}

#[test]
fn what_broke_off_holds_nothing_any_more_when_that_is_told() {
    let limits = Limits {
        rate: u32::MAX,
        burst: u32::MAX,
        ..Limits::default()
    };
    let relay = relay_with(verifier(), limits);
    let file = capsule();
    let parts = 200;
    for cut in (1..parts).map(|part| file.len() * part / parts) {
        let mut client = relay.client();
        client.head(&relay.ana, "POST", "/v1/capsules", &[], Some(file.len()));
        client.send(&file[..cut]).unwrap();
        client.end_sending();
        assert_eq!(client.reply("POST").status, 400);
        // not KVC-947, of an upload that is going on
        assert_eq!(relay.put(&file[..cut]).status, 422, "{cut}");
    }
    assert!(relay.files().is_empty());
}

#[test]
fn what_was_judged_by_the_header_is_judged_again() {
    let registry = Registry::new(7200);
    let judged_at = |at| registry.verifier_at(at);
    let relay = relay_with(judged_at(now()), Limits::default());
    let begin = |file: &[u8]| {
        let mut client = relay.client();
        client.head(
            &relay.ana,
            "POST",
            "/v1/capsules",
            &["expect: 100-continue"],
            Some(file.len()),
        );
        assert_eq!(client.line(), "HTTP/1.1 100 Continue");
        client.line();
        client.send(&file[..file.len() - 1]).unwrap();
        client
    };
    let (expires, revoked) = (capsule(), capsule());
    // both have passed by their headers: their files are in the making
    let (mut first, mut second) = (begin(&expires), begin(&revoked));
    while relay.files().len() < 2 {
        thread::yield_now();
    }
    relay.running().judge_by(judged_at(now() + 3600));
    first.send(&expires[expires.len() - 1..]).unwrap();
    assert_eq!(first.reply("POST").told(), (403, 402));
    relay.running().judge_by(judged_at(now()));
    let claims = kvcap::CapsuleId::from_hex(&id(&revoked)).unwrap();
    registry.change(Change::Revoke(claims));
    second.send(&revoked[revoked.len() - 1..]).unwrap();
    assert_eq!(second.reply("POST").told(), (403, 409));
    assert_eq!(relay.files().len(), 0);
    // and trust that has run out is the relay's own trouble
    relay.running().judge_by(judged_at(now() + 20_000));
    let reply = relay.put(&capsule());
    assert_eq!(reply.told(), (503, 310));
    assert_eq!(reply.field("retry-after"), Some("1"));
}

#[test]
fn a_capsule_is_put_once() {
    let relay = relay();
    let file = capsule();
    let (tables_at, _) = regions(&file);
    let mut first = relay.client();
    first.head(&relay.ana, "POST", "/v1/capsules", &[], Some(file.len()));
    first.send(&file[..tables_at]).unwrap();
    while relay.files().is_empty() {
        thread::yield_now();
    }
    let busy = relay.put(&file);
    assert_eq!(busy.told(), (409, 947));
    assert_eq!(busy.field("retry-after"), Some("1"));
    first.send(&file[tables_at..]).unwrap();
    assert_eq!(first.reply("POST").status, 201);
    // the same, by its header alone
    let mut again = relay.client();
    again.head(&relay.ana, "POST", "/v1/capsules", &[], Some(file.len()));
    again.send(&file[..tables_at]).unwrap();
    let there = again.reply("POST");
    assert_eq!(there.status, 200);
    assert_eq!(there.field("location"), Some(&*path(&file)));
    // another header over the same body
    let shorter = renewed(&file, 60);
    assert_eq!(id(&shorter), id(&file));
    assert_eq!(relay.put(&shorter).told(), (409, 941));
    let kept: Vec<_> = relay.files().into_iter().collect();
    assert!(fs::read(&kept[0]).unwrap() == file);
    assert_eq!(kept.len(), 1);
    assert_eq!(relay.ask("DELETE", &path(&file), &[], &[]).status, 204);
    assert_eq!(relay.put(&shorter).status, 201);
}

#[test]
fn a_renewal_that_lives_longer_takes_the_place_of_the_old() {
    let mut relay = relay();
    let file = capsule();
    assert_eq!(relay.put(&file).status, 201);
    let old = relay.ask("GET", &path(&file), &[], &[]);
    let longer = renewed(&file, 7200);
    let (tables_at, body_at) = regions(&longer);
    // one that breaks off leaves the old
    let mut broken = relay.client();
    broken.head(&relay.ana, "POST", "/v1/capsules", &[], Some(longer.len()));
    broken.send(&longer[..body_at]).unwrap();
    while relay.files().len() < 2 {
        thread::yield_now();
    }
    assert_eq!(relay.put(&longer).told(), (409, 947));
    assert!(relay.ask("GET", &path(&file), &[], &[]).body == file);
    drop(broken);
    let mut wrong = longer.clone();
    wrong[body_at + 10] ^= 1;
    // its name is free a moment after its file has gone, as for every client that asks again
    let mut reply = relay.put(&wrong);
    while reply.told() == (409, 947) {
        thread::yield_now();
        reply = relay.put(&wrong);
    }
    assert_eq!(reply.told(), (422, 805));
    assert_eq!(relay.files().len(), 1);
    let mut wrong = longer.clone();
    wrong[tables_at + 10] ^= 1;
    assert_ne!(relay.put(&wrong).status, 201);
    assert!(relay.ask("GET", &path(&file), &[], &[]).body == file);
    let put = relay.put(&longer);
    assert_eq!(put.status, 201);
    let new = relay.ask("GET", &path(&file), &[], &[]);
    assert!(new.body == longer);
    assert_ne!(new.field("etag"), old.field("etag"));
    assert_eq!(new.field("etag"), put.field("etag"));
    // the old does not come back
    assert_eq!(relay.put(&file).told(), (409, 941));
    let metrics = relay.ask_as(&relay.operator, "GET", "/metrics", &[], &[]);
    let metrics = String::from_utf8(metrics.body).unwrap();
    let line = format!("kvcap_capsule_bytes {}", longer.len());
    assert!(metrics.lines().any(|found| found == line), "{metrics}");
    assert_eq!(relay.files().len(), 1);
    relay.end();
}

/// The same capsule with another life, of so many seconds from now on.
fn renewed(file: &[u8], seconds: u64) -> Vec<u8> {
    let (signer, trust) = (signer(), kvcap::Trust::from(&signer()));
    let untrusted = kvcap::Untrusted::read_at(file, &kvcap::Limits::default()).unwrap();
    let terms = untrusted.claims().terms.clone();
    let policy = kvcap::Policy::danger_as_stated(&trust, now(), &terms);
    let verified = untrusted.verify(&policy).unwrap();
    let by = kvcap::Reissuer::new(&signer, &trust, now());
    let renewal = kvcap::Renewal::until(now() + seconds);
    let (mut old, mut new) = (Cursor::new(file), Cursor::new(Vec::new()));
    let reissued = verified.renew(&renewal, &by).unwrap();
    reissued.write(&mut old, &mut new).unwrap();
    new.into_inner()
}

#[test]
fn ancestors_that_are_kept_are_judged_too() {
    let relay = relay();
    let parent = sealed(5000, |terms| terms.expires = now() + 100, |_| {});
    let untrusted = kvcap::Untrusted::read_at(&parent, &kvcap::Limits::default()).unwrap();
    let lineage = untrusted.lineage().unwrap();
    let child = || {
        sealed(
            5000,
            |_| {},
            |context| {
                context.positions = 1..2;
                context.parent = Some(kvcap::Parent {
                    digest: lineage,
                    positions: 0..1,
                });
            },
        )
    };
    let alone = child();
    let reply = relay.put(&alone);
    assert_eq!(reply.status, 201, "{reply:?}");
    let names = reply.json()["unchecked"].clone();
    assert!(names.as_array().unwrap().contains(&json!("ancestors")));
    assert_eq!(relay.put(&parent).status, 201);
    let second = child();
    let reply = relay.put(&second);
    assert_eq!(reply.status, 201);
    let names = reply.json()["unchecked"].clone();
    assert!(!names.as_array().unwrap().contains(&json!("ancestors")));
    // the parent has expired, and the relay still has it
    relay.running().judge_by(verifier_at(now() + 100));
    assert_eq!(relay.put(&child()).told(), (403, 708));
    assert_eq!(
        relay.ask("GET", &path(&second), &[], &[]).told(),
        (403, 708)
    );
    relay.running().judge_by(verifier());
    assert_eq!(relay.ask("GET", &path(&second), &[], &[]).status, 200);
}
