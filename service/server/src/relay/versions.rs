//! The order of sessions' versions, which devices seal and keep here (http-v1 §12.1). Nothing of them is opened.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, Query, Request, State, rejection::QueryRejection},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use kvcap::{CapsuleId, Code, Error, Outline, Untrusted};
use kvcap_store::{Version, VersionPut, is_sealed_version};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Relay, aside, closing, id_in, pump::short_body, refusals, space};
use crate::{
    refusal::{Answer, Refusal},
    tokens::{Permission, Token},
};

/// Sessions, and versions, that are told at once.
const MOST: usize = 1000;
/// Capsules of a state: a session's longest chain.
const STATES: usize = 64;
/// Longest body, in bytes.
const LONGEST: usize = 16 << 10;
/// Greatest number of a version (session-v1 SES-J-2).
const GREATEST: u64 = (1 << 53) - 1;

/// Newest version of each of the caller's sessions
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct NewestVersions {
    sessions: Vec<NewestVersion>,
}

/// Newest version of a session
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct NewestVersion {
    /// Id of the session
    session: String,
    #[serde(flatten)]
    newest: VersionEntry,
}

/// Versions of a session, ascending
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Versions {
    /// Id of the session
    session: String,
    versions: Vec<VersionEntry>,
}

/// A version of a session that is kept
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct VersionEntry {
    /// Its number
    version: u64,
    /// Number of the last event that it has seen
    cursor: u64,
    /// Unix time at which it was put
    at: u64,
    /// Id of the capsule of its record and its events
    #[schema(pattern = "^[0-9a-f]{32}$")]
    capsule: String,
    /// Unix time at which that expires
    expires: u64,
    /// Ids of the capsules of its state
    states: Vec<String>,
}

/// A version that is put
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewVersion {
    /// Id of the capsule of its record and its events, which is kept
    #[schema(pattern = "^[0-9a-f]{32}$")]
    capsule: String,
    /// Ids of the capsules of its state, which are kept
    #[serde(default)]
    #[schema(max_items = 64)]
    states: Vec<String>,
    /// Number of the newest version that is kept, 0 where there is none
    #[schema(maximum = 9_007_199_254_740_991_i64)]
    after: u64,
}

impl From<Version> for VersionEntry {
    fn from(version: Version) -> Self {
        Self {
            version: version.version,
            cursor: version.cursor,
            at: version.at,
            capsule: version.capsule.to_string(),
            expires: version.expires,
            states: version.states.iter().map(CapsuleId::to_string).collect(),
        }
    }
}

#[derive(Deserialize)]
pub(super) struct AfterName {
    #[serde(default)]
    after: String,
}

/// `GET /v1/versions`.
#[utoipa::path(
    get,
    path = "/v1/versions",
    tag = "versions",
    params(("after" = Option<String>, Query, description = "Id of a session: those after it")),
    responses((status = 200, description = "At most 1,000 sessions", body = NewestVersions, content_type = "application/json"), refusals::Asked),
    security(("token" = []))
)]
pub(super) async fn list(
    State(relay): State<Arc<Relay>>,
    query: Result<Query<AfterName>, QueryRejection>,
    headers: HeaderMap,
) -> Answer {
    let caller = relay.caller(&headers, Permission::SessionGet)?;
    let Query(AfterName { after }) = query.map_err(|_| Refusal::Status(StatusCode::BAD_REQUEST))?;
    if !after.is_empty() {
        named(after.clone())?;
    }
    let reading = Arc::clone(&relay);
    let newest = aside(move || {
        Ok(reading
            .order
            .newest_versions(space(&caller), &after, MOST)?)
    });
    let sessions = newest.await?.into_iter().map(|(session, newest)| {
        let newest = newest.into();
        NewestVersion { session, newest }
    });
    let sessions = sessions.collect();
    Ok(Json(NewestVersions { sessions }).into_response())
}

