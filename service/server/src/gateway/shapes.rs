//! Shapes of the gateway's bodies, for its description alone.

#![expect(dead_code, reason = "shapes are described, and never made")]
#![allow(unused_qualifications, reason = "the derived descriptions have them")]

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;
use utoipa::{
    ToSchema,
    openapi::schema::{ArrayBuilder, ObjectBuilder, OneOfBuilder, Schema, Type},
};

/// Request for words after a prompt: `OpenAI`'s, of which the engine takes what it knows
#[derive(ToSchema)]
pub(super) struct Completion {
    #[schema(schema_with = prompt)]
    prompt: Value,
    /// Most tokens of the answer; -1 for no limit
    #[schema(minimum = -1)]
    max_tokens: Option<i64>,
    stream: Option<bool>,
    /// Name of the session, where no header says it
    #[schema(min_length = 1, max_length = 1024)]
    prompt_cache_key: Option<String>,
}

/// Request for the next message of a chat: `OpenAI`'s, of which the engine takes what it knows
#[derive(ToSchema)]
pub(super) struct Chat {
    #[schema(min_items = 1)]
    messages: Vec<Message>,
    /// Most tokens of the answer; -1 for no limit
    #[schema(minimum = -1)]
    max_tokens: Option<i64>,
    stream: Option<bool>,
    /// Name of the session, where no header says it
    #[schema(min_length = 1, max_length = 1024)]
    prompt_cache_key: Option<String>,
}

/// Message of a chat
#[derive(Serialize, ToSchema)]
pub(super) struct Message {
    #[schema(min_length = 1)]
    role: String,
    #[schema(schema_with = content)]
    content: Value,
}

/// Event of an answer that is streamed
#[derive(ToSchema)]
pub(super) struct Streamed {
    /// A piece of the answer as JSON; `[DONE]` in the last event
    data: String,
}

/// Beginning that many requests share: a prompt or messages, and not both
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
pub(super) enum Beginning {
    Prompt {
        #[schema(schema_with = prompt)]
        prompt: Value,
    },
    Messages {
        #[schema(min_items = 1)]
        messages: Vec<Message>,
    },
}

/// One text, or a list of token ids.
fn prompt() -> Schema {
    let text = ObjectBuilder::new().schema_type(Type::String);
    let id = ObjectBuilder::new().schema_type(Type::Integer);
    let id = id.minimum(Some(0)).maximum(Some(u32::MAX));
    OneOfBuilder::new()
        .description(Some("One text, or a list of token ids"))
        .item(text.min_length(Some(1)))
        .item(ArrayBuilder::new().items(id).min_items(Some(1)))
        .build()
        .into()
}

/// One text, or parts of one.
fn content() -> Schema {
    let text = || ObjectBuilder::new().schema_type(Type::String);
    let part = ObjectBuilder::new()
        .property("type", text().enum_values(Some(["text"])))
        .property("text", text());
    let part = part.required("type").required("text");
    OneOfBuilder::new()
        .description(Some("One text, or a list of its parts"))
        .item(text())
        .item(ArrayBuilder::new().items(part))
        .item(ObjectBuilder::new().schema_type(Type::Null))
        .build()
        .into()
}

/// Base image
#[derive(ToSchema)]
pub(super) struct Base {
    /// Its name
    base: String,
    /// Id of its capsule
    id: String,
    /// Tokens that it holds
    positions: u64,
    /// Length of its file
    bytes: u64,
    /// Unix time at which it expires
    expires: u64,
}

/// Base images
#[derive(ToSchema)]
pub(super) struct Bases {
    bases: Vec<Base>,
}

/// Models that are served
#[derive(ToSchema)]
pub(super) struct Models {
    object: String,
    data: Vec<BTreeMap<String, Value>>,
}

/// State of a checkpoint
#[derive(ToSchema)]
pub(super) struct State {
    /// Id of its capsule
    id: String,
    positions: u64,
    bytes: u64,
    expires: u64,
    /// Ids of the capsules that it continues
    ancestors: Vec<String>,
}

/// Checkpoint of a session
#[derive(ToSchema)]
pub(super) struct Checkpoint {
    session: Option<String>,
    version: u64,
    /// Unix time at which it was made
    at: u64,
    /// Number of the last event that it covers
    cursor: u64,
    turns: u64,
    state: Option<State>,
}

/// Session in a list
#[derive(ToSchema)]
pub(super) struct Listed {
    session: String,
    /// Unix time at which it was last written to
    changed: u64,
    in_slot: bool,
    checkpoint: Option<Checkpoint>,
    /// Number of the code of what cannot be read
    code: Option<u16>,
}

/// Sessions of the caller
#[derive(ToSchema)]
pub(super) struct Sessions {
    sessions: Vec<Listed>,
}

/// Session
#[derive(ToSchema)]
pub(super) struct Session {
    session: String,
    in_slot: bool,
    events: u64,
    turns: u64,
    messages: u64,
    checkpoints: u64,
    capsules: u64,
    capsule_bytes: u64,
    checkpoint: Option<Checkpoint>,
    /// Its newest resumes: at, rung, code, milliseconds, asked, restored, evaluated
    resumes: Vec<BTreeMap<String, Value>>,
}

/// Event of a session, as it is appended
#[derive(ToSchema)]
pub(super) struct NewEvent {
    #[schema(minimum = 1, maximum = 9_007_199_254_740_991_i64)]
    seq: u64,
    #[schema(maximum = 9_007_199_254_740_991_i64)]
    at: Option<u64>,
    kind: Kind,
    #[schema(schema_with = body)]
    body: Value,
}

/// Kind of an event that is appended
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
pub(super) enum Kind {
    User,
    Assistant,
    Tool,
    Milestone,
    Note,
}

/// One text, or the members of a message.
fn body() -> Schema {
    OneOfBuilder::new()
        .description(Some("One text, or the members of a message but its role"))
        .item(ObjectBuilder::new().schema_type(Type::String))
        .item(ObjectBuilder::new().schema_type(Type::Object))
        .build()
        .into()
}

/// Event of a session
#[derive(ToSchema)]
pub(super) struct Event {
    seq: u64,
    at: u64,
    kind: String,
    body: Value,
}

/// Events of a session
#[derive(ToSchema)]
pub(super) struct Events {
    events: Vec<Event>,
    /// Number of the last event that there is
    last: u64,
}

/// Capsule that is kept
#[derive(ToSchema)]
pub(super) struct Kept {
    /// Its id
    #[schema(pattern = "^[0-9a-f]{32}$")]
    capsule: String,
}

/// State that is in a slot
#[derive(ToSchema)]
pub(super) struct Resumed {
    session: String,
    capsule: String,
    positions: u64,
}

/// Point of a session that it goes back to: an event's number or a turn's
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
pub(super) enum Back {
    Event {
        #[schema(maximum = 9_007_199_254_740_991_i64)]
        to: u64,
    },
    Turn {
        #[schema(maximum = 9_007_199_254_740_991_i64)]
        turn: u64,
    },
}
