//! Resumable uploads (http-v1 §6; draft-ietf-httpbis-resumable-upload-12).

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use axum::{
    body::{Body, Bytes},
    extract::{Path, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use kvcap::CapsuleId;
use kvcap_store::Space;

use super::{
    Relay,
    answer::{Accepted, Outcome, closing},
    aside,
    fields::{
        PARTIAL, UPLOAD_COMPLETE, UPLOAD_LENGTH, UPLOAD_LIMIT, UPLOAD_OFFSET, check_type, complete,
        number,
    },
    id_in,
    incoming::Incoming,
    pump::Pump,
    refusals::{Asked, Received},
    space,
};
use crate::{
    limits::Limits,
    refusal::{Answer, Refusal},
    tokens::Permission,
};

/// The uploads that wait for more.
#[derive(Debug, Default)]
pub(super) struct Uploads(Mutex<HashMap<CapsuleId, Arc<Upload>>>);

/// An upload over several requests, of which the newest alone goes on.
struct Upload {
    id: CapsuleId,
    space: Space,
    /// Number of the newest request.
    newest: AtomicU64,
    state: Mutex<Progress>,
}

struct Progress {
    /// None once it has ended.
    incoming: Option<Incoming>,
    /// As it was stated.
    length: Option<u64>,
    touched: Instant,
}

impl std::fmt::Debug for Upload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Upload({})", self.id)
    }
}

impl Uploads {
    fn all(&self) -> MutexGuard<'_, HashMap<CapsuleId, Arc<Upload>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, path: &str, space: Space) -> Answer<Arc<Upload>> {
        let found = self.all().get(&id_in(path)?).cloned();
        found
            .filter(|upload| upload.space == space)
            .ok_or(Refusal::Status(StatusCode::NOT_FOUND))
    }

    /// Forgets those that nobody has asked for in so long.
    pub(super) fn sweep(&self, longest: Duration) {
        let old = |upload: &Upload| upload.state().touched.elapsed() > longest;
        // one that is being fed is not old, and not waited for
        let all: Vec<Arc<Upload>> = self.all().values().cloned().collect();
        for upload in all.into_iter().filter(|upload| old(upload)) {
            self.all().remove(&upload.id);
        }
    }
}

impl Upload {
    fn state(&self) -> MutexGuard<'_, Progress> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a request, and ends the one before.
    fn request(&self) -> u64 {
        self.newest.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// The state, if this request is still the newest.
    fn state_for(&self, request: u64) -> Answer<MutexGuard<'_, Progress>> {
        let mut state = self.state();
        if state.incoming.is_none() {
            return Err(Refusal::Status(StatusCode::NOT_FOUND));
        }
        if self.newest.load(Ordering::SeqCst) != request {
            return Err(Refusal::Status(StatusCode::CONFLICT));
        }
        state.touched = Instant::now();
        Ok(state)
    }

    fn feed(&self, request: u64, batch: &[Bytes]) -> Answer<()> {
        let mut state = self.state_for(request)?;
        let longest = state.length;
        if let Some(incoming) = state.incoming.take() {
            let incoming = incoming.feed(batch)?;
            if longest.is_some_and(|longest| incoming.received() > longest) {
                return Err(Refusal::Status(StatusCode::BAD_REQUEST));
            }
            state.incoming = Some(incoming);
        }
        Ok(())
    }

    fn finish(&self, request: u64) -> Answer<Outcome> {
        let mut state = self.state_for(request)?;
        let length = state.length;
        match state.incoming.take() {
            None => Err(Refusal::Status(StatusCode::NOT_FOUND)),
            Some(incoming) if length.is_some_and(|length| incoming.received() != length) => {
                Err(Refusal::Status(StatusCode::BAD_REQUEST))
            }
            Some(incoming) => incoming.finish(),
        }
    }
}

