//! What tests of engines share.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use kvcap_engines::{
    Answer, Asked, Engine, EngineError, Event, LlamaServer, LlamaServerSettings, Slot, Timings,
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::sleep;

use crate::stand_in::script;

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Settings of a stand-in that fails as `mode` says, in a folder.
pub(crate) fn settings(mode: &str, folder: &TempDir) -> LlamaServerSettings {
    let mut settings =
        LlamaServerSettings::new(script(folder.path()), root().join("tests/fixtures/model"));
    settings.arguments = vec!["-a".to_owned(), mode.to_owned()];
    settings.slots = 2;
    settings.context = 64;
    let engine = folder.path().join("engine");
    fs::create_dir_all(&engine).unwrap();
    settings.folder = Some(engine);
    settings
}

/// A stand-in that fails as `mode` says.
pub(crate) async fn engine(mode: &str, folder: &TempDir) -> LlamaServer {
    LlamaServer::start(settings(mode, folder)).await.unwrap()
}

/// A slot of the life that the engine is in.
pub(crate) async fn slot(engine: &dyn Engine, index: usize) -> Slot {
    let generation = engine.health().await.unwrap().generation;
    Slot { index, generation }
}

/// Waits until the engine is ready in a life of at least this number.
pub(crate) async fn wait_for(engine: &dyn Engine, generation: u64) {
    for _ in 0..3000 {
        let health = engine.health().await.unwrap();
        if health.ready && health.generation >= generation {
            return;
        }
        sleep(Duration::from_millis(100)).await;
    }
    panic!("no life {generation}");
}

/// A completion of a text or of ids, the likeliest words.
pub(crate) fn completion(prompt: impl Into<Value>, count: u64, stream: bool) -> Asked {
    let prompt: Value = prompt.into();
    let body = json!({ "prompt": prompt, "max_tokens": count, "temperature": 0, "stream": stream });
    Asked::completion(body)
}

/// All of an answer: its text, and its counts.
pub(crate) async fn read(mut answer: Answer) -> Result<(String, Timings), EngineError> {
    let mut bytes = Vec::new();
    while let Some(event) = answer.events.next().await {
        match event? {
            Event::Bytes(part) => bytes.extend_from_slice(&part),
            Event::Done(counts) => return Ok((text(&bytes), counts)),
        }
    }
    panic!("an answer without an end");
}

/// The words of an answer's bytes.
pub(crate) fn text(bytes: &[u8]) -> String {
    let bytes = std::str::from_utf8(bytes).unwrap();
    let of = |value: Value| {
        let choice = &value["choices"][0];
        let places = ["/text", "/message/content", "/delta/content"];
        let text = places
            .iter()
            .find_map(|place| choice.pointer(place)?.as_str());
        text.unwrap_or_default().to_owned()
    };
    if !bytes.starts_with("data:") {
        return of(serde_json::from_str(bytes).unwrap());
    }
    let data = bytes
        .split("\n\n")
        .filter_map(|event| event.strip_prefix("data: "));
    let values = data.filter(|data| *data != "[DONE]");
    values
        .map(|data| of(serde_json::from_str(data).unwrap()))
        .collect()
}

/// Files below a folder.
pub(crate) fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(files(&path)),
            false => found.push(path),
        }
    }
    found
}

/// Folders below a folder, which their user alone may enter.
pub(crate) fn private_folders(folder: &Path) -> usize {
    let mut count = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            let mode = fs::metadata(&path).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o700, "{}", path.display());
            count += 1 + private_folders(&path);
        }
    }
    count
}

/// Ids of a process and of those below it whose command line holds a text.
pub(crate) fn processes(with: &str) -> Vec<u32> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let id = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok());
        let (Some(id), Ok(line)) = (id, fs::read(entry.path().join("cmdline"))) else {
            continue;
        };
        // the shell that watches has the program's name behind its own script
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        if line.contains(with) && !line.starts_with("/bin/sh") && id != std::process::id() {
            found.push(id);
        }
    }
    found
}

/// Kills processes as a crash would.
pub(crate) fn kill(ids: &[u32]) {
    assert!(!ids.is_empty(), "nothing to kill");
    for id in ids {
        let killed = std::process::Command::new("kill")
            .args(["-9", &id.to_string()])
            .status();
        assert!(killed.unwrap().success());
    }
}
