//! Who may, and how he is refused.

use serde_json::json;

use crate::support::{capsule, now, path, relay, sealed};

#[test]
fn nobody_without_a_known_token_is_listened_to() {
    let relay = relay();
    let file = capsule();
    let unknown = format!("kvcap-token-1{}", "0".repeat(64));
    let upper = relay.ana.to_uppercase();
    for token in ["", "x", &unknown, &upper, &relay.ana[..70]] {
        for (method, to) in [
            ("GET", path(&file)),
            ("POST", "/v1/capsules".to_owned()),
            ("GET", "/metrics".to_owned()),
        ] {
            let reply = relay.ask_as(token, method, &to, &[], &[]);
            assert_eq!(reply.status, 401, "{token}");
            assert_eq!(reply.field("www-authenticate"), Some("Bearer"));
        }
    }
    let twice = format!("authorization: Bearer {}", relay.ana);
    let reply = relay.ask("GET", &path(&file), &[&twice], &[]);
    assert_eq!(reply.status, 401, "two tokens are none");
}

#[test]
fn a_token_is_kept_as_its_digest_alone() {
    let new = kvcap_server::NewToken::generate().unwrap();
    assert!(!format!("{new:?}").contains(&new.text()[20..]));
    let label = "kvcap v1 bearer token";
    let digest = kvcap::binding::Digest::labelled(label, &[new.text().as_bytes()]);
    assert_eq!(new.digest(), digest);
    let other = kvcap_server::NewToken::generate().unwrap();
    assert_ne!(new.text(), other.text());
    assert_eq!(new.text().len(), "kvcap-token-1".len() + 64);
}

#[test]
fn permissions_are_those_of_the_token() {
    let relay = relay();
    let file = capsule();
    assert_eq!(
        relay
            .ask_as(&relay.operator, "POST", "/v1/capsules", &[], &file)
            .told(),
        (403, 0)
    );
    assert_eq!(
        relay
            .ask_as(&relay.operator, "GET", &path(&file), &[], &[])
            .told(),
        (403, 0)
    );
    assert_eq!(relay.ask("GET", "/metrics", &[], &[]).told(), (403, 0));
    assert_eq!(
        relay
            .ask_as(&relay.operator, "GET", "/metrics", &[], &[])
            .status,
        200
    );
}

#[test]
fn a_capsule_is_its_callers_by_tenant_and_subject() {
    let relay = relay();
    let file = capsule();
    let put = |token: &str, file: &[u8]| {
        relay
            .ask_as(token, "POST", "/v1/capsules", &[], file)
            .told()
    };
    assert_eq!(put(&relay.bob, &file), (403, 406));
    assert_eq!(put(&relay.other, &file), (403, 407));
    assert_eq!(put(&relay.nobody, &file), (403, 406));
    // a capsule of nobody is nobody's who has a name
    let bare = sealed(
        10,
        |terms| (terms.tenant, terms.subject) = (None, None),
        |_| {},
    );
    assert_eq!(put(&relay.ana, &bare), (403, 612));
    let half = sealed(10, |terms| terms.subject = None, |_| {});
    assert_eq!(put(&relay.ana, &half), (403, 612));
    assert_eq!(relay.files().len(), 0);
    assert_eq!(put(&relay.nobody, &bare), (201, 0));
    assert_eq!(put(&relay.ana, &file), (201, 0));
}

#[test]
fn what_is_anothers_is_as_what_is_not_there() {
    let relay = relay();
    let file = capsule();
    assert_eq!(relay.put(&file).status, 201);
    let nowhere = format!("/v1/capsules/{}", "0".repeat(32));
    for token in [&relay.bob, &relay.other, &relay.nobody] {
        for method in ["GET", "HEAD", "DELETE"] {
            let his = relay.ask_as(token, method, &path(&file), &[], &[]);
            let none = relay.ask_as(token, method, &nowhere, &[], &[]);
            assert_eq!((his.status, &his.body), (none.status, &none.body));
            assert_eq!(his.status, 404);
        }
    }
    assert_eq!(relay.ask("GET", &path(&file), &[], &[]).status, 200);
}

#[test]
fn a_refusal_is_a_problem_of_five_members() {
    let relay = relay();
    let expired = sealed(10, |terms| terms.expires = now(), |_| {});
    let reply = relay.put(&expired);
    assert_eq!(
        reply.field("content-type"),
        Some("application/problem+json")
    );
    let problem = json!({
        "type": "urn:kvcap:KVC-402", "title": "the capsule has expired", "status": 403,
        "code": 402, "name": "claims.expired",
    });
    assert_eq!(reply.json(), problem);
    let absent = relay.ask("GET", "/v1/nothing", &[], &[]);
    let problem = json!({"type": "about:blank", "title": "Not Found", "status": 404});
    assert_eq!(absent.json(), problem);
    let method = relay.ask("PATCH", "/v1/capsules", &[], &[]);
    assert_eq!(method.json()["status"], 405);
}

#[test]
fn a_refusal_names_nobody() {
    let relay = relay();
    let strange = sealed(
        10,
        |terms| terms.audience = "their-audience".to_owned(),
        |_| {},
    );
    let stranger = kvcap::SigningKey::from_seed(&[9; 32]);
    let key = stranger.public().id().to_string();
    let mut unknown = capsule();
    let own = crate::support::signer().public().id();
    // the key id stands once in the protected header
    let at = unknown
        .windows(16)
        .position(|bytes| bytes == own.0)
        .unwrap();
    unknown[at..at + 16].copy_from_slice(&stranger.public().id().0);
    let replies = [
        relay.put(&strange),
        relay.put(&unknown),
        relay.ask_as(&relay.bob, "POST", "/v1/capsules", &[], &capsule()),
    ];
    let codes: Vec<u64> = replies.iter().map(|reply| reply.told().1).collect();
    assert_eq!(codes, [405, 301, 406]);
    let home = relay.home.path().to_str().unwrap();
    let own = own.to_string();
    for reply in replies {
        let text = format!(
            "{:?} {}",
            reply.fields,
            String::from_utf8_lossy(&reply.body)
        );
        for name in [
            "acme",
            "\"ana\"",
            "bob",
            "cache.example.com",
            "their-audience",
            &key,
            &own,
            home,
        ] {
            assert!(!text.contains(name), "{text} has {name}");
        }
    }
}

#[test]
fn paths_lead_nowhere_but_to_ids() {
    let relay = relay();
    let file = capsule();
    assert_eq!(relay.put(&file).status, 201);
    let before = relay.files();
    let id = crate::support::id(&file);
    for name in [
        "..",
        "%2e%2e",
        "..%2f..%2fetc%2fpasswd",
        "%2fetc%2fpasswd",
        "x%00",
        "lock",
        &format!("{id}.kvcap"),
        &format!("%2e%2f{id}"),
        &id.to_uppercase(),
        &id[1..],
        "",
    ] {
        for (method, body) in [("GET", &[][..]), ("DELETE", &[]), ("PUT", &file[..])] {
            let told = relay
                .ask(method, &format!("/v1/capsules/{name}"), &[], body)
                .status;
            let upper = name == id.to_uppercase() && name == id;
            assert!(
                [400, 404].contains(&told) && !upper,
                "{method} {name}: {told}"
            );
        }
    }
    assert_eq!(relay.files(), before);
}
