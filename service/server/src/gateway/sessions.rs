//! Sessions over HTTP (http-v1 §12): whose they are is the token's to say.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use axum::{
    body::Body,
    extract::{Path, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use kvcap::{CapsuleId, Code, Error, Result};
use kvcap_engines::Slot;
use kvcap_session::{Names, Record, Session};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Map, Value, json};
use tokio_util::io::ReaderStream;

use super::{
    Gateway,
    answering::as_json,
    failed,
    resuming::Wanted,
    shapes,
    slots::{Held, Lease},
};
use crate::{
    refusal::{Answer, Refusal},
    relay::{AskedFor, CAPSULE, Engine, Received, closing, put_whole, short_body},
    tokens::{Permission, Token},
};

/// Longest body that names a capsule, in bytes.
const LONGEST_NAME: usize = 1 << 10;

/// `GET /v1/sessions`.
#[utoipa::path(
    get,
    path = "/v1/sessions",
    tag = "sessions",
    responses((status = 200, description = "Sessions of the caller", body = shapes::Sessions, content_type = "application/json"), AskedFor),
    security(("token" = []))
)]
pub(super) async fn list(State(gateway): State<Arc<Gateway>>, headers: HeaderMap) -> Answer {
    let caller = gateway.relay.caller(&headers, Permission::SessionGet)?;
    let reading = Arc::clone(&gateway);
    let live = gateway.slots.held();
    let told = gateway.aside(move || {
        let mut all = Vec::new();
        for (names, changed) in reading.sessions.changed()? {
            if !is_of(&names, &caller) {
                continue;
            }
            // one that is damaged hides no other
            let status = Session::load(&reading.sessions, &names).and_then(|own| own.newest());
            if matches!(&status, Err(error) if error.code() == Code::SessionMissing) {
                continue;
            }
            all.push(json!({
                "session": names.session,
                "changed": seconds(changed),
                "in_slot": live.contains(&names),
                "checkpoint": status.as_ref().ok().and_then(Option::as_ref).map(checkpoint_entry),
                "code": status.err().map(|error| error.code().number()),
            }));
        }
        Ok(json!({"sessions": all}))
    });
    Ok(as_json(StatusCode::OK, &told.await?))
}

/// `GET /v1/sessions/SESSION`.
#[utoipa::path(
    get,
    path = "/v1/sessions/{session}",
    tag = "sessions",
    params(("session" = String, Path, description = "Id of the session")),
    responses((status = 200, description = "The session", body = shapes::Session, content_type = "application/json"), AskedFor),
    security(("token" = []))
)]
pub(super) async fn show(
    State(gateway): State<Arc<Gateway>>,
    Path(session): Path<String>,
    headers: HeaderMap,
) -> Answer {
    let caller = gateway.relay.caller(&headers, Permission::SessionGet)?;
    let names = gateway.names_of(&caller, &session)?;
    let in_slot = gateway.slots.held().contains(&names);
    let told = gateway.of_session(names, move |session| {
        let status = session.status()?;
        let resumes = session.observations()?.into_iter().rev().take(20);
        let resumes = resumes.map(|seen| {
            json!({
                "at": seen.at, "rung": seen.rung.name(), "code": seen.code, "milliseconds": seen.milliseconds,
                "asked": seen.asked, "restored": seen.restored, "evaluated": seen.evaluated,
            })
        });
        Ok(json!({
            "session": session.names().session,
            "in_slot": in_slot,
            "events": status.events,
            "turns": status.current.turns,
            "messages": status.current.messages,
            "checkpoints": status.checkpoints,
            "capsules": status.capsules.0,
            "capsule_bytes": status.capsules.1,
            "checkpoint": status.checkpoint.as_ref().map(checkpoint_entry),
            "resumes": resumes.collect::<Vec<_>>(),
        }))
    });
    Ok(as_json(StatusCode::OK, &told.await?))
}

/// `POST /v1/sessions/SESSION/checkpoint`.
#[utoipa::path(
    post,
    path = "/v1/sessions/{session}/checkpoint",
    tag = "sessions",
    params(("session" = String, Path, description = "Id of the session")),
    responses((status = 200, description = "There is nothing to save", body = shapes::Checkpoint, content_type = "application/json"), (status = 201, description = "Saved; the capsule itself, where that is accepted", content((shapes::Checkpoint = "application/json"), (Vec<u8> = "application/vnd.kvcap"))), AskedFor, Received, Engine),
    security(("token" = []))
)]
pub(super) async fn checkpoint(
    State(gateway): State<Arc<Gateway>>,
    Path(session): Path<String>,
    headers: HeaderMap,
) -> Answer {
    let caller = gateway.relay.caller(&headers, Permission::SessionPut)?;
    let names = gateway.names_of(&caller, &session)?;
    let itself = accepts_capsule(&headers);
    if itself && !caller.may.contains(&Permission::Get) {
        return Err(Refusal::Status(StatusCode::FORBIDDEN));
    }
    // who breaks off does not break what is done in a slot
    let saving = tokio::spawn(gateway.checkpoint(names, itself));
    let saved = saving.await;
    saved.unwrap_or(Err(Refusal::Status(StatusCode::INTERNAL_SERVER_ERROR)))
}

