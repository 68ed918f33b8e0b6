//! mlx-lm: a worker in Python behind a pipe.

mod openai;
mod worker;

use std::{path::PathBuf, sync::Arc, time::Duration};

use kvcap::{Code, Error};
use kvcap_models::RuntimeOptions;
use kvcap_states::{Hints, RuntimeKind, parse};
use serde_json::{Value, json};

use self::{openai::Shape, worker::Worker};
use crate::{
    about::{About, Missing, rewinds},
    answer::{Answer, Event, Events, Timings},
    asked::Asked,
    child::check_program,
    engine::{Answering, Engine, Health, Slot},
    error::EngineError,
    http::io,
    layout::Layout,
    model::profile,
    state_file::{StateFile, StateFolder, in_memory, is_in_memory},
    supervisor::Supervisor,
};

/// mlx-lm takes a file for what its name says.
const ENDING: &str = ".safetensors";

/// Settings of an mlx-lm worker.
#[derive(Clone, Debug)]
pub struct MlxLmSettings {
    /// Python whose environment has mlx-lm. It is started isolated (`-I`): neither the current folder nor the user's
    /// own packages are looked at.
    pub python: PathBuf,
    /// Model folder.
    pub model: PathBuf,
    /// Sequences that it holds at once.
    pub slots: usize,
    /// Most tokens of a slot.
    pub context: u64,
    /// File to which what it says is appended; it has no prompts.
    pub log: Option<PathBuf>,
    /// Folder in which the private one is made; one in memory where `None`.
    pub folder: Option<PathBuf>,
    /// Longest time until the model is loaded.
    pub patience: Duration,
}

impl MlxLmSettings {
    /// Returns settings with one slot of 4,096 tokens, on ten minutes' patience.
    #[must_use]
    pub fn new(python: impl Into<PathBuf>, model: impl Into<PathBuf>) -> Self {
        Self {
            python: python.into(),
            model: model.into(),
            slots: 1,
            context: 4096,
            log: None,
            folder: None,
            patience: Duration::from_secs(600),
        }
    }
}

/// A worker with its slots. It computes one thing at a time, whichever slot it is for.
///
/// Tool calls and thoughts stay in the text of an answer, as the model writes them.
///
/// Its states do not carry their token ids: [`StateFile::tokens`] of an exported one has them, and one that is
/// admitted must be told them by [`StateFile::with_tokens`].
pub struct MlxLm {
    about: About,
    layout: Layout,
    states: StateFolder,
    workers: Supervisor<Worker>,
}

impl MlxLm {
    /// Starts a worker, and again whenever it ends; returns when the model is loaded and a first state has shown what
    /// it writes.
    ///
    /// # Errors
    /// [`EngineError::Unsuitable`] with KVC-944 for settings that cannot be and a program that is not there, with the
    /// model's codes for one that cannot be bound, with KVC-923 for states that are not the model's; [`EngineError::Io`] with the worker's last words
    /// where it does not start.
    pub async fn start(settings: MlxLmSettings) -> Result<Self, EngineError> {
        if settings.slots == 0 || settings.context == 0 {
            let what = "an engine has at least one slot, and a slot at least one token";
            return Err(EngineError::Unsuitable(Error::new(Code::LocalUsage, what)));
        }
        check_program(&settings.python).map_err(EngineError::Unsuitable)?;
        let parent = settings.folder.clone().unwrap_or_else(in_memory);
        let states = StateFolder::new(&parent).map_err(EngineError::Io)?;
        let options = RuntimeOptions::default();
        let profile = profile(&settings.model, &options).await?;
        let settings = Arc::new(settings);
        let (again, model) = (settings.clone(), profile.model.id);
        let workers = Supervisor::start(move || {
            let settings = again.clone();
            Box::pin(async move {
                crate::model::is_still(model, &settings.model, &RuntimeOptions::default()).await?;
                worker::start(&settings).await
            })
        });
        let workers = workers.await?;
        let worker = workers.any()?;
        let state = states.create_ending(ENDING).map_err(EngineError::Io)?;
        let ask = |body| async { worker.call(body).done().await };
        ask(json!({ "do": "evaluate", "slot": 0, "tokens": [1, 2, 1, 2] })).await?;
        ask(json!({ "do": "save", "slot": 0, "path": state.path() })).await?;
        ask(json!({ "do": "erase", "slot": 0 })).await?;
        let source = state.source().map_err(EngineError::Io)?;
        let shown = parse(RuntimeKind::MlxLm, &source, Hints::Model(&profile.geometry));
        let shown = shown.map_err(EngineError::Unsuitable)?;
        let layout = Layout::of(RuntimeKind::MlxLm, shown);
        Ok(Self {
            about: About {
                kind: RuntimeKind::MlxLm,
                version: worker.version().to_owned(),
                path: settings.model.clone(),
                rewinds: rewinds(&profile),
                profile,
                options,
                slots: settings.slots,
                context: settings.context,
                format: layout.format,
                facts: layout.facts.clone(),
                missing: match is_in_memory(&parent) {
                    true => Vec::new(),
                    false => vec![Missing::Memory],
                },
            },
            layout,
            states,
            workers,
        })
    }

    fn worker(&self, slot: Slot) -> Result<Worker, EngineError> {
        if slot.index >= self.about.slots {
            return Err(EngineError::Refused {
                status: 400,
                message: "the engine has no such slot".to_owned(),
            });
        }
        self.workers.of(slot)
    }

