//! Completions and chats (http-v1 §11): nothing is told before the engine's own count has proved it.

use std::{sync::Arc, time::Instant};

use axum::{
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use kvcap::Code;
use kvcap_engines::{Answer as Answering, Asked, EngineError, Slot, Timings};
use kvcap_session::{Names, Reuse, Rung, Session};
use kvcap_store::time;
use serde_json::json;

use super::{
    Gateway,
    asked::{Shape, Turn},
    failed,
    resuming::{Claim, From, Wanted, check_room},
    settling::{Passing, Settling},
    shapes,
    slots::Lease,
    turns::Turns,
};
use crate::{
    refusal::{Answer, Refusal},
    relay::{AskedFor, Engine, Received, closing},
    tokens::{Permission, Token},
};

/// Times that a request is begun: each leaves a state that had no effect, or an engine that stopped.
const MOST: usize = 6;

/// `GET /v1/models`.
#[utoipa::path(
    get,
    path = "/v1/models",
    tag = "evaluating",
    responses((status = 200, description = "The model", body = shapes::Models, content_type = "application/json"), AskedFor),
    security(("token" = []))
)]
pub(super) async fn models(State(gateway): State<Arc<Gateway>>, headers: HeaderMap) -> Answer {
    gateway.relay.caller(&headers, Permission::Restore)?;
    let about = gateway.engine.about();
    let name = about.path.file_stem().map(|name| name.to_string_lossy());
    let model = json!({
        "id": name,
        "object": "model",
        "owned_by": "kvcap",
        "kvcap_model_id": about.profile.model.id.to_string(),
        "context_length": about.context,
    });
    Ok(as_json(
        StatusCode::OK,
        &json!({"object": "list", "data": [model]}),
    ))
}

/// `POST /v1/completions`.
#[utoipa::path(
    post,
    path = "/v1/completions",
    tag = "evaluating",
    request_body(content = shapes::Completion, content_type = "application/json"),
    responses((status = 200, description = "As OpenAI has it: one JSON, or server-sent events", content((Object = "application/json"), (shapes::Streamed = "text/event-stream"))), AskedFor, Received, Engine),
    security(("token" = []))
)]
pub(super) async fn completions(State(gateway): State<Arc<Gateway>>, request: Request) -> Response {
    closing(answer(gateway, Shape::Completion, request).await)
}

/// `POST /v1/chat/completions`.
#[utoipa::path(
    post,
    path = "/v1/chat/completions",
    tag = "evaluating",
    request_body(content = shapes::Chat, content_type = "application/json"),
    responses((status = 200, description = "As OpenAI has it: one JSON, or server-sent events", content((Object = "application/json"), (shapes::Streamed = "text/event-stream"))), AskedFor, Received, Engine),
    security(("token" = []))
)]
pub(super) async fn chat(State(gateway): State<Arc<Gateway>>, request: Request) -> Response {
    closing(answer(gateway, Shape::Chat, request).await)
}

async fn answer(gateway: Arc<Gateway>, shape: Shape, request: Request) -> Answer {
    let began = Instant::now();
    let (caller, headers, body) = gateway.asked(request, Permission::Restore).await?;
    let turn = Turn::read(shape, &headers, &body)?;
    // a client that breaks off does not break what is done in a slot
    let answering = tokio::spawn(gateway.take(caller, turn, began));
    let answered = answering.await;
    answered.unwrap_or(Err(Refusal::Status(StatusCode::INTERNAL_SERVER_ERROR)))
}

/// A request that has its slot.
struct Taken {
    lease: Lease,
    slot: Slot,
    claim: Claim,
    answer: Answering,
    /// Tokens of the session that the engine took with it when it stopped.
    lost: u64,
    /// Tokens in the slot that no checkpoint has.
    unsaved: u64,
}

/// What earlier attempts at a request have shown.
#[derive(Debug, Default)]
struct Tried {
    /// Tokens that a slot held of the session.
    had: u64,
    /// What the slot held had no effect.
    slot_failed: bool,
    /// Why it is not as it was claimed.
    left: Option<Code>,
}