impl Gateway {
    async fn checkpoint(self: Arc<Self>, names: Names, itself: bool) -> Answer {
        let (lease, slot) = self.held_or_newest(&names, itself).await?;
        let (record, is_new) = match (lease, slot) {
            (Some(mut lease), Some(slot)) => match lease.held.as_mut() {
                Some(held) if held.unsaved > 0 || itself => {
                    (self.save(slot, held, itself).await?, true)
                }
                _ => (self.newest(&names).await?, false),
            },
            _ => (self.newest(&names).await?, false),
        };
        if !itself {
            let status = match is_new {
                true => StatusCode::CREATED,
                false => StatusCode::OK,
            };
            let mut told = checkpoint_entry(&record);
            if let Value::Object(members) = &mut told {
                members.insert("session".to_owned(), names.session.into());
            }
            return Ok(as_json(status, &told));
        }
        let path = self.capsule_path(&names, &record).await?;
        let failed = |error| Refusal::Code(Error::source(&error, "capsule"));
        let file = tokio::fs::File::open(&path).await.map_err(failed)?;
        let len = file.metadata().await.map_err(failed)?.len();
        let mut response = Body::from_stream(ReaderStream::new(file)).into_response();
        *response.status_mut() = StatusCode::CREATED;
        let version = record.version.to_string();
        let fields = [
            (header::CONTENT_TYPE, CAPSULE.to_owned()),
            (header::CONTENT_LENGTH, len.to_string()),
            (HeaderName::from_static("x-kvcap-version"), version),
        ];
        for (name, text) in fields {
            if let Ok(value) = HeaderValue::try_from(text) {
                response.headers_mut().insert(name, value);
            }
        }
        Ok(response)
    }

    /// The slot that a session is in, or one into which its newest state is brought where that has to stand by itself.
    async fn held_or_newest(
        self: &Arc<Self>,
        names: &Names,
        itself: bool,
    ) -> Answer<(Option<Lease>, Option<Slot>)> {
        let generation = self.generation().await?;
        if let Some(mut lease) = self.slots.lease_held(names).await {
            let slot = Slot {
                index: lease.index,
                generation,
            };
            if lease
                .held
                .as_ref()
                .is_some_and(|held| held.generation == generation)
            {
                return Ok((Some(lease), Some(slot)));
            }
            lease.held = None;
        }
        let record = self.newest(names).await?;
        let chained = record
            .capsule
            .as_ref()
            .is_some_and(|own| !own.ancestors.is_empty());
        if !(itself && chained) {
            return Ok((None, None));
        }
        let (mut lease, slot) = self.lease(Some(names)).await?;
        let claim = self.resume(slot, Some(names), &Wanted::nothing()).await?;
        let whole = record.capsule.map(|own| own.id);
        if claim.state.is_none() || claim.state != whole {
            let code = claim.code.unwrap_or(Code::SessionNoState);
            return Err(Refusal::Code(Error::new(
                code,
                "the newest state cannot be restored",
            )));
        }
        lease.held = Some(Held {
            names: names.clone(),
            generation: slot.generation,
            tokens: Vec::new(),
            total: 0,
            unsaved: 0,
            handed_in: false,
        });
        Ok((Some(lease), Some(slot)))
    }

    async fn newest(self: &Arc<Self>, names: &Names) -> Answer<Record> {
        self.of_session(names.clone(), |session| {
            let what = "the session has no checkpoint yet";
            let none = || Error::new(Code::SessionNoState, what);
            session.newest()?.ok_or_else(none)
        })
        .await
    }

    /// What a step makes of a session. One that is not there is 404, as another's is.
    pub(super) async fn of_session<T: Send + 'static>(
        self: &Arc<Self>,
        names: Names,
        step: impl FnOnce(Session) -> Result<T> + Send + 'static,
    ) -> Answer<T> {
        let reading = Arc::clone(self);
        let made = self.aside(move || match Session::load(&reading.sessions, &names) {
            Err(error) if error.code() == Code::SessionMissing => Ok(None),
            loaded => step(loaded?).map(Some),
        });
        made.await?.ok_or(Refusal::Status(StatusCode::NOT_FOUND))
    }

    async fn capsule_path(self: &Arc<Self>, names: &Names, record: &Record) -> Answer<PathBuf> {
        let id = record.capsule.as_ref().map(|own| own.id.clone());
        self.of_session(names.clone(), move |session| {
            let own = session
                .states()?
                .into_iter()
                .find(|state| Some(&state.capsule.id) == id.as_ref());
            let what = "the checkpoint has no state";
            own.map(|state| state.path)
                .ok_or_else(|| Error::new(Code::SessionNoState, what))
        })
        .await
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    capsule: String,
}

