//! Every wrong capsule, whole and cut: refused with its code, and nothing is left behind.

use std::{collections::BTreeMap, path::Path};

use kvcap_server::{Limits, NewToken, Permission, Server, Settings, Token, Tokens};
use kvcap_testvectors::generate::load;
use tempfile::TempDir;

use crate::support::{
    Client, capsule,
    folder::files,
    path, regions, relay,
    vectors::{code, vectors, verifier},
};

#[test]
fn every_vector_is_answered_with_its_code_and_leaves_nothing() {
    let (default, vectors) = vectors();
    let home = TempDir::new().unwrap();
    let (mut tokens, mut texts) = (Tokens::default(), BTreeMap::new());
    for (_, context) in &vectors {
        let names = (context.organisation.clone(), context.subject.clone());
        texts.entry(names).or_insert_with_key(|(tenant, subject)| {
            let new = NewToken::generate().unwrap();
            let token = Token {
                tenant: tenant.clone(),
                subject: subject.clone(),
                may: vec![Permission::Put],
            };
            tokens.add(new.digest(), token).unwrap();
            new.text().to_owned()
        });
    }
    let limits = Limits {
        rate: u32::MAX,
        burst: u32::MAX,
        ..Limits::default()
    };
    let folder = home.path().join("kept");
    let relay = Server::bind(Settings {
        #[cfg(feature = "gateway")]
        gateway: None,
        listen: "127.0.0.1:0".parse().unwrap(),
        place: kvcap_server::Place::Folder(folder.clone()),
        verifier: verifier(&default, home.path()).unwrap(),
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
    let (mut skipped, mut refused, mut kept) = (BTreeMap::<_, usize>::new(), 0, 0);
    let mut faults = Vec::new();
    for (vector, context) in &vectors {
        let name = vector["name"].as_str().unwrap();
        let verifier = match verifier(context, home.path()) {
            Ok(verifier) => verifier,
            Err(why) => {
                *skipped.entry(why).or_default() += 1;
                continue;
            }
        };
        relay.judge_by(verifier);
        let names = (context.organisation.clone(), context.subject.clone());
        let token = &texts[&names];
        let ask = |method: &str, path: &str, body: &[u8]| {
            Client::connect(relay.address()).ask(token, method, path, &[], body)
        };
        let mut there = Vec::new();
        let mut parents_kept = true;
        // the root first
        for parent in context.parents.iter().rev() {
            let reply = ask("POST", "/v1/capsules", &context.file(parent));
            parents_kept &= reply.status == 201;
            there.extend(reply.field("location").map(str::to_owned));
        }
        let before = files(&folder);
        let file = load(Path::new(vector["file"].as_str().unwrap()));
        let reply = ask("POST", "/v1/capsules", &file);
        let stage = vector["stage"].as_str().unwrap();
        let code = code(vector);
        match (reply.status, reply.told().1) {
            // what only who opens it would see; or somebody is named whom the capsule does not name
            (200 | 201, _) if code == 0 => kept += 1,
            (403, 612) if code == 0 => refused += 1,
            // its parent was not taken either, or what was named as one is none, and is not compared
            (201, _) if stage == "chain" && (!parents_kept || code == 702) => kept += 1,
            (403, 612) if stage == "chain" => refused += 1,
            (_, told) if told == code && code != 0 => {
                refused += 1;
                if files(&folder) != before {
                    faults.push(format!("{name}: left something"));
                }
            }
            (status, told) => faults.push(format!("{name} ({stage}): {status} {told}, not {code}")),
        }
        there.extend(reply.field("location").map(str::to_owned));
        for path in there {
            ask("DELETE", &path, &[]);
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert!(refused > 250, "{refused} refused, {kept} kept, {skipped:?}");
    assert!(kept > 120, "{refused} refused, {kept} kept, {skipped:?}");
    assert_eq!(files(&folder).len(), 1, "the lock is left");
    relay.stop().now();
    relay.wait().unwrap();
}

#[test]
fn a_capsule_cut_anywhere_is_refused_and_leaves_nothing() {
    let relay = relay();
    let file = capsule();
    let (tables_at, body_at) = regions(&file);
    for (cut, code) in [
        (0, 101),
        (1, 101),
        (63, 101),
        (64, 106),
        (tables_at - 1, 106),
        (tables_at, 106),
        (body_at - 1, 106),
        (body_at, 807),
        (file.len() - 1, 807),
    ] {
        // the length as it is
        assert_eq!(relay.put(&file[..cut]).told(), (422, code), "{cut}");
        // a length that is not kept: the connection ends in the middle
        let mut client = relay.client();
        client.head(&relay.ana, "POST", "/v1/capsules", &[], Some(file.len()));
        client.send(&file[..cut]).unwrap();
        client.end_sending();
        let reply = client.try_reply("POST");
        assert!(reply.is_none_or(|reply| reply.status == 400), "{cut}");
        assert_eq!(relay.files().len(), 0, "{cut}");
    }
    let longer = [&file[..], b"x"].concat();
    assert_eq!(relay.put(&longer).told(), (422, 108));
    assert_eq!(relay.files().len(), 0);
    assert_eq!(relay.put(&file).status, 201);
}

#[test]
fn lengths_beyond_all_measure_are_refused_before_room_is_made() {
    let relay = relay();
    let mut file = capsule();
    for (at, bytes) in [
        (12, &[0xff; 4][..]), // the envelope
        (16, &[0xff; 8]),     // the tables
        (24, &[0xff; 8]),     // the body
    ] {
        let right = file[at..at + bytes.len()].to_vec();
        file[at..at + bytes.len()].copy_from_slice(bytes);
        let mut client = relay.client();
        client.head(&relay.ana, "POST", "/v1/capsules", &[], Some(file.len()));
        client.send(&file[..64]).unwrap();
        assert_eq!(client.reply("POST").told(), (422, 105));
        file[at..at + bytes.len()].copy_from_slice(&right);
    }
    let mut client = relay.client();
    client.head(
        &relay.ana,
        "POST",
        "/v1/capsules",
        &[],
        Some(usize::MAX >> 1),
    );
    assert_eq!(client.reply("POST").status, 413);
    assert_eq!(relay.files().len(), 0);
}

#[test]
fn what_two_servers_would_read_differently_is_not_read() {
    let relay = relay();
    let file = capsule();
    for fields in [
        "content-length: 5\r\ncontent-length: 6",
        "content-length: +5",
        "content-length: 5, 6",
        "transfer-encoding: chunked, identity",
        "transfer-encoding: xchunked",
        "content-length : 5",
        "x\r\n: y",
    ] {
        let mut client = relay.client();
        client.head(&relay.ana, "POST", "/v1/capsules", &[fields], None);
        let _sent = client.send(b"0\r\n\r\nGET / HTTP/1.1\r\n\r\n");
        let reply = client.try_reply("POST");
        assert!(
            reply.is_none_or(|reply| (400..500).contains(&reply.status)),
            "{fields}"
        );
        assert!(
            client.try_reply("GET").is_none(),
            "{fields}: nothing is read after it"
        );
    }
    // chunked alone is a body like others
    let mut client = relay.client();
    client.head(
        &relay.ana,
        "POST",
        "/v1/capsules",
        &["transfer-encoding: chunked"],
        None,
    );
    for piece in file.chunks(7000) {
        client
            .send(format!("{:x}\r\n", piece.len()).as_bytes())
            .unwrap();
        client.send(piece).unwrap();
        client.send(b"\r\n").unwrap();
    }
    client.send(b"0\r\n\r\n").unwrap();
    assert_eq!(client.reply("POST").status, 201);
    assert!(relay.ask("GET", &path(&file), &[], &[]).body == file);
}
