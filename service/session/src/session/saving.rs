//! Making versions: checkpoints, reverts and branches (session-v1 §§4.1, 4.3).

use kvcap::{
    CapsuleId, Code, Error, Limits, Result, SourceFile, Untrusted, binding::Digest, text::printable,
};
use kvcap_store::output::Output;

use super::{Session, capsule_id};
use crate::{
    description::Description,
    event::{Body, Kind},
    files::{Artefact, DeviceWriter, Tier, Write},
    names::Names,
    record::{CapsuleEntry, Cause, Record},
};

/// Seals a state into an output, as the capsule of these claims, and names it.
pub type Seal<'a> = &'a mut dyn FnMut(&Output, kvcap::Session) -> Result<CapsuleId>;

impl Session {
    /// Makes the next version: the session as it is, with the state that `seal` seals, or else the latest one that
    /// there is. It is kept when this returns.
    ///
    /// # Errors
    /// KVC-947 where another writer does not finish; 95x; 94x; what `seal` refuses, and there is then no new version.
    pub fn checkpoint(&mut self, now: u64, cause: Cause, seal: Option<Seal<'_>>) -> Result<Record> {
        let mut writer = self.tier.writer(&self.names())?;
        self.put_next(&mut writer, now, cause, seal)
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

    /// Begins another session of the same owner with the log up to a checkpoint, and its state.
    ///
    /// # Errors
    /// KVC-955 where there is no such checkpoint; 954 where the other session is there already; 947, 94x.
    pub fn branch(&self, id: &str, version: u64, now: u64) -> Result<Self> {
        let record = self.record(version)?;
        let names = Names {
            session: id.to_owned(),
            ..self.names()
        };
        let mut writer = self.tier.writer(&names)?;
        match Self::load(&self.tier, &names) {
            Err(error) if error.code() == Code::SessionMissing => {}
            Err(error) => return Err(error),
            Ok(_) => {
                let what = "the session that is to be the branch is there already";
                return Err(Error::new(Code::SessionVersion, what).at(printable(id)));
            }
        }
        let first = record.branch(&names, now);
        let log = self.log()?;
        for seq in 1..=record.replay_cursor {
            let line = log.line(seq).unwrap_or_default();
            writer.put(Artefact::Event(seq), &line)?;
        }
        if let Some(capsule) = &record.capsule {
            let artefact = Artefact::Capsule(capsule.version, capsule_id(&capsule.id)?);
            if let Some(bytes) = self.tier.get(&self.names(), artefact)? {
                writer.put(artefact, &&*bytes)?;
            }
        }
        writer.put(Artefact::Checkpoint(1), &first.to_json()?.into_bytes())?;
        let mut description = Description::new(&names, now);
        description.origin.clone_from(&self.description.origin);
        // last: before it there is no session
        writer.put(Artefact::Session, &description.to_json()?.into_bytes())?;
        Self::load(&self.tier, &names)
    }

    /// Puts the next version: the session as it is.
    fn put_next(
        &self,
        writer: &mut DeviceWriter,
        now: u64,
        cause: Cause,
        seal: Option<Seal<'_>>,
    ) -> Result<Record> {
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
        if let Some(seal) = seal {
            next.capsule = Some(save(writer, &next, seal)?);
        }
        let json = next.to_json()?.into_bytes();
        writer.put(Artefact::Checkpoint(next.version), &json)?;
        Ok(next)
    }
}

/// Seals a state as the capsule of a version, and reads from its header what the record says of it.
fn save(writer: &mut DeviceWriter, next: &Record, seal: Seal<'_>) -> Result<CapsuleEntry> {
    let (version, cursor) = (next.version, next.replay_cursor);
    let output = writer.begin(version)?;
    let claims = kvcap::Session {
        id: next.session.clone(),
        version,
        replay_cursor: cursor,
    };
    let id = seal(&output, claims)?;
    writer.finish(output, version, id)?;
    let file = SourceFile::open(writer.path(Artefact::Capsule(version, id)))?;
    let untrusted = Untrusted::read_at(&file, &Limits::default())?;
    let outline = untrusted.outline()?;
    let [model, ..] = &outline.model;
    let malformed = || Error::new(Code::SessionMalformed, "a model's id is no digest");
    Ok(CapsuleEntry {
        id: id.to_string(),
        session: None,
        lineage: untrusted.lineage()?,
        version,
        cursor,
        positions: outline.positions.end,
        bytes: kvcap::ReadAt::len(&file),
        expires: untrusted.claims().terms.expires,
        model: Digest::from_hex(model).ok_or_else(malformed)?,
        ancestors: Vec::new(),
        controller: false,
    })
}
