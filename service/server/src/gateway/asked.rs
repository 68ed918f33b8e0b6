//! Requests for the model: what they ask, and which session they are of (http-v1 HTTP-E-1).

use axum::http::{HeaderMap, StatusCode};
use kvcap::{Code, Error};
use kvcap_engines::{Asked, Body};
use serde_json::Value;

use super::failed;
use crate::refusal::{Answer, Refusal};

/// Header that names a session.
pub(super) const SESSION: &str = "x-kvcap-session";

/// Members that choose a slot or what is reused in it: they are the gateway's.
const OWN: [&str; 9] = [
    "id_slot",
    "slot_id",
    "cache_prompt",
    "n_cache_reuse",
    "session_id",
    "prompt_cache_key",
    "prompt_cache_retention",
    "timings_per_token",
    "return_progress",
];

/// Whether a body is of a chat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Completion,
    Chat,
}

impl Shape {
    /// The shape of a beginning: one that has a prompt, or messages.
    ///
    /// # Errors
    /// 400 for what has neither or both.
    pub(super) fn of(body: &[u8]) -> Answer<Self> {
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        match (body["prompt"].is_null(), body["messages"].is_null()) {
            (false, true) => Ok(Self::Completion),
            (true, false) => Ok(Self::Chat),
            _ => Err(refused("there is a prompt, or there are messages")),
        }
    }
}

/// A request, and the session that it names.
#[derive(Clone, Debug)]
pub(super) struct Turn {
    pub(super) asked: Asked,
    pub(super) session: Option<String>,
    /// Tokens of the answer, as far as it is limited.
    pub(super) reserve: u64,
}

impl Turn {
    /// Reads a request.
    ///
    /// # Errors
    /// 400 for what is no JSON object, asks for nothing, or has other members than a gateway can answer for; KVC-950 for a
    /// session's name.
    pub(super) fn read(shape: Shape, headers: &HeaderMap, body: &[u8]) -> Answer<Self> {
        let parsed = Body::read(body).ok();
        let Some(mut body) = parsed.filter(|body| body.is_object()) else {
            return Err(refused("the body is no JSON object"));
        };
        let session = session(headers, &body["prompt_cache_key"])?;
        body.retain(|name| !OWN.contains(&name));
        let asked = match shape {
            Shape::Completion => Asked::Completion(body),
            Shape::Chat => Asked::Chat(body),
        };
        asked.check().map_err(failed)?;
        Ok(Self {
            reserve: asked.limit().unwrap_or(1),
            asked,
            session,
        })
    }
}

/// The header's name for the session, or the body's.
fn session(headers: &HeaderMap, named: &Value) -> Answer<Option<String>> {
    let malformed = || {
        let what = "the session's name is malformed";
        Refusal::Code(Error::new(Code::SessionMalformed, what))
    };
    if let Some(value) = headers.get(SESSION) {
        let text = std::str::from_utf8(value.as_bytes()).map_err(|_| malformed())?;
        return Ok(Some(text.to_owned()));
    }
    match named {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(text.clone())),
        _ => Err(malformed()),
    }
}

fn refused(message: &str) -> Refusal {
    Refusal::engine(StatusCode::BAD_REQUEST.as_u16(), message.to_owned())
}

#[cfg(test)]
#[allow(
    clippy::unwrap_used,
    reason = "a test that meets what it does not expect fails"
)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(body: &Value) -> Answer<Turn> {
        Turn::read(
            Shape::Completion,
            &HeaderMap::new(),
            body.to_string().as_bytes(),
        )
    }

    #[test]
    fn a_client_chooses_no_slot_and_no_other_model() {
        let turn = read(
            &json!({"prompt": "a", "id_slot": 3, "cache_prompt": false, "prompt_cache_key": "s", "seed": 1}),
        );
        let turn = turn.unwrap();
        assert_eq!(**turn.asked.body(), json!({"prompt": "a", "seed": 1}));
        assert_eq!(turn.session.as_deref(), Some("s"));
        assert!(read(&json!({"prompt": "a", "lora": [{"id": 0, "scale": 1.0}]})).is_err());
        assert!(read(&json!({"prompt": "a", "lora": []})).is_ok());
        assert!(read(&json!({"prompt": "a", "prompt_cache_key": 3})).is_err());
        assert!(read(&json!(["a"])).is_err());
    }

    #[test]
    fn the_header_names_the_session_before_the_body_does() {
        let mut headers = HeaderMap::new();
        headers.insert(SESSION, "of-the-header".parse().unwrap());
        let body = br#"{"prompt": "a", "prompt_cache_key": "of-the-body", "max_tokens": 7}"#;
        let turn = Turn::read(Shape::Completion, &headers, body).unwrap();
        assert_eq!(turn.session.as_deref(), Some("of-the-header"));
        assert_eq!(turn.reserve, 7);
    }
}
