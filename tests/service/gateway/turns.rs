//! Turns of chats that are recorded as events of their session.

use serde_json::{Value, json};

use crate::support::{Gateway, Home, Reply, TestEngine};

fn started(home: &Home, engine: &std::sync::Arc<TestEngine>) -> Gateway {
    home.gateway_with(engine, |sessions| sessions.record = true)
}

fn say(gateway: &Gateway, home: &Home, messages: &Value, streams: bool) -> Reply {
    let body = json!({"messages": messages, "prompt_cache_key": "talk", "stream": streams});
    gateway.post(&home.ana, "/v1/chat/completions", &body)
}

/// The live log, when all behind the answer is done.
fn events(gateway: &Gateway, home: &Home) -> Vec<(String, Value)> {
    gateway.post(&home.ana, "/v1/sessions/talk/checkpoint", &json!({}));
    let told = gateway.ask(&home.ana, "GET", "/v1/sessions/talk/events", &[], &[]);
    let events = told.json()["events"].as_array().unwrap().clone();
    let entry = |event: &Value| {
        (
            event["kind"].as_str().unwrap().to_owned(),
            event["body"].clone(),
        )
    };
    events.iter().map(entry).collect()
}

fn kinds(events: &[(String, Value)]) -> Vec<&str> {
    events.iter().map(|event| event.0.as_str()).collect()
}

#[test]
fn a_chat_is_in_its_sessions_log_once() {
    for streams in [false, true] {
        let (home, engine) = (Home::new(), TestEngine::new(1, true));
        let gateway = started(&home, &engine);
        let mut messages = vec![
            json!({"role": "system", "content": "You are brief."}),
            json!({"role": "user", "content": "What is a capsule?"}),
        ];
        say(&gateway, &home, &json!(messages), streams);
        let first = events(&gateway, &home);
        assert_eq!(kinds(&first), ["user", "assistant"]);
        assert_eq!(first[0].1, "What is a capsule?");
        assert_eq!(first[1].1.as_str().unwrap().len(), 4);
        messages.push(json!({"role": "assistant", "content": first[1].1}));
        messages.push(json!({"role": "user", "content": "And a slot?"}));
        say(&gateway, &home, &json!(messages), streams);
        let second = events(&gateway, &home);
        assert_eq!(kinds(&second), ["user", "assistant", "user", "assistant"]);
        assert_eq!(second[..2], first[..]);
        // the checkpoint is of all of it
        let shown = gateway
            .ask(&home.ana, "GET", "/v1/sessions/talk", &[], &[])
            .json();
        assert_eq!(
            (&shown["turns"], &shown["messages"]),
            (&json!(2), &json!(4))
        );
        assert_eq!(shown["checkpoint"]["cursor"], 4);
        // an edited transcript takes back what it leaves
        messages[3] = json!({"role": "user", "content": "And a key?"});
        say(&gateway, &home, &json!(messages), streams);
        let third = events(&gateway, &home);
        assert_eq!(kinds(&third)[4..], ["revert", "user", "assistant"]);
        assert_eq!(third[4].1, json!({"to": 2}));
        let shown = gateway
            .ask(&home.ana, "GET", "/v1/sessions/talk", &[], &[])
            .json();
        assert_eq!(shown["turns"], 2);
        // back by turn, and on from there
        let back = gateway.post(&home.ana, "/v1/sessions/talk/revert", &json!({"turn": 1}));
        assert_eq!((back.status, &back.json()["turns"]), (201, &json!(1)));
        messages.truncate(3);
        messages.push(json!({"role": "user", "content": "And a lease?"}));
        say(&gateway, &home, &json!(messages), streams);
        let shown = gateway
            .ask(&home.ana, "GET", "/v1/sessions/talk", &[], &[])
            .json();
        gateway.post(&home.ana, "/v1/sessions/talk/checkpoint", &json!({}));
        let last = events(&gateway, &home);
        assert_eq!(
            kinds(&last)[7..],
            ["revert", "user", "assistant"],
            "{shown}"
        );
    }
}

#[test]
fn nothing_is_recorded_unless_it_is_wanted() {
    let (home, engine) = (Home::new(), TestEngine::new(1, true));
    let gateway = home.gateway(&engine);
    say(
        &gateway,
        &home,
        &json!([{"role": "user", "content": "quiet"}]),
        false,
    );
    assert_eq!(events(&gateway, &home), []);
}
