//! Base images: start states that every request may begin with (http-v1 HTTP-E-7).

use std::sync::Arc;

use axum::{
    extract::{Path, Request, State},
    http::StatusCode,
    response::Response,
};
use kvcap::{Code, Error};
use kvcap_engines::Slot;
use kvcap_session::Names;
use kvcap_store::{
    output::{Output, Readers},
    private, time,
};
use serde_json::json;

use super::{
    Gateway,
    answering::as_json,
    asked::{Shape, Turn},
    failed,
    resuming::check_room,
    saving::SlotState,
};
use crate::{
    refusal::{Answer, Refusal},
    relay::closing,
    tokens::Permission,
};

/// Longest name of a base image, in bytes.
const LONGEST: usize = 64;

/// `PUT /v1/bases/NAME`: the prompt of a completion, or the beginning of a chat, is evaluated and nothing is answered.
pub(super) async fn put(
    State(gateway): State<Arc<Gateway>>,
    Path(name): Path<String>,
    request: Request,
) -> Response {
    closing(made(gateway, name, request).await)
}

async fn made(gateway: Arc<Gateway>, name: String, request: Request) -> Answer {
    let (_, headers, body) = gateway.asked(request, Permission::Admin).await?;
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if name.is_empty() || name.len() > LONGEST || !name.bytes().all(plain) {
        return Err(Refusal::Status(StatusCode::NOT_FOUND));
    }
    let chat = Turn::read(Shape::Chat, &headers, &body)?;
    let turn = match chat.asked.body().get("messages") {
        Some(_) => chat,
        None => Turn::read(Shape::Completion, &headers, &body)?,
    };
    let making = tokio::spawn(gateway.make_base(name, turn));
    let made = making.await;
    made.unwrap_or(Err(Refusal::Status(StatusCode::INTERNAL_SERVER_ERROR)))
}

impl Gateway {
    async fn make_base(self: Arc<Self>, name: String, turn: Turn) -> Answer {
        let Some(folder) = self.setup.bases.clone() else {
            return Err(Refusal::Status(StatusCode::NOT_FOUND));
        };
        let tokens = self.tokens(&turn.asked).await?;
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
            let positions = state.positions();
            let output = Output::create(&path, false, Readers::Owner)?;
            let id = state.into_base().seal_into(&output, None)?;
            output.commit()?;
            Ok(json!({"base": name, "id": id.to_string(), "positions": positions}))
        });
        let sealed = sealed.await?;
        drop(lease);
        Ok(as_json(StatusCode::CREATED, &sealed))
    }
}
