//! History and controller under seal.

use std::sync::Mutex;

use kvcap::{Code, Expected, Limits, Policy, SigningKey, Terms, Trust, Untrusted, WrappingKey};
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
    let (out, _) = seal_history(out, &record, terms, &signer, &[&key]).unwrap();
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
