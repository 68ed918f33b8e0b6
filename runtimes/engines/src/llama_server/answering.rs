//! An answer as it comes.

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::Method;
use serde_json::Value;
use tokio::sync::mpsc::Sender;

use super::dialect::{Prepared, timings};
use crate::{
    answer::{Answer, Event, Events, Timings},
    error::EngineError,
    http::{Client, Response, io, json, refused},
};

/// Longest event.
const LONGEST: usize = 8 << 20;

/// Sends a request, and gives its answer once the prompt is evaluated.
pub(super) async fn answer(client: &Client, prepared: Prepared) -> Result<Answer, EngineError> {
    let response = client
        .open(Method::POST, prepared.path, Some(&prepared.body))
        .await?;
    let status = response.status;
    if status != 200 {
        return Err(refused(status, &response.all().await?));
    }
    match prepared.streams {
        true => streamed(response, prepared.counted).await,
        false => whole(response).await,
    }
}

async fn whole(response: Response) -> Result<Answer, EngineError> {
    let body = response.all().await?;
    let counts = timings(&json(&body)?).ok_or_else(uncounted)?;
    let (sender, events) = Events::new();
    for event in [Event::Bytes(body), Event::Done(counts)] {
        // there is room for both
        let _ = sender.try_send(Ok(event));
    }
    Ok(Answer {
        content_type: "application/json",
        reused: of_the_prompt(counts),
        events,
    })
}

async fn streamed(response: Response, counted: bool) -> Result<Answer, EngineError> {
    let mut stream = Sse {
        response,
        bytes: BytesMut::new(),
        counted,
    };
    let mut held = Vec::new();
    let first = loop {
        let part = stream.next().await?;
        let counts = part.counts;
        held.push(part);
        if let Some(counts) = counts {
            break counts;
        }
    };
    let (sender, events) = Events::new();
    tokio::spawn(async move {
        tokio::select! {
            // dropping the stream stops the engine
            () = sender.closed() => {}
            () = pass_on(stream, held, first, &sender) => {}
        }
    });
    Ok(Answer {
        content_type: "text/event-stream",
        reused: of_the_prompt(first),
        events,
    })
}

async fn pass_on(
    mut stream: Sse,
    held: Vec<Part>,
    mut counts: Timings,
    sender: &Sender<Result<Event, EngineError>>,
) {
    let mut held = held.into_iter();
    loop {
        let part = match held.next() {
            Some(part) => Ok(part),
            None => stream.next().await,
        };
        let (last, event) = match part {
            Ok(part) => {
                counts = part.counts.unwrap_or(counts);
                (part.last, Ok(Event::Bytes(part.bytes)))
            }
            Err(error) => {
                let _ = sender.send(Err(error)).await;
                return;
            }
        };
        if sender.send(event).await.is_err() {
            return;
        }
        if last {
            let _ = sender.send(Ok(Event::Done(counts))).await;
            return;
        }
    }
}

/// One server-sent event.
struct Part {
    bytes: Bytes,
    counts: Option<Timings>,
    last: bool,
}

/// Server-sent events, one by one.
struct Sse {
    response: Response,
    bytes: BytesMut,
    counted: bool,
}

impl Sse {
    async fn next(&mut self) -> Result<Part, EngineError> {
        let end = self.end_of_event().await?;
        let bytes = self.bytes.split_to(end).freeze();
        let text = std::str::from_utf8(&bytes).map_err(|_| io("the engine's answer is no text"))?;
        let data = text.trim_end().strip_prefix("data:").map(str::trim);
        let plain = |last| Part {
            bytes: bytes.clone(),
            counts: None,
            last,
        };
        match data {
            // a comment that keeps the connection
            None if !text.starts_with("error:") => Ok(plain(false)),
            Some("[DONE]") => Ok(plain(true)),
            Some(data) => self.counted(json(data.as_bytes())?),
            None => Err(refused(500, text.trim_start_matches("error:").as_bytes())),
        }
    }

    /// An event with its counts, which stay in it where the caller asked for them and in the one that ends the answer.
    fn counted(&self, mut event: Value) -> Result<Part, EngineError> {
        if !event["error"].is_null() {
            let status = event["error"]["code"].as_u64();
            let status = status
                .and_then(|code| u16::try_from(code).ok())
                .unwrap_or(500);
            return Err(refused(status, event.to_string().as_bytes()));
        }
        let counts = timings(&event);
        let choices = event["choices"].as_array();
        let goes_on = choices.is_some_and(|choices| {
            choices
                .iter()
                .any(|choice| choice["finish_reason"].is_null())
        });
        if goes_on
            && !self.counted
            && let Value::Object(members) = &mut event
        {
            members.remove("timings");
        }
        Ok(Part {
            bytes: Bytes::from(format!("data: {event}\n\n")),
            counts,
            last: false,
        })
    }

    /// The place after the next empty line.
    async fn end_of_event(&mut self) -> Result<usize, EngineError> {
        let mut looked_at = 0;
        loop {
            let from = looked_at;
            let found = self.bytes[from..]
                .windows(2)
                .position(|pair| pair == b"\n\n");
            if let Some(at) = found {
                return Ok(from + at + 2);
            }
            looked_at = self.bytes.len().saturating_sub(1);
            if self.bytes.len() > LONGEST {
                return Err(io("an event of the engine's answer is longer than 8 MiB"));
            }
            let frame = self.response.body.frame().await;
            let frame = frame
                .ok_or(EngineError::Lost)?
                .map_err(|_| EngineError::Lost)?;
            if let Ok(data) = frame.into_data() {
                self.bytes.extend_from_slice(&data);
            }
        }
    }
}

fn of_the_prompt(counts: Timings) -> Timings {
    Timings {
        predicted: 0,
        predicted_ms: 0.0,
        ..counts
    }
}

fn uncounted() -> EngineError {
    io("the engine does not say what it reused")
}