impl Gateway {
    async fn take(self: Arc<Self>, caller: Arc<Token>, turn: Turn, began: Instant) -> Answer {
        let tokens = self.tokens(&turn.asked).await?;
        check_room(tokens.len(), turn.reserve, self.engine.about().context)?;
        let tokens = Arc::new(tokens);
        let names = match (&turn.session, &self.finding) {
            (Some(session), _) => Some(self.names_of(&caller, session)?),
            (None, Some(finding)) => Some(self.unnamed(finding, &caller, &tokens).await?),
            (None, None) => None,
        };
        let mut wanted = Wanted {
            tokens,
            reserve: turn.reserve,
            ineffective: Vec::new(),
        };
        let taken = self.begin(names.as_ref(), &turn, &mut wanted).await?;
        if let Some(names) = &names {
            self.note(names, &wanted.tokens).await;
        }
        let reused = taken.answer.reused;
        self.learn_pace(reused.evaluated, reused.prompt_ms);
        let seconds = began.elapsed();
        self.confirm(names.as_ref(), &taken, reused, seconds.as_millis());
        let code = taken.claim.code.map_or(0, Code::number);
        let metrics = &self.relay.metrics;
        metrics.resumed(taken.claim.rung.name(), code, seconds);
        metrics.evaluated(reused.cached, reused.evaluated);
        let fields = self.fields(names.as_ref(), &taken, reused);
        let turns = match &turn.asked {
            Asked::Chat(body) if self.setup.record && names.is_some() => Some(Turns::of(body)),
            _ => None,
        };
        let content_type = taken.answer.content_type;
        let passing = Passing {
            events: Some(taken.answer.events),
            settling: Some(Settling {
                runtime: tokio::runtime::Handle::current(),
                gateway: Arc::clone(&self),
                lease: taken.lease,
                slot: taken.slot,
                names,
                tokens: wanted.tokens,
                reused,
                unsaved: taken.unsaved,
                turns,
            }),
        };
        let mut response = Body::from_stream(passing).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        for (name, text) in fields {
            if let Ok(value) = HeaderValue::try_from(text) {
                headers.insert(HeaderName::from_static(name), value);
            }
        }
        Ok(response)
    }

    /// Begins an answer whose claim the engine's count has proved: a step down for each that it has not, and again for
    /// each time that the engine stopped.
    async fn begin(
        self: &Arc<Self>,
        names: Option<&Names>,
        turn: &Turn,
        wanted: &mut Wanted,
    ) -> Answer<Taken> {
        let mut tried = Tried::default();
        for _ in 0..MOST {
            match self.attempt(names, turn, wanted, &mut tried).await {
                Ok(Some(taken)) => return Ok(taken),
                Ok(None) | Err(Refusal::Lost) => {}
                Err(refusal) => return Err(refusal),
            }
        }
        Err(Refusal::Lost)
    }

