//! Shapes of the gateway's bodies, for its description alone.

#![expect(dead_code, reason = "shapes are described, and never made")]
#![allow(unused_qualifications, reason = "the derived descriptions have them")]

use std::collections::BTreeMap;

use serde_json::Value;
use utoipa::ToSchema;

/// Request for words after a prompt: `OpenAI`'s, of which the engine takes what it knows
#[derive(ToSchema)]
pub(super) struct Completion {
    /// One text, or a list of token ids
    prompt: String,
    #[schema(minimum = 1, maximum = 64)]
    max_tokens: Option<u32>,
    stream: Option<bool>,
    /// Name of the session, where no header says it
    prompt_cache_key: Option<String>,
}

/// Request for the next message of a chat: `OpenAI`'s, of which the engine takes what it knows
#[derive(ToSchema)]
pub(super) struct Chat {
    messages: Vec<Message>,
    #[schema(minimum = 1, maximum = 64)]
    max_tokens: Option<u32>,
    stream: Option<bool>,
    /// Name of the session, where no header says it
    prompt_cache_key: Option<String>,
}

/// Message of a chat
#[derive(ToSchema)]
pub(super) struct Message {
    role: String,
    content: String,
}

/// Beginning that many requests share: a prompt, or messages
#[derive(ToSchema)]
pub(super) struct Beginning {
    prompt: Option<String>,
    messages: Option<Vec<Message>>,
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
    #[schema(minimum = 1)]
    seq: u64,
    at: Option<u64>,
    /// user, assistant, tool, milestone or note
    kind: String,
    /// A text, or the members of a message
    body: Value,
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
#[derive(ToSchema)]
pub(super) struct Back {
    to: Option<u64>,
    turn: Option<u64>,
}