#[derive(Deserialize)]
pub(super) struct After {
    #[serde(default)]
    after: u64,
}

/// `GET /v1/versions/SESSION`.
#[utoipa::path(
    get,
    path = "/v1/versions/{session}",
    tag = "versions",
    params(("session" = String, Path, description = "Id of the session"), ("after" = Option<u64>, Query, description = "Number of a version: those after it", minimum = 0, maximum = 9_007_199_254_740_991_i64)),
    responses((status = 200, description = "At most 1,000 versions", body = Versions, content_type = "application/json"), refusals::Asked),
    security(("token" = []))
)]
pub(super) async fn show(
    State(relay): State<Arc<Relay>>,
    Path(session): Path<String>,
    query: Result<Query<After>, QueryRejection>,
    headers: HeaderMap,
) -> Answer {
    let caller = relay.caller(&headers, Permission::SessionGet)?;
    let Query(After { after }) = query.map_err(|_| Refusal::Status(StatusCode::BAD_REQUEST))?;
    let after = counted(after)?;
    let session = named(session)?;
    let (reading, of) = (Arc::clone(&relay), session.clone());
    let versions = aside(move || {
        let space = space(&caller);
        let versions = reading.order.versions(space, &of, after, MOST)?;
        // one that has no later versions is there all the same
        match versions.is_empty() && reading.order.versions(space, &of, 0, 1)?.is_empty() {
            true => Err(Refusal::Status(StatusCode::NOT_FOUND)),
            false => Ok(versions),
        }
    });
    let versions = versions.await?.into_iter().map(VersionEntry::from);
    let versions = versions.collect();
    Ok(Json(Versions { session, versions }).into_response())
}

/// `PUT /v1/versions/SESSION/VERSION`.
#[utoipa::path(
    put,
    path = "/v1/versions/{session}/{version}",
    tag = "versions",
    params(("session" = String, Path, description = "Id of the session"), ("version" = u64, Path, description = "Number of the version", minimum = 1, maximum = 9_007_199_254_740_991_i64)),
    request_body(content = NewVersion, content_type = "application/json"),
    responses((status = 200, description = "It was there", body = VersionEntry, content_type = "application/json"), (status = 201, description = "Put", body = VersionEntry, content_type = "application/json"), refusals::Asked, refusals::Received),
    security(("token" = []))
)]
pub(super) async fn put(
    State(relay): State<Arc<Relay>>,
    Path((session, version)): Path<(String, String)>,
    request: Request,
) -> Response {
    // a body that is refused is not waited for
    closing(put_next(relay, session, &version, request).await)
}

async fn put_next(relay: Arc<Relay>, session: String, version: &str, request: Request) -> Answer {
    let caller = relay.caller(request.headers(), Permission::SessionPut)?;
    let session = named(session)?;
    let version = number_in(version)?;
    let body = short_body(request.into_body(), relay.policy(), LONGEST).await?;
    let bad = |_| Refusal::Status(StatusCode::BAD_REQUEST);
    let new: NewVersion = serde_json::from_slice(&body).map_err(bad)?;
    let after = counted(new.after)?;
    if new.states.len() > STATES {
        let what = "a version names too many capsules";
        return Err(Refusal::Code(Error::new(Code::SessionLimit, what)));
    }
    let capsule = id_in(&new.capsule)?;
    let states = new.states.iter().map(|id| id_in(id));
    let states = states.collect::<Answer<Vec<CapsuleId>>>()?;
    let writing = Arc::clone(&relay);
    let put = relay.writing(move || {
        let (cursor, expires) = writing.sealed_version(&caller, capsule, &session, version)?;
        let next = Version {
            version,
            cursor,
            at: writing.verifier().judge().map_err(Refusal::Unready)?.now(),
            capsule,
            expires,
            states,
        };
        let put = writing
            .order
            .put_version(space(&caller), &session, &next, after)?;
        Ok((put, next))
    });
    let status = match put.await? {
        (VersionPut::New, next) => (StatusCode::CREATED, next),
        (VersionPut::Same, next) => (StatusCode::OK, next),
        (VersionPut::Missing, _) => return Err(Refusal::Status(StatusCode::NOT_FOUND)),
    };
    Ok((status.0, Json(VersionEntry::from(status.1))).into_response())
}

