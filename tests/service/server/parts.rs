//! Uploads over several requests.

use std::thread;

use kvcap::Change;
use kvcap_server::Limits;

use crate::support::{
    Registry, Relay, Reply, capsule, id, now, path, regions, relay, relay_with, sealed, verifier,
    verifier_at,
};

const PARTIAL: &str = "content-type: application/partial-upload";

/// Begins an upload with the first bytes of a file.
fn begin(relay: &Relay, first: &[u8], fields: &[&str]) -> String {
    let fields = [&["upload-complete: ?0"], fields].concat();
    let reply = relay.ask("POST", "/v1/capsules", &fields, first);
    assert_eq!(reply.status, 201, "{reply:?}");
    assert_eq!(reply.field("upload-complete"), Some("?0"));
    assert_eq!(
        reply.field("upload-offset"),
        Some(&*first.len().to_string())
    );
    assert!(reply.field("upload-limit").unwrap().contains("max-age="));
    reply.field("location").unwrap().to_owned()
}

fn append(relay: &Relay, upload: &str, at: usize, complete: bool, bytes: &[u8]) -> Reply {
    let complete = match complete {
        true => "upload-complete: ?1",
        false => "upload-complete: ?0",
    };
    let offset = format!("upload-offset: {at}");
    relay.ask("PATCH", upload, &[PARTIAL, &offset, complete], bytes)
}

fn offset(relay: &Relay, upload: &str) -> Option<usize> {
    let reply = relay.ask("HEAD", upload, &[], &[]);
    let offset = reply
        .field("upload-offset")
        .map(|text| text.parse().unwrap());
    assert_eq!(reply.status, if offset.is_some() { 204 } else { 404 });
    offset
}

#[test]
fn an_upload_in_parts_is_the_upload() {
    let relay = relay();
    let options = relay.ask_as("", "OPTIONS", "/v1/capsules", &[], &[]);
    assert_eq!(
        options.field("accept-patch"),
        Some("application/partial-upload")
    );
    for cuts in [&[0, 10, 5000, 5001][..], &[64, 4096, 8192], &[20_000], &[]] {
        let file = capsule();
        let mut cuts = cuts.to_vec();
        cuts.push(file.len());
        let upload = begin(&relay, &file[..cuts[0]], &[]);
        let mut at = cuts[0];
        for cut in &cuts[1..] {
            let reply = append(&relay, &upload, at, false, &file[at..*cut]);
            assert_eq!(reply.status, 204, "{reply:?}");
            assert_eq!(reply.field("upload-offset"), Some(&*cut.to_string()));
            at = *cut;
        }
        assert_eq!(offset(&relay, &upload), Some(file.len()));
        // complete, without a byte more
        let reply = append(&relay, &upload, at, true, &[]);
        assert_eq!(reply.status, 201, "{reply:?}");
        assert_eq!(reply.field("upload-complete"), Some("?1"));
        assert_eq!(reply.field("location"), Some(&*path(&file)));
        assert!(relay.ask("GET", &path(&file), &[], &[]).body == file);
        assert_eq!(offset(&relay, &upload), None);
    }
    // one that is there already is so by its header, whatever follows
    let file = capsule();
    assert_eq!(relay.put(&file).status, 201);
    let upload = begin(&relay, &file[..9000], &[]);
    let reply = append(&relay, &upload, 9000, true, &file[9000..]);
    assert_eq!(
        (reply.status, reply.field("upload-complete")),
        (200, Some("?1"))
    );
}

#[test]
fn another_offset_is_a_conflict_that_names_the_right_one() {
    let relay = relay();
    let file = capsule();
    let upload = begin(
        &relay,
        &file[..6000],
        &[&format!("upload-length: {}", file.len())],
    );
    for at in [0, 5999, 6001] {
        let reply = append(&relay, &upload, at, true, &file[at..]);
        assert_eq!(reply.status, 409);
        assert_eq!(reply.field("upload-offset"), Some("6000"));
    }
    for (fields, status) in [
        (vec![PARTIAL, "upload-complete: ?1"], 400),
        (vec![PARTIAL, "upload-offset: 6000"], 400),
        (
            vec![PARTIAL, "upload-offset: 6000", "upload-complete: 1"],
            400,
        ),
        (
            vec![PARTIAL, "upload-offset: -1", "upload-complete: ?1"],
            400,
        ),
        (vec!["upload-offset: 6000", "upload-complete: ?1"], 415),
        (
            vec![
                PARTIAL,
                "upload-offset: 6000",
                "upload-complete: ?1",
                "upload-length: 7000",
            ],
            400,
        ),
    ] {
        let reply = relay.ask("PATCH", &upload, &fields, &file[6000..]);
        assert_eq!(reply.status, status, "{fields:?}");
    }
    let head = relay.ask("HEAD", &upload, &[], &[]);
    assert_eq!(head.field("upload-length"), Some(&*file.len().to_string()));
    assert_eq!(head.field("cache-control"), Some("no-store"));
    assert_eq!(
        append(&relay, &upload, 6000, true, &file[6000..]).status,
        201
    );
}

