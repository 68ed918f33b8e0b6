//! Sessions that go on: in their slot, after they left it, and where the request is another than was saved.

use std::{collections::BTreeSet, thread};

use serde_json::json;

use crate::support::{Home, TestEngine, said, says, told};

#[test]
fn a_session_goes_on_in_its_slot_and_returns_after_it_left() {
    let (home, engine) = (Home::new(), TestEngine::new(1, true));
    let gateway = home.gateway(&engine);
    let first = "once upon a time there was a cache of keys and values. ".repeat(4);
    let asked = gateway.complete(&home.ana, "tale", &first);
    assert_eq!(told(&asked), ("fresh", "none", 0, first.len() as u64));
    assert_eq!(asked.field("x-kvcap-code"), None);
    assert_eq!(asked.field("x-kvcap-saved-ms"), None);
    assert_eq!(asked.field("x-kvcap-session"), Some("tale"));
    assert_eq!(said(&asked), says(&first, 4));
    // the last token of an answer is in no state, and is evaluated with what follows it
    let second = format!("{first}{} and then", said(&asked));
    let kept = first.len() as u64 + 3;
    let asked = gateway.complete(&home.ana, "tale", &second);
    let more = second.len() as u64 - kept;
    assert_eq!(told(&asked), ("exact", "slot", kept, more));
    assert_eq!(said(&asked), says(&second, 4));
    // this engine takes a millisecond for a token
    let estimate = kept.to_string();
    assert_eq!(asked.field("x-kvcap-saved-ms"), Some(estimate.as_str()));
    // another one takes the only slot
    let other = gateway.complete(&home.ana, "other", "what else?");
    assert_eq!(told(&other).0, "fresh");
    assert_eq!(engine.called("export"), 1);
    let third = format!("{second}{} the end", said(&asked));
    let kept = second.len() as u64 + 3;
    let asked = gateway.complete(&home.ana, "tale", &third);
    let more = third.len() as u64 - kept;
    assert_eq!(told(&asked), ("exact", "capsule", kept, more));
    let estimate = kept.to_string();
    assert_eq!(asked.field("x-kvcap-saved-ms"), Some(estimate.as_str()));
    assert_eq!(said(&asked), says(&third, 4));
    engine.wait_for_no_file();
    // both resumes are in the session's own account
    let shown = gateway.ask(&home.ana, "GET", "/v1/sessions/tale", &[], &[]);
    let resumes = shown.json()["resumes"].as_array().unwrap().clone();
    assert!(
        resumes
            .iter()
            .any(|seen| seen["rung"] == "exact" && seen["restored"] == kept)
    );
}

#[test]
fn a_hundred_paused_sessions_share_one_slot() {
    let (home, engine) = (Home::new(), TestEngine::new(1, true));
    let gateway = home.gateway(&engine);
    let prompt = |number: usize| format!("session number {number} has a beginning of its own");
    let mut texts = Vec::new();
    for number in 0..100 {
        let text = prompt(number);
        let asked = gateway.complete(&home.ana, &format!("s{number}"), &text);
        texts.push(format!("{text}{} go on", said(&asked)));
    }
    for (number, text) in texts.iter().enumerate() {
        let asked = gateway.complete(&home.ana, &format!("s{number}"), text);
        let kept = prompt(number).len() as u64 + 3;
        let more = text.len() as u64 - kept;
        assert_eq!(told(&asked), ("exact", "capsule", kept, more), "{number}");
        assert_eq!(said(&asked), says(text, 4));
    }
    engine.wait_for_no_file();
    let listed = gateway.ask(&home.ana, "GET", "/v1/sessions", &[], &[]);
    assert_eq!(listed.json()["sessions"].as_array().unwrap().len(), 100);
}

#[test]
fn an_edited_transcript_keeps_what_is_in_common() {
    let home = Home::new();
    let turn = |question: &str, tools: bool| {
        let tools = if tools {
            json!([{"name": "look"}])
        } else {
            json!([])
        };
        let system = "You are a careful assistant who answers in a few words only.";
        let messages = json!([
            {"role": "system", "content": system},
            {"role": "user", "content": question},
        ]);
        json!({"messages": messages, "tools": tools, "prompt_cache_key": "edited"})
    };
    for rewinds in [true, false] {
        let engine = TestEngine::new(1, rewinds);
        let gateway = home.gateway_with(&engine, |sessions| {
            sessions.save_after = 1;
            sessions.folder = home.path(&format!("sessions-{rewinds}"));
        });
        let ask = |body| gateway.post(&home.ana, "/v1/chat/completions", &body);
        ask(turn("What is a tensor?", false));
        // the last turn is another one: in a slot that cannot go back, from a capsule that is cut
        let asked = ask(turn("What is a matrix?", false));
        let (rung, from, restored, _) = told(&asked);
        assert_eq!(
            (rung, asked.field("x-kvcap-code")),
            ("shorter", Some("KVC-960"))
        );
        assert_eq!(from, if rewinds { "slot" } else { "capsule" });
        assert!(restored > 70, "{restored}");
        // other tools stand at the very beginning: almost nothing is in common
        let asked = ask(turn("What is a matrix?", true));
        assert!(told(&asked).2 < 10, "{:?}", told(&asked));
    }
}

