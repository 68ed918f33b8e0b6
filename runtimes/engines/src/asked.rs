//! Requests as they came.

use serde_json::Value;

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
}
