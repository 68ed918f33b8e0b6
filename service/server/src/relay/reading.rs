//! Reading and deleting (http-v1 §7).

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use axum::{
    body::Body,
    extract::{Path, State},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use kvcap::{Error, Untrusted};
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};
use tokio_util::io::ReaderStream;

use super::{
    Relay, aside,
    fields::{CAPSULE, REPR_DIGEST, Wanted, names_tag, range, repr_digest, text, wants_sha256},
    id_in,
    index::{Entry, Name},
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
    let removed = relay.writing(move || removing.remove(name)).await?;
    match removed {
        true => Ok(StatusCode::NO_CONTENT.into_response()),
        false => Err(Refusal::Status(StatusCode::NOT_FOUND)),
    }
}

impl Relay {
    /// Removes a capsule for good; false where it is not kept.
    pub(super) fn remove(&self, name: Name) -> Answer<bool> {
        if self.index.get(name).is_none() {
            return Ok(false);
        }
        self.blobs.remove(name.0, name.1)?;
        self.index.remove(name);
        Ok(true)
    }

    /// Opens a capsule that is kept, and judges it as of now.
    fn open_for(&self, caller: &Token, name: Name) -> Answer<(File, Entry)> {
        let gone = Refusal::Status(StatusCode::NOT_FOUND);
        let Some(entry) = self.index.get(name) else {
            return Err(gone);
        };
        let path = self.blobs.path(name.0, name.1);
        let file = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(gone),
            opened => opened.map_err(|error| Error::source(&error, path.display()))?,
        };
        let untrusted = Untrusted::read(&mut &file, &self.policy().limits.reader())?;
        self.judge_header(caller, untrusted, Some(name.1))?;
        Ok((file, entry))
    }

    /// SHA-256 of a file, computed once.
    fn sha256(&self, name: Name, entry: &Entry, mut file: &File) -> Answer<[u8; 32]> {
        if let Some(digest) = entry.sha256 {
            return Ok(digest);
        }
        let failed = |error| Error::source(&error, "capsule");
        file.seek(SeekFrom::Start(0)).map_err(failed)?;
        let (mut hasher, mut piece) = (Sha256::new(), vec![0; PIECE]);
        loop {
            match file.read(&mut piece).map_err(failed)? {
                0 => break,
                len => hasher.update(piece.get(..len).unwrap_or_default()),
            }
        }
        let digest = hasher.finalize().into();
        self.index.set_sha256(name, entry.tag, digest);
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
        let (hashing, file) = (Arc::clone(&relay), file.try_clone());
        let file = file.map_err(|error| Error::source(&error, "capsule"))?;
        let digest = relay
            .writing(move || hashing.sha256(name, &entry, &file))
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
        Some(sent) if body => stream(&relay, file, first, sent)?,
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

fn stream(relay: &Arc<Relay>, mut file: File, first: u64, sent: u64) -> Answer<Body> {
    let failed = |error| Error::source(&error, "capsule");
    file.seek(SeekFrom::Start(first)).map_err(failed)?;
    let counted = Counted {
        file: tokio::fs::File::from_std(file).take(sent),
        relay: Arc::clone(relay),
    };
    Ok(Body::from_stream(ReaderStream::with_capacity(
        counted, PIECE,
    )))
}

fn set(response: &mut Response, fields: &[(HeaderName, String)]) {
    for (name, text) in fields {
        if let Ok(value) = HeaderValue::try_from(text.as_str()) {
            response.headers_mut().insert(name, value);
        }
    }
}

/// A file whose bytes are counted as they are sent.
struct Counted {
    file: tokio::io::Take<tokio::fs::File>,
    relay: Arc<Relay>,
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.file).poll_read(cx, buf))?;
        self.relay.metrics.sent(buf.filled().len() - before);
        Poll::Ready(Ok(()))
    }
}