/// `OPTIONS /v1/capsules`.
#[utoipa::path(
    options,
    path = "/v1/capsules",
    tag = "uploads",
    responses((status = 204, description = "Limits of uploads in parts"))
)]
pub(super) async fn options(State(relay): State<Arc<Relay>>) -> Response {
    let mut response = StatusCode::NO_CONTENT.into_response();
    set(
        &mut response,
        HeaderName::from_static("accept-patch"),
        PARTIAL,
    );
    set(&mut response, UPLOAD_LIMIT, &limit(&relay.policy().limits));
    response
}

/// Creates an upload whose beginning is the content of a request.
pub(super) async fn create(
    relay: &Arc<Relay>,
    mut incoming: Incoming,
    headers: &HeaderMap,
    body: Body,
) -> Answer {
    let length = number(headers, UPLOAD_LENGTH)?;
    let space = incoming.space();
    let mut pump = Pump::new(body, relay.policy());
    while let Some(batch) = pump.next().await? {
        incoming = relay.writing(move || incoming.feed(&batch)).await?;
    }
    let mut id = [0; 16];
    getrandom::fill(&mut id).map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
    let upload = Arc::new(Upload {
        id: CapsuleId(id),
        space,
        newest: AtomicU64::new(0),
        state: Mutex::new(Progress {
            incoming: Some(incoming),
            length,
            touched: Instant::now(),
        }),
    });
    let mut response = described(relay, &upload, StatusCode::CREATED)?;
    let place = format!("/v1/uploads/{}", upload.id);
    set(&mut response, header::LOCATION, &place);
    relay.uploads.all().insert(upload.id, upload);
    Ok(response)
}

/// `HEAD /v1/uploads/UPLOAD`.
#[utoipa::path(
    head,
    path = "/v1/uploads/{upload}",
    tag = "uploads",
    params(("upload" = String, Path, description = "Id of an upload", pattern = "^[0-9a-f]{32}$")),
    responses((status = 204, description = "How far it has come, in Upload-Offset"), Asked),
    security(("token" = []))
)]
pub(super) async fn offset(
    State(relay): State<Arc<Relay>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Answer {
    let caller = relay.caller(&headers, Permission::Put)?;
    let upload = relay.uploads.find(&id, space(&caller))?;
    upload.request();
    aside(move || described(&relay, &upload, StatusCode::NO_CONTENT)).await
}

/// `DELETE /v1/uploads/UPLOAD`.
#[utoipa::path(
    delete,
    path = "/v1/uploads/{upload}",
    tag = "uploads",
    params(("upload" = String, Path, description = "Id of an upload", pattern = "^[0-9a-f]{32}$")),
    responses((status = 204, description = "Gone"), Asked),
    security(("token" = []))
)]
pub(super) async fn delete(
    State(relay): State<Arc<Relay>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Answer {
    let caller = relay.caller(&headers, Permission::Put)?;
    let upload = relay.uploads.find(&id, space(&caller))?;
    upload.request();
    relay.uploads.all().remove(&upload.id);
    aside(move || {
        upload.state().incoming = None;
        Ok(StatusCode::NO_CONTENT.into_response())
    })
    .await
}

/// `PATCH /v1/uploads/UPLOAD`.
#[utoipa::path(
    patch,
    path = "/v1/uploads/{upload}",
    tag = "uploads",
    params(
        ("upload" = String, Path, description = "Id of an upload", pattern = "^[0-9a-f]{32}$"),
        ("upload-offset" = u64, Header, description = "Where the content belongs"),
        ("upload-complete" = String, Header, description = "Whether it is the last", pattern = r"^\?[01]$"),
    ),
    request_body(content = Vec<u8>, content_type = "application/partial-upload"),
    responses((status = 204, description = "Appended"), (status = 200, description = "Kept already", body = Accepted, content_type = "application/json"), (status = 201, description = "Kept; or an upload in parts, begun", body = Option<Accepted>, content_type = "application/json"), Asked, Received),
    security(("token" = []))
)]
pub(super) async fn append(
    State(relay): State<Arc<Relay>>,
    Path(id): Path<String>,
    request: Request,
) -> Response {
    closing(append_to(&relay, &id, request).await)
}

