//! Sessions over HTTP: whose they are, their events, and what is refused.

use std::fs;

use serde_json::json;

use crate::support::{Home, TestEngine, said, told};

#[test]
fn a_session_is_its_owners_alone() {
    let (home, engine) = (Home::new(), TestEngine::new(2, true));
    let gateway = home.gateway_with(&engine, |sessions| sessions.save_after = 1);
    let prompt = "a secret of ana's that nobody else has a use for";
    gateway.complete(&home.ana, "mine", prompt);
    for path in [
        "/v1/sessions/mine",
        "/v1/sessions/none",
        "/v1/sessions/mine/events",
    ] {
        assert_eq!(
            gateway.ask(&home.bob, "GET", path, &[], &[]).status,
            404,
            "{path}"
        );
    }
    for path in [
        "/v1/sessions/mine/checkpoint",
        "/v1/sessions/none/checkpoint",
    ] {
        assert_eq!(
            gateway.post(&home.bob, path, &json!({})).status,
            404,
            "{path}"
        );
    }
    let listed = gateway.ask(&home.bob, "GET", "/v1/sessions", &[], &[]);
    assert_eq!(listed.json(), json!({"sessions": []}));
    // the same name and the same words, and nothing of it
    let asked = gateway.complete(&home.bob, "mine", prompt);
    assert_eq!(told(&asked), ("fresh", "none", 0, prompt.len() as u64));
    // permissions one by one
    assert_eq!(
        gateway
            .ask(&home.restores, "GET", "/v1/sessions", &[], &[])
            .status,
        403
    );
    let refused = gateway.post(&home.restores, "/v1/sessions/mine/checkpoint", &json!({}));
    assert_eq!(refused.status, 403);
    assert_eq!(gateway.complete(&home.operator, "mine", "a").status, 403);
    assert_eq!(gateway.complete("", "mine", "a").status, 401);
    assert_eq!(gateway.complete(&home.restores, "mine", prompt).status, 200);
}

#[test]
fn events_are_appended_once_each_and_in_order() {
    let (home, engine) = (Home::new(), TestEngine::new(1, true));
    let gateway = home.gateway(&engine);
    let path = "/v1/sessions/log/events";
    let event =
        |seq: u64, text: &str| json!({"seq": seq, "at": 1000, "kind": "user", "body": text});
    let put = |body| gateway.post(&home.ana, path, &body);
    assert_eq!(put(event(1, "first")).status, 201);
    assert_eq!(put(event(1, "first")).status, 200);
    assert_eq!(put(event(1, "another")).told(), (422, 953));
    assert_eq!(put(event(3, "third")).told(), (422, 952));
    assert_eq!(put(event(2, "second")).status, 201);
    assert_eq!(
        put(json!({"seq": 3, "kind": "none", "body": "x"})).told(),
        (422, 950)
    );
    assert_eq!(put(json!({"seq": 3})).status, 400);
    let told = gateway.ask(
        &home.ana,
        "GET",
        "/v1/sessions/log/events?after=1",
        &[],
        &[],
    );
    let second = json!({"seq": 2, "at": 1000, "kind": "user", "body": "second"});
    assert_eq!(told.json(), json!({"events": [second], "last": 2}));
    let back = gateway.post(&home.ana, "/v1/sessions/log/revert", &json!({"to": 1}));
    assert_eq!(back.status, 201);
    assert_eq!(back.json()["turns"], 1);
}

#[test]
fn a_name_that_no_session_can_have_is_refused() {
    let (home, engine) = (Home::new(), TestEngine::new(1, true));
    let gateway = home.gateway(&engine);
    let fits = "n".repeat(200);
    assert_eq!(gateway.complete(&home.ana, &fits, "a").status, 200);
    for name in [
        "",
        "a\nb",
        &"n".repeat(201),
        &"N".repeat(67),
        &"n".repeat(1025),
    ] {
        let refused = gateway.complete(&home.ana, name, "a");
        assert_eq!(refused.told(), (422, 950), "{name:?}");
    }
    let path = format!("/v1/sessions/{}", "N".repeat(67));
    assert_eq!(
        gateway.ask(&home.ana, "GET", &path, &[], &[]).told(),
        (422, 950)
    );
    assert_eq!(engine.called("answer"), 1);
}

#[test]
fn a_number_that_no_event_has_is_refused() {
    let (home, engine) = (Home::new(), TestEngine::new(1, true));
    let gateway = home.gateway(&engine);
    let event = json!({"seq": 1, "at": 1000, "kind": "user", "body": "first"});
    gateway.post(&home.ana, "/v1/sessions/log/events", &event);
    let after = |text: &str| {
        let path = format!("/v1/sessions/log/events?after={text}");
        gateway.ask(&home.ana, "GET", &path, &[], &[])
    };
    let largest = (1_u64 << 53) - 1;
    assert_eq!(after(&largest.to_string()).status, 200);
    assert_eq!(after(&(largest + 1).to_string()).told(), (422, 950));
    assert_eq!(after("9223372036854775808").told(), (422, 950));
    for malformed in ["18446744073709551616", "-1", "1.5", "first", ""] {
        assert_eq!(after(malformed).status, 400, "{malformed}");
    }
}