#[test]
fn streamed_answers_pass_through_and_are_saved_behind() {
    let (home, engine) = (Home::new(), TestEngine::new(1, true));
    let gateway = home.gateway_with(&engine, |sessions| sessions.save_after = 1);
    let body = json!({"prompt": "stream this", "stream": true, "max_tokens": 6});
    let asked = gateway.ask(
        &home.ana,
        "POST",
        "/v1/completions",
        &["x-kvcap-session: live"],
        body.to_string().as_bytes(),
    );
    assert_eq!(asked.field("content-type"), Some("text/event-stream"));
    let text = String::from_utf8(asked.body).unwrap();
    let pieces: Vec<&str> = text.split("\n\n").collect();
    assert_eq!(pieces.len(), 8);
    assert_eq!(pieces[6], "data: [DONE]");
    for (piece, letter) in pieces.iter().zip(says("stream this", 6).chars()) {
        assert!(piece.contains(&format!("\"{letter}\"")), "{piece}");
    }
    // a checkpoint waits for what is saved behind the answer, and finds nothing more to save
    let saved = gateway.post(&home.ana, "/v1/sessions/live/checkpoint", &json!({}));
    assert_eq!(saved.status, 200);
    assert_eq!(saved.json()["state"]["positions"], "stream this".len() + 5);
    assert_eq!(engine.called("export"), 1);
}

#[test]
fn requests_of_one_session_follow_one_another_and_others_do_not_wait() {
    let (home, engine) = (Home::new(), TestEngine::new(2, true));
    let gateway = home.gateway(&engine);
    let told: BTreeSet<String> = thread::scope(|scope| {
        let all: Vec<_> = (0..24)
            .map(|number| {
                let (gateway, home) = (&gateway, &home);
                scope.spawn(move || {
                    let session = format!("s{}", number % 3);
                    let prompt = format!("to session {session} for the time {number}");
                    let asked = gateway.complete(&home.ana, &session, &prompt);
                    assert_eq!(said(&asked), says(&prompt, 4));
                    told(&asked).0.to_owned()
                })
            })
            .collect();
        all.into_iter().map(|one| one.join().unwrap()).collect()
    });
    assert!(
        told.contains("fresh") && told.contains("shorter"),
        "{told:?}"
    );
    engine.wait_for_no_file();
}

#[test]
fn what_the_engine_refuses_and_what_has_no_room_is_told_with_its_reason() {
    let (home, engine) = (Home::new(), TestEngine::new(1, true));
    let gateway = home.gateway(&engine);
    let refused = gateway.post(&home.ana, "/v1/completions", &json!({"max_tokens": 3}));
    assert_eq!(refused.status, 400);
    let detail = "a prompt is one text or one list of token ids, and not empty";
    assert_eq!(refused.json()["detail"], detail);
    let long = "x".repeat(2045);
    let refused = gateway.post(
        &home.ana,
        "/v1/completions",
        &json!({"prompt": long, "max_tokens": 4}),
    );
    assert_eq!(refused.told(), (422, 959));
    let lora = json!({"prompt": "a", "lora": [{"id": 0, "scale": 1.0}]});
    assert_eq!(
        gateway.post(&home.ana, "/v1/completions", &lora).status,
        400
    );
    let broken = gateway.ask(&home.ana, "POST", "/v1/completions", &[], b"{");
    assert_eq!(broken.status, 400);
    assert_eq!(engine.called("answer"), 0);
    // without a session nothing is kept, and nothing is found of it
    let asked = gateway.post(&home.ana, "/v1/completions", &json!({"prompt": "once"}));
    assert_eq!(said(&asked), says("once", 4));
    let asked = gateway.post(&home.ana, "/v1/completions", &json!({"prompt": "once"}));
    assert_eq!(told(&asked), ("fresh", "none", 0, 4));
    let models = gateway.ask(&home.ana, "GET", "/v1/models", &[], &[]);
    assert_eq!(models.json()["data"][0]["context_length"], 2048);
}