async fn append_to(relay: &Arc<Relay>, id: &str, request: Request) -> Answer {
    let (head, body) = request.into_parts();
    let headers = &head.headers;
    let caller = relay.caller(headers, Permission::Put)?;
    let upload = relay.uploads.find(id, space(&caller))?;
    check_type(headers, PARTIAL, true)?;
    let bad = || Refusal::Status(StatusCode::BAD_REQUEST);
    let offset = number(headers, UPLOAD_OFFSET)?.ok_or_else(bad)?;
    let complete = complete(headers)?.ok_or_else(bad)?;
    let length = number(headers, UPLOAD_LENGTH)?;
    let request = upload.request();
    if let Some(conflict) = begin(relay, &upload, request, offset, length).await? {
        return Ok(conflict);
    }
    let mut pump = Pump::new(body, relay.policy());
    while let Some(batch) = pump.next().await? {
        let feeding = Arc::clone(&upload);
        let fed = relay.writing(move || feeding.feed(request, &batch)).await;
        fed.inspect_err(|_| relay.uploads.forget(&upload))?;
    }
    if !complete {
        let described = Arc::clone(relay);
        return aside(move || self::described(&described, &upload, StatusCode::NO_CONTENT)).await;
    }
    let ending = Arc::clone(&upload);
    let ended = relay.writing(move || ending.finish(request)).await;
    relay.uploads.forget(&upload);
    let mut response = closing(ended.map(IntoResponse::into_response));
    set(&mut response, UPLOAD_COMPLETE, "?1");
    Ok(response)
}

impl Uploads {
    /// Forgets an upload that has ended.
    fn forget(&self, upload: &Upload) {
        if upload.state().incoming.is_none() {
            self.all().remove(&upload.id);
        }
    }
}

/// Compares where the request and the upload are; the answer where they differ.
async fn begin(
    relay: &Arc<Relay>,
    upload: &Arc<Upload>,
    request: u64,
    offset: u64,
    length: Option<u64>,
) -> Answer<Option<Response>> {
    let (relay, upload) = (Arc::clone(relay), Arc::clone(upload));
    aside(move || {
        let mut state = upload.state_for(request)?;
        let received = state.incoming.as_ref().map_or(0, Incoming::received);
        if state.length.is_some() && length.is_some() && state.length != length {
            return Err(Refusal::Status(StatusCode::BAD_REQUEST));
        }
        state.length = state.length.or(length);
        drop(state);
        match offset == received {
            true => Ok(None),
            false => described(&relay, &upload, StatusCode::CONFLICT).map(Some),
        }
    })
    .await
}

/// What an upload has come to.
fn described(relay: &Relay, upload: &Upload, status: StatusCode) -> Answer {
    let state = upload.state();
    let Some(incoming) = &state.incoming else {
        return Err(Refusal::Status(StatusCode::NOT_FOUND));
    };
    let mut response = match status {
        StatusCode::CONFLICT => Refusal::Status(status).into_response(),
        status => status.into_response(),
    };
    set(
        &mut response,
        UPLOAD_OFFSET,
        &incoming.received().to_string(),
    );
    set(&mut response, UPLOAD_COMPLETE, "?0");
    set(&mut response, UPLOAD_LIMIT, &limit(&relay.policy().limits));
    set(&mut response, header::CACHE_CONTROL, "no-store");
    if let Some(length) = state.length.or(incoming.len()) {
        set(&mut response, UPLOAD_LENGTH, &length.to_string());
    }
    Ok(response)
}

fn limit(limits: &Limits) -> String {
    let (size, age) = (limits.capsule, limits.resumable.as_secs());
    format!("max-size={size}, max-age={age}")
}

fn set(response: &mut Response, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::try_from(value) {
        response.headers_mut().insert(name, value);
    }
}