/// `DELETE /v1/versions/SESSION`.
#[utoipa::path(
    delete,
    path = "/v1/versions/{session}",
    tag = "versions",
    params(("session" = String, Path, description = "Id of the session")),
    responses((status = 204, description = "Its versions are gone, and their capsules"), refusals::Asked),
    security(("token" = []))
)]
pub(super) async fn delete(
    State(relay): State<Arc<Relay>>,
    Path(session): Path<String>,
    headers: HeaderMap,
) -> Answer {
    let caller = relay.caller(&headers, Permission::SessionPut)?;
    if !caller.may.contains(&Permission::Put) {
        return Err(Refusal::Status(StatusCode::FORBIDDEN));
    }
    let session = named(session)?;
    let removing = Arc::clone(&relay);
    let removed = relay.writing(move || {
        let space = space(&caller);
        let gone = Refusal::Status(StatusCode::NOT_FOUND);
        // who is stopped in between finds no session any more: capsules that nothing names expire
        let capsules = removing
            .order
            .forget_versions(space, &session)?
            .ok_or(gone)?;
        for id in capsules {
            removing.store.remove((space, id))?;
        }
        Ok(())
    });
    removed.await?;
    Ok((
        StatusCode::NO_CONTENT,
        [(header::CACHE_CONTROL, "no-store")],
    )
        .into_response())
}

impl Relay {
    /// The cursor and the end of a capsule that is kept, if it is this version of this session, sealed to be kept in order.
    fn sealed_version(
        &self,
        caller: &Token,
        id: CapsuleId,
        session: &str,
        version: u64,
    ) -> Answer<(u64, u64)> {
        let (file, entry) = self.open_for(caller, (space(caller), id))?;
        let untrusted = Untrusted::read_at(&*file, &self.policy().limits.reader())?;
        let verdict = self.judge_header(caller, untrusted, Some(id))?;
        let manifest = verdict.tip().manifest();
        if !is_sealed_version(&Outline::of(manifest)) {
            let what = "the capsule is no version of a session";
            return Err(Refusal::Code(Error::new(Code::SessionEmpty, what)));
        }
        let stated = manifest.claims.terms.session.as_ref();
        match stated.filter(|stated| stated.id == session && stated.version == version) {
            Some(stated) => Ok((stated.replay_cursor, entry.expires)),
            None => {
                let what = "the capsule is of another session or version";
                Err(Refusal::Code(Error::new(Code::ClaimsSession, what)))
            }
        }
    }
}

/// A session's id, if it can be a claim (capsule-v1 CAP-E-9).
fn named(session: String) -> Answer<String> {
    match (1..=1024).contains(&session.len()) && !session.chars().any(char::is_control) {
        true => Ok(session),
        false => {
            let what = "a session's id is a text of 1 to 1,024 bytes without control characters";
            Err(Refusal::Code(Error::new(Code::SessionMalformed, what)))
        }
    }
}

/// The number in a path, in its one form.
fn number_in(path: &str) -> Answer<u64> {
    let number = path
        .parse()
        .ok()
        .filter(|number: &u64| number.to_string() == path);
    match number.ok_or(Refusal::Status(StatusCode::NOT_FOUND))? {
        0 => Err(Refusal::Status(StatusCode::NOT_FOUND)),
        number => counted(number),
    }
}

fn counted(number: u64) -> Answer<u64> {
    match number <= GREATEST {
        true => Ok(number),
        false => {
            let what = "no version has such a number";
            Err(Refusal::Code(Error::new(Code::SessionMalformed, what)))
        }
    }
}
