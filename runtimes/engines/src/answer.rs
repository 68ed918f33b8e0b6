//! Answers on their way.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_core::Stream;
use tokio::sync::mpsc;

use crate::error::EngineError;

/// Tokens and milliseconds of one request, by the runtime's own count.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Timings {
    /// Tokens of the prompt that were reused.
    pub cached: u64,
    /// Tokens of the prompt that were evaluated.
    pub evaluated: u64,
    /// Tokens of the answer.
    pub predicted: u64,
    /// Milliseconds for the prompt.
    pub prompt_ms: f64,
    /// Milliseconds for the answer.
    pub predicted_ms: f64,
}

/// A part of an answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// Bytes for the client: whole server-sent events, or the one JSON.
    Bytes(Bytes),
    /// The end, with all counts. An answer without it was cut off.
    Done(Timings),
}

/// An answer that has begun.
#[derive(Debug)]
pub struct Answer {
    /// `text/event-stream` or `application/json`.
    pub content_type: &'static str,
    /// Counts of the prompt, known before any byte is passed on; nothing is predicted yet.
    pub reused: Timings,
    /// Its parts.
    pub events: Events,
}

/// Parts of an answer in order: bytes, then one [`Event::Done`], or an error and nothing after it. The engine works
/// no further ahead than a few of them; it stops when this is dropped.
#[derive(Debug)]
pub struct Events(mpsc::Receiver<Result<Event, EngineError>>);

/// Parts that wait for their reader.
const AHEAD: usize = 16;

impl Events {
    /// Returns where an engine puts the parts, and where they come out.
    #[must_use]
    pub fn new() -> (mpsc::Sender<Result<Event, EngineError>>, Self) {
        let (sender, receiver) = mpsc::channel(AHEAD);
        (sender, Self(receiver))
    }

    /// Returns the next part, `None` after the last one.
    ///
    /// # Errors
    /// [`EngineError::Lost`] where the engine died, [`EngineError::Refused`] where it gave up.
    pub async fn next(&mut self) -> Option<Result<Event, EngineError>> {
        self.0.recv().await
    }
}

impl Stream for Events {
    type Item = Result<Event, EngineError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(cx)
    }
}
