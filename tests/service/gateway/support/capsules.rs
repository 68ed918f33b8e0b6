//! Capsules that leave a gateway and come back.

use super::{Gateway, Reply};

pub(crate) const CAPSULE: &str = "application/vnd.kvcap";

pub(crate) fn take_home(gateway: &Gateway, token: &str, session: &str) -> Vec<u8> {
    let path = format!("/v1/sessions/{session}/checkpoint");
    let taken = gateway.ask(
        token,
        "POST",
        &path,
        &["accept: application/vnd.kvcap"],
        &[],
    );
    assert_eq!(
        (taken.status, taken.field("content-type")),
        (201, Some(CAPSULE))
    );
    taken.body
}

pub(crate) fn bring_back(gateway: &Gateway, token: &str, session: &str, capsule: &[u8]) -> Reply {
    let path = format!("/v1/sessions/{session}/resume");
    let typ = format!("content-type: {CAPSULE}");
    gateway.ask(token, "POST", &path, &[&typ], capsule)
}
