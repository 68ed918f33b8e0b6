//! The probe of restoring, once in each life of the engine.

use serde_json::json;

use crate::support::{Gateway, Home, Reply, TestEngine, said, says, told};

fn started(home: &Home, engine: &std::sync::Arc<TestEngine>) -> Gateway {
    home.gateway_with(engine, |sessions| sessions.save_after = 1)
}

fn counted(gateway: &Gateway, home: &Home, outcome: &str) -> bool {
    let told = gateway.ask(&home.operator, "GET", "/metrics", &[], &[]);
    let line = format!("kvcap_probes_total{{outcome=\"{outcome}\"}} 1\n");
    String::from_utf8(told.body).unwrap().contains(&line)
}

/// What the next answer of a session says, when all behind the one before is done.
fn next(gateway: &Gateway, home: &Home, text: &str) -> Reply {
    gateway.post(&home.ana, "/v1/sessions/probed/checkpoint", &json!({}));
    gateway.complete(&home.ana, "probed", text)
}

#[test]
fn what_is_restored_is_compared_once_with_what_was_saved() {
    for rewinds in [true, false] {
        let (home, engine) = (Home::new(), TestEngine::new(1, rewinds));
        let gateway = started(&home, &engine);
        let first = "a state that is saved behind its answer";
        let asked = gateway.complete(&home.ana, "probed", first);
        assert_eq!(asked.field("x-kvcap-probe"), None);
        let text = format!("{first}{} and goes on", said(&asked));
        let asked = next(&gateway, &home, &text);
        assert_eq!(asked.field("x-kvcap-probe"), Some("same"), "{rewinds}");
        assert!(counted(&gateway, &home, "same"));
        // the slot holds what it held, and nothing of the probe
        let kept = first.len() as u64 + 3;
        assert_eq!(
            told(&asked),
            ("exact", "slot", kept, text.len() as u64 - kept)
        );
        assert_eq!(said(&asked), says(&text, 4));
        let admitted = engine.called("admit");
        let text = format!("{text}{} and on", said(&asked));
        let asked = next(&gateway, &home, &text);
        assert_eq!(said(&asked), says(&text, 4));
        // another life is another engine
        assert_eq!(engine.called("admit"), admitted);
        engine.die();
        let text = format!("{text}{} after a fall", said(&asked));
        let asked = next(&gateway, &home, &text);
        assert_eq!(asked.field("x-kvcap-probe"), None);
        let text = format!("{text}{} the end", said(&asked));
        assert_eq!(
            next(&gateway, &home, &text).field("x-kvcap-probe"),
            Some("same")
        );
        engine.wait_for_no_file();
    }
}

#[test]
fn an_engine_that_restores_otherwise_is_found_out() {
    for (rewinds, outcome) in [
        (true, "differs"),
        (false, "differs"),
        (true, "ineffective"),
        (false, "ineffective"),
    ] {
        let (home, engine) = (Home::new(), TestEngine::new(1, rewinds));
        match outcome {
            "differs" => engine
                .drifts
                .store(true, std::sync::atomic::Ordering::SeqCst),
            _ => engine.lies.store(true, std::sync::atomic::Ordering::SeqCst),
        }
        let gateway = started(&home, &engine);
        let first = "a state that does not come back as it was";
        let asked = gateway.complete(&home.ana, "probed", first);
        let text = format!("{first}{} and goes on", said(&asked));
        let asked = next(&gateway, &home, &text);
        assert_eq!(asked.field("x-kvcap-probe"), Some(outcome));
        assert!(counted(&gateway, &home, outcome));
        assert_eq!(asked.status, 200);
    }
}

#[test]
fn who_wants_no_probe_has_none() {
    let (home, engine) = (Home::new(), TestEngine::new(1, true));
    let gateway = home.gateway_with(&engine, |sessions| {
        (sessions.save_after, sessions.probe) = (1, false);
    });
    let asked = gateway.complete(&home.ana, "probed", "nothing is compared");
    let text = format!("nothing is compared{} on", said(&asked));
    assert_eq!(next(&gateway, &home, &text).field("x-kvcap-probe"), None);
    assert_eq!(engine.called("admit"), 0);
}
