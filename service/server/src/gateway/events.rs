//! Events of sessions over HTTP: told, appended, taken back (http-v1 HTTP-S-4, HTTP-S-5).

use std::sync::Arc;

use axum::{
    extract::{Path, Query, Request, State, rejection::QueryRejection},
    http::{HeaderMap, StatusCode},
    response::Response,
};
use kvcap::{Code, Error};
use kvcap_session::{Body as EventBody, Event, Kind, Session};
use kvcap_store::time;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Gateway,
    answering::as_json,
    names_of,
    sessions::{checkpoint_entry, known, parsed},
    shapes,
};
use crate::{
    refusal::{Answer, Refusal},
    relay::{AskedFor, Received, closing},
    tokens::Permission,
};

/// Events that are told at once.
const MOST_EVENTS: usize = 1000;

#[derive(Deserialize)]
pub(super) struct After {
    #[serde(default)]
    after: u64,
}

/// `GET /v1/sessions/SESSION/events`.
#[utoipa::path(
    get,
    path = "/v1/sessions/{session}/events",
    tag = "sessions",
    params(("session" = String, Path, description = "Id of the session"), ("after" = Option<u64>, Query, description = "Number of an event: those after it")),
    responses((status = 200, description = "At most 1,000 events", body = shapes::Events, content_type = "application/json"), AskedFor),
    security(("token" = []))
)]
pub(super) async fn list(
    State(gateway): State<Arc<Gateway>>,
    Path(session): Path<String>,
    query: Result<Query<After>, QueryRejection>,
    headers: HeaderMap,
) -> Answer {
    let caller = gateway.relay.caller(&headers, Permission::SessionGet)?;
    let Query(After { after }) = query.map_err(|_| Refusal::Status(StatusCode::BAD_REQUEST))?;
    let names = names_of(&caller, &session)?;
    let reading = Arc::clone(&gateway);
    let told = gateway.aside(move || {
        let events = Session::load(&reading.sessions, &names)?.events()?;
        let last = events.last().map_or(0, |event| event.seq);
        let later = events.iter().filter(|event| event.seq > after);
        let later: Vec<Value> = later.take(MOST_EVENTS).map(event_entry).collect();
        Ok(json!({"events": later, "last": last}))
    });
    Ok(as_json(StatusCode::OK, &known(told.await)?))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewEvent {
    seq: u64,
    at: Option<u64>,
    kind: String,
    body: Value,
}

/// `POST /v1/sessions/SESSION/events`.
#[utoipa::path(
    post,
    path = "/v1/sessions/{session}/events",
    tag = "sessions",
    params(("session" = String, Path, description = "Id of the session")),
    request_body(content = shapes::NewEvent, content_type = "application/json"),
    responses((status = 200, description = "It was there", body = shapes::Event, content_type = "application/json"), (status = 201, description = "Appended", body = shapes::Event, content_type = "application/json"), AskedFor, Received),
    security(("token" = []))
)]
pub(super) async fn append(
    State(gateway): State<Arc<Gateway>>,
    Path(session): Path<String>,
    request: Request,
) -> Response {
    closing(appended(gateway, &session, request).await)
}

async fn appended(gateway: Arc<Gateway>, session: &str, request: Request) -> Answer {
    let (caller, _, body) = gateway.asked(request, Permission::SessionPut).await?;
    let names = names_of(&caller, session)?;
    let event: NewEvent = parsed(&body)?;
    let body = match event.body {
        Value::String(text) => EventBody::Text(text),
        Value::Object(members) => EventBody::Members(members),
        _ => return Err(malformed("an event's body is a text or an object")),
    };
    // a revert has a resource of its own
    let kind = Kind::named(&event.kind).filter(|kind| *kind != Kind::Revert);
    let kind = kind.ok_or_else(|| malformed("there is no such kind of event"))?;
    let writing = Arc::clone(&gateway);
    let put = gateway.aside(move || {
        let now = time::now();
        let mut session = Session::load_or_create(&writing.sessions, &names, now)?;
        session.append_at(event.seq, event.at.unwrap_or(now), kind, body)
    });
    let (event, is_new) = put.await?;
    let status = match is_new {
        true => StatusCode::CREATED,
        false => StatusCode::OK,
    };
    Ok(as_json(status, &event_entry(&event)))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Back {
    to: Option<u64>,
    turn: Option<u64>,
}

/// `POST /v1/sessions/SESSION/revert`.
#[utoipa::path(
    post,
    path = "/v1/sessions/{session}/revert",
    tag = "sessions",
    params(("session" = String, Path, description = "Id of the session")),
    request_body(content = shapes::Back, content_type = "application/json"),
    responses((status = 201, description = "Gone back", body = shapes::Checkpoint, content_type = "application/json"), AskedFor, Received),
    security(("token" = []))
)]
pub(super) async fn revert(
    State(gateway): State<Arc<Gateway>>,
    Path(session): Path<String>,
    request: Request,
) -> Response {
    closing(reverted(gateway, &session, request).await)
}

async fn reverted(gateway: Arc<Gateway>, session: &str, request: Request) -> Answer {
    let (caller, _, body) = gateway.asked(request, Permission::SessionPut).await?;
    let names = names_of(&caller, session)?;
    let back: Back = parsed(&body)?;
    // the state in a slot has seen what is taken back
    if let Some(mut lease) = gateway.slots.lease_held(&names).await {
        lease.held = None;
    }
    let writing = Arc::clone(&gateway);
    let reverted = gateway.aside(move || {
        let mut session = Session::load(&writing.sessions, &names)?;
        let to = match (back.to, back.turn) {
            (Some(to), None) => to,
            (None, Some(turn)) => session.end_of_turn(turn)?,
            _ => return Err(Error::new(Code::SessionMalformed, "say one of to and turn")),
        };
        session.revert(time::now(), to)
    });
    let record = known(reverted.await)?;
    Ok(as_json(StatusCode::CREATED, &checkpoint_entry(&record)))
}

fn malformed(what: &'static str) -> Refusal {
    Refusal::Code(Error::new(Code::SessionMalformed, what))
}

fn event_entry(event: &Event) -> Value {
    let body = match &event.body {
        EventBody::Text(text) => Value::from(text.as_str()),
        EventBody::Members(members) => Value::Object(members.clone()),
    };
    json!({"seq": event.seq, "at": event.at, "kind": event.kind.name(), "body": body})
}
