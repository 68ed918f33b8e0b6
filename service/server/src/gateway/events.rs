//! Events of sessions over HTTP: told, appended, taken back (http-v1 HTTP-S-4, HTTP-S-5).

use std::sync::Arc;

use axum::{
    extract::{Path, Query, Request, State, rejection::QueryRejection},
    http::{HeaderMap, StatusCode},
    response::Response,
};
use kvcap::{Code, Error};
use kvcap_session::{Body as EventBody, Event, Kind, MAX_INTEGER, Session};
use kvcap_store::time;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Gateway,
    answering::as_json,
    sessions::{checkpoint_entry, parsed},
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
    params(("session" = String, Path, description = "Id of the session"), ("after" = Option<u64>, Query, description = "Number of an event: those after it", minimum = 0, maximum = 9_007_199_254_740_991_i64)),
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
    if after > MAX_INTEGER {
        return Err(malformed("no event has such a number"));
    }
    let names = gateway.names_of(&caller, &session)?;
    let told = gateway.of_session(names, move |session| {
        let events = session.events()?;
        let last = events.last().map_or(0, |event| event.seq);
        let later = events.iter().filter(|event| event.seq > after);
        let later: Vec<Value> = later.take(MOST_EVENTS).map(event_entry).collect();
        Ok(json!({"events": later, "last": last}))
    });
    Ok(as_json(StatusCode::OK, &told.await?))
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
    let names = gateway.names_of(&caller, session)?;
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
    let names = gateway.names_of(&caller, session)?;
    let back: Back = parsed(&body)?;
    let lease = gateway.slots.lease_held(&names).await;
    let reverted = gateway.of_session(names, move |mut session| {
        let to = match (back.to, back.turn) {
            (Some(to), None) => to,
            (None, Some(turn)) => session.end_of_turn(turn)?,
            _ => return Err(Error::new(Code::SessionMalformed, "say one of to and turn")),
        };
        session.revert(time::now(), to)
    });
    let record = reverted.await?;
    // the state in a slot has seen what was taken back
    if let Some(mut lease) = lease {
        lease.held = None;
    }
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
