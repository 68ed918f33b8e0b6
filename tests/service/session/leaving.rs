//! History and controller under seal.

use std::sync::Mutex;

use kvcap::{
    Code, Expected, Limits, Policy, SigningKey, Suite, Terms, Trust, Untrusted, WrappingKey,
};
use kvcap_session::{
    AgentState, Controller, Record, is_history_only, opened_agent_state, opened_history,
    replay_plainly, seal_history,
};

use crate::replaying::turns;

fn record() -> Record {
    let (origin, events) = turns(12);
    let mut record = replay_plainly(&origin, events).unwrap();
    record.agent_state = AgentState::from_json(br#"{"objective":"ship","own":{"a":[1]}}"#).unwrap();
    record
}

#[test]
fn history_alone_opens_under_any_model() {
    let signer = SigningKey::generate()
        .unwrap()
        .speaking_for("issuer")
        .unwrap();
    let key = WrappingKey::generate().unwrap();
    let terms = Terms::new("issuer", "local", 1000, 2000);
    let record = record();
    let out = Mutex::new(Vec::new());
    let (out, _) = seal_history(
        out,
        &record,
        Suite::ChaCha20Poly1305,
        terms,
        &signer,
        &[&key],
    )
    .unwrap();
    let file = out.into_inner().unwrap();
    let trust = Trust::from(&signer);
    let policy = Policy::new(&trust, 1500, "local", Expected::danger_any_model());
    let verified = Untrusted::read_at(&file, &Limits::default())
        .unwrap()
        .verify(&policy)
        .unwrap();
    assert!(is_history_only(verified.manifest()));
    let opened = verified.open(file, &key).unwrap().release().unwrap();
    assert_eq!(opened_history(&opened).unwrap(), record);
    assert_eq!(
        opened_agent_state(&opened).unwrap(),
        Some(record.agent_state)
    );
}

/// A capsule that names a checkpoint holds the history of that one.
#[test]
fn history_of_another_checkpoint_is_refused() {
    let signer = SigningKey::from_seed(&[7; 32])
        .speaking_for("issuer")
        .unwrap();
    let key = WrappingKey::from_bytes([9; 32]);
    let trust = Trust::from(&signer);
    let record = record();
    let opened = |version, replay_cursor| {
        let mut terms = Terms::new("issuer", "local", 1000, 2000);
        terms.session = Some(kvcap::Session {
            id: "s".to_owned(),
            version,
            replay_cursor,
        });
        let out = Mutex::new(Vec::new());
        let suite = Suite::Aes256Gcm;
        let (out, _) = seal_history(out, &record, suite, terms, &signer, &[&key]).unwrap();
        let file = out.into_inner().unwrap();
        let policy = Policy::new(&trust, 1500, "local", Expected::danger_any_model());
        let untrusted = Untrusted::read_at(&file, &Limits::default()).unwrap();
        let verified = untrusted.verify(&policy).unwrap();
        assert_eq!(verified.manifest().context.suite, suite);
        let opened = verified.open(file, &key).unwrap().release().unwrap();
        opened_history(&opened)
    };
    assert_eq!(opened(1, 36).unwrap(), record);
    for (version, cursor) in [(2, 36), (1, 35)] {
        let refused = opened(version, cursor).unwrap_err();
        assert_eq!(refused.code(), Code::SessionMalformed);
    }
}

#[test]
fn a_record_under_seal_is_judged_as_one_in_a_file() {
    let record = record();
    let (_, bytes) = record.sections().unwrap().swap_remove(0);
    assert_eq!(Record::from_cbor(&bytes).unwrap(), record);
    let mut unordered = record.clone();
    unordered.recent.swap(0, 1);
    assert_eq!(
        unordered.sections().unwrap_err().code(),
        Code::SessionMalformed
    );
    let mut longer = bytes.clone();
    longer.push(0);
    assert_eq!(
        Record::from_cbor(&longer).unwrap_err().code(),
        Code::CborTrailing
    );
}

#[test]
fn another_runtimes_controller_is_not_used() {
    let mut controller = Controller::of("llama.cpp");
    controller.random = Some("00ff".to_owned());
    controller.sampler = Some(serde_json::json!({ "top_k": 40, "temperature": "0.7" }));
    let bytes = controller.to_cbor().unwrap();
    assert_eq!(
        Controller::from_cbor(&bytes, "llama.cpp").unwrap(),
        Some(controller)
    );
    assert_eq!(Controller::from_cbor(&bytes, "mlx-lm").unwrap(), None);
    assert!(Controller::from_cbor(&bytes[1..], "llama.cpp").is_err());
}