/// `POST /v1/sessions/SESSION/resume`.
#[utoipa::path(
    post,
    path = "/v1/sessions/{session}/resume",
    tag = "sessions",
    params(("session" = String, Path, description = "Id of the session")),
    request_body(content((shapes::Kept = "application/json"), (Vec<u8> = "application/vnd.kvcap"))),
    responses((status = 200, description = "It is in a slot", body = shapes::Resumed, content_type = "application/json"), AskedFor, Received, Engine),
    security(("token" = []))
)]
pub(super) async fn resume(
    State(gateway): State<Arc<Gateway>>,
    Path(session): Path<String>,
    request: Request,
) -> Response {
    // a body that is refused is not waited for
    closing(bring_back(gateway, &session, request).await)
}

async fn bring_back(gateway: Arc<Gateway>, session: &str, request: Request) -> Answer {
    let headers = request.headers();
    let caller = gateway.relay.caller(headers, Permission::Restore)?;
    let names = gateway.names_of(&caller, session)?;
    let typ = headers.get(header::CONTENT_TYPE);
    let is_capsule = typ.is_some_and(|typ| typ.as_bytes() == CAPSULE.as_bytes());
    let id = match is_capsule {
        // it is kept as any other, and verified in full before a byte of it is opened
        true => put_whole(&gateway.relay, request).await?,
        false => {
            let (body, policy) = (request.into_body(), gateway.relay.policy());
            let body = short_body(body, policy, LONGEST_NAME).await?;
            let kept: Kept = parsed(&body)?;
            let id = CapsuleId::from_hex(&kept.capsule);
            id.ok_or(Refusal::Status(StatusCode::NOT_FOUND))?
        }
    };
    // who breaks off does not break what is done in a slot
    let resuming = tokio::spawn(gateway.hand_in(caller, names, id));
    let resumed = resuming.await;
    resumed.unwrap_or(Err(Refusal::Status(StatusCode::INTERNAL_SERVER_ERROR)))
}

impl Gateway {
    /// Brings a capsule that is kept into a slot of its session.
    async fn hand_in(self: Arc<Self>, caller: Arc<Token>, names: Names, id: CapsuleId) -> Answer {
        let gone = Refusal::Status(StatusCode::NOT_FOUND);
        let path = self.relay.kept(&caller, id).ok_or(gone)?;
        // whatever is refused is refused here, before there is a slot
        let (state, tokens, positions) = self.open(&names, path).await?;
        let (mut lease, slot) = self.lease(Some(&names)).await?;
        if let Some(mut held) = lease.held.take()
            && held.generation == slot.generation
            && held.unsaved > 0
        {
            self.save(slot, &mut held, false).await?;
        }
        self.engine.erase(slot).await.map_err(failed)?;
        if let Err(error) = self.engine.admit(slot, state).await {
            // it may have left something
            self.engine.erase(slot).await.map_err(failed)?;
            return Err(failed(error));
        }
        let told = json!({
            "session": names.session,
            "capsule": id.to_string(),
            "positions": positions,
        });
        lease.held = Some(Held {
            names,
            generation: slot.generation,
            tokens,
            total: positions,
            unsaved: positions,
            handed_in: true,
        });
        Ok(as_json(StatusCode::OK, &told))
    }
}

fn is_of(names: &Names, caller: &Token) -> bool {
    names.tenant == caller.tenant && names.subject == caller.subject
}

fn accepts_capsule(headers: &HeaderMap) -> bool {
    let accepted = headers.get(header::ACCEPT);
    accepted.is_some_and(|typ| typ.as_bytes() == CAPSULE.as_bytes())
}

pub(super) fn parsed<T: DeserializeOwned>(body: &[u8]) -> Answer<T> {
    serde_json::from_slice(body).map_err(|_| Refusal::Status(StatusCode::BAD_REQUEST))
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

pub(super) fn checkpoint_entry(record: &Record) -> Value {
    let state = record.capsule.as_ref().map(|own| {
        json!({
            "id": own.id, "positions": own.positions, "bytes": own.bytes, "expires": own.expires,
            "ancestors": own.ancestors,
        })
    });
    let entry = Map::from_iter([
        ("version".to_owned(), record.version.into()),
        ("at".to_owned(), record.at.into()),
        ("cursor".to_owned(), record.replay_cursor.into()),
        ("turns".to_owned(), record.turns.into()),
        ("state".to_owned(), json!(state)),
    ]);
    Value::Object(entry)
}
