//! Many at once, slow ones among them.

use std::{thread, time::Duration};

use kvcap_server::Limits;

use crate::support::{capsule, path, regions, relay_with, sealed, verifier};

#[test]
fn good_uploads_do_not_wait_for_stalled_ones() {
    let limits = Limits {
        uploads: 1000,
        tenant_uploads: 1000,
        rate: u32::MAX,
        burst: u32::MAX,
        silence: Duration::from_secs(600),
        ..Limits::default()
    };
    let relay = relay_with(verifier(), limits);
    let stalled_file = sealed(500_000, |_| {}, |_| {});
    let (tables_at, body_at) = regions(&stalled_file);
    // in their heads, their headers, their tables and their bodies
    let mut stalled = Vec::new();
    for n in 0..200 {
        let mut client = relay.client();
        match n % 4 {
            0 => client
                .send(b"POST /v1/capsules HTTP/1.1\r\nauthor")
                .unwrap(),
            part => {
                let file = match part {
                    1 => stalled_file[..tables_at / 2].to_vec(),
                    2 => own(&relay, tables_at + 10),
                    _ => own(&relay, body_at + 5000),
                };
                client.head(
                    &relay.ana,
                    "POST",
                    "/v1/capsules",
                    &[],
                    Some(stalled_file.len()),
                );
                client.send(&file).unwrap();
            }
        }
        stalled.push(client);
    }
    let threads = thread::available_parallelism().unwrap().get() + 48;
    let files: Vec<Vec<u8>> = (0..64).map(|_| sealed(300_000, |_| {}, |_| {})).collect();
    thread::scope(|scope| {
        for file in &files {
            let relay = &relay;
            scope.spawn(move || {
                assert_eq!(relay.put(file).status, 201);
                assert!(relay.ask("GET", &path(file), &[], &[]).body == *file);
            });
        }
    });
    // as many threads as the relay has, and those of this test
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let now = status
        .lines()
        .find_map(|line| line.strip_prefix("Threads:"));
    let now: usize = now.map_or(0, |text| text.trim().parse().unwrap());
    assert!(now <= threads + 200, "{now} threads");
    assert_eq!(
        relay
            .files()
            .iter()
            .filter(|path| path.extension().unwrap() == "kvcap")
            .count(),
        64
    );
    drop(stalled);
}

/// The beginning of a capsule that nobody else uploads.
fn own(_relay: &crate::support::Relay, len: usize) -> Vec<u8> {
    sealed(500_000, |_| {}, |_| {})[..len].to_vec()
}

#[test]
fn who_is_silent_is_told_and_let_go() {
    let limits = Limits {
        silence: Duration::from_millis(200),
        head: Duration::from_millis(200),
        ..Limits::default()
    };
    let relay = relay_with(verifier(), limits);
    let file = capsule();
    for sent in [0, 100, regions(&file).1 + 100] {
        let mut client = relay.client();
        client.head(&relay.ana, "POST", "/v1/capsules", &[], Some(file.len()));
        client.send(&file[..sent]).unwrap();
        assert_eq!(client.reply("POST").told(), (408, 0), "{sent}");
        assert!(client.try_reply("POST").is_none());
    }
    let mut client = relay.client();
    client.send(b"GET /healthz HT").unwrap();
    assert!(
        client.try_reply("GET").is_none(),
        "a head that does not end"
    );
    // who does not read what he has asked for
    let long = sealed(40 << 20, |_| {}, |_| {});
    let mut client = relay.client();
    assert_eq!(
        client
            .ask(&relay.ana, "POST", "/v1/capsules", &[], &long)
            .status,
        201
    );
    client.head(&relay.ana, "GET", &path(&long), &[], None);
    let mut others = relay.client();
    while sent_stands_still(&mut others, &relay.operator) {}
    drop(client);
    assert_eq!(relay.files().len(), 1);
}

