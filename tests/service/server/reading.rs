//! Reading and deleting, as of now.

use sha2::{Digest as _, Sha256};

use crate::support::{capsule, now, path, relay, verifier, verifier_at};

#[test]
fn ranges_tags_and_digests_are_those_of_the_file() {
    let relay = relay();
    let file = capsule();
    assert_eq!(relay.put(&file).status, 201);
    let path = path(&file);
    let get = |fields: &[&str]| relay.ask("GET", &path, fields, &[]);
    let whole = get(&[]);
    assert_eq!(whole.field("accept-ranges"), Some("bytes"));
    assert_eq!(whole.field("content-type"), Some("application/vnd.kvcap"));
    let tag = whole.field("etag").unwrap().to_owned();
    let head = relay.ask("HEAD", &path, &["range: bytes=0-0"], &[]);
    let length = file.len().to_string();
    assert_eq!(
        (head.status, head.field("content-length")),
        (200, Some(&*length))
    );

    let end = file.len();
    for (range, from, to) in [
        ("0-0", 0, 1),
        ("5000-70000", 5000, 70_001),
        ("100000-", 100_000, end),
        ("-7", end - 7, end),
        ("3-999999999", 3, end),
    ] {
        let part = get(&[&format!("range: bytes={range}")]);
        assert_eq!(part.status, 206, "{range}");
        let named = format!("bytes {from}-{}/{end}", to - 1);
        assert_eq!(part.field("content-range"), Some(&*named));
        assert!(part.body == file[from..to], "{range}");
    }
    let beyond = get(&[&format!("range: bytes={end}-")]);
    assert_eq!(beyond.status, 416);
    assert_eq!(
        beyond.field("content-range"),
        Some(&*format!("bytes */{end}"))
    );
    for all in [
        "range: bytes=0-1,4-5",
        "range: pages=1-2",
        "range: bytes=9-1",
    ] {
        assert!(get(&[all]).body == file, "{all}");
    }
    let other = get(&["range: bytes=0-0", "if-range: \"another\""]);
    assert_eq!((other.status, other.body.len()), (200, end));
    let same = get(&["range: bytes=0-0", &format!("if-range: {tag}")]);
    assert_eq!(same.status, 206);

    for known in [
        format!("if-none-match: \"x\", {tag}"),
        format!("if-none-match: W/{tag}"),
        "if-none-match: *".to_owned(),
    ] {
        let reply = get(&[&known]);
        assert_eq!((reply.status, reply.body.len()), (304, 0), "{known}");
        assert_eq!(reply.field("etag"), Some(&*tag));
    }
    assert_eq!(get(&["if-none-match: \"x\""]).status, 200);

    assert_eq!(whole.field("repr-digest"), None);
    for _again in 0..2 {
        let reply = get(&[
            "want-repr-digest: sha-512=3, sha-256=10",
            "range: bytes=0-9",
        ]);
        let digest = reply.field("repr-digest").unwrap().to_owned();
        let inner = digest
            .strip_prefix("sha-256=:")
            .unwrap()
            .strip_suffix(':')
            .unwrap();
        assert_eq!(from_base64(inner), Sha256::digest(&file).to_vec());
        assert!(reply.body == file[..10]);
    }
    assert_eq!(
        get(&["want-repr-digest: sha-256=0"]).field("repr-digest"),
        None
    );
}

fn from_base64(text: &str) -> Vec<u8> {
    let value = |byte: u8| match byte {
        b'A'..=b'Z' => byte - b'A',
        b'a'..=b'z' => byte - b'a' + 26,
        b'0'..=b'9' => byte - b'0' + 52,
        b'+' => 62,
        _ => 63,
    };
    let digits = text.trim_end_matches('=').bytes().map(value);
    let bits: Vec<u8> = digits
        .flat_map(|digit| (0..6).rev().map(move |n| digit >> n & 1))
        .collect();
    let bytes = bits.chunks_exact(8);
    bytes
        .map(|byte| byte.iter().fold(0, |sum, bit| sum << 1 | bit))
        .collect()
}

#[test]
fn what_would_be_refused_now_is_not_given_out() {
    let relay = relay();
    let file = capsule();
    assert_eq!(relay.put(&file).status, 201);
    let get = || {
        relay
            .ask("GET", &path(&file), &["if-none-match: *"], &[])
            .told()
    };
    assert_eq!(get().0, 304);
    relay.running().judge_by(verifier_at(now() + 3600));
    assert_eq!(get(), (403, 402));
    assert_eq!(relay.ask("HEAD", &path(&file), &[], &[]).status, 403);
    relay.running().judge_by(verifier());
    assert_eq!(get().0, 304);
}

#[test]
fn what_is_deleted_is_gone_and_may_be_put_again() {
    let relay = relay();
    let file = capsule();
    assert_eq!(relay.put(&file).status, 201);
    assert_eq!(relay.ask("DELETE", &path(&file), &[], &[]).status, 204);
    assert_eq!(relay.files().len(), 0);
    assert_eq!(relay.ask("DELETE", &path(&file), &[], &[]).status, 404);
    assert_eq!(relay.ask("GET", &path(&file), &[], &[]).status, 404);
    assert_eq!(relay.put(&file).status, 201);
    assert!(relay.ask("GET", &path(&file), &[], &[]).body == file);
}
