//! One conversation that outlives its server: begun, saved, ended, begun again, resumed.

use std::time::{Duration, Instant};

use kvcap::Result;
use serde_json::{Value, json};

use crate::{
    own::Own,
    remote::{Remote, Reply},
    server::{Running, Server},
};

/// Tokens of each answer.
const ANSWER: u64 = 16;
/// The conversation's session, and one that begins with nothing.
const SESSIONS: [&str; 2] = ["conversation", "from-nothing"];

/// A conversation before and after its server's end.
#[derive(Clone, Debug)]
pub struct RoundTrip {
    /// Time in which server and model were there.
    pub starting: Duration,
    /// The first turn.
    pub first: Evaluated,
    /// The checkpoint after it.
    pub saved: Saved,
    /// Time in which the server ended.
    pub ending: Duration,
    /// Time in which another one was there.
    pub starting_again: Duration,
    /// The second turn.
    pub resumed: Evaluated,
    /// The second turn, of a conversation of which nothing is kept.
    pub from_nothing: Evaluated,
    /// The words of both were the same.
    pub is_same: bool,
}

/// An answer's way, by the engine's own count.
#[derive(Clone, Debug)]
pub struct Evaluated {
    /// Time to the whole answer.
    pub took: Duration,
    /// Rung of the ladder.
    pub rung: String,
    /// Code that says why it is not exact, `KVC-nnn`; else empty.
    pub code: String,
    /// Tokens that were restored.
    pub restored: u64,
    /// Tokens that were evaluated.
    pub evaluated: u64,
}

/// A checkpoint.
#[derive(Clone, Debug)]
pub struct Saved {
    /// Time in which it was sealed and durable.
    pub took: Duration,
    /// Tokens that it holds.
    pub positions: u64,
    /// Bytes of its capsule.
    pub bytes: u64,
}

impl RoundTrip {
    /// Holds a conversation over a text, with a server of `own`, which is called for each of the two servers.
    ///
    /// # Errors
    /// Those of `own`, of the server and its engine, and of the gateway's refusals.
    pub fn over(text: &str, own: &dyn Fn() -> Result<Own>) -> Result<Self> {
        let mut messages = vec![
            json!({"role": "system", "content": text}),
            json!({"role": "user", "content": "What is this about? Answer in one sentence."}),
        ];
        let before = At::begun(own()?)?;
        let told = before.ask(SESSIONS[0], &messages);
        let told = told.and_then(|(first, words)| Ok((first, words, before.checkpoint()?)));
        let starting = before.starting;
        let ending = before.end()?;
        let (first, words, saved) = told?;
        messages.push(json!({"role": "assistant", "content": words}));
        messages.push(json!({"role": "user", "content": "And what follows from it?"}));
        let after = At::begun(own()?)?;
        let resumed = after.ask(SESSIONS[0], &messages);
        let anew = resumed.and_then(|resumed| Ok((resumed, after.ask(SESSIONS[1], &messages)?)));
        let starting_again = after.starting;
        after.end()?;
        let ((resumed, one), (from_nothing, other)) = anew?;
        Ok(Self {
            starting,
            first,
            saved,
            ending,
            starting_again,
            resumed,
            from_nothing,
            is_same: one == other,
        })
    }
}

/// A server, and who asks it.
struct At {
    running: Running,
    remote: Remote,
    starting: Duration,
}

impl At {
    fn begun(own: Own) -> Result<Self> {
        let began = Instant::now();
        let running = Server::bind(own.settings)?.start()?;
        let remote = Remote::at(&running.address().to_string(), &own.token, None)?;
        Ok(Self {
            running,
            remote,
            starting: began.elapsed(),
        })
    }

    fn ask(&self, session: &str, messages: &[Value]) -> Result<(Evaluated, String)> {
        let body = json!({"messages": messages, "max_tokens": ANSWER, "temperature": 0});
        let path = "/v1/chat/completions";
        let began = Instant::now();
        let reply = self.remote.ask("POST", path, Some(session), Some(&body))?;
        let took = began.elapsed();
        let words = reply.body["choices"][0]["message"]["content"].as_str();
        Ok((
            evaluated(&reply, took),
            words.unwrap_or_default().to_owned(),
        ))
    }

    fn checkpoint(&self) -> Result<Saved> {
        let path = format!("/v1/sessions/{}/checkpoint", SESSIONS[0]);
        let began = Instant::now();
        let reply = self.remote.ask("POST", &path, None, None)?;
        let state = &reply.body["state"];
        Ok(Saved {
            took: began.elapsed(),
            positions: state["positions"].as_u64().unwrap_or_default(),
            bytes: state["bytes"].as_u64().unwrap_or_default(),
        })
    }

    fn end(self) -> Result<Duration> {
        let began = Instant::now();
        self.running.stop().now();
        self.running.wait()?;
        Ok(began.elapsed())
    }
}

fn evaluated(reply: &Reply, took: Duration) -> Evaluated {
    let count = |name: &str| reply.told(name).parse().unwrap_or_default();
    Evaluated {
        took,
        rung: reply.told("rung").to_owned(),
        code: reply.told("code").to_owned(),
        restored: count("restored"),
        evaluated: count("evaluated"),
    }
}