/// Whether the relay still counts bytes that it sends.
fn sent_stands_still(client: &mut crate::support::Client, operator: &str) -> bool {
    let sent = |client: &mut crate::support::Client| {
        let text = client.ask(operator, "GET", "/metrics", &[], &[]).body;
        let text = String::from_utf8(text).unwrap();
        text.lines()
            .find_map(|line| line.strip_prefix("kvcap_bytes_total{direction=\"out\"} "))
            .map(|count| count.parse::<u64>().unwrap())
    };
    let before = sent(client);
    sent(client) != before
}

#[test]
fn who_trickles_is_told_and_let_go() {
    let limits = Limits {
        silence: Duration::from_secs(1),
        slowest: 1 << 30,
        ..Limits::default()
    };
    let relay = relay_with(verifier(), limits);
    let file = capsule();
    let mut client = relay.client();
    client.head(&relay.ana, "POST", "/v1/capsules", &[], Some(file.len()));
    // never silent, and never fast enough
    for byte in file.chunks(1) {
        if client.send(byte).is_err() {
            break;
        }
        thread::sleep(Duration::from_millis(20));
    }
    let reply = client.try_reply("POST");
    assert!(reply.is_none_or(|reply| reply.status == 408));
    assert_eq!(relay.files().len(), 0);
}

#[test]
fn a_tenants_room_places_and_rate_are_his_own() {
    let file = capsule();
    let limits = Limits {
        capsule: 200_000,
        tenant: 2 * file.len() as u64,
        tenant_uploads: 2,
        uploads: 3,
        rate: 0,
        burst: 12,
        ..Limits::default()
    };
    let relay = relay_with(verifier(), limits);
    let begin = |token: &str| {
        let mut client = relay.client();
        client.head(
            token,
            "POST",
            "/v1/capsules",
            &["expect: 100-continue"],
            Some(file.len()),
        );
        client
    };
    // places: two of a tenant, three of all
    let mut held: Vec<_> = (0..2).map(|_| begin(&relay.ana)).collect();
    for client in &mut held {
        assert_eq!(client.line(), "HTTP/1.1 100 Continue");
    }
    let mut refused = begin(&relay.bob).reply("POST");
    assert_eq!(
        (refused.status, refused.field("retry-after")),
        (429, Some("1"))
    );
    let mut third = begin(&relay.other);
    assert_eq!(third.line(), "HTTP/1.1 100 Continue");
    refused = begin(&relay.nobody).reply("POST");
    assert_eq!(
        (refused.status, refused.field("retry-after")),
        (503, Some("1"))
    );
    drop(third);
    // room, from the header on: two that come fill it
    let files = [capsule(), capsule()];
    for (client, file) in held.iter_mut().zip(&files) {
        client.line();
        client.send(&file[..regions(file).0]).unwrap();
    }
    while relay.files().len() < 2 {
        thread::yield_now();
    }
    drop(held.pop());
    while relay.files().len() > 1 {
        thread::yield_now();
    }
    let mut client = held.pop().unwrap();
    client.send(&files[0][regions(&files[0]).0..]).unwrap();
    assert_eq!(client.reply("POST").status, 201);
    assert_eq!(
        relay.put(&files[1]).status,
        201,
        "what failed does not count"
    );
    assert_eq!(relay.put(&capsule()).told(), (507, 0));
    // of a length that is not kept
    let long = sealed(200_000, |_| {}, |_| {});
    let mut client = relay.client();
    client.head(
        &relay.ana,
        "POST",
        "/v1/capsules",
        &["transfer-encoding: chunked"],
        None,
    );
    client
        .send(format!("{:x}\r\n", long.len()).as_bytes())
        .unwrap();
    client.send(&long[..regions(&long).0]).unwrap();
    assert_eq!(client.reply("POST").told(), (413, 910));
    // rate: the tenant's requests together
    let mut last = 0;
    for _ in 0..12 {
        last = relay
            .ask_as(&relay.bob, "GET", &path(&file), &[], &[])
            .status;
    }
    assert_eq!(last, 429);
    assert_eq!(
        relay
            .ask_as(&relay.other, "GET", &path(&file), &[], &[])
            .status,
        404
    );
}
