//! One connection to a Valkey or Redis that may be slow, gone or never there: who asks waits for a moment at most.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use kvcap::{Code, Error, Result};
use redis::{AsyncConnectionConfig, Client, Cmd, FromRedisValue, aio::MultiplexedConnection};
use tokio::time::timeout;

use super::blocking::Blocking;

/// Longest wait for an answer.
const MOMENT: Duration = Duration::from_millis(50);

/// Longest time for a connection to be made, for which nobody waits but a relay that begins.
const CONNECTING: Duration = Duration::from_secs(2);

/// Time for which nothing is asked after a question that was not answered.
const PAUSE: Duration = Duration::from_secs(2);

/// A server that is asked through one connection.
#[derive(Clone)]
pub(super) struct Valkey(Arc<Inner>);

struct Inner {
    client: Client,
    blocking: Blocking,
    line: Mutex<Line>,
    /// Connections that were made, or tried.
    made: AtomicU64,
}

/// What leads to the server.
enum Line {
    /// Nothing, and until then nothing is tried.
    Away(Instant),
    /// A connection that is being made.
    Coming,
    /// A connection, and its number.
    There(MultiplexedConnection, u64),
}

/// What came of a question.
#[derive(Debug)]
pub(super) enum Answer<T> {
    Told(T),
    /// No answer in time, or an error.
    Failed,
    /// Not asked: there is no connection now.
    Passed,
}

impl Valkey {
    /// Connects; where that takes long, or fails, goes on without.
    pub(super) fn at(address: &str, blocking: Blocking) -> Result<Self> {
        super::tls::use_ring();
        // what is wrong in it may be its password
        let client = Client::open(address)
            .map_err(|_| Error::new(Code::LocalConfig, "the address of the edge is none"))?;
        let line = Mutex::new(Line::Coming);
        let valkey = Self(Arc::new(Inner {
            client,
            blocking: blocking.clone(),
            line,
            made: AtomicU64::default(),
        }));
        blocking.wait(valkey.clone().connect());
        Ok(valkey)
    }

    /// Asks, if there is a connection; else has one made for those who come later.
    pub(super) async fn ask<T: FromRedisValue>(&self, question: &Cmd) -> Answer<T> {
        let Some((mut connection, number)) = self.connection() else {
            return Answer::Passed;
        };
        match timeout(MOMENT, question.query_async(&mut connection)).await {
            Ok(Ok(told)) => Answer::Told(told),
            // its errors too: it is full, or still reads its disk, or does not know us
            _ => {
                self.break_off(number);
                Answer::Failed
            }
        }
    }

    pub(super) fn blocking(&self) -> &Blocking {
        &self.0.blocking
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        self.0.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn connection(&self) -> Option<(MultiplexedConnection, u64)> {
        let mut line = self.line();
        match &*line {
            Line::There(connection, number) => Some((connection.clone(), *number)),
            Line::Away(until) if *until <= Instant::now() => {
                *line = Line::Coming;
                drop(line);
                self.0.blocking.spawn(self.clone().connect());
                None
            }
            Line::Away(_) | Line::Coming => None,
        }
    }

    async fn connect(self) {
        let number = self.0.made.fetch_add(1, Ordering::Relaxed);
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECTING))
            .set_response_timeout(Some(CONNECTING));
        let made = async {
            let client = &self.0.client;
            let mut connection = client
                .get_multiplexed_async_connection_with_config(&config)
                .await?;
            redis::cmd("PING")
                .query_async::<()>(&mut connection)
                .await
                .map(|()| connection)
        };
        let made = timeout(CONNECTING, made).await;
        *self.line() = match made {
            Ok(Ok(connection)) => Line::There(connection, number),
            _ => Line::Away(Instant::now() + PAUSE),
        };
    }

    /// Gives a connection up, unless another has taken its place.
    fn break_off(&self, failed: u64) {
        let mut line = self.line();
        if matches!(&*line, Line::There(_, number) if *number == failed) {
            *line = Line::Away(Instant::now() + PAUSE);
        }
    }
}
