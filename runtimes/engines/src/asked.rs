//! Requests as they came.

use serde_json::{Map, Value, json};

use crate::error::EngineError;

/// A request of `OpenAI`'s shape, passed on as it came but for what [`crate::Engine`] decides: the slot, and what is
/// reused.
#[derive(Clone, Debug, PartialEq)]
pub enum Asked {
    /// Body of `/v1/completions`; `prompt` is a text or a list of ids.
    Completion(Value),
    /// Body of `/v1/chat/completions`.
    Chat(Value),
}

impl Asked {
    /// Returns the body.
    #[must_use]
    pub const fn body(&self) -> &Value {
        match self {
            Self::Completion(body) | Self::Chat(body) => body,
        }
    }

    /// Returns whether the answer comes as server-sent events.
    #[must_use]
    pub fn streams(&self) -> bool {
        self.body()["stream"] == Value::Bool(true)
    }

    /// Refuses what no capsule could keep.
    pub(crate) fn check(&self) -> Result<(), EngineError> {
        let Value::Object(members) = self.body() else {
            return Err(refused("a request is a json object"));
        };
        let several = ["n", "n_cmpl", "best_of"].iter().any(|name| {
            let count = members.get(*name).unwrap_or(&Value::Null);
            !count.is_null() && count.as_u64() != Some(1)
        });
        if several {
            return Err(refused("one answer is given to a request"));
        }
        if members.get("lora").is_some_and(|lora| *lora != json!([])) {
            return Err(refused("the engine's adapters are fixed"));
        }
        match self {
            Self::Completion(body) => prompt(body).map(drop),
            Self::Chat(_) => texts_alone(members),
        }
    }
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
        Value::String(_) => true,
        Value::Array(ids) => !ids.is_empty() && ids.iter().all(Value::is_u64),
        _ => false,
    };
    match fits {
        true => Ok(one),
        false => Err(refused("a prompt is one text or one list of token ids")),
    }
}

fn texts_alone(members: &Map<String, Value>) -> Result<(), EngineError> {
    let Some(messages) = members.get("messages").and_then(Value::as_array) else {
        return Err(refused("messages are a list"));
    };
    let contents = messages
        .iter()
        .filter_map(|message| message["content"].as_array());
    match contents.flatten().all(|part| part["type"] == "text") {
        true => Ok(()),
        false => Err(refused("a message has parts that are no text")),
    }
}

fn refused(message: &str) -> EngineError {
    EngineError::Refused {
        status: 400,
        message: message.to_owned(),
    }
}
