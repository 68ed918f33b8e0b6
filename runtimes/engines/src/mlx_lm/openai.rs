//! A worker's words as `OpenAI`'s answers.

use std::{
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use serde_json::{Value, json};

use super::{counts, uncounted};
use crate::{answer::Timings, asked::Asked, error::EngineError, state_file::random_name};

/// Shape of one answer.
pub(super) struct Shape {
    chat: bool,
    streams: bool,
    /// The caller wants `usage` at the end of a stream.
    usage: bool,
    begun: bool,
    id: String,
    created: u64,
    model: String,
    reused: Timings,
    /// All words, where they come in one piece.
    text: String,
}

impl Shape {
    pub(super) fn new(asked: &Asked, model: &Path, reused: Timings) -> Self {
        let chat = matches!(asked, Asked::Chat(_));
        let body = asked.body();
        let folder = || {
            model
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned()
        };
        let named = body["model"].as_str().map(str::to_owned);
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let start = if chat { "chatcmpl-" } else { "cmpl-" };
        Self {
            chat,
            streams: asked.streams(),
            usage: body["stream_options"]["include_usage"] == Value::Bool(true),
            begun: false,
            id: format!("{start}{}", random_name().unwrap_or_default()),
            created: now.as_secs(),
            model: named.unwrap_or_else(folder),
            reused,
            text: String::new(),
        }
    }

    pub(super) const fn content_type(&self) -> &'static str {
        match self.streams {
            true => "text/event-stream",
            false => "application/json",
        }
    }

    /// Bytes for the client, and the counts of an answer that is at its end.
    pub(super) fn event(&mut self, event: &Value) -> Result<(Bytes, Option<Timings>), EngineError> {
        if let Some(text) = event["text"].as_str() {
            if !self.streams {
                self.text.push_str(text);
                return Ok((Bytes::new(), None));
            }
            let mut bytes = self.beginning();
            bytes += &self.chunk(Some(text), &Value::Null);
            return Ok((bytes.into(), None));
        }
        let done = &event["done"];
        let counts = counts(done).ok_or_else(uncounted)?;
        let bytes = match self.streams {
            true => self.end(&done["reason"], counts),
            false => self.whole(&done["reason"], counts),
        };
        Ok((bytes.into(), Some(counts)))
    }

    fn object(&self, choices: &Value) -> Value {
        let object = match (self.chat, self.streams) {
            (true, true) => "chat.completion.chunk",
            (true, false) => "chat.completion",
            (false, _) => "text_completion",
        };
        let (id, created, model) = (&self.id, self.created, &self.model);
        json!({ "id": id, "object": object, "created": created, "model": model, "choices": choices })
    }

    /// The role of who answers, once.
    fn beginning(&mut self) -> String {
        if !self.chat || self.begun {
            return String::new();
        }
        self.begun = true;
        let delta = json!({ "role": "assistant", "content": "" });
        let choices = json!([{ "index": 0, "delta": delta, "finish_reason": null }]);
        said(&self.object(&choices))
    }

    fn chunk(&self, text: Option<&str>, reason: &Value) -> String {
        let choice = match (self.chat, text) {
            (true, Some(text)) => {
                json!({ "index": 0, "delta": { "content": text }, "finish_reason": reason })
            }
            (true, None) => json!({ "index": 0, "delta": {}, "finish_reason": reason }),
            (false, text) => {
                json!({ "index": 0, "text": text.unwrap_or_default(), "finish_reason": reason })
            }
        };
        said(&self.object(&json!([choice])))
    }

    fn end(&mut self, reason: &Value, counts: Timings) -> String {
        let mut text = self.beginning();
        text += &self.chunk(None, reason);
        if self.usage {
            let mut last = self.object(&json!([]));
            last["usage"] = self.used(counts);
            text += &said(&last);
        }
        text + "data: [DONE]\n\n"
    }

    fn whole(&self, reason: &Value, counts: Timings) -> String {
        let text = &self.text;
        let choice = match self.chat {
            true => {
                let message = json!({ "role": "assistant", "content": text });
                json!({ "index": 0, "message": message, "finish_reason": reason })
            }
            false => json!({ "index": 0, "text": text, "finish_reason": reason }),
        };
        let mut answer = self.object(&json!([choice]));
        answer["usage"] = self.used(counts);
        answer.to_string()
    }

    fn used(&self, counts: Timings) -> Value {
        let prompt = self.reused.cached + self.reused.evaluated;
        json!({
            "prompt_tokens": prompt,
            "completion_tokens": counts.predicted,
            "total_tokens": prompt + counts.predicted,
            "prompt_tokens_details": { "cached_tokens": self.reused.cached },
        })
    }
}

fn said(event: &Value) -> String {
    format!("data: {event}\n\n")
}
