//! Making versions: checkpoints and reverts (session-v1 §§4.1, 4.3, 8).

use kvcap::{
    CapsuleId, Code, Error, Limits, Outline, ReadAt, Result, SectionKind, SourceFile, Untrusted,
    binding::Digest,
};
use kvcap_store::output::Output;

use super::{Session, states::SavedState};
use crate::{
    event::{Body, Kind},
    files::{Artefact, DeviceWriter, Write},
    record::{CapsuleEntry, Cause, Record},
    sealed::{CONTROLLER, Controller},
};

/// A runtime's state that is to be saved, and who seals it.
pub trait NewState {
    /// Returns the time at which its capsule will expire, in seconds since 1970.
    fn expires(&self) -> u64;

    /// Returns the controller that is sealed beside it, if there is one.
    fn controller(&self) -> Option<&Controller> {
        None
    }

    /// Compares it with the session's latest state, which it may go on from.
    ///
    /// # Errors
    /// Those for which it cannot be sealed as an increment: it is then sealed whole.
    fn continues(&mut self, parent: &SavedState) -> Result<()>;

    /// Seals it into an output, and names the capsule.
    ///
    /// # Errors
    /// Those of sealing.
    fn seal(&mut self, output: &Output, sealing: Sealing<'_>) -> Result<CapsuleId>;
}

/// The capsule that a state is to be sealed as.
#[derive(Clone, Debug)]
pub struct Sealing<'a> {
    /// Its claims of the session.
    pub claims: kvcap::Session,
    /// Sections beside the state: history, agent state, controller.
    pub sections: Vec<(SectionKind, Vec<u8>)>,
    /// The capsule that it is an increment of: the one that [`NewState::continues`] has compared.
    pub parent: Option<&'a SavedState>,
}

impl Session {
    /// Makes the next version: the session as it is, with this state, or else the latest one that there is. It is kept
    /// when this returns. The state is sealed as an increment of the latest one where that is possible and lives long
    /// enough, else whole (session-v1 §8).
    ///
    /// # Errors
    /// KVC-947 where another writer does not finish; 95x; 94x; those of sealing, and there is then no new version.
    pub fn checkpoint(
        &mut self,
        now: u64,
        cause: Cause,
        state: Option<&mut dyn NewState>,
    ) -> Result<Record> {
        let mut writer = self.tier.writer(&self.names())?;
        self.put_next(&mut writer, now, cause, state)
    }

    /// Takes back the events after a number, which a revert of the log says, and makes the next version: the latest
    /// checkpoint from before them, moved on to there.
    ///
    /// # Errors
    /// KVC-955 for an event that has not come yet; else as [`Self::checkpoint`].
    pub fn revert(&mut self, now: u64, to: u64) -> Result<Record> {
        let mut writer = self.tier.writer(&self.names())?;
        let head = self.current()?.log_head();
        if to > head.seq {
            let error = Error::new(Code::SessionMissing, "the session has no such event");
            return Err(error.sides(format!("at most {}", head.seq), to));
        }
        let event = head.next(now, Kind::Revert, Body::revert(to))?;
        let line = event.to_json()?.into_bytes();
        writer.put(Artefact::Event(event.seq), &line)?;
        self.put_next(&mut writer, now, Cause::Revert, None)
    }

    /// Puts the next version: the session as it is.
    fn put_next(
        &self,
        writer: &mut DeviceWriter,
        now: u64,
        cause: Cause,
        state: Option<&mut dyn NewState>,
    ) -> Result<Record> {
        let mut next = self.next(now, cause)?;
        if let Some(state) = state {
            let continued = next.capsule.take();
            let continued = continued
                .filter(|capsule| capsule.may_be_continued(now, state.expires()))
                .map(|capsule| self.state(next.version, capsule))
                .transpose()?
                .filter(|parent| state.continues(parent).is_ok());
            next.capsule = Some(save(writer, &next, state, continued.as_ref())?);
        }
        put_record(writer, &next)?;
        Ok(next)
    }

    /// The next version, with the latest state that there is.
    pub(super) fn next(&self, now: u64, cause: Cause) -> Result<Record> {
        let latest = self.newest()?;
        let mut next = self.current()?;
        next.parent_version = (next.version > 0).then_some(next.version);
        next.branch_of = None;
        next.version = latest
            .as_ref()
            .map_or(0, |latest| latest.version)
            .saturating_add(1);
        // a clock that went back makes nothing older than what it follows
        next.at = now.max(latest.map_or(0, |latest| latest.at));
        next.cause = cause;
        Ok(next)
    }
}

pub(super) fn put_record(writer: &mut DeviceWriter, record: &Record) -> Result<()> {
    let json = record.to_json()?.into_bytes();
    let put = writer.put(Artefact::Checkpoint(record.version), &json);
    put.map(|_| ())
}

/// Seals a state as the capsule of a version, and reads from its header what the record says of it.
fn save(
    writer: &mut DeviceWriter,
    next: &Record,
    state: &mut dyn NewState,
    parent: Option<&SavedState>,
) -> Result<CapsuleEntry> {
    let (version, cursor) = (next.version, next.replay_cursor);
    let mut sections = next.sections()?;
    if let Some(controller) = state.controller() {
        let kind = SectionKind::Other(CONTROLLER.to_owned());
        sections.push((kind, controller.to_cbor()?));
    }
    let sealing = |parent| Sealing {
        claims: kvcap::Session {
            id: next.session.clone(),
            version,
            replay_cursor: cursor,
        },
        sections: sections.clone(),
        parent,
    };
    let mut output = writer.begin(version)?;
    let mut sealed = state.seal(&output, sealing(parent));
    if parent.is_some() && sealed.as_ref().is_err_and(is_of_lineage) {
        drop(output);
        output = writer.begin(version)?;
        sealed = state.seal(&output, sealing(None));
    }
    let id = sealed?;
    writer.finish(output, version, id)?;
    let file = SourceFile::open(writer.path(Artefact::Capsule(version, id)))?;
    let untrusted = Untrusted::read_at(&file, &Limits::default())?;
    let outline = untrusted.outline()?;
    let parent = parent.filter(|_| outline.parent.is_some());
    let [model, ..] = &outline.model;
    let malformed = || Error::new(Code::SessionMalformed, "a model's id is no digest");
    let mut entry = CapsuleEntry {
        id: id.to_string(),
        session: None,
        lineage: untrusted.lineage()?,
        version,
        cursor,
        positions: outline.positions.end,
        bytes: file.len(),
        expires: untrusted.claims().terms.expires,
        model: Digest::from_hex(model).ok_or_else(malformed)?,
        ancestors: Vec::new(),
        controller: holds_controller(&outline),
    };
    if let Some(SavedState { capsule, .. }) = parent {
        entry.expires = entry.expires.min(capsule.expires);
        entry.ancestors.push(capsule.id.clone());
        entry.ancestors.extend_from_slice(&capsule.ancestors);
    }
    Ok(entry)
}

/// Refusals of a capsule as an increment of another, which it need not be.
fn is_of_lineage(error: &Error) -> bool {
    matches!(error.code().number(), 410 | 701..=708)
}

fn holds_controller(outline: &Outline) -> bool {
    let mut streams = outline.streams.iter();
    streams.any(|stream| stream.kind == "section" && stream.name == CONTROLLER)
}
