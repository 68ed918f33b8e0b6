//! What is asked of a llama-server, in its own words.

use std::time::Duration;

use hyper::Method;
use serde_json::{Value, json};

use crate::{
    answer::Timings,
    asked::{self, Asked},
    body::Body,
    error::EngineError,
    http::{Client, NOTHING, io},
};

/// Time for what computes nothing; a slot that is still busy delays it.
const PATIENCE: Duration = Duration::from_secs(120);

/// Time for the evaluation of a prompt.
const LONG: Duration = Duration::from_secs(3600);

/// The server as it describes itself.
#[derive(PartialEq)]
pub(super) struct Props {
    pub(super) version: String,
    pub(super) model: String,
    pub(super) slots: u64,
    pub(super) context: u64,
}

impl Client {
    async fn post(&self, path: &str, body: &Value) -> Result<Value, EngineError> {
        self.ask(Method::POST, path, Some(body), PATIENCE).await
    }

    pub(super) async fn is_ready(&self) -> bool {
        let asked = self.ask(Method::GET, "/health", NOTHING, Duration::from_secs(5));
        asked.await.is_ok()
    }

    pub(super) async fn props(&self) -> Result<Props, EngineError> {
        let props = self.ask(Method::GET, "/props", NOTHING, PATIENCE).await?;
        let text = |name: &str| props[name].as_str().unwrap_or_default().to_owned();
        let count = |value: &Value| value.as_u64().filter(|count| *count > 0);
        let slots = count(&props["total_slots"]);
        let context = count(&props["default_generation_settings"]["n_ctx"]);
        let (Some(slots), Some(context)) = (slots, context) else {
            return Err(io("the engine does not say what slots it has"));
        };
        Ok(Props {
            version: build(&text("build_info")),
            model: text("model_path"),
            slots,
            context,
        })
    }

    /// The ids of a request.
    pub(super) async fn ids(&self, asked: &Asked) -> Result<Vec<u32>, EngineError> {
        let prompt = match asked {
            Asked::Completion(body) => asked::prompt(body)?.clone(),
            Asked::Chat(body) => {
                let rendered = self
                    .ask(Method::POST, "/apply-template", Some(body), PATIENCE)
                    .await?;
                rendered["prompt"].clone()
            }
        };
        // as it does itself with a prompt that it is to complete
        let body = json!({ "content": prompt, "add_special": true, "parse_special": true });
        let answer = self.post("/tokenize", &body).await?;
        let ids = answer["tokens"].as_array();
        let ids = ids.and_then(|ids| ids.iter().map(id).collect::<Option<Vec<_>>>());
        ids.ok_or_else(|| io("the engine gives no token ids"))
    }

    /// Evaluates ids, and no more.
    pub(super) async fn evaluate(&self, slot: usize, ids: &[u32]) -> Result<Timings, EngineError> {
        let body = json!({ "prompt": ids, "n_predict": 0, "id_slot": slot, "cache_prompt": true });
        let answer = self
            .ask(Method::POST, "/completion", Some(&body), LONG)
            .await?;
        timings(&answer).ok_or_else(|| io("the engine does not say what it reused"))
    }

    /// Saves a slot; the tokens that were saved.
    pub(super) async fn save(&self, slot: usize, name: &str) -> Result<u64, EngineError> {
        let answer = self.slot(slot, "save", json!({ "filename": name })).await?;
        let saved = answer["n_saved"].as_u64();
        saved.ok_or_else(|| io("the engine does not say what it saved"))
    }

    pub(super) async fn restore(&self, slot: usize, name: &str) -> Result<(), EngineError> {
        let body = json!({ "filename": name });
        self.slot(slot, "restore", body).await.map(drop)
    }

    pub(super) async fn erase(&self, slot: usize) -> Result<(), EngineError> {
        self.slot(slot, "erase", json!({})).await.map(drop)
    }

    async fn slot(&self, slot: usize, action: &str, body: Value) -> Result<Value, EngineError> {
        self.post(&format!("/slots/{slot}?action={action}"), &body)
            .await
    }
}

/// `b10434` of `b10434-0c1e57098`; all of it where no number was built in.
fn build(info: &str) -> String {
    match info.split_once('-') {
        Some((number, _)) if number != "b0" => number.to_owned(),
        _ => info.to_owned(),
    }
}

fn id(value: &Value) -> Option<u32> {
    u32::try_from(value.as_u64()?).ok()
}

/// The counts of an answer, or of an event.
pub(super) fn timings(answer: &Value) -> Option<Timings> {
    let timings = &answer["timings"];
    let count = |name: &str| timings[name].as_u64();
    let ms = |name: &str| timings[name].as_f64().unwrap_or_default();
    Some(Timings {
        cached: count("cache_n")?,
        evaluated: count("prompt_n")?,
        predicted: count("predicted_n")?,
        prompt_ms: ms("prompt_ms"),
        predicted_ms: ms("predicted_ms"),
    })
}

/// Members with which a caller decides what is the engine's to decide: the slot, and what is reused or shifted.
const DECIDED: [&str; 9] = [
    "id_slot",
    "cache_prompt",
    "n_cache_reuse",
    "n_discard",
    "verbose",
    "return_tokens",
    "return_progress",
    "timings_per_token",
    "response_fields",
];

/// A request as it is sent on, to be evaluated in a slot.
pub(super) struct Prepared {
    pub(super) path: &'static str,
    pub(super) body: Body,
    pub(super) streams: bool,
    /// The caller wants counts with every event.
    pub(super) counted: bool,
}

pub(super) fn prepare(asked: Asked, slot: usize) -> Result<Prepared, EngineError> {
    asked.check()?;
    let streams = asked.streams();
    let path = match asked {
        Asked::Completion(_) => "/v1/completions",
        Asked::Chat(_) => "/v1/chat/completions",
    };
    let (Asked::Completion(mut body) | Asked::Chat(mut body)) = asked;
    let counted = body["timings_per_token"] == Value::Bool(true);
    body.retain(|name| !DECIDED.contains(&name) && !name.starts_with("speculative."));
    body.set("id_slot", slot.into());
    body.set("cache_prompt", true.into());
    // what was reused is in the first event then
    body.set("timings_per_token", streams.into());
    Ok(Prepared {
        path,
        body,
        streams,
        counted,
    })
}
