//! The end of an answer: the client has it, and the slot's state is recorded, saved and given back (http-v1 HTTP-E-5).

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use axum::body::Bytes;
use futures_core::Stream;
use kvcap_engines::{Event, Events, Slot, Timings};
use kvcap_session::Names;

use super::{
    Gateway,
    slots::{Held, Lease},
    turns::Turns,
};

/// What is left to do in a slot when an answer has ended.
pub(super) struct Settling {
    pub(super) runtime: tokio::runtime::Handle,
    pub(super) gateway: Arc<Gateway>,
    pub(super) lease: Lease,
    pub(super) slot: Slot,
    pub(super) names: Option<Names>,
    /// Ids of the request.
    pub(super) tokens: Arc<Vec<u32>>,
    pub(super) reused: Timings,
    /// Tokens in the slot that no checkpoint has.
    pub(super) unsaved: u64,
    /// What is said, where it is recorded.
    pub(super) turns: Option<Turns>,
}

impl Settling {
    /// Notes what the slot holds now, saves it where that is due, and gives the slot back. The caller has his answer
    /// already.
    fn settle(self, done: Option<Timings>) {
        let Self {
            gateway,
            mut lease,
            slot,
            names,
            tokens,
            reused,
            unsaved,
            runtime,
            turns,
        } = self;
        let Some(names) = names else {
            return;
        };
        let predicted = done.map_or(0, |done| done.predicted);
        let mut held = Held {
            names,
            generation: slot.generation,
            tokens: tokens.to_vec(),
            total: reused.cached + reused.evaluated + predicted,
            unsaved: unsaved + reused.evaluated + predicted,
            handed_in: false,
        };
        runtime.spawn(async move {
            if let Some(turns) = turns {
                gateway.record(&held.names, turns, done.is_some()).await;
            }
            let mut is_there = true;
            if held.unsaved >= gateway.setup.save_after {
                // an engine that has stopped has nothing to save
                if let Ok(record) = gateway.save(slot, &mut held, false).await {
                    is_there = gateway.probe(slot, &held, &record).await;
                }
            }
            gateway.settle(&held).await;
            lease.held = Some(held).filter(|_| is_there);
            drop(lease);
        });
    }
}

/// An answer on its way to the client.
pub(super) struct Passing {
    pub(super) events: Option<Events>,
    pub(super) settling: Option<Settling>,
}

impl Passing {
    fn end(&mut self, done: Option<Timings>) {
        // an answer that is not taken to its end is stopped first
        self.events = None;
        if let Some(settling) = self.settling.take() {
            settling.settle(done);
        }
    }
}

impl Stream for Passing {
    type Item = Result<Bytes, std::io::Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Some(events) = self.events.as_mut() else {
            return Poll::Ready(None);
        };
        match ready!(Pin::new(events).poll_next(cx)) {
            Some(Ok(Event::Bytes(bytes))) => {
                let settling = self.settling.as_mut();
                if let Some(turns) = settling.and_then(|settling| settling.turns.as_mut()) {
                    turns.hear(&bytes);
                }
                Poll::Ready(Some(Ok(bytes)))
            }
            Some(Ok(Event::Done(done))) => {
                self.end(Some(done));
                Poll::Ready(None)
            }
            // the connection breaks off: what was sent is not all
            Some(Err(_)) | None => {
                self.end(None);
                let broken = std::io::Error::other("the engine broke off");
                Poll::Ready(Some(Err(broken)))
            }
        }
    }
}

impl Drop for Passing {
    fn drop(&mut self) {
        self.end(None);
    }
}
