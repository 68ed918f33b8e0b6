//! Turns of chats as events of their session (http-v1 HTTP-E-10).

use std::collections::BTreeMap;

use axum::body::Bytes;
use kvcap::Result;
use kvcap_session::{Body, Kind, Names, Session};
use kvcap_store::time;
use serde_json::{Map, Value};

use super::Gateway;

/// Members of a message that an event keeps.
const KEPT: [&str; 4] = ["content", "name", "tool_calls", "tool_call_id"];

/// What was said in a chat: the request's messages, and the answer as it comes.
#[derive(Debug)]
pub(super) struct Turns {
    said: Vec<(Kind, Body)>,
    streams: bool,
    /// Text of the answer.
    content: String,
    /// Tool calls of the answer, by their index.
    calls: BTreeMap<u64, Map<String, Value>>,
}

impl Turns {
    /// Returns the turns of a chat.
    pub(super) fn of(body: &Value) -> Self {
        let messages = body["messages"].as_array().into_iter().flatten();
        Self {
            said: messages.filter_map(entry).collect(),
            streams: body["stream"] == Value::Bool(true),
            content: String::new(),
            calls: BTreeMap::new(),
        }
    }

    /// Hears a part of the answer: whole server-sent events, or the one JSON.
    pub(super) fn hear(&mut self, bytes: &Bytes) {
        if !self.streams {
            let answer: Value = serde_json::from_slice(bytes).unwrap_or_default();
            self.add(&answer["choices"][0]["message"]);
            return;
        }
        let text = String::from_utf8_lossy(bytes);
        for line in text.lines().filter_map(|line| line.strip_prefix("data:")) {
            let event: Value = serde_json::from_str(line).unwrap_or_default();
            self.add(&event["choices"][0]["delta"]);
        }
    }

    fn add(&mut self, part: &Value) {
        self.content += part["content"].as_str().unwrap_or_default();
        for (at, call) in (0..).zip(part["tool_calls"].as_array().into_iter().flatten()) {
            let known = self.calls.entry(call["index"].as_u64().unwrap_or(at));
            let known = known.or_default();
            for (name, value) in call.as_object().into_iter().flatten() {
                match (name.as_str(), value) {
                    ("index", _) => {}
                    ("function", Value::Object(more)) => {
                        let function = known
                            .entry(name.clone())
                            .or_insert_with(|| Map::new().into());
                        for (name, more) in more {
                            let before = function[name].as_str().unwrap_or_default().to_owned();
                            function[name] = match (name.as_str(), more.as_str()) {
                                // it comes in pieces
                                ("arguments", Some(more)) => (before + more).into(),
                                _ => more.clone(),
                            };
                        }
                    }
                    _ => drop(known.insert(name.clone(), value.clone())),
                }
            }
        }
    }

    /// The request's messages, and the answer where it has come to its end.
    fn all(self, ended: bool) -> Vec<(Kind, Body)> {
        let mut all = self.said;
        let mut answer = Map::from_iter([("role".to_owned(), "assistant".into())]);
        answer.insert("content".to_owned(), self.content.into());
        if !self.calls.is_empty() {
            let calls = self.calls.into_values().map(Value::from);
            answer.insert("tool_calls".to_owned(), calls.collect());
        }
        all.extend(entry(&answer.into()).filter(|_| ended));
        all
    }
}

/// A message as an event has it; instructions that are no turn are none.
fn entry(message: &Value) -> Option<(Kind, Body)> {
    let kind = match message["role"].as_str()? {
        "user" => Kind::User,
        "assistant" => Kind::Assistant,
        "tool" | "function" => Kind::Tool,
        _ => return None,
    };
    let mut members = Map::new();
    for name in KEPT {
        let kept = match message.get(name) {
            // one text in parts is that text
            Some(Value::Array(parts)) if name == "content" => Some(text_of(parts)),
            Some(value) => plain(value),
            None => None,
        };
        if let Some(value) = kept.filter(|value| *value != Value::Array(Vec::new())) {
            members.insert(name.to_owned(), value);
        }
    }
    // a message that calls tools need not say anything
    if members.contains_key("tool_calls") && members.get("content") == Some(&"".into()) {
        members.remove("content");
    }
    let body = match (members.len(), members.get("content")) {
        (0, _) => Body::Text(String::new()),
        (1, Some(Value::String(text))) => Body::Text(text.clone()),
        _ => Body::Members(members),
    };
    Some((kind, body))
}

fn text_of(parts: &[Value]) -> Value {
    let texts = parts.iter().filter_map(|part| part["text"].as_str());
    texts.collect::<String>().into()
}