    async fn ask(&self, slot: Slot, what: &str, more: Value) -> Result<Value, EngineError> {
        let mut body = json!({ "do": what, "slot": slot.index });
        if let (Value::Object(body), Value::Object(more)) = (&mut body, more) {
            body.extend(more);
        }
        self.worker(slot)?.call(body).done().await
    }

    async fn restore(&self, slot: Slot, state: StateFile) -> Result<(), EngineError> {
        let fits = self.layout.check(&state, &self.about.profile.geometry);
        fits.map_err(EngineError::Unsuitable)?;
        let tokens = state.tokens().ok_or_else(|| {
            let what = "the state does not carry its tokens, and nobody says them";
            EngineError::Unsuitable(Error::new(Code::StateUnknownPrefix, what))
        })?;
        let body = json!({ "path": state.path(), "tokens": tokens });
        match self.ask(slot, "restore", body).await {
            Err(EngineError::Refused { message, .. }) => {
                self.ask(slot, "erase", json!({})).await?;
                let what = "the runtime did not take the state";
                let error = Error::new(Code::StateRestoreIneffective, what).at(message);
                Err(EngineError::Unsuitable(error))
            }
            other => other.map(drop),
        }
    }
}

fn kind(asked: &Asked) -> &'static str {
    match asked {
        Asked::Completion(_) => "completion",
        Asked::Chat(_) => "chat",
    }
}

/// The counts of an event.
fn counts(event: &Value) -> Option<Timings> {
    Some(Timings {
        cached: event["cached"].as_u64()?,
        evaluated: event["evaluated"].as_u64()?,
        predicted: event["predicted"].as_u64().unwrap_or_default(),
        prompt_ms: event["prompt_ms"].as_f64().unwrap_or_default(),
        predicted_ms: event["predicted_ms"].as_f64().unwrap_or_default(),
    })
}

/// The body as it was written, as a text in the worker's own JSON.
fn written(asked: &Asked) -> String {
    serde_json::to_string(asked.body()).unwrap_or_default()
}

fn ids(event: &Value) -> Result<Vec<u32>, EngineError> {
    let id = |id: &Value| u32::try_from(id.as_u64()?).ok();
    let ids = event["tokens"].as_array();
    let ids = ids.and_then(|ids| ids.iter().map(id).collect());
    ids.ok_or_else(|| io("the engine gives no token ids"))
}

fn uncounted() -> EngineError {
    io("the engine does not say what it reused")
}

impl Engine for MlxLm {
    fn about(&self) -> &About {
        &self.about
    }

    fn tokens<'a>(&'a self, asked: &'a Asked) -> Answering<'a, Vec<u32>> {
        Box::pin(async move {
            asked.check()?;
            let body = json!({ "do": "tokens", "kind": kind(asked), "body": written(asked) });
            ids(&self.workers.any()?.call(body).done().await?)
        })
    }

    fn answer(&self, slot: Slot, asked: Asked) -> Answering<'_, Answer> {
        Box::pin(async move {
            asked.check()?;
            let worker = self.worker(slot)?;
            let body = json!({ "do": "answer", "slot": slot.index, "kind": kind(&asked), "body": written(&asked) });
            let mut call = worker.call(body);
            let first = call.next().await?;
            let reused = counts(&first["reused"]).ok_or_else(uncounted)?;
            let mut shape = Shape::new(&asked, &self.about.path, reused);
            let (sender, events) = Events::new();
            let content_type = shape.content_type();
            tokio::spawn(async move {
                let passing = async {
                    loop {
                        let event = call.next().await?;
                        let (bytes, end) = shape.event(&event)?;
                        if !bytes.is_empty() && sender.send(Ok(Event::Bytes(bytes))).await.is_err()
                        {
                            return Ok(());
                        }
                        if let Some(counts) = end {
                            let _ = sender.send(Ok(Event::Done(counts))).await;
                            return Ok(());
                        }
                    }
                };
                tokio::select! {
                    // dropping the call stops it
                    () = sender.closed() => {}
                    passed = passing => if let Err(error) = passed {
                        let _ = sender.send(Err(error)).await;
                    }
                }
            });
            Ok(Answer {
                content_type,
                reused,
                events,
            })
        })
    }

    fn evaluate<'a>(&'a self, slot: Slot, tokens: &'a [u32]) -> Answering<'a, Timings> {
        Box::pin(async move {
            let done = self
                .ask(slot, "evaluate", json!({ "tokens": tokens }))
                .await?;
            counts(&done).ok_or_else(uncounted)
        })
    }

    fn export(&self, slot: Slot) -> Answering<'_, StateFile> {
        Box::pin(async move {
            let (state, worker) = (self.new_state()?, self.worker(slot)?);
            // a worker that has begun goes on when nobody listens, and would write anew what is unlinked
            let saving = tokio::spawn(async move {
                let body = json!({ "do": "save", "slot": slot.index, "path": state.path() });
                let done = worker.call(body).done().await?;
                Ok(state.with_tokens(ids(&done)?))
            });
            saving.await.unwrap_or(Err(EngineError::Lost))
        })
    }

    fn new_state(&self) -> Result<StateFile, EngineError> {
        self.states.create_ending(ENDING).map_err(EngineError::Io)
    }

    fn admit(&self, slot: Slot, state: StateFile) -> Answering<'_, ()> {
        Box::pin(async move {
            self.worker(slot)?;
            self.restore(slot, state).await
        })
    }

    fn erase(&self, slot: Slot) -> Answering<'_, ()> {
        Box::pin(async move { self.ask(slot, "erase", json!({})).await.map(drop) })
    }

    fn health(&self) -> Answering<'_, Health> {
        Box::pin(async move { Ok(self.workers.health()) })
    }
}
