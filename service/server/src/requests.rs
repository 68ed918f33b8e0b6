//! Every request has an id, is counted, and leaves a line (http-v1 HTTP-O-7).

use std::{sync::Arc, time::Instant};

use axum::{
    extract::{MatchedPath, Request, State},
    http::{HeaderName, HeaderValue},
    middleware::Next,
    response::Response,
};
use kvcap::{CapsuleId, Code};

use crate::{log::Log, relay::Relay};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Longest id that a caller may give, in characters: a token is longer.
const LONGEST: usize = 64;

/// What every request goes through.
#[derive(Clone, Debug)]
pub(crate) struct Requests {
    pub(crate) relay: Arc<Relay>,
    pub(crate) log: Option<Log>,
}

/// Answers, counts and writes the line.
pub(crate) async fn answer(
    State(requests): State<Requests>,
    request: Request,
    next: Next,
) -> Response {
    let since = Instant::now();
    let id = given(&request).unwrap_or_else(new);
    let method = request.method().to_string();
    // the form of the path: what is in it is the caller's
    let path = request.extensions().get::<MatchedPath>().cloned();
    let mut response = next.run(request).await;
    let status = response.status().as_u16();
    requests.relay.metrics.answered(status);
    if let Some(log) = &requests.log {
        let code = response.extensions().get::<Code>();
        log.line([
            ("request", id.to_str().unwrap_or_default().into()),
            ("method", method.into()),
            ("path", path.as_ref().map(MatchedPath::as_str).into()),
            ("status", status.into()),
            ("code", code.map_or(0, |code| code.number()).into()),
            ("seconds", since.elapsed().as_secs_f64().into()),
        ]);
    }
    response.headers_mut().insert(REQUEST_ID, id);
    response
}

/// The caller's id, where it is one.
fn given(request: &Request) -> Option<HeaderValue> {
    let id = request.headers().get(REQUEST_ID)?;
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.".contains(byte);
    let fits = (1..=LONGEST).contains(&id.len()) && id.as_bytes().iter().all(plain);
    fits.then(|| id.clone())
}

/// A new one.
fn new() -> HeaderValue {
    let mut id = [0; 16];
    // an id is a help, and not a secret: without randomness all are alike
    let _zeros = getrandom::fill(&mut id);
    HeaderValue::try_from(CapsuleId(id).to_string()).unwrap_or(HeaderValue::from_static("0"))
}
