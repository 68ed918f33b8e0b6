//! The worker's pipe: lines of JSON, whose numbers say which call they belong to.

use std::{
    collections::HashMap,
    process::Stdio,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{ChildStdin, ChildStdout, Command},
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    time::timeout,
};

use super::MlxLmSettings;
use crate::{
    child::{Said, clean, opened},
    error::EngineError,
    http::{io, json},
    supervisor::Life,
};

const SOURCE: &str = include_str!("../../python/mlx_lm_worker.py");

/// Calls that wait for an answer; `None` when none will come any more.
type Calls = Arc<Mutex<Option<HashMap<u64, UnboundedSender<Value>>>>>;

/// Who speaks to one worker.
#[derive(Clone)]
pub(super) struct Worker {
    version: Arc<str>,
    lines: UnboundedSender<String>,
    calls: Calls,
    next: Arc<AtomicU64>,
}

/// A call under way. The worker stops when this is dropped.
pub(super) struct Call {
    number: u64,
    worker: Worker,
    events: UnboundedReceiver<Value>,
    ended: bool,
}

/// Starts a worker. It ends when its input does, so that it does not outlive this process.
pub(super) async fn start(settings: &MlxLmSettings) -> Result<Life<Worker>, EngineError> {
    let log = match &settings.log {
        Some(path) => Some(opened(path).await.map_err(EngineError::Io)?),
        None => None,
    };
    let mut command = Command::new(&settings.python);
    command.args(["-I", "-c", SOURCE]).arg(&settings.model);
    command.args([settings.slots.to_string(), settings.context.to_string()]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    command.stderr(Stdio::piped()).kill_on_drop(true);
    clean(&mut command);
    // nothing is fetched from anywhere
    command.envs([("HF_HUB_OFFLINE", "1"), ("TOKENIZERS_PARALLELISM", "false")]);
    let mut child = command
        .spawn()
        .map_err(|error| EngineError::Io(kvcap::Error::io(&error, settings.python.display())))?;
    let (Some(input), Some(output), Some(errors)) =
        (child.stdin.take(), child.stdout.take(), child.stderr.take())
    else {
        return Err(io("the engine has no pipes"));
    };
    let said = Said::listen(errors, log);
    let mut answers = BufReader::new(output).lines();
    let ready = match timeout(settings.patience, answers.next_line()).await {
        Ok(Ok(Some(line))) => json(line.as_bytes())?,
        Ok(_) => {
            let _ = child.wait().await;
            let error = said.explain("the engine ended before it was ready").await;
            return Err(EngineError::Io(error));
        }
        Err(_) => {
            return Err(EngineError::Io(
                said.explain("the engine is not ready in time").await,
            ));
        }
    };
    let version = ready["ready"]["version"].as_str().unwrap_or_default();
    let (lines, requests) = unbounded_channel();
    let worker = Worker {
        version: version.into(),
        lines,
        calls: Arc::new(Mutex::new(Some(HashMap::new()))),
        next: Arc::default(),
    };
    let writing = write(input, requests);
    let reading = read(answers, worker.calls.clone());
    Ok(Life {
        handle: worker,
        end: Box::pin(async move {
            tokio::select! {
                _ = child.wait() => {}
                () = reading => {}
                () = writing => {}
            }
        }),
    })
}

async fn write(mut input: ChildStdin, mut lines: UnboundedReceiver<String>) {
    while let Some(line) = lines.recv().await {
        if input.write_all(line.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// Ends every call when it ends itself, or is dropped.
struct Reading(Calls);

impl Drop for Reading {
    fn drop(&mut self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

async fn read(mut answers: Lines<BufReader<ChildStdout>>, calls: Calls) {
    let reading = Reading(calls);
    while let Ok(Some(line)) = answers.next_line().await {
        let Ok(answer) = json(line.as_bytes()) else {
            return;
        };
        let calls = reading.0.lock().unwrap_or_else(PoisonError::into_inner);
        let number = answer["id"].as_u64().unwrap_or_default();
        if let Some(call) = calls.as_ref().and_then(|calls| calls.get(&number)) {
            // whoever called may be gone
            let _ = call.send(answer);
        }
    }
}

impl Worker {
    pub(super) fn version(&self) -> &str {
        &self.version
    }

    /// Sends a request.
    pub(super) fn call(&self, mut body: Value) -> Call {
        let number = self.next.fetch_add(1, Ordering::Relaxed) + 1;
        body["id"] = number.into();
        let (sender, events) = unbounded_channel();
        let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(calls) = calls.as_mut() {
            calls.insert(number, sender);
            let _ = self.lines.send(format!("{body}\n"));
        }
        Call {
            number,
            worker: self.clone(),
            events,
            ended: false,
        }
    }
}

impl Call {
    /// Returns what comes next.
    ///
    /// # Errors
    /// [`EngineError::Lost`] where the worker ended, [`EngineError::Refused`] with its sentence.
    pub(super) async fn next(&mut self) -> Result<Value, EngineError> {
        let event = self.events.recv().await.ok_or(EngineError::Lost)?;
        let refused = &event["refused"];
        self.ended = !refused.is_null() || !event["done"].is_null();
        if refused.is_null() {
            return Ok(event);
        }
        let status = refused["status"].as_u64();
        Err(EngineError::Refused {
            status: status
                .and_then(|status| u16::try_from(status).ok())
                .unwrap_or(500),
            message: refused["message"].as_str().unwrap_or_default().to_owned(),
        })
    }

    /// Returns what the call gives when it is done.
    ///
    /// # Errors
    /// As [`Self::next`].
    pub(super) async fn done(mut self) -> Result<Value, EngineError> {
        loop {
            let mut event = self.next().await?;
            if self.ended {
                return Ok(event["done"].take());
            }
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let mut calls = self
            .worker
            .calls
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(calls) = calls.as_mut() {
            calls.remove(&self.number);
        }
        if !self.ended {
            let cancel = json!({ "cancel": self.number });
            let _ = self.worker.lines.send(format!("{cancel}\n"));
        }
    }
}
