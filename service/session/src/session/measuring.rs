//! Figures of a session (session-v1 §12).

use kvcap::Result;

use super::Session;
use crate::{
    event::Event,
    metrics::{Coverage, SessionFigures},
};

impl Session {
    /// Returns the session's figures: how long it is, how far it is saved, and what came of its resumes.
    ///
    /// # Errors
    /// As [`Self::status`], [`Self::events`] and [`Self::observations`].
    pub fn figures(&self) -> Result<SessionFigures> {
        let status = self.status()?;
        let events = self.events()?;
        let at = |event: Option<&Event>| event.map_or(0, |event| event.at);
        let state = status.current.capsule.as_ref();
        Ok(SessionFigures {
            names: self.names(),
            coverage: Coverage::of(&status.current, status.checkpoint.as_ref()),
            // a clock may have gone back
            seconds: at(events.last()).saturating_sub(at(events.first())),
            messages: status.current.messages,
            positions: state.map_or(0, |capsule| capsule.positions),
            capsule_bytes: status.capsules.1,
            observations: self.observations()?,
        })
    }
}