    async fn attempt(
        self: &Arc<Self>,
        names: Option<&Names>,
        turn: &Turn,
        wanted: &mut Wanted,
        tried: &mut Tried,
    ) -> Answer<Option<Taken>> {
        let (mut lease, slot) = self.lease(names).await?;
        let held = lease.held.take();
        // should the engine stop, this is what it takes with it
        let had = held.as_ref().map_or(0, |held| held.total);
        tried.had = tried.had.max(had);
        let held = held.filter(|held| held.generation == slot.generation);
        let rewinds = self.engine.about().rewinds;
        let own = held.as_ref().filter(|_| !tried.slot_failed);
        let own = own.and_then(|held| wanted.of_slot(held, rewinds));
        let (mut claim, unsaved) = match own {
            Some(claim) => (claim, held.as_ref().map_or(0, |held| held.unsaved)),
            None => (self.resume(slot, names, wanted).await?, 0),
        };
        claim.code = claim.code.or(tried.left);
        let begun = self.engine.answer(slot, turn.asked.clone()).await;
        let answer = match begun {
            Ok(answer) => answer,
            Err(error) => {
                // a request that is malformed has not come to the slot
                let refused = matches!(error, EngineError::Refused { .. });
                lease.held = held.filter(|_| refused && claim.from == From::Slot);
                return Err(failed(error));
            }
        };
        if answer.reused.cached < claim.tokens {
            drop(answer);
            self.engine.erase(slot).await.map_err(failed)?;
            tried.left = Some(Code::StateRestoreIneffective);
            match claim.state {
                Some(state) => wanted.ineffective.push(state),
                None => tried.slot_failed = true,
            }
            return Ok(None);
        }
        let total = held.map_or(0, |held| held.total);
        if own_was_cut(&claim, total, answer.reused.cached) {
            (claim.rung, claim.code) = (Rung::Shorter, Some(Code::SessionDiverged));
        }
        // the last token of an answer is in no state yet
        let kept = answer.reused.cached.saturating_add(1);
        let lost = match claim.from {
            From::Slot => 0,
            _ => tried.had.saturating_sub(kept),
        };
        Ok(Some(Taken {
            lost,
            lease,
            slot,
            claim,
            answer,
            unsaved,
        }))
    }

    /// Tells the session what the engine's count has shown of its resume.
    fn confirm(
        self: &Arc<Self>,
        names: Option<&Names>,
        taken: &Taken,
        reused: Timings,
        milliseconds: u128,
    ) {
        let (Some(names), true) = (names.cloned(), taken.claim.waits) else {
            return;
        };
        let reuse = Reuse {
            restored: reused.cached,
            evaluated: reused.evaluated,
            milliseconds: u64::try_from(milliseconds).ok(),
            device: None,
        };
        let gateway = Arc::clone(self);
        // an observation that cannot be kept takes nothing from the answer
        let _beside = tokio::task::spawn_blocking(move || {
            let session = Session::load(&gateway.sessions, &names)?;
            session.confirm(&reuse, time::now_in_milliseconds())
        });
    }

    /// What the answer's headers say.
    fn fields(
        &self,
        names: Option<&Names>,
        taken: &Taken,
        reused: Timings,
    ) -> Vec<(&'static str, String)> {
        let claim = &taken.claim;
        // a state that the engine's end has cost is not all that there was
        let rung = match claim.rung {
            Rung::Exact if taken.lost > 0 => Rung::Shorter,
            rung => rung,
        };
        let mut fields = vec![
            ("x-kvcap-rung", rung.name().to_owned()),
            ("x-kvcap-from", claim.from.name().to_owned()),
            ("x-kvcap-restored", reused.cached.to_string()),
            ("x-kvcap-evaluated", reused.evaluated.to_string()),
        ];
        if let Some(names) = names {
            fields.push(("x-kvcap-session", names.session.clone()));
        }
        if let Some(code) = claim.code {
            fields.push(("x-kvcap-code", code.to_string()));
        }
        if taken.lost > 0 {
            fields.push(("x-kvcap-lost", taken.lost.to_string()));
        }
        if let Some(outcome) = self.probes.outcome(taken.slot.generation) {
            fields.push(("x-kvcap-probe", outcome.name().to_owned()));
        }
        let saved = self.estimate(reused.cached);
        if saved > 0 && claim.from != From::Nothing {
            fields.push(("x-kvcap-saved-ms", saved.to_string()));
        }
        fields
    }
}

/// Whether a request has left what the slot held before its end. The last token that was made is in no state yet, and
/// the last of a request is always evaluated.
fn own_was_cut(claim: &Claim, total: u64, cached: u64) -> bool {
    !claim.waits && claim.from != From::Nothing && cached.saturating_add(2) < total
}

pub(super) fn as_json(status: StatusCode, value: &serde_json::Value) -> Response {
    let mut response = (status, Body::from(value.to_string())).into_response();
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}