#[test]
fn what_arrived_before_a_connection_broke_counts() {
    let relay = relay();
    let file = capsule();
    let upload = begin(&relay, &[], &[]);
    let mut client = relay.client();
    let fields = [PARTIAL, "upload-offset: 0", "upload-complete: ?1"];
    client.head(&relay.ana, "PATCH", &upload, &fields, Some(file.len()));
    client.send(&file[..50_000]).unwrap();
    client.end_sending();
    drop(client);
    while relay.files().is_empty() {
        thread::yield_now();
    }
    let at = offset(&relay, &upload).unwrap();
    assert!((regions(&file).0..=50_000).contains(&at), "{at}");
    assert_eq!(append(&relay, &upload, at, true, &file[at..]).status, 201);
    assert!(relay.ask("GET", &path(&file), &[], &[]).body == file);
}

#[test]
fn a_refusal_ends_the_upload() {
    let relay = relay();
    // by the header
    let expired = sealed(10, |terms| terms.expires = now(), |_| {});
    let upload = begin(&relay, &expired[..100], &[]);
    assert_eq!(
        append(&relay, &upload, 100, false, &expired[100..]).told(),
        (403, 402)
    );
    assert_eq!(offset(&relay, &upload), None);
    // by a chunk
    let mut file = capsule();
    let at = regions(&file).1 + 10;
    file[at] ^= 1;
    let upload = begin(&relay, &file[..at], &[]);
    assert_eq!(
        append(&relay, &upload, at, false, &file[at..]).told(),
        (422, 805)
    );
    assert_eq!(offset(&relay, &upload), None);
    // by its end
    let file = capsule();
    let upload = begin(&relay, &file[..70_000], &[]);
    let reply = append(&relay, &upload, 70_000, true, &file[70_000..100_000]);
    assert_eq!(reply.told(), (422, 807));
    assert_eq!(reply.field("upload-complete"), Some("?1"));
    assert_eq!(offset(&relay, &upload), None);
    // by a length that was stated
    let upload = begin(&relay, &file[..70_000], &["upload-length: 70001"]);
    assert_eq!(
        append(&relay, &upload, 70_000, false, &file[70_000..]).status,
        400
    );
    assert_eq!(offset(&relay, &upload), None);
    assert_eq!(relay.files().len(), 0);
}

#[test]
fn an_upload_that_goes_on_after_expiry_is_refused() {
    let relay = relay();
    let file = capsule();
    let upload = begin(&relay, &file[..60_000], &[]);
    relay.running().judge_by(verifier_at(now() + 3600));
    let reply = append(&relay, &upload, 60_000, true, &file[60_000..]);
    assert_eq!(reply.told(), (403, 402));
    assert_eq!(offset(&relay, &upload), None);
    assert_eq!(relay.files().len(), 0);
}

#[test]
fn an_upload_that_goes_on_after_its_revocation_is_refused() {
    let registry = Registry::new(7200);
    let relay = relay_with(registry.verifier_at(now()), Limits::default());
    let file = capsule();
    let upload = begin(&relay, &file[..60_000], &[]);
    let claims = kvcap::CapsuleId::from_hex(&id(&file)).unwrap();
    registry.change(Change::Revoke(claims));
    let reply = append(&relay, &upload, 60_000, true, &file[60_000..]);
    assert_eq!(reply.told(), (403, 409));
    assert_eq!(offset(&relay, &upload), None);
    assert_eq!(relay.files().len(), 0);
    // nor is another one begun
    let again = relay.ask("POST", "/v1/capsules", &["upload-complete: ?0"], &file);
    assert_eq!(again.told(), (403, 409));
    assert_eq!(relay.files().len(), 0);
}

#[test]
fn a_new_request_ends_the_one_before() {
    let relay = relay();
    let file = capsule();
    let upload = begin(&relay, &[], &[]);
    let mut old = relay.client();
    let fields = [PARTIAL, "upload-offset: 0", "upload-complete: ?1"];
    old.head(&relay.ana, "PATCH", &upload, &fields, Some(file.len()));
    old.send(&file[..20_000]).unwrap();
    while relay.files().is_empty() {
        thread::yield_now();
    }
    let at = offset(&relay, &upload).unwrap();
    // the old one is still there, and is not heard any more
    let _sent = old.send(&file[20_000..]);
    assert_eq!(old.reply("PATCH").status, 409);
    assert_eq!(offset(&relay, &upload), Some(at));
    assert_eq!(append(&relay, &upload, at, true, &file[at..]).status, 201);
}

#[test]
fn an_upload_is_its_creators_and_goes_with_its_time() {
    let relay = relay();
    let file = capsule();
    let upload = begin(&relay, &file[..60_000], &[]);
    for token in [&relay.bob, &relay.other, &relay.nobody] {
        for method in ["HEAD", "DELETE"] {
            assert_eq!(relay.ask_as(token, method, &upload, &[], &[]).status, 404);
        }
    }
    assert_eq!(relay.ask("DELETE", &upload, &[], &[]).status, 204);
    assert_eq!(offset(&relay, &upload), None);
    assert_eq!(relay.files().len(), 0);
    // one whose time is over at once: the relay may sweep by itself before this test does
    let limits = Limits {
        resumable: std::time::Duration::ZERO,
        ..Limits::default()
    };
    let relay = relay_with(verifier(), limits);
    let upload = begin(&relay, &file[..60_000], &[]);
    relay.running().sweep().unwrap();
    assert_eq!(offset(&relay, &upload), None);
    assert_eq!(relay.files().len(), 0);
}