#[test]
fn what_a_session_does_not_have_is_not_taken_for_a_session_that_is_not_there() {
    let (home, engine) = (Home::new(), TestEngine::new(1, true));
    let gateway = home.gateway(&engine);
    let prompt = "a session that has a checkpoint and no events";
    gateway.complete(&home.ana, "bare", prompt);
    let saved = gateway.post(&home.ana, "/v1/sessions/bare/checkpoint", &json!({}));
    assert_eq!(saved.status, 201);
    let revert = |session: &str, body| {
        let path = format!("/v1/sessions/{session}/revert");
        gateway.post(&home.ana, &path, &body)
    };
    // it has begun, and nothing else has happened
    for body in [json!({"turn": 1}), json!({"to": 1})] {
        assert_eq!(revert("bare", body.clone()).told(), (422, 955), "{body}");
        assert_eq!(revert("none", body).status, 404);
    }
    for body in [json!({}), json!({"to": 0, "turn": 0})] {
        assert_eq!(revert("bare", body).told(), (422, 950));
    }
    // what was refused has taken nothing: the slot still has all of it
    let asked = gateway.complete(&home.ana, "bare", prompt);
    assert_eq!(told(&asked).1, "slot");
    // to its beginning, which is there
    let back = revert("bare", json!({"to": 0}));
    assert_eq!((back.status, &back.json()["turns"]), (201, &json!(0)));
    let asked = gateway.complete(&home.ana, "bare", prompt);
    assert_ne!(told(&asked).1, "slot");
    let listed = gateway.ask(&home.ana, "GET", "/v1/sessions/none", &[], &[]);
    assert_eq!(listed.status, 404);
}

#[test]
fn no_prompt_and_no_token_is_in_a_file_that_is_not_sealed() {
    let (home, engine) = (Home::new(), TestEngine::new(1, true));
    let gateway = home.gateway_with(&engine, |sessions| sessions.save_after = 1);
    let secret = "the-password-is-correct-horse-battery-staple";
    let asked = gateway.complete(&home.ana, "quiet", secret);
    assert_eq!(said(&asked).len(), 4);
    gateway.post(&home.ana, "/v1/sessions/quiet/checkpoint", &json!({}));
    gateway.end();
    let (mut files, mut folders) = (0, vec![home.folder.path().to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let bytes = fs::read(&path).unwrap();
            for hidden in [secret, home.ana.as_str()] {
                let found = bytes
                    .windows(hidden.len())
                    .any(|part| part == hidden.as_bytes());
                assert!(!found, "{}", path.display());
                // as ids of tokens, four bytes each
                let ids: Vec<u8> = hidden.bytes().flat_map(|byte| [byte, 0, 0, 0]).collect();
                let found = bytes.windows(ids.len()).any(|part| part == ids);
                assert!(!found, "{}", path.display());
            }
            files += 1;
        }
    }
    assert!(files > 6);
}

#[test]
fn a_key_that_is_trusted_for_another_issuer_seals_nothing() {
    let (home, engine) = (Home::new(), TestEngine::new(1, true));
    let trusted = home.path("sign.key.pub");
    let text = fs::read_to_string(&trusted).unwrap();
    // the key of a file that names no issuer is trusted for its own
    let unnamed = text.lines().filter(|line| !line.contains("issuer"));
    fs::write(
        &trusted,
        unnamed.map(|line| format!("{line}\n")).collect::<String>(),
    )
    .unwrap();
    let refused = kvcap_server::Server::bind(home.settings(&engine))
        .unwrap()
        .start();
    assert_eq!(refused.unwrap_err().code().number(), 312);
}

#[test]
fn a_body_that_is_refused_is_not_waited_for() {
    let (home, engine) = (Home::new(), TestEngine::new(1, true));
    let gateway = home.gateway(&engine);
    // no token, no permission: nothing of the body is asked for
    let paths = [
        ("POST", "/v1/completions", home.operator.as_str()),
        ("POST", "/v1/chat/completions", home.operator.as_str()),
        ("PUT", "/v1/bases/one", home.ana.as_str()),
        ("POST", "/v1/sessions/one/events", home.restores.as_str()),
        ("POST", "/v1/sessions/one/resume", home.operator.as_str()),
        ("POST", "/v1/sessions/one/revert", home.restores.as_str()),
    ];
    for (method, path, may_not) in paths {
        for (token, status) in [("", 401), (may_not, 403)] {
            let mut client = gateway.connect();
            client.head(token, method, path, &[], Some(1 << 30));
            let reply = client.reply(method);
            let told = (reply.status, reply.field("connection"));
            assert_eq!(told, (status, Some("close")), "{path}");
        }
    }
    // of a body that only names a capsule, as much as such a name takes
    let mut client = gateway.connect();
    let path = "/v1/sessions/one/resume";
    client.head(&home.ana, "POST", path, &[], Some(1 << 20));
    client.send(&[b' '; 4096]).unwrap();
    let reply = client.reply("POST");
    assert_eq!(
        (reply.status, reply.field("connection")),
        (413, Some("close"))
    );
}
