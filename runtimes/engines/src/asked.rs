//! Requests as they came.

use serde_json::Value;

use crate::{body::Body, error::EngineError};

/// A request of `OpenAI`'s shape, passed on as it came but for what [`crate::Engine`] decides: the slot, and what is
/// reused.
#[derive(Clone, Debug, PartialEq)]
pub enum Asked {
    /// Body of `/v1/completions`; `prompt` is a text or a list of ids.
    Completion(Body),
    /// Body of `/v1/chat/completions`.
    Chat(Body),
}

impl Asked {
    /// Returns a completion.
    pub fn completion(body: impl Into<Body>) -> Self {
        Self::Completion(body.into())
    }

    /// Returns a chat.
    pub fn chat(body: impl Into<Body>) -> Self {
        Self::Chat(body.into())
    }

    /// Returns the body.
    #[must_use]
    pub const fn body(&self) -> &Body {
        match self {
            Self::Completion(body) | Self::Chat(body) => body,
        }
    }

    /// Returns whether the answer comes as server-sent events.
    #[must_use]
    pub fn streams(&self) -> bool {
        self.body()["stream"] == Value::Bool(true)
    }

    /// Refuses what asks for nothing, and what no capsule could keep: every engine is asked the same.
    ///
    /// # Errors
    /// [`EngineError::Refused`] with status 400 for a body that is no object; a prompt that is not one text or one list
    /// of ids; no messages, or one without role and content; several answers; parts that are no text; adapters; a number
    /// of tokens or `stream` that is none.
    pub fn check(&self) -> Result<(), EngineError> {
        let Value::Object(members) = &**self.body() else {
            return Err(refused("a request is a json object"));
        };
        let several = ["n", "n_cmpl", "best_of"].iter().any(|name| {
            let count = members.get(*name).unwrap_or(&Value::Null);
            !count.is_null() && count.as_u64() != Some(1)
        });
        if several {
            return Err(refused("one answer is given to a request"));
        }
        if OTHER.iter().any(|name| !is_none(&self.body()[*name])) {
            return Err(refused(
                "the state would be of another model than its capsule says",
            ));
        }
        if !matches!(self.body()["stream"], Value::Null | Value::Bool(_)) {
            return Err(refused("stream is true or false"));
        }
        if LIMITS.iter().any(|name| !is_limit(&self.body()[*name])) {
            return Err(refused("an answer's most tokens are a number, or -1"));
        }
        match self {
            Self::Completion(body) => prompt(body).map(drop),
            Self::Chat(body) => check_messages(body),
        }
    }

    /// Returns the most tokens of the answer, as far as the request says it.
    #[must_use]
    pub fn limit(&self) -> Option<u64> {
        LIMITS.iter().find_map(|name| self.body()[*name].as_u64())
    }
}

/// Members by which a state would be of another model than its capsule says.
const OTHER: [&str; 2] = ["lora", "control_vector"];

fn is_none(value: &Value) -> bool {
    value.is_null() || value.as_array().is_some_and(Vec::is_empty)
}

/// Members that say how long an answer may be, the first that counts first.
const LIMITS: [&str; 3] = ["max_completion_tokens", "max_tokens", "n_predict"];

/// -1 is llama-server's word for an answer without a limit.
fn is_limit(value: &Value) -> bool {
    value.is_null() || value.is_u64() || value.as_i64() == Some(-1)
}

/// The one prompt of a completion.
pub(crate) fn prompt(body: &Value) -> Result<&Value, EngineError> {
    let one = match &body["prompt"] {
        // a list of one prompt
        Value::Array(parts) if matches!(&parts[..], [Value::String(_) | Value::Array(_)]) => {
            &parts[0]
        }
        prompt => prompt,
    };
    let fits = match one {
        Value::String(text) => !text.is_empty(),
        Value::Array(ids) => !ids.is_empty() && ids.iter().all(is_id),
        _ => false,
    };
    match fits {
        true => Ok(one),
        false => Err(refused(
            "a prompt is one text or one list of token ids, and not empty",
        )),
    }
}

fn is_id(value: &Value) -> bool {
    value.as_u64().is_some_and(|id| u32::try_from(id).is_ok())
}

fn check_messages(body: &Value) -> Result<(), EngineError> {
    let messages = body["messages"].as_array().map_or(&[][..], Vec::as_slice);
    if messages.is_empty() {
        return Err(refused("a chat has a list of messages, one at least"));
    }
    messages.iter().try_for_each(check_message)
}

fn check_message(message: &Value) -> Result<(), EngineError> {
    let role = message["role"].as_str().unwrap_or_default();
    // what calls a tool need not say anything
    let says = message.get("content").is_some() || message.get("tool_calls").is_some();
    if role.is_empty() || !says {
        return Err(refused("a message has a role, and content or tool calls"));
    }
    let is_text = |part: &Value| part["type"] == "text" && part["text"].is_string();
    match &message["content"] {
        Value::Null | Value::String(_) => Ok(()),
        Value::Array(parts) if parts.iter().all(is_text) => Ok(()),
        Value::Array(_) => Err(refused("a message has parts that are no text")),
        _ => Err(refused("a message's content is a text, or a list of parts")),
    }
}

fn refused(message: &str) -> EngineError {
    EngineError::Refused {
        status: 400,
        message: message.to_owned(),
    }
}
