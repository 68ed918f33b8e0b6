//! Capsules that a client keeps, and brings back hours later.

use std::{fs, thread};

use serde_json::json;

use crate::support::{
    Home, Reply, TestEngine,
    capsules::{bring_back, take_home},
    said, says, told,
};

#[test]
fn a_capsule_that_its_owner_kept_is_resumed_where_nothing_else_is_left() {
    let home = Home::new();
    let engine = TestEngine::new(1, true);
    let first = "a long conversation whose state its owner takes home";
    let (capsule, text) = {
        let gateway = home.gateway(&engine);
        let asked = gateway.complete(&home.ana, "home", first);
        let capsule = take_home(&gateway, &home.ana, "home");
        // what was saved meanwhile as an increment comes by itself all the same
        let text = format!("{first}{} more", said(&asked));
        let asked = gateway.complete(&home.ana, "home", &text);
        gateway.post(&home.ana, "/v1/sessions/home/checkpoint", &json!({}));
        gateway.complete(&home.ana, "other", "takes the slot");
        let longer = take_home(&gateway, &home.ana, "home");
        assert!(longer.len() > capsule.len());
        let text = format!("{text}{} hours later", said(&asked));
        gateway.end();
        (longer, text)
    };
    fs::remove_dir_all(home.path("sessions")).unwrap();
    let gateway = home.gateway(&engine);
    let resumed = bring_back(&gateway, &home.ana, "home", &capsule);
    assert_eq!(
        resumed.status,
        200,
        "{}",
        String::from_utf8_lossy(&resumed.body)
    );
    let kept = resumed.json()["positions"].as_u64().unwrap();
    let asked = gateway.complete(&home.ana, "home", &text);
    assert_eq!(
        told(&asked),
        ("exact", "capsule", kept, text.len() as u64 - kept)
    );
    assert_eq!(said(&asked), says(&text, 4));
    // by its id, for it is kept
    let body = json!({"capsule": resumed.json()["capsule"]});
    let again = gateway.post(&home.ana, "/v1/sessions/home/resume", &body);
    assert_eq!(again.status, 200);
}

#[test]
fn what_is_refused_touches_no_slot() {
    let (home, engine) = (Home::new(), TestEngine::new(1, true));
    let gateway = home.gateway(&engine);
    gateway.complete(
        &home.ana,
        "good",
        "a state that is not to be harmed by anything",
    );
    let capsule = take_home(&gateway, &home.ana, "good");
    let (slot, admitted) = (engine.slot(0), engine.called("admit"));
    let cut = &capsule[..capsule.len() - 4096];
    assert_eq!(bring_back(&gateway, &home.ana, "good", cut).status / 100, 4);
    // of another session, and of another subject
    assert_eq!(
        bring_back(&gateway, &home.ana, "else", &capsule).told(),
        (403, 413)
    );
    assert_eq!(
        bring_back(&gateway, &home.bob, "good", &capsule).told(),
        (403, 406)
    );
    for at in [70, capsule.len() / 2, capsule.len() - 5000] {
        let mut wrong = capsule.clone();
        wrong[at] ^= 1;
        let refused = bring_back(&gateway, &home.bob, "good", &wrong);
        assert!(
            (400..500).contains(&refused.status),
            "{at}: {}",
            refused.status
        );
    }
    for body in [
        json!({"capsule": "../../etc/passwd"}),
        json!({"capsule": "0".repeat(32)}),
    ] {
        assert_eq!(
            gateway
                .post(&home.ana, "/v1/sessions/good/resume", &body)
                .status,
            404
        );
    }
    assert_eq!(
        gateway
            .post(&home.ana, "/v1/sessions/good/resume", &json!({}))
            .status,
        400
    );
    assert_eq!((engine.slot(0), engine.called("admit")), (slot, admitted));
    engine.wait_for_no_file();
}

