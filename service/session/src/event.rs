//! Events: the entries of a log (session-v1 §3).

use kvcap::{Code, Error, Result, binding::Digest};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{agent_state::AgentState, value};

/// Longest CBOR of an event, in bytes.
pub const MAX_EVENT: usize = 1 << 20;

/// Kinds of event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Words of the user; a turn begins.
    User,
    /// Words of the model.
    Assistant,
    /// Answer of a tool.
    Tool,
    /// Something was reached: may bring an agent state.
    Milestone,
    /// For people; in no context.
    Note,
    /// Events are taken back.
    Revert,
}

impl Kind {
    /// Returns the kind's name, which for a message is its role.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Assistant => "assistant",
            Self::Tool => "tool",
            Self::Milestone => "milestone",
            Self::Note => "note",
            Self::Revert => "revert",
        }
    }

    /// Returns the kind of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        let all = [
            Self::User,
            Self::Assistant,
            Self::Tool,
            Self::Milestone,
            Self::Note,
            Self::Revert,
        ];
        all.into_iter().find(|kind| kind.name() == name)
    }

    /// Returns true for what a context holds: the user, the model and its tools.
    #[must_use]
    pub const fn is_message(self) -> bool {
        matches!(self, Self::User | Self::Assistant | Self::Tool)
    }
}

/// Content of an event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Body {
    /// A text.
    Text(String),
    /// The members of a chat message but its role, or those that the event's kind has.
    Members(Map<String, Value>),
}

impl From<&str> for Body {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

/// One entry of a log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Event {
    /// Its number: 1, 2, 3, …
    pub seq: u64,
    /// Time at which it was appended, in seconds since 1970.
    pub at: u64,
    /// Its kind.
    pub kind: Kind,
    /// Its content.
    pub body: Body,
    /// The log's head before it.
    #[serde(with = "value::hex")]
    pub previous: Digest,
}

impl Event {
    /// Reads an event from one line of JSON.
    ///
    /// # Errors
    /// KVC-950, 951; 204 for a body that nests too deep.
    pub fn from_json(line: &[u8]) -> Result<Self> {
        let event: Self = value::from_json(line, MAX_EVENT)?;
        event.check()?;
        Ok(event)
    }

    /// Reads an event from deterministic CBOR.
    ///
    /// # Errors
    /// KVC-950, 951; 201 to 206.
    pub fn from_cbor(bytes: &[u8]) -> Result<Self> {
        let event: Self = value::from_cbor(bytes, MAX_EVENT)?;
        event.check()?;
        Ok(event)
    }

    /// Returns the event as one line of JSON, without its line feed.
    ///
    /// # Errors
    /// KVC-950, 951; 204.
    pub fn to_json(&self) -> Result<String> {
        self.to_cbor()?;
        value::to_json(self)
    }

    /// Returns the deterministic CBOR of the event.
    ///
    /// # Errors
    /// KVC-950, 951; 204.
    pub fn to_cbor(&self) -> Result<Vec<u8>> {
        self.check()?;
        value::to_cbor(self, MAX_EVENT)
    }

    /// Returns the digest that the next event names.
    ///
    /// # Errors
    /// As [`Self::to_cbor`].
    pub fn digest(&self) -> Result<Digest> {
        Ok(Digest::labelled("kvcap v1 event", &[&self.to_cbor()?]))
    }

    /// Returns the number that a revert goes back to.
    #[must_use]
    pub fn reverts_to(&self) -> Option<u64> {
        match (self.kind, &self.body) {
            (Kind::Revert, Body::Members(members)) => members.get("to")?.as_u64(),
            _ => None,
        }
    }

    /// Returns the agent state that a milestone brings.
    ///
    /// # Errors
    /// KVC-950 for one that is malformed.
    pub fn agent_state(&self) -> Result<Option<AgentState>> {
        match (self.kind, &self.body) {
            (Kind::Milestone, Body::Members(members)) => {
                members.get("agent_state").map(AgentState::of).transpose()
            }
            _ => Ok(None),
        }
    }

    /// Returns the text of the event: its body, or the body's `content`, or none.
    #[must_use]
    pub fn text(&self) -> &str {
        match &self.body {
            Body::Text(text) => text,
            Body::Members(members) => members.get("content").and_then(Value::as_str).unwrap_or(""),
        }
    }

    pub(crate) fn check(&self) -> Result<()> {
        let fault = |what| {
            Err(Error::new(Code::SessionMalformed, what).at(format_args!("event {}", self.seq)))
        };
        if !(1..=value::MAX_INTEGER).contains(&self.seq) || self.at > value::MAX_INTEGER {
            return fault("an event's number or time is out of range");
        }
        if let (Body::Members(members), true) = (&self.body, self.kind != Kind::Milestone) {
            // a body is one level itself, and nested in a record
            let mut values = members.values();
            values.try_for_each(|inner| value::check_depth(inner, 4, "body"))?;
        }
        match (&self.body, self.kind) {
            (Body::Members(members), Kind::Revert) => match self.reverts_to() {
                Some(to) if to < self.seq && members.len() == 1 => Ok(()),
                _ => fault("a revert has the member `to` alone, a number below its own"),
            },
            (Body::Text(_), Kind::Revert) => fault("a revert's body is an object"),
            (Body::Members(members), kind) if kind.is_message() && members.contains_key("role") => {
                fault("a message's role is its kind")
            }
            (Body::Members(_), Kind::Milestone) => self.agent_state().map(|_| ()),
            _ => Ok(()),
        }
    }
}
