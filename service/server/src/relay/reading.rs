//! Reading and deleting (http-v1 §7).

use std::{io, sync::Arc};

use axum::{
    body::Body,
    extract::{Path, State},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use kvcap::{Error, Untrusted};
use kvcap_store::{Entry, Name, Stored};
use sha2::{Digest as _, Sha256};

use super::{
    Relay, aside,
    fields::{CAPSULE, REPR_DIGEST, Wanted, names_tag, range, repr_digest, text, wants_sha256},
    id_in,
    refusals::Asked,
    space,
};
use crate::{
    refusal::{Answer, Problem, Refusal},
    tokens::{Permission, Token},
};

/// Bytes that are read at once.
const PIECE: usize = 64 << 10;

/// `GET /v1/capsules/ID`.
#[utoipa::path(
    get,
    path = "/v1/capsules/{id}",
    tag = "capsules",
    params(("id" = String, Path, description = "Id of a capsule", pattern = "^[0-9a-f]{32}$")),
    responses(
        (status = 200, description = "The whole of it", body = Vec<u8>, content_type = "application/vnd.kvcap"),
        (status = 206, description = "A range", body = Vec<u8>, content_type = "application/vnd.kvcap"),
        (status = 304, description = "The caller has it"),
        (status = 416, description = "No byte of the range is there", body = Problem, content_type = "application/problem+json"),
        Asked
    ),
    security(("token" = []))
)]
pub(super) async fn get(
    State(relay): State<Arc<Relay>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Answer {
    read(relay, &id, headers, true).await
}

/// `HEAD /v1/capsules/ID`.
#[utoipa::path(
    head,
    path = "/v1/capsules/{id}",
    tag = "capsules",
    params(("id" = String, Path, description = "Id of a capsule", pattern = "^[0-9a-f]{32}$")),
    responses((status = 200, description = "It is kept"), (status = 304, description = "The caller has it"), Asked),
    security(("token" = []))
)]
pub(super) async fn head(
    State(relay): State<Arc<Relay>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Answer {
    read(relay, &id, headers, false).await
}

/// `DELETE /v1/capsules/ID`.
#[utoipa::path(
    delete,
    path = "/v1/capsules/{id}",
    tag = "capsules",
    params(("id" = String, Path, description = "Id of a capsule", pattern = "^[0-9a-f]{32}$")),
    responses((status = 204, description = "Removed"), Asked),
    security(("token" = []))
)]
pub(super) async fn delete(
    State(relay): State<Arc<Relay>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Answer {
    let caller = relay.caller(&headers, Permission::Put)?;
    let name = (space(&caller), id_in(&id)?);
    let removing = Arc::clone(&relay);
    let removed = relay
        .writing(move || Ok(removing.store.remove(name)?))
        .await?;
    match removed {
        true => Ok(StatusCode::NO_CONTENT.into_response()),
        false => Err(Refusal::Status(StatusCode::NOT_FOUND)),
    }
}

impl Relay {
    /// Opens a capsule that is kept, and judges it as of now.
    pub(super) fn open_for(&self, caller: &Token, name: Name) -> Answer<(Arc<dyn Stored>, Entry)> {
        let gone = || Refusal::Status(StatusCode::NOT_FOUND);
        let (entry, file) = self.store.open(name)?.ok_or_else(gone)?;
        let file: Arc<dyn Stored> = Arc::from(file);
        let untrusted = Untrusted::read_at(&*file, &self.policy().limits.reader())?;
        self.judge_header(caller, untrusted, Some(name.1))?;
        Ok((file, entry))
    }

    /// SHA-256 of a file, computed once.
    fn sha256(&self, name: Name, entry: &Entry, file: &dyn Stored) -> Answer<[u8; 32]> {
        if let Some(digest) = entry.sha256 {
            return Ok(digest);
        }
        let mut hasher = Sha256::new();
        file.will_read(0..entry.bytes);
        let mut rest = Rest {
            at: 0,
            end: entry.bytes,
        };
        while let Some(piece) = rest.next(file) {
            hasher.update(piece.map_err(|error| Error::source(&error, "capsule"))?);
        }
        let digest = hasher.finalize().into();
        self.store.set_sha256(name, entry.tag, digest)?;
        Ok(digest)
    }
}

async fn read(relay: Arc<Relay>, id: &str, headers: HeaderMap, body: bool) -> Answer {
    let caller = relay.caller(&headers, Permission::Get)?;
    let name = (space(&caller), id_in(id)?);
    let opening = Arc::clone(&relay);
    let (file, entry) = aside(move || opening.open_for(&caller, name)).await?;
    let (tag, len) = (entry.tag, entry.bytes);
    let mut fields = vec![
        (header::ETAG, tag.quoted()),
        (header::ACCEPT_RANGES, "bytes".to_owned()),
    ];
    let known = text(&headers, header::IF_NONE_MATCH)?.is_some_and(|list| names_tag(list, tag));
    // a range is of a GET alone (RFC 9110 §14.2)
    let wanted = match body {
        true => range(&headers, tag, len)?,
        false => Wanted::All,
    };
    if !known && wants_sha256(&headers) {
        let (hashing, file) = (Arc::clone(&relay), Arc::clone(&file));
        let digest = relay
            .writing(move || hashing.sha256(name, &entry, &*file))
            .await?;
        fields.push((REPR_DIGEST, repr_digest(&digest)));
    }
    let (status, first, sent) = match wanted {
        _ if known => (StatusCode::NOT_MODIFIED, 0, None),
        Wanted::All => (StatusCode::OK, 0, Some(len)),
        Wanted::Range(first, last) => {
            fields.push((header::CONTENT_RANGE, format!("bytes {first}-{last}/{len}")));
            (StatusCode::PARTIAL_CONTENT, first, Some(last - first + 1))
        }
        Wanted::Nothing => {
            let mut response = Refusal::Status(StatusCode::RANGE_NOT_SATISFIABLE).into_response();
            let field = (header::CONTENT_RANGE, format!("bytes */{len}"));
            set(&mut response, &[field]);
            return Ok(response);
        }
    };
    let content = match sent {
        Some(sent) if body => stream(relay, file, first, sent),
        _ => Body::empty(),
    };
    if let Some(sent) = sent {
        fields.push((header::CONTENT_LENGTH, sent.to_string()));
        fields.push((header::CONTENT_TYPE, CAPSULE.to_owned()));
    }
    let mut response = (status, content).into_response();
    set(&mut response, &fields);
    Ok(response)
}

/// What is still to be read of a file.
#[derive(Clone, Copy)]
struct Rest {
    at: u64,
    end: u64,
}

impl Rest {
    fn next(&mut self, file: &dyn Stored) -> Option<io::Result<Vec<u8>>> {
        let left = self.end.checked_sub(self.at).filter(|left| *left > 0)?;
        let len = usize::try_from(left).map_or(PIECE, |left| left.min(PIECE));
        let mut piece = vec![0; len];
        let read = file.read_exact_at(self.at, &mut piece);
        self.at += u64::try_from(len).unwrap_or(left);
        Some(read.map(|()| piece))
    }
}

/// Bytes of a file as a body, counted as they are sent. A piece is read when the one before has gone.
fn stream(relay: Arc<Relay>, file: Arc<dyn Stored>, first: u64, sent: u64) -> Body {
    let rest = Rest {
        at: first,
        end: first.saturating_add(sent),
    };
    file.will_read(rest.at..rest.end);
    Body::from_stream(futures_util::stream::unfold(rest, move |mut rest| {
        let (relay, file) = (Arc::clone(&relay), Arc::clone(&file));
        async move {
            let read = tokio::task::spawn_blocking(move || (rest.next(&*file), rest));
            let (piece, rest) = read.await.ok()?;
            let piece = piece?.inspect(|piece| relay.metrics.sent(piece.len()));
            Some((piece, rest))
        }
    }))
}

fn set(response: &mut Response, fields: &[(HeaderName, String)]) {
    for (name, text) in fields {
        if let Ok(value) = HeaderValue::try_from(text.as_str()) {
            response.headers_mut().insert(name, value);
        }
    }
}