#[test]
fn a_base_image_is_shared_by_everybody_who_begins_with_it() {
    let (home, engine) = (Home::new(), TestEngine::new(1, true));
    let gateway = home.gateway_with(&engine, |sessions| {
        sessions.bases = Some(home.path("bases"))
    });
    let start = "You are a careful assistant with a very long system prompt. ".repeat(3);
    let body = json!({"prompt": start});
    let put = |token: &str, name: &str| {
        let path = format!("/v1/bases/{name}");
        gateway.ask(token, "PUT", &path, &[], body.to_string().as_bytes())
    };
    assert_eq!(put(&home.ana, "careful").status, 403);
    let made = put(&home.operator, "careful");
    assert_eq!(
        (made.status, &made.json()["positions"]),
        (201, &json!(start.len()))
    );
    let show = |path: &str| gateway.ask(&home.ana, "GET", path, &[], &[]);
    assert_eq!(show("/v1/bases/careful").json(), made.json());
    assert_eq!(show("/v1/bases").json(), json!({"bases": [made.json()]}));
    assert_eq!(show("/v1/bases/none").status, 404);
    assert_eq!(
        gateway
            .ask(&home.operator, "GET", "/v1/bases", &[], &[])
            .status,
        403
    );
    assert_eq!(put(&home.operator, "careful").told(), (409, 941));
    assert_eq!(put(&home.operator, "..%2Fcareful").status, 404);
    for token in [&home.ana, &home.bob] {
        let text = format!("{start}What is a capsule?");
        let asked = gateway.complete(token, "asks", &text);
        let kept = start.len() as u64;
        assert_eq!(
            told(&asked),
            ("shorter", "base", kept, text.len() as u64 - kept)
        );
        assert_eq!(said(&asked), says(&text, 4));
        let other = gateway.complete(token, "asks-else", "nothing like it");
        assert_eq!(told(&other).2, 0);
    }
}

#[test]
fn a_base_image_of_a_chat_ends_before_the_words_of_the_next_message() {
    for rewinds in [true, false] {
        let (home, engine) = (Home::new(), TestEngine::new(1, rewinds));
        let gateway = home.gateway_with(&engine, |sessions| {
            sessions.bases = Some(home.path("bases"));
        });
        let system =
            json!({"role": "system", "content": "You are careful, and you know this long text."});
        let body = json!({"messages": [system]});
        let text = body.to_string();
        let made = gateway.ask(
            &home.operator,
            "PUT",
            "/v1/bases/chat",
            &[],
            text.as_bytes(),
        );
        assert_eq!(made.status, 201);
        let positions = made.json()["positions"].as_u64().unwrap();
        // a state that cannot be cut is whole in every chat that begins so
        for question in ["What is a capsule?", "And a slot?"] {
            let user = json!({"role": "user", "content": question});
            let body = json!({"messages": [system, user], "prompt_cache_key": question});
            let asked = gateway.post(&home.ana, "/v1/chat/completions", &body);
            let (rung, from, restored, _) = told(&asked);
            assert_eq!(
                (rung, from, restored),
                ("shorter", "base", positions),
                "{rewinds}"
            );
        }
    }
}

#[test]
fn a_capsule_for_one_use_is_used_once_by_sixteen_at_once() {
    let (home, engine) = (Home::new(), TestEngine::new(2, true));
    let gateway = home.gateway(&engine);
    let prompt = "a state that may be restored once";
    let capsule = home.single_use(&engine, "once", prompt);
    let put = gateway.ask(&home.ana, "POST", "/v1/capsules", &[], &capsule);
    assert_eq!(put.status, 201, "{}", String::from_utf8_lossy(&put.body));
    let body = json!({"capsule": put.json()["id"]});
    let told: Vec<(u16, u64)> = thread::scope(|scope| {
        let all: Vec<_> = (0..16)
            .map(|_| {
                scope.spawn(|| {
                    gateway
                        .post(&home.ana, "/v1/sessions/once/resume", &body)
                        .told()
                })
            })
            .collect();
        all.into_iter().map(|one| one.join().unwrap()).collect()
    });
    let used = told.iter().filter(|told| told.0 == 200).count();
    let refused = told.iter().filter(|told| **told == (403, 410)).count();
    assert_eq!((used, refused), (1, 15), "{told:?}");
    assert_eq!(engine.called("admit"), 1);
    let asked = gateway.complete(&home.ana, "once", &format!("{prompt}, and no more"));
    assert_eq!(told_of(&asked), ("exact", "capsule", prompt.len() as u64));
}

fn told_of(reply: &Reply) -> (&str, &str, u64) {
    let (rung, from, restored, _) = told(reply);
    (rung, from, restored)
}
