//! A program that speaks as llama-server does, and fails as its alias (`-a`) says: this test again, behind a script that
//! puts its arguments where the harness does not look. Its model answers with the sum of
//! the ids that it is given; the state that it saves is a fixture's, whatever it holds.

use std::{
    convert::Infallible,
    env, fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    pin::Pin,
    process,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::{
    Request, Response,
    body::{Frame, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::{net::UnixListener, sync::mpsc, time::sleep};

const STATE: &[u8] = include_bytes!("../../fixtures/llama_ggsq3_f16_fa.bin");

#[derive(Default)]
struct Slot {
    ids: Vec<u64>,
    poisoned: bool,
}

struct StandIn {
    mode: String,
    folder: PathBuf,
    slots: Mutex<Vec<Slot>>,
    /// What a state stands for.
    saved: Mutex<Vec<u64>>,
}

type Body = BoxBody<Bytes, Infallible>;

/// The script that is started in the place of llama-server.
pub(crate) fn script(folder: &Path) -> PathBuf {
    let path = folder.join("llama-server");
    let test = env::current_exe().unwrap();
    let text = format!(
        "#!/bin/sh\nSTAND_IN=\"$*\" exec '{}' stand_in::program '{}' --exact --ignored --nocapture\n",
        test.display(),
        folder.display(),
    );
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
    path
}

#[tokio::test]
#[ignore = "it is the program itself, which the other tests start"]
async fn program() {
    let Ok(line) = env::var("STAND_IN") else {
        return;
    };
    let arguments: Vec<String> = line.split(' ').map(str::to_owned).collect();
    let after = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name);
        at.map(|at| arguments[at + 1].clone()).unwrap_or_default()
    };
    let mode = after("-a");
    if mode == "does-not-start" {
        println!("loading");
        println!("error: the model cannot be read");
        process::exit(1);
    }
    let slots = after("-np").parse().unwrap();
    let standin = Arc::new(StandIn {
        mode,
        folder: after("--slot-save-path").into(),
        slots: Mutex::new((0..slots).map(|_| Slot::default()).collect()),
        saved: Mutex::default(),
    });
    let socket = UnixListener::bind(after("--host")).unwrap();
    loop {
        let (connection, _) = socket.accept().await.unwrap();
        let standin = standin.clone();
        let answering = service_fn(move |request| {
            let standin = standin.clone();
            async move { Ok::<_, Infallible>(standin.answer(request).await) }
        });
        let connection =
            http1::Builder::new().serve_connection(TokioIo::new(connection), answering);
        tokio::spawn(connection);
    }
}

fn whole(status: u16, text: impl Into<Bytes>) -> Response<Body> {
    let response = Response::builder().status(status);
    response.body(Full::new(text.into()).boxed()).unwrap()
}

fn said(value: &Value) -> Response<Body> {
    whole(200, value.to_string())
}

fn refused(status: u16, message: &str) -> Response<Body> {
    let error = json!({ "code": status, "message": message, "type": "invalid_request_error" });
    whole(status, json!({ "error": error }).to_string())
}

impl StandIn {
    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        let (path, query) = (
            request.uri().path().to_owned(),
            request.uri().query().unwrap_or("").to_owned(),
        );
        let body = request.into_body().collect().await.unwrap().to_bytes();
        let body: Value = serde_json::from_slice(&body).unwrap_or_default();
        match path.as_str() {
            "/health" if self.mode == "never-ready" => refused(503, "Loading model"),
            "/health" => said(&json!({ "status": "ok" })),
            "/props" => {
                let slots = self.slots.lock().unwrap().len();
                said(&json!({
                    "build_info": "b12345-abc", "model_path": "elsewhere", "total_slots": slots,
                    "default_generation_settings": { "n_ctx": 64 },
                }))
            }
            "/apply-template" => {
                let messages = body["messages"].as_array().unwrap().iter();
                let texts: Vec<_> = messages
                    .map(|message| message["content"].as_str().unwrap())
                    .collect();
                said(&json!({ "prompt": texts.join("|") }))
            }
            "/tokenize" if self.mode == "garbage" => whole(200, "{\"tokens\": [1, 2"),
            "/tokenize" if self.mode == "late" => {
                sleep(Duration::from_secs(3600)).await;
                refused(500, "late")
            }
            "/tokenize" => said(&json!({ "tokens": ids(&body["content"]) })),
            path if query == "action=save" && self.mode == "saves-late" => {
                let file = self.folder.join(body["filename"].as_str().unwrap());
                // it goes on when nobody listens
                let saving = tokio::spawn(async move {
                    sleep(Duration::from_millis(500)).await;
                    fs::write(file, STATE).unwrap();
                });
                saving.await.unwrap();
                self.slot(path, &query, &body)
            }
            "/completion" | "/v1/completions" | "/v1/chat/completions" => {
                self.complete(&body).await
            }
            _ => self.slot(&path, &query, &body),
        }
    }

    fn slot(&self, path: &str, query: &str, body: &Value) -> Response<Body> {
        let index: usize = path.rsplit('/').next().unwrap().parse().unwrap();
        let mut slots = self.slots.lock().unwrap();
        let slot = &mut slots[index];
        let file = || self.folder.join(body["filename"].as_str().unwrap());
        match query {
            "action=erase" => {
                slot.ids.clear();
                said(&json!({ "n_erased": 0 }))
            }
            "action=save" => {
                self.saved.lock().unwrap().clone_from(&slot.ids);
                fs::write(file(), STATE).unwrap();
                said(&json!({ "n_saved": slot.ids.len() }))
            }
            "action=restore" if self.mode == "restore-fails" => refused(500, "no memory"),
            "action=restore" if self.mode == "restore-dies" => process::exit(9),
            "action=restore" => {
                if fs::read(file()).unwrap() != STATE || self.mode.starts_with("takes-nothing") {
                    slot.poisoned = self.mode == "takes-nothing-and-breaks";
                    return refused(400, "Unable to restore slot");
                }
                slot.ids.clone_from(&self.saved.lock().unwrap());
                said(&json!({ "n_restored": slot.ids.len() }))
            }
            _ => refused(400, "Invalid action"),
        }
    }

    async fn complete(&self, body: &Value) -> Response<Body> {
        let prompt = if body["prompt"].is_null() {
            &body["messages"][0]["content"]
        } else {
            &body["prompt"]
        };
        let ids = ids(prompt);
        if ids.len() > 64 {
            return refused(400, "the request exceeds the available context size");
        }
        let index = usize::try_from(body["id_slot"].as_u64().unwrap()).unwrap();
        let cached = {
            let mut slots = self.slots.lock().unwrap();
            let slot = &mut slots[index];
            let common = slot
                .ids
                .iter()
                .zip(&ids)
                .take_while(|(a, b)| a == b)
                .count();
            let cached = common.min(ids.len() - 1) + usize::from(slot.poisoned);
            slot.ids.clone_from(&ids);
            cached
        };
        let count = body["n_predict"]
            .as_u64()
            .or(body["max_tokens"].as_u64())
            .unwrap_or(4);
        let timings = move |predicted: u64| json!({ "cache_n": cached, "prompt_n": ids.len() - cached, "predicted_n": predicted, "prompt_ms": 1.0, "predicted_ms": 2.0 });
        if body["stream"] != true {
            let answer = json!({ "choices": [{ "text": "so many", "finish_reason": "length" }], "timings": timings(count) });
            return said(&answer);
        }
        let (sender, events) = mpsc::channel::<String>(1);
        let mode = self.mode.clone();
        tokio::spawn(async move {
            for at in 1..=count {
                match mode.as_str() {
                    "dies" if at == 3 => process::exit(9),
                    "gives-up" if at == 3 => {
                        let error =
                            json!({ "error": { "code": 500, "message": "Compute error." } });
                        let _ = sender.send(format!("data: {error}\n\n")).await;
                        return;
                    }
                    "stops-short" if at == 3 => return,
                    "slow" => sleep(Duration::from_millis(50)).await,
                    _ => {}
                }
                let reason = if at == count {
                    json!("length")
                } else {
                    Value::Null
                };
                let event = json!({ "choices": [{ "text": format!("w{at} "), "finish_reason": reason }], "timings": timings(at) });
                if sender.send(format!("data: {event}\n\n")).await.is_err() {
                    return;
                }
            }
            let _ = sender.send("data: [DONE]\n\n".to_owned()).await;
        });
        Response::new(StreamBody::new(Frames(events)).boxed())
    }
}

struct Frames(mpsc::Receiver<String>);

impl futures_core::Stream for Frames {
    type Item = Result<Frame<Bytes>, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0
            .poll_recv(cx)
            .map(|text| text.map(|text| Ok(Frame::data(Bytes::from(text)))))
    }
}

/// A token a byte, or the ids themselves.
fn ids(prompt: &Value) -> Vec<u64> {
    match prompt {
        Value::Array(ids) => ids.iter().map(|id| id.as_u64().unwrap()).collect(),
        text => text.as_str().unwrap().bytes().map(u64::from).collect(),
    }
}
