//! What is lost, and what is told of it: engines that stop, restores without effect, an end in the middle.

use std::sync::atomic::Ordering;

use kvcap::binding::Digest;
use kvcap_engines::About;

use crate::support::{Home, TestEngine, said, says, told};

#[test]
fn an_engine_that_stops_costs_what_was_not_saved_and_says_so() {
    let (home, engine) = (Home::new(), TestEngine::new(2, true));
    let gateway = home.gateway_with(&engine, |sessions| sessions.save_after = 1000);
    let first = "the first part of a story that is long enough to be worth keeping".to_owned();
    let asked = gateway.complete(&home.ana, "story", &first);
    let saved = gateway.post(
        &home.ana,
        "/v1/sessions/story/checkpoint",
        &serde_json::json!({}),
    );
    assert_eq!(saved.status, 201);
    let kept = first.len() as u64 + 3;
    assert_eq!(saved.json()["state"]["positions"], kept);
    let second = format!("{first}{} and a second part", said(&asked));
    let asked = gateway.complete(&home.ana, "story", &second);
    assert_eq!(told(&asked).1, "slot");
    engine.die();
    let third = format!("{second}{} and a third", said(&asked));
    let asked = gateway.complete(&home.ana, "story", &third);
    let more = third.len() as u64 - kept;
    // a rung down by name: the last checkpoint
    assert_eq!(told(&asked), ("shorter", "capsule", kept, more));
    let lost: u64 = asked.field("x-kvcap-lost").unwrap().parse().unwrap();
    assert_eq!(lost, second.len() as u64 + 3 - kept);
    assert_eq!(said(&asked), says(&third, 4));
    engine.wait_for_no_file();
}

/// Sets a fact of the layout of an engine's states.
fn set(about: &mut About, name: &str, value: &str) {
    let fact = about.facts.iter_mut().find(|fact| fact.0 == name);
    value.clone_into(&mut fact.unwrap().1);
}

#[test]
fn an_engine_that_was_started_otherwise_is_given_nothing_of_the_one_before() {
    type Change = fn(&mut About);
    let changes: [(&str, Change, &str); 5] = [
        (
            "another build",
            |about| about.version = "test-2".to_owned(),
            "KVC-608",
        ),
        (
            "another format of states",
            |about| about.format = "ggsq-4",
            "KVC-604",
        ),
        (
            "another cache type",
            |about| set(about, "type_k", "q8_0"),
            "KVC-604",
        ),
        // without flash attention, values lie transposed
        (
            "another flash attention",
            |about| set(about, "v_trans", "1"),
            "KVC-604",
        ),
        (
            "other weights",
            |about| about.profile.model.id = Digest([7; 32]),
            "KVC-601",
        ),
    ];
    let prompt = "a state that another engine must not take for its own";
    for (what, change, code) in changes {
        let home = Home::new();
        let gateway = home.gateway(&TestEngine::new(1, true));
        let text =
            prompt.to_owned() + &said(&gateway.complete(&home.ana, "moved", prompt)) + " go on";
        gateway.end();
        let engine = TestEngine::with(1, true, change);
        let gateway = home.gateway(&engine);
        let asked = gateway.complete(&home.ana, "moved", &text);
        assert_eq!(
            told(&asked),
            ("fresh", "none", 0, text.len() as u64),
            "{what}"
        );
        assert_eq!(asked.field("x-kvcap-code"), Some(code), "{what}");
        assert_eq!(said(&asked), says(&text, 4), "{what}");
        assert_eq!(engine.called("admit"), 0, "{what}");
    }
}

#[test]
fn an_engine_that_stops_before_the_first_byte_is_asked_again() {
    let (home, engine) = (Home::new(), TestEngine::new(1, true));
    let gateway = home.gateway_with(&engine, |sessions| sessions.save_after = 1);
    let asked = gateway.complete(&home.ana, "again", "a prompt that is asked twice");
    assert_eq!(told(&asked).0, "fresh");
    engine.dies.store(1, Ordering::SeqCst);
    let text = format!("a prompt that is asked twice{} more", said(&asked));
    let asked = gateway.complete(&home.ana, "again", &text);
    assert_eq!(said(&asked), says(&text, 4));
    assert_eq!((told(&asked).1, told(&asked).2), ("capsule", 31));
    // one that does not stop stopping is given up
    engine.dies.store(100, Ordering::SeqCst);
    let asked = gateway.complete(&home.ana, "again", "another one");
    assert_eq!(asked.status, 503);
    engine.dies.store(0, Ordering::SeqCst);
    assert_eq!(
        said(&gateway.complete(&home.ana, "again", "b")),
        says("b", 4)
    );
}

#[test]
fn a_restore_without_effect_is_never_claimed() {
    let (home, engine) = (Home::new(), TestEngine::new(1, true));
    let gateway = home.gateway_with(&engine, |sessions| sessions.save_after = 1);
    let first = "what was said before the engine began to forget";
    let asked = gateway.complete(&home.ana, "lied", first);
    gateway.complete(&home.ana, "other", "takes the slot");
    engine.lies.store(true, Ordering::SeqCst);
    let text = format!("{first}{} then", said(&asked));
    let asked = gateway.complete(&home.ana, "lied", &text);
    assert_eq!(told(&asked), ("fresh", "none", 0, text.len() as u64));
    assert_eq!(asked.field("x-kvcap-code"), Some("KVC-926"));
    assert_eq!(said(&asked), says(&text, 4));
    let metrics = gateway.ask(&home.operator, "GET", "/metrics", &[], &[]);
    let text = String::from_utf8(metrics.body).unwrap();
    assert!(
        text.contains("kvcap_open_outcome_total{rung=\"fresh\",code=\"926\"} 1"),
        "{text}"
    );
    assert!(!text.contains("lied") && !text.contains("ana"));
}

#[test]
fn a_gateway_that_ends_saves_what_is_in_its_slots() {
    let home = Home::new();
    let first = "a conversation that is paused by the end of its server";
    let text = {
        let gateway = home.gateway(&TestEngine::new(2, true));
        let asked = gateway.complete(&home.ana, "paused", first);
        let text = format!("{first}{} hours later", said(&asked));
        gateway.end();
        text
    };
    let engine = TestEngine::new(1, true);
    let gateway = home.gateway(&engine);
    let asked = gateway.complete(&home.ana, "paused", &text);
    let kept = first.len() as u64 + 3;
    assert_eq!(
        told(&asked),
        ("exact", "capsule", kept, text.len() as u64 - kept)
    );
    assert_eq!(said(&asked), says(&text, 4));
}

#[test]
fn a_gateway_that_ends_waits_for_what_is_saved_behind_an_answer() {
    let home = Home::new();
    let first = "a conversation whose server ends while it is being saved";
    let text = {
        let engine = TestEngine::new(1, true);
        engine.slow.store(true, Ordering::SeqCst);
        let gateway = home.gateway_with(&engine, |sessions| sessions.save_after = 1);
        let asked = gateway.complete(&home.ana, "behind", first);
        let text = format!("{first}{} later", said(&asked));
        gateway.end();
        text
    };
    let gateway = home.gateway(&TestEngine::new(1, true));
    let asked = gateway.complete(&home.ana, "behind", &text);
    let kept = first.len() as u64 + 3;
    assert_eq!(
        told(&asked),
        ("exact", "capsule", kept, text.len() as u64 - kept)
    );
}
