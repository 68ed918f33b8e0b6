//! A body as it comes over a connection, in batches, from a caller who may be slow (http-v1 §9).

use std::{pin::Pin, sync::Arc, task::Poll, time::Instant};

use axum::{
    body::{Body, Bytes, HttpBody},
    http::StatusCode,
};

use crate::{
    policy::Policy,
    refusal::{Answer, Refusal},
};

/// Bytes that are taken on at once, if they are there.
const BATCH: usize = 64 << 10;

pub(super) struct Pump {
    body: Body,
    policy: Arc<Policy>,
    since: Instant,
    bytes: u64,
}

impl Pump {
    pub(super) fn new(body: Body, policy: Arc<Policy>) -> Self {
        Self {
            body,
            policy,
            since: Instant::now(),
            bytes: 0,
        }
    }

    /// Waits for bytes, and takes what is there; none at the end.
    ///
    /// # Errors
    /// 408 for who is silent or too slow, 400 where the connection breaks.
    pub(super) async fn next(&mut self) -> Answer<Option<Vec<Bytes>>> {
        let slow = Refusal::Status(StatusCode::REQUEST_TIMEOUT);
        let batch = tokio::time::timeout(self.policy.limits.silence, batch(&mut self.body)).await;
        let Ok(batch) = batch else {
            return Err(slow);
        };
        let batch = batch.map_err(|_| Refusal::Status(StatusCode::BAD_REQUEST))?;
        for piece in batch.iter().flatten() {
            self.bytes = self
                .bytes
                .saturating_add(u64::try_from(piece.len()).unwrap_or(u64::MAX));
        }
        let took = self.since.elapsed();
        let least = took.as_secs().saturating_mul(self.policy.limits.slowest);
        match took > self.policy.limits.silence && self.bytes < least {
            true => Err(slow),
            false => Ok(batch),
        }
    }
}

/// The whole of a short body.
///
/// # Errors
/// 413 for a longer one; as [`Pump::next`].
pub(crate) async fn short_body(body: Body, policy: Arc<Policy>, longest: usize) -> Answer<Vec<u8>> {
    let mut pump = Pump::new(body, policy);
    let mut whole = Vec::new();
    while let Some(batch) = pump.next().await? {
        for piece in batch {
            if whole.len().saturating_add(piece.len()) > longest {
                return Err(Refusal::Status(StatusCode::PAYLOAD_TOO_LARGE));
            }
            whole.extend_from_slice(&piece);
        }
    }
    Ok(whole)
}

/// The frames that are there, at least one unless the body has ended.
async fn batch(body: &mut Body) -> Result<Option<Vec<Bytes>>, axum::Error> {
    let (mut pieces, mut bytes) = (Vec::new(), 0);
    std::future::poll_fn(|cx| {
        loop {
            match Pin::new(&mut *body).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    // a trailer says nothing here
                    if let Ok(piece) = frame.into_data() {
                        bytes += piece.len();
                        pieces.push(piece);
                    }
                    if bytes >= BATCH {
                        return Poll::Ready(Ok(Some(std::mem::take(&mut pieces))));
                    }
                }
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(error)),
                Poll::Ready(None) if bytes == 0 => return Poll::Ready(Ok(None)),
                Poll::Pending if bytes == 0 => return Poll::Pending,
                Poll::Ready(None) | Poll::Pending => {
                    return Poll::Ready(Ok(Some(std::mem::take(&mut pieces))));
                }
            }
        }
    })
    .await
}
