//! Any bytes as what a session keeps, and as what a stranger's capsule brings of one: what is read is written again as
//! the same, in JSON and in CBOR.

#![no_main]

use kvcap_session::{AgentState, Controller, Description, Event, Record};
use libfuzzer_sys::fuzz_target;

const RUNTIME: &str = "llama.cpp";

fuzz_target!(|data: &[u8]| {
    for event in [Event::from_json(data), Event::from_cbor(data)] {
        let Ok(event) = event else { continue };
        let (json, cbor) = (event.to_json().unwrap(), event.to_cbor().unwrap());
        assert_eq!(Event::from_json(json.as_bytes()).unwrap(), event);
        assert_eq!(Event::from_cbor(&cbor).unwrap(), event);
        event.digest().unwrap();
        let _text = (event.reverts_to(), event.text(), event.agent_state());
    }
    for record in [Record::from_json(data), Record::from_cbor(data)] {
        let Ok(record) = record else { continue };
        let (json, cbor) = (record.to_json().unwrap(), record.to_cbor().unwrap());
        let again = Record::from_json(json.as_bytes()).unwrap();
        assert_eq!(again.to_cbor().unwrap(), cbor);
        assert!(record.check_put(&again).is_ok());
        record.sections().unwrap();
    }
    for controller in [
        Controller::from_json(data, RUNTIME).ok(),
        Controller::from_cbor(data, RUNTIME).ok().flatten(),
    ] {
        let Some(controller) = controller else {
            continue;
        };
        let cbor = controller.to_cbor().unwrap();
        let again = Controller::from_cbor(&cbor, RUNTIME).unwrap();
        assert_eq!(again, Some(controller));
    }
    for state in [AgentState::from_json(data), AgentState::from_cbor(data)] {
        let Ok(state) = state else { continue };
        assert_eq!(
            AgentState::from_cbor(&state.to_cbor().unwrap()).unwrap(),
            state
        );
    }
    if let Ok(description) = Description::from_json(data) {
        let json = description.to_json().unwrap();
        let again = Description::from_json(json.as_bytes()).unwrap();
        assert_eq!(again.to_json().unwrap(), json);
    }
});
