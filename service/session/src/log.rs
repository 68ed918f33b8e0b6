//! The chain of a log's events (session-v1 §3).

use kvcap::{Code, Error, Result, binding::Digest};

use crate::{
    event::{Body, Event, Kind},
    names::Names,
};

/// Point that a log has come to: the number of its last event, and the digest that the next one names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Number of the last event, 0 where there is none.
    pub seq: u64,
    /// Digest of the last event, or of the log's origin.
    pub digest: Digest,
}

impl Head {
    /// Returns the head of an empty log that this session begins.
    ///
    /// # Errors
    /// KVC-951 for names that are no claims.
    pub fn origin(names: &Names) -> Result<Self> {
        Ok(Self {
            seq: 0,
            digest: names.origin()?,
        })
    }

    /// Returns the event that comes next.
    ///
    /// # Errors
    /// KVC-950, 951 for what no event is; 204.
    pub fn next(&self, at: u64, kind: Kind, body: Body) -> Result<Event> {
        let event = Event {
            seq: self.seq.saturating_add(1),
            at,
            kind,
            body,
            previous: self.digest,
        };
        event.to_cbor()?;
        Ok(event)
    }

    /// Checks that a log which has come to `head` can have been at this one before.
    ///
    /// # Errors
    /// KVC-952 where it ends before; 953 where it is at the same event of another log.
    pub(crate) fn is_reached(&self, head: Self) -> Result<()> {
        if head.seq < self.seq {
            let what = "the log ends before its checkpoint";
            return Err(Error::new(Code::SessionGap, what).sides(self.seq, head.seq));
        }
        if head.seq == self.seq && head.digest != self.digest {
            let what = "the log has another event where its checkpoint was made";
            let error = Error::new(Code::SessionFork, what).at(format_args!("event {}", self.seq));
            return Err(error.sides(self.digest, head.digest));
        }
        Ok(())
    }

    /// Returns the head after `event`, which must be the next one.
    ///
    /// # Errors
    /// KVC-952 where its number is another; 953 where it goes on from another log; 950, 951.
    pub fn follow(&self, event: &Event) -> Result<Self> {
        let next = self.seq.saturating_add(1);
        if event.seq != next {
            let what = "an event is missing, or out of order";
            return Err(Error::new(Code::SessionGap, what).sides(next, event.seq));
        }
        if event.previous != self.digest {
            let what = "the event goes on from another log";
            let error = Error::new(Code::SessionFork, what).at(format_args!("event {next}"));
            return Err(error.sides(self.digest, event.previous));
        }
        Ok(Self {
            seq: next,
            digest: event.digest()?,
        })
    }
}