#[test]
fn what_asks_for_nothing_is_refused_before_a_slot_is_taken() {
    let (home, engine) = (Home::new(), TestEngine::new(1, true));
    let gateway = home.gateway_with(&engine, |sessions| {
        sessions.bases = Some(home.path("bases"));
    });
    let message = json!({"role": "user", "content": "a"});
    let prompts = [
        json!({"prompt": ""}),
        json!({"prompt": {}}),
        json!({"prompt": []}),
        json!({"prompt": [-1]}),
        json!({"prompt": ["a", "b"]}),
        json!({"prompt": "a", "max_tokens": "many"}),
        json!({"prompt": "a", "max_tokens": -2}),
        json!({"prompt": "a", "stream": "yes"}),
        json!({"prompt": "a", "control_vector": ["b"]}),
    ];
    let chats = [
        json!({"messages": []}),
        json!({"messages": {}}),
        json!({"messages": [{}]}),
        json!({"messages": [{"role": "", "content": "a"}]}),
        json!({"messages": [{"role": "user"}]}),
        json!({"messages": [message, {"role": "user", "content": [{"type": "image_url"}]}]}),
        json!({"messages": [message], "max_completion_tokens": 1.5}),
    ];
    let beginnings = [
        json!({}),
        json!({"prompt": null, "messages": null}),
        json!({"prompt": {}, "messages": [message]}),
        json!({"prompt": "a", "messages": [message]}),
    ];
    let refused = |method: &str, path: &str, body: &serde_json::Value| {
        let text = body.to_string();
        let told = gateway.ask(&home.everything, method, path, &[], text.as_bytes());
        assert_eq!(told.status, 400, "{method} {path} {body}");
        assert!(told.json()["detail"].is_string(), "{}", told.json());
    };
    for body in &prompts {
        refused("POST", "/v1/completions", body);
    }
    for body in &chats {
        refused("POST", "/v1/chat/completions", body);
    }
    for body in prompts.iter().chain(&chats).chain(&beginnings) {
        refused("PUT", "/v1/bases/one", body);
    }
    assert_eq!(*engine.calls.lock().unwrap(), [""; 0]);
}

#[test]
fn who_names_no_session_finds_his_own_longest_beginning_and_nobody_elses() {
    let (home, engine) = (Home::new(), TestEngine::new(1, true));
    let find = |sessions: &mut kvcap_server::Sessions| {
        (sessions.find, sessions.save_after) = (true, 1);
    };
    let gateway = home.gateway_with(&engine, find);
    let ask = |token: &str, prompt: &str| {
        gateway.post(token, "/v1/completions", &json!({"prompt": prompt}))
    };
    let system = "A long beginning that all conversations of this one user have in common. ";
    let first = format!("{system}The first conversation asks about ropes and their frequencies.");
    let asked = ask(&home.ana, &first);
    assert_eq!(told(&asked).0, "fresh");
    let name = asked.field("x-kvcap-session").unwrap().to_owned();
    // another conversation, in between, that begins alike: a copy of what is in common
    let second = format!("{system}Another one asks about windows.");
    let other = ask(&home.ana, &second);
    let common = first
        .bytes()
        .zip(second.bytes())
        .take_while(|(a, b)| a == b)
        .count();
    assert_eq!(told(&other).0, "shorter");
    assert!(told(&other).2 >= (common - common % 32) as u64);
    assert_ne!(other.field("x-kvcap-session"), Some(&*name));
    let text = format!("{first}{} And then?", said(&asked));
    let again = ask(&home.ana, &text);
    let kept = first.len() as u64 + 3;
    assert_eq!(again.field("x-kvcap-session"), Some(&*name));
    assert_eq!(
        told(&again),
        ("exact", "capsule", kept, text.len() as u64 - kept)
    );
    assert_eq!(said(&again), says(&text, 4));
    // another subject finds nothing, and who is not to keep anything neither
    assert_eq!(told(&ask(&home.bob, &text)).2, 0);
    gateway.end();
    // nor does a budget keep more than it says
    let gateway = home.gateway_with(&engine, |sessions| {
        find(sessions);
        sessions.budget = 1;
    });
    gateway.post(
        &home.ana,
        "/v1/completions",
        &json!({"prompt": "x".repeat(70)}),
    );
    gateway.post(
        &home.ana,
        "/v1/completions",
        &json!({"prompt": "y".repeat(70)}),
    );
    gateway.post(&home.ana, "/v1/sessions/z/checkpoint", &json!({}));
    let listed = gateway.ask(&home.ana, "GET", "/v1/sessions", &[], &[]);
    assert!(
        listed.json()["sessions"].as_array().unwrap().len() <= 2,
        "{}",
        listed.json()
    );
}
