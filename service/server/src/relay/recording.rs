//! Every request of a known caller, recorded before it is answered (http-v1 HTTP-O-4).

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    http::header,
    middleware::Next,
    response::{IntoResponse, Response},
};
use kvcap::Code;
use kvcap_store::time;
use serde_json::json;

use super::{Relay, aside};
use crate::refusal::Refusal;

/// Longest path that is recorded, in characters: longer ones lead nowhere.
const LONGEST: usize = 100;

/// Answers, and records the answer.
pub(crate) async fn record(
    State(relay): State<Arc<Relay>>,
    request: Request,
    next: Next,
) -> Response {
    let caller = relay.known(request.headers());
    let (Some(caller), true) = (caller, relay.audit.is_some()) else {
        return next.run(request).await;
    };
    let method = request.method().to_string();
    let path: String = request.uri().path().chars().take(LONGEST).collect();
    let response = next.run(request).await;
    let code = response.extensions().get::<Code>();
    let put = response.headers().get(header::LOCATION);
    let entry = json!({
        "at": time::now(),
        "tenant": caller.tenant,
        "subject": caller.subject,
        "method": method,
        "path": path,
        "status": response.status().as_u16(),
        "code": code.map_or(0, |code| code.number()),
        "location": put.and_then(|place| place.to_str().ok()),
    });
    let recorded = aside(move || match &relay.audit {
        Some(audit) => audit.append(&entry).map_err(Refusal::Unready),
        None => Ok(()),
    });
    match recorded.await {
        Ok(()) => response,
        // nothing is done in secret
        Err(refusal) => refusal.into_response(),
    }
}
