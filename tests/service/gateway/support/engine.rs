//! An engine in memory: a model whose next token follows from all ids before it, and whose states are llama.cpp's files
//! of a small model, with rows that follow from the ids too.

use std::{
    fs::File,
    io::{Read, Write},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use kvcap::SourceFile;
use kvcap_codecs::{Dtype, to_f32};
use kvcap_engines::{
    About, Answer, Answering, Asked, Engine, EngineError, Event, Events, Health, Slot, StateFile,
    StateFolder, Timings,
};
use kvcap_models::RuntimeOptions;
use kvcap_states::{Hints, RuntimeKind, parse};
use kvcap_testkit::{fixture, model};
use serde_json::{Value, json};
use tempfile::TempDir;

const LAYERS: u32 = 6;
const ROW: usize = 256;
const F16: u32 = 1;
/// Tokens of an answer that says nothing else.
const MADE: u64 = 4;

pub(crate) struct TestEngine {
    about: About,
    folder: StateFolder,
    /// Files of the folder's own.
    besides: usize,
    slots: Mutex<Vec<Vec<u32>>>,
    generation: AtomicU64,
    /// Answers that are lost before their first byte.
    pub(crate) dies: AtomicUsize,
    /// What was admitted is evaluated again all the same.
    pub(crate) lies: AtomicBool,
    /// Half a second goes by in an export.
    pub(crate) slow: AtomicBool,
    /// What was admitted goes on otherwise than it did.
    pub(crate) drifts: AtomicBool,
    /// Rows come back about as they left.
    pub(crate) near: AtomicBool,
    /// Calls by name.
    pub(crate) calls: Mutex<Vec<&'static str>>,
    _home: TempDir,
}

impl TestEngine {
    pub(crate) fn new(slots: usize, rewinds: bool) -> Arc<Self> {
        Self::with(slots, rewinds, |_| {})
    }

    /// One that was started otherwise.
    pub(crate) fn with(slots: usize, rewinds: bool, change: impl FnOnce(&mut About)) -> Arc<Self> {
        let home = TempDir::new().unwrap();
        let folder = StateFolder::new(home.path()).unwrap();
        let path = fixture("model");
        let profile = model(&path).unwrap();
        let first = folder.create().unwrap();
        write(first.file(), &[1, 2, 3]);
        let source = SourceFile::new(File::open(first.path()).unwrap()).unwrap();
        let state = parse(
            RuntimeKind::LlamaCpp,
            &source,
            Hints::Model(&profile.geometry),
        )
        .unwrap();
        let mut about = About {
            kind: RuntimeKind::LlamaCpp,
            version: "test-1".to_owned(),
            path,
            profile,
            options: RuntimeOptions::default(),
            slots,
            context: 2048,
            format: state.format,
            facts: state.facts,
            rewinds,
            missing: Vec::new(),
        };
        change(&mut about);
        drop((first, source));
        let besides = std::fs::read_dir(folder.path()).unwrap().count();
        Arc::new(Self {
            about,
            folder,
            besides,
            slots: Mutex::new(vec![Vec::new(); slots]),
            generation: AtomicU64::new(1),
            dies: AtomicUsize::new(0),
            lies: AtomicBool::new(false),
            slow: AtomicBool::new(false),
            drifts: AtomicBool::new(false),
            near: AtomicBool::new(false),
            calls: Mutex::default(),
            _home: home,
        })
    }

    /// Ends its life and begins another.
    pub(crate) fn die(&self) {
        self.generation.fetch_add(1, Ordering::SeqCst);
        for slot in self.slots.lock().unwrap().iter_mut() {
            slot.clear();
        }
    }

    pub(crate) fn slot(&self, index: usize) -> Vec<u32> {
        self.slots.lock().unwrap()[index].clone()
    }

    pub(crate) fn called(&self, name: &str) -> usize {
        let calls = self.calls.lock().unwrap();
        calls.iter().filter(|call| **call == name).count()
    }

    /// Waits until what is saved behind an answer is saved, and no state in clear is left.
    pub(crate) fn wait_for_no_file(&self) {
        let files = || std::fs::read_dir(self.folder.path()).unwrap().count();
        for _ in 0..600 {
            if files() == self.besides {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        panic!("{} states in clear are left", files() - self.besides);
    }

    /// A state file of a prompt.
    pub(crate) fn state(&self, prompt: &str) -> StateFile {
        let ids: Vec<u32> = prompt.bytes().map(u32::from).collect();
        let state = self.folder.create().unwrap();
        write(state.file(), &ids);
        state
    }

    fn check(&self, slot: Slot) -> Result<(), EngineError> {
        match slot.generation == self.generation.load(Ordering::SeqCst) {
            true => Ok(()),
            false => Err(EngineError::Lost),
        }
    }

    fn call(&self, name: &'static str, slot: Slot) -> Result<(), EngineError> {
        self.calls.lock().unwrap().push(name);
        self.check(slot)
    }

    /// What it reuses of a request, by its own count.
    fn evaluates(&self, slot: Slot, ids: &[u32]) -> Timings {
        let mut slots = self.slots.lock().unwrap();
        let held = &mut slots[slot.index];
        let common = held.iter().zip(ids).take_while(|(a, b)| a == b).count();
        let kept = match common < held.len() && !self.about.rewinds {
            true => 0,
            false => common.min(ids.len() - 1),
        };
        *held = ids.to_vec();
        Timings {
            cached: kept as u64,
            evaluated: (ids.len() - kept) as u64,
            prompt_ms: (ids.len() - kept) as f64,
            ..Timings::default()
        }
    }
}

/// Ids of a request.
fn ids(asked: &Asked) -> Result<Vec<u32>, EngineError> {
    let text = match (asked, &asked.body()["prompt"]) {
        (Asked::Completion(_), Value::Array(ids)) => {
            let ids = ids.iter().map(|id| u32::try_from(id.as_u64()?).ok());
            let ids: Option<Vec<u32>> = ids.collect();
            let ids = ids.filter(|ids| !ids.is_empty());
            return ids.ok_or_else(|| refused("the prompt is no list of ids"));
        }
        (Asked::Completion(_), Value::String(text)) => text.clone(),
        (Asked::Chat(body), _) => chat(body).ok_or_else(|| refused("the chat is none"))?,
        _ => {
            return Err(refused("there is no prompt"));
        }
    };
    if text.is_empty() {
        return Err(refused("the prompt is empty"));
    }
    Ok(text.bytes().map(u32::from).collect())
}

fn refused(message: &str) -> EngineError {
    EngineError::Refused {
        status: 400,
        message: message.to_owned(),
    }
}

/// A template: tools first, then the messages.
fn chat(body: &Value) -> Option<String> {
    let mut text = String::new();
    if let Some(tools) = body["tools"].as_array() {
        text = format!("[tools {}]", Value::from(tools.clone()));
    }
    for message in body["messages"].as_array()? {
        text += &format!(
            "<{}>{}",
            message["role"].as_str()?,
            message["content"].as_str()?
        );
    }
    Some(text + "<assistant>")
}

/// A number that follows from ids and what it is for.
fn mixed(ids: &[u32], what: u64) -> u64 {
    let step = |mixed: u64, id: &u32| (mixed ^ u64::from(*id)).wrapping_mul(0x0100_0000_01b3);
    ids.iter().fold(0xcbf2_9ce4_8422_2325 ^ what, step)
}

/// The most likely next token: a letter.
fn next(ids: &[u32]) -> u32 {
    97 + u32::try_from((mixed(ids, 1) >> 32) % 26).unwrap()
}

/// What the model says after a prompt, without any state.
pub(crate) fn says(prompt: &str, count: u64) -> String {
    let mut ids: Vec<u32> = prompt.bytes().map(u32::from).collect();
    let made = (0..count).map(|_| {
        let token = next(&ids);
        ids.push(token);
        char::from_u32(token).unwrap()
    });
    made.collect()
}

fn write(mut file: &File, ids: &[u32]) {
    let mut bytes = Vec::new();
    let word = |bytes: &mut Vec<u8>, word: u32| bytes.extend(word.to_le_bytes());
    let count = u32::try_from(ids.len()).unwrap();
    for fact in [0x6767_7371, 3, count] {
        word(&mut bytes, fact);
    }
    for id in ids {
        word(&mut bytes, *id);
    }
    for fact in [1, count] {
        word(&mut bytes, fact);
    }
    for position in 0..count {
        for fact in [position, 1, 0] {
            word(&mut bytes, fact);
        }
    }
    for fact in [0, LAYERS] {
        word(&mut bytes, fact);
    }
    for tensor in 0..LAYERS * 2 {
        word(&mut bytes, F16);
        bytes.extend((ROW as u64).to_le_bytes());
        for position in 0..ids.len() {
            let mut seed = mixed(&ids[..=position], u64::from(tensor) + 2);
            for _ in 0..ROW / 8 {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                // numbers of a small exponent: none is infinite
                bytes.extend((seed & 0x3bff_3bff_3bff_3bff).to_le_bytes());
            }
        }
    }
    file.set_len(0).unwrap();
    file.write_all(&bytes).unwrap();
}

/// Whether two files of so many tokens are the same but for rows, which are about the same.
fn near(tokens: usize, one: &[u8], other: &[u8]) -> bool {
    const TENSOR: usize = 12;
    let (head, tensor) = (28 + 16 * tokens, TENSOR + ROW * tokens);
    let rows = |tensor: &[u8]| {
        let mut rows = Vec::new();
        to_f32(Dtype::F16, &tensor[TENSOR..], &mut rows).unwrap();
        rows
    };
    let same_tensor = |(one, other): (&[u8], &[u8])| {
        let (a, b) = (rows(one), rows(other));
        let error: f32 = a.iter().zip(&b).map(|(a, b)| (a - b).powi(2)).sum();
        let whole: f32 = b.iter().map(|b| b.powi(2)).sum();
        one[..TENSOR] == other[..TENSOR] && error < 0.01 * whole
    };
    let mut tensors = one[head..].chunks(tensor).zip(other[head..].chunks(tensor));
    one.len() == other.len() && one[..head] == other[..head] && tensors.all(same_tensor)
}

impl Engine for TestEngine {
    fn about(&self) -> &About {
        &self.about
    }

    fn tokens<'a>(&'a self, asked: &'a Asked) -> Answering<'a, Vec<u32>> {
        Box::pin(async move { ids(asked) })
    }

    fn answer(&self, slot: Slot, asked: Asked) -> Answering<'_, Answer> {
        Box::pin(async move {
            self.call("answer", slot)?;
            let died = |left: usize| left.checked_sub(1);
            if self
                .dies
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, died)
                .is_ok()
            {
                self.die();
                return Err(EngineError::Lost);
            }
            let mut ids = ids(&asked)?;
            let reused = self.evaluates(slot, &ids);
            let count = asked.body()["max_tokens"].as_u64().unwrap_or(MADE);
            let mut said = String::new();
            let drifts = self.drifts.load(Ordering::SeqCst) && self.called("admit") > 0;
            for _ in 0..count {
                let token = next(&ids) ^ u32::from(drifts);
                ids.push(token);
                said.push(char::from_u32(token).unwrap());
            }
            // the last one is sampled and in no state yet
            ids.pop();
            self.slots.lock().unwrap()[slot.index] = ids;
            let (sender, events) = Events::new();
            let (streams, chats) = (asked.streams(), matches!(asked, Asked::Chat(_)));
            let done = Timings {
                predicted: count,
                ..reused
            };
            tokio::spawn(async move {
                let piece = |one: char| match chats {
                    true => json!({"choices": [{"delta": {"content": one}}]}),
                    false => json!({"choices": [{"text": one}]}),
                };
                let whole = match chats {
                    true => {
                        json!({"choices": [{"message": {"role": "assistant", "content": said}}]})
                    }
                    false => json!({"choices": [{"text": said}]}),
                };
                let pieces = match streams {
                    true => said
                        .chars()
                        .map(|one| format!("data: {}\n\n", piece(one)))
                        .chain(["data: [DONE]\n\n".to_owned()])
                        .collect(),
                    false => vec![whole.to_string()],
                };
                for piece in pieces {
                    let _gone = sender.send(Ok(Event::Bytes(Bytes::from(piece)))).await;
                }
                let _gone = sender.send(Ok(Event::Done(done))).await;
            });
            Ok(Answer {
                content_type: match streams {
                    true => "text/event-stream",
                    false => "application/json",
                },
                reused,
                events,
            })
        })
    }

    fn evaluate<'a>(&'a self, slot: Slot, tokens: &'a [u32]) -> Answering<'a, Timings> {
        Box::pin(async move {
            self.call("evaluate", slot)?;
            Ok(self.evaluates(slot, tokens))
        })
    }

    fn export(&self, slot: Slot) -> Answering<'_, StateFile> {
        Box::pin(async move {
            self.call("export", slot)?;
            if self.slow.load(Ordering::SeqCst) {
                tokio::time::sleep(std::time::Duration::from_millis(500)).await;
            }
            let ids = self.slot(slot.index);
            if ids.is_empty() {
                return Err(EngineError::Refused {
                    status: 400,
                    message: "the slot is empty".to_owned(),
                });
            }
            let state = self.folder.create().map_err(EngineError::Io)?;
            write(state.file(), &ids);
            Ok(state)
        })
    }

    fn new_state(&self) -> Result<StateFile, EngineError> {
        self.folder.create().map_err(EngineError::Io)
    }

    fn admit(&self, slot: Slot, state: StateFile) -> Answering<'_, ()> {
        Box::pin(async move {
            self.call("admit", slot)?;
            let (mut bytes, mut expected) = (Vec::new(), Vec::new());
            File::open(state.path())
                .unwrap()
                .read_to_end(&mut bytes)
                .unwrap();
            let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
            let ids: Vec<u32> = (0..word(8) as usize).map(|id| word(12 + id * 4)).collect();
            // what comes back is what left, to the last byte, or nearly where that is enough
            let again = self.folder.create().map_err(EngineError::Io)?;
            write(again.file(), &ids);
            File::open(again.path())
                .unwrap()
                .read_to_end(&mut expected)
                .unwrap();
            let is_near = || self.near.load(Ordering::SeqCst) && near(ids.len(), &bytes, &expected);
            assert!(
                bytes == expected || is_near(),
                "a state came that this model never saved"
            );
            let ids = match self.lies.load(Ordering::SeqCst) {
                true => Vec::new(),
                false => ids,
            };
            self.slots.lock().unwrap()[slot.index] = ids;
            Ok(())
        })
    }

    fn erase(&self, slot: Slot) -> Answering<'_, ()> {
        Box::pin(async move {
            self.call("erase", slot)?;
            self.slots.lock().unwrap()[slot.index].clear();
            Ok(())
        })
    }

    fn health(&self) -> Answering<'_, Health> {
        Box::pin(async move {
            Ok(Health {
                generation: self.generation.load(Ordering::SeqCst),
                ready: true,
            })
        })
    }
}
