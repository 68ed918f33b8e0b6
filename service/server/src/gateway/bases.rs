//! Base images: start states that every request may begin with (http-v1 HTTP-E-7).

use std::sync::Arc;

use axum::{
    extract::{Path, Request, State},
    http::{HeaderMap, StatusCode},
    response::Response,
};
use kvcap::{Code, Error, Result};
use kvcap_engines::{Asked, Slot};
use kvcap_session::{Candidate, Names};
use kvcap_store::{
    output::{Output, Readers},
    private, time,
};
use serde_json::{Value, json};

use super::{
    Gateway,
    answering::as_json,
    asked::{Shape, Turn},
    failed,
    resuming::check_room,
    saving::SlotState,
    shapes, some,
};
use crate::{
    refusal::{Answer, Refusal},
    relay::{AskedFor, Engine, Received, closing},
    tokens::Permission,
};

/// Longest name of a base image, in bytes.
const LONGEST: usize = 64;

/// `GET /v1/bases`.
#[utoipa::path(
    get,
    path = "/v1/bases",
    tag = "bases",
    responses((status = 200, description = "Base images", body = shapes::Bases, content_type = "application/json"), AskedFor),
    security(("token" = []))
)]
pub(super) async fn list(State(gateway): State<Arc<Gateway>>, headers: HeaderMap) -> Answer {
    gateway.relay.caller(&headers, Permission::Restore)?;
    let all = Arc::clone(&gateway).entries().await?;
    Ok(as_json(StatusCode::OK, &json!({"bases": all})))
}

/// `GET /v1/bases/NAME`.
#[utoipa::path(
    get,
    path = "/v1/bases/{name}",
    tag = "bases",
    params(("name" = String, Path, description = "Name of the base image", pattern = "^[a-z0-9-]{1,64}$")),
    responses((status = 200, description = "The base image", body = shapes::Base, content_type = "application/json"), AskedFor),
    security(("token" = []))
)]
pub(super) async fn show(
    State(gateway): State<Arc<Gateway>>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Answer {
    gateway.relay.caller(&headers, Permission::Restore)?;
    let all = Arc::clone(&gateway).entries().await?;
    let own = all.into_iter().find(|base| base["base"] == name.as_str());
    let own = own.ok_or(Refusal::Status(StatusCode::NOT_FOUND))?;
    Ok(as_json(StatusCode::OK, &own))
}

/// `PUT /v1/bases/NAME`: the prompt of a completion, or the beginning of a chat, is evaluated and nothing is answered.
#[utoipa::path(
    put,
    path = "/v1/bases/{name}",
    tag = "bases",
    params(("name" = String, Path, description = "Name of the base image", pattern = "^[a-z0-9-]{1,64}$")),
    request_body(content = shapes::Beginning, content_type = "application/json"),
    responses((status = 201, description = "Made", body = shapes::Base, content_type = "application/json"), AskedFor, Received, Engine),
    security(("token" = []))
)]
pub(super) async fn put(
    State(gateway): State<Arc<Gateway>>,
    Path(name): Path<String>,
    request: Request,
) -> Response {
    closing(made(gateway, name, request).await)
}

async fn made(gateway: Arc<Gateway>, name: String, request: Request) -> Answer {
    let (_, headers, body) = gateway.asked(request, Permission::Admin).await?;
    if !is_base_name(&name) {
        return Err(Refusal::Status(StatusCode::NOT_FOUND));
    }
    let turn = Turn::read(Shape::of(&body)?, &headers, &body)?;
    let making = tokio::spawn(gateway.make_base(name, turn));
    let made = making.await;
    made.unwrap_or(Err(Refusal::Status(StatusCode::INTERNAL_SERVER_ERROR)))
}

/// Returns whether a base image may have this name: 1 to 64 small letters, digits and hyphens.
#[must_use]
pub fn is_base_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=LONGEST).contains(&name.len()) && name.bytes().all(plain)
}

impl Gateway {
    /// The base images that requests may begin with now, by name.
    async fn entries(self: Arc<Self>) -> Answer<Vec<Value>> {
        let reading = Arc::clone(&self);
        self.aside(move || {
            let mut paths = reading.bases();
            paths.sort();
            // one that has expired, or is of another model, is none
            let entries = paths.iter().filter_map(|path| reading.entry(path).ok());
            Ok(entries.collect())
        })
        .await
    }

    /// What is said of a base image whose header holds here.
    fn entry(&self, path: &std::path::Path) -> Result<Value> {
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        let state = Candidate::Base(path.to_owned());
        let header = self.with_opener(&Names::of(&name), |opener| opener.header(&state))?;
        let (claims, bytes) = {
            let capsule = kvcap_store::input::Capsule::read(path)?;
            let (untrusted, _) = capsule.split();
            let bytes = untrusted.file_len();
            (untrusted.claims().clone(), bytes)
        };
        Ok(json!({
            "base": name, "id": claims.id.to_string(), "positions": header.positions, "bytes": bytes,
            "expires": claims.terms.expires,
        }))
    }

    /// The tokens that a request begins with which goes on from this: of a chat those before the words of its next
    /// message, whatever they are.
    async fn beginning(&self, turn: &Turn) -> Answer<Vec<u32>> {
        let Asked::Chat(body) = &turn.asked else {
            return self.tokens(&turn.asked).await;
        };
        let with = |words: &str| {
            let mut body = body.clone();
            body.push("messages", json!({"role": "user", "content": words}));
            Asked::Chat(body)
        };
        // words that no tokenizer begins alike
        let (one, other) = (with("a"), with("0"));
        let (Ok(one), Ok(other)) = (self.tokens(&one).await, self.tokens(&other).await) else {
            // a template that takes no such message
            return self.tokens(&turn.asked).await;
        };
        let same = one
            .iter()
            .zip(&other)
            .take_while(|(one, other)| one == other);
        some(same.map(|(id, _)| *id).collect())
    }

    async fn make_base(self: Arc<Self>, name: String, turn: Turn) -> Answer {
        let Some(folder) = self.setup.bases.clone() else {
            return Err(Refusal::Status(StatusCode::NOT_FOUND));
        };
        let tokens = self.beginning(&turn).await?;
        check_room(tokens.len(), 1, self.engine.about().context)?;
        let (lease, slot): (_, Slot) = self.lease(None).await?;
        self.engine.erase(slot).await.map_err(failed)?;
        self.engine.evaluate(slot, &tokens).await.map_err(failed)?;
        let exported = self.engine.export(slot).await.map_err(failed)?;
        let making = Arc::clone(&self);
        let sealed = self.aside(move || {
            private::folder(&folder)?;
            let path = folder.join(format!("{name}.kvcap"));
            if path.exists() {
                let what = "there is a base image of this name";
                return Err(Error::new(Code::LocalExists, what));
            }
            // it is nobody's
            let names = Names::of(&name);
            let verifier = making.verifier_of(&names);
            let state = SlotState::read(&making, &verifier, &names, &exported, time::now())?;
            let output = Output::create(&path, false, Readers::Owner)?;
            state.into_base().seal_into(&output, None)?;
            output.commit()?;
            making.entry(&path)
        });
        let sealed = sealed.await?;
        drop(lease);
        Ok(as_json(StatusCode::CREATED, &sealed))
    }
}
