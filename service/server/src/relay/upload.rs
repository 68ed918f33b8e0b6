//! Uploads in one request, and checks of headers (http-v1 §5).

use std::sync::Arc;

use axum::{
    body::Body,
    extract::{Path, Request, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use kvcap::CapsuleId;

use super::{
    Relay,
    answer::{Accepted, Outcome, closing},
    aside,
    fields::{CAPSULE, UPLOAD_LENGTH, check_type, complete, content_length, number},
    id_in,
    incoming::Incoming,
    pump::Pump,
    refusals::{Asked, Received},
    resumable,
};
use crate::{
    refusal::{Answer, Refusal},
    tokens::Permission,
};

/// `POST /v1/capsules:check`.
#[utoipa::path(
    post,
    path = "/v1/capsules:check",
    tag = "capsules",
    request_body(content = Vec<u8>, content_type = "application/vnd.kvcap"),
    responses((status = 200, description = "The header is accepted", body = Accepted, content_type = "application/json"), Asked, Received),
    security(("token" = []))
)]
pub(super) async fn check(State(relay): State<Arc<Relay>>, request: Request) -> Response {
    closing(receive(relay, None, true, request).await)
}

/// `POST /v1/capsules`.
#[utoipa::path(
    post,
    path = "/v1/capsules",
    tag = "capsules",
    request_body(content = Vec<u8>, content_type = "application/vnd.kvcap"),
    responses((status = 200, description = "Kept already", body = Accepted, content_type = "application/json"), (status = 201, description = "Kept; or an upload in parts, begun", body = Option<Accepted>, content_type = "application/json"), Asked, Received),
    security(("token" = []))
)]
pub(super) async fn post(State(relay): State<Arc<Relay>>, request: Request) -> Response {
    closing(receive(relay, None, false, request).await)
}

/// `PUT /v1/capsules/ID`.
#[utoipa::path(
    put,
    path = "/v1/capsules/{id}",
    tag = "capsules",
    params(("id" = String, Path, description = "Id of a capsule", pattern = "^[0-9a-f]{32}$")),
    request_body(content = Vec<u8>, content_type = "application/vnd.kvcap"),
    responses((status = 200, description = "Kept already", body = Accepted, content_type = "application/json"), (status = 201, description = "Kept; or an upload in parts, begun", body = Option<Accepted>, content_type = "application/json"), Asked, Received),
    security(("token" = []))
)]
pub(super) async fn put(
    State(relay): State<Arc<Relay>>,
    Path(id): Path<String>,
    request: Request,
) -> Response {
    closing(match id_in(&id) {
        Ok(id) => receive(relay, Some(id), false, request).await,
        Err(refusal) => Err(refusal),
    })
}

async fn receive(
    relay: Arc<Relay>,
    wanted: Option<CapsuleId>,
    check: bool,
    request: Request,
) -> Answer {
    let (head, body) = request.into_parts();
    let incoming = begin(&relay, &head.headers, wanted, check)?;
    if !check && complete(&head.headers)? == Some(false) {
        return resumable::create(&relay, incoming, &head.headers, body).await;
    }
    Ok(taken_in(&relay, incoming, body).await?.into_response())
}

/// Keeps the capsule of a request of another resource. Returns its id.
#[cfg(feature = "gateway")]
pub(crate) async fn put_whole(relay: &Arc<Relay>, request: Request) -> Answer<CapsuleId> {
    let (head, body) = request.into_parts();
    let incoming = begin(relay, &head.headers, None, false)?;
    Ok(taken_in(relay, incoming, body).await?.id)
}

/// Steps 2 to 7.
async fn taken_in(relay: &Arc<Relay>, mut incoming: Incoming, body: Body) -> Answer<Outcome> {
    let mut pump = Pump::new(body, relay.policy());
    while incoming.len().is_none() {
        let Some(batch) = pump.next().await? else {
            return incoming.finish();
        };
        // who only asks does not wait for those who write
        incoming = aside(move || incoming.feed(&batch)).await?;
    }
    if incoming.is_decided() {
        return incoming.finish();
    }
    // what has come is checked and written while the next is on its way
    let mut coming = pump.next().await?;
    while let Some(batch) = coming {
        let fed = relay.writing(move || incoming.feed(&batch));
        // a connection that breaks is told of once nothing is held for it any more
        let next = async { Ok(pump.next().await) };
        let (rest, next) = tokio::try_join!(fed, next)?;
        (incoming, coming) = (rest, next?);
    }
    relay.writing(move || incoming.finish()).await
}

/// Step 1: what is known without a byte of the body.
fn begin(
    relay: &Arc<Relay>,
    headers: &HeaderMap,
    wanted: Option<CapsuleId>,
    check: bool,
) -> Answer<Incoming> {
    let caller = relay.caller(headers, Permission::Put)?;
    check_type(headers, CAPSULE, false)?;
    let policy = relay.policy();
    let stated = [content_length(headers), number(headers, UPLOAD_LENGTH)?];
    if stated
        .into_iter()
        .flatten()
        .any(|len| len > policy.limits.capsule)
    {
        return Err(Refusal::Status(StatusCode::PAYLOAD_TOO_LARGE));
    }
    let place = relay.gates.upload(caller.tenant.as_ref(), &policy.limits)?;
    Ok(Incoming::new(
        Arc::clone(relay),
        caller,
        wanted,
        check,
        place,
    ))
}