/// A value without what events do not have: `null` is left out, a number that is no integer is a text (SES-J-2).
fn plain(value: &Value) -> Option<Value> {
    Some(match value {
        Value::Null => return None,
        Value::Number(number) if !(number.is_i64() || number.is_u64()) => number.to_string().into(),
        Value::Array(all) => all.iter().filter_map(plain).collect(),
        Value::Object(members) => {
            let members = members.iter();
            let kept = members.filter_map(|(name, value)| Some((name.clone(), plain(value)?)));
            Value::Object(kept.collect())
        }
        value => value.clone(),
    })
}

impl Gateway {
    /// Records what was said, where that is wanted: what the log has already is not said again, and what the request
    /// has not any more is taken back.
    pub(super) async fn record(
        self: &std::sync::Arc<Self>,
        names: &Names,
        turns: Turns,
        ended: bool,
    ) {
        let (gateway, names) = (std::sync::Arc::clone(self), names.clone());
        let recording = move || {
            let now = time::now();
            let mut session = Session::load_or_create(&gateway.sessions, &names, now)?;
            append(&mut session, turns.all(ended), now)
        };
        if self.aside(recording).await.is_err() {
            self.relay.metrics.unrecorded();
        }
    }
}

fn append(session: &mut Session, said: Vec<(Kind, Body)>, now: u64) -> Result<()> {
    let (mut end, live) = session.live_events()?;
    let mut said = said.into_iter().peekable();
    let mut is_cut = false;
    for event in live {
        if event.kind.is_message() {
            let same = said.next_if(|(kind, body)| *kind == event.kind && *body == event.body);
            if same.is_none() {
                is_cut = true;
                break;
            }
        }
        end = event.seq;
    }
    if is_cut {
        session.append(now, Kind::Revert, Body::revert(end))?;
    }
    for (kind, body) in said {
        session.append(now, kind, body)?;
    }
    Ok(())
}

#[cfg(test)]
#[allow(
    clippy::unwrap_used,
    reason = "a test that meets what it does not expect fails"
)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_message_is_kept_as_events_have_them() {
        let calls = json!([{"id": "a", "type": "function", "function": {"name": "look", "arguments": "{}"}}]);
        for (message, expected) in [
            (
                json!({"role": "user", "content": "hello"}),
                Some((Kind::User, Body::from("hello"))),
            ),
            (
                json!({"role": "user", "content": [{"type": "text", "text": "hel"}, {"type": "text", "text": "lo"}]}),
                Some((Kind::User, Body::from("hello"))),
            ),
            (json!({"role": "system", "content": "be good"}), None),
            (
                json!({"role": "assistant", "content": null, "tool_calls": calls, "reasoning_content": "hm"}),
                Some((
                    Kind::Assistant,
                    Body::Members(Map::from_iter([("tool_calls".to_owned(), calls.clone())])),
                )),
            ),
            (
                json!({"role": "tool", "content": "seen", "tool_call_id": "a"}),
                Some((
                    Kind::Tool,
                    Body::Members(Map::from_iter([
                        ("content".to_owned(), "seen".into()),
                        ("tool_call_id".to_owned(), "a".into()),
                    ])),
                )),
            ),
        ] {
            assert_eq!(entry(&message), expected, "{message}");
        }
        assert_eq!(
            plain(&json!({"a": 0.5, "b": null, "c": 3})),
            Some(json!({"a": "0.5", "c": 3}))
        );
    }

    #[test]
    fn an_answer_in_pieces_is_the_answer_in_one() {
        let call = json!({"id": "a", "type": "function", "function": {"name": "look", "arguments": "{\"at\":1}"}});
        let message = json!({"role": "assistant", "content": "I look.", "tool_calls": [call]});
        let mut whole = Turns::of(&json!({"messages": []}));
        whole.hear(
            &json!({"choices": [{"message": message}]})
                .to_string()
                .into(),
        );
        let mut pieces = Turns::of(&json!({"messages": [], "stream": true}));
        for delta in [
            json!({"role": "assistant", "content": null}),
            json!({"content": "I "}),
            json!({"content": "look."}),
            json!({"tool_calls": [{"index": 0, "id": "a", "type": "function", "function": {"name": "look", "arguments": ""}}]}),
            json!({"tool_calls": [{"index": 0, "function": {"arguments": "{\"at\""}}]}),
            json!({"tool_calls": [{"index": 0, "function": {"arguments": ":1}"}}]}),
        ] {
            let event = format!("data: {}\n\n", json!({"choices": [{"delta": delta}]}));
            pieces.hear(&event.into());
        }
        pieces.hear(&Bytes::from_static(b"data: [DONE]\n\n"));
        let whole = whole.all(true);
        assert_eq!(whole, pieces.all(true));
        assert_eq!(whole, vec![entry(&message).unwrap()]);
    }
}
