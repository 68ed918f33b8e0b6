//! A session between its device and a relay: versions that leave it, and versions that come (session-v1 §11.2).

use std::{collections::BTreeMap, path::PathBuf};

use kvcap::{
    CapsuleId, Code, Error, Limits, ReadAt, Result, SourceFile, Untrusted, text::printable,
};
use kvcap_store::output::{Output, Readers};

use super::{Session, capsule_id, events_after, saving::put_record};
use crate::{
    description::Description,
    event::Event,
    files::{Artefact, DeviceTier, DeviceWriter, Write},
    log::Head,
    names::Names,
    record::{CapsuleEntry, Cause, Record},
    sealed_version::SealedVersion,
};

/// A capsule of a session's state, whole, on its way into the session.
#[derive(Debug)]
pub struct Arrived {
    id: CapsuleId,
    output: Output,
}

impl Arrived {
    /// Begins a capsule that a session is to have. Nobody sees it before [`Session::take`].
    ///
    /// # Errors
    /// KVC-943, 945 where others can change the session's folder; 940, 950.
    pub fn begin(tier: &DeviceTier, names: &Names, id: CapsuleId) -> Result<Self> {
        let folder = tier.folder(names)?;
        kvcap_store::private::folder(&folder)?;
        let path = folder.join(format!("{id}.kvcap"));
        let output = Output::create(&path, false, Readers::Owner)?;
        Ok(Self { id, output })
    }

    /// Returns where its bytes go.
    #[must_use]
    pub fn output(&self) -> &Output {
        &self.output
    }

    /// Checks that it is whole, and the capsule that it was to be.
    ///
    /// # Errors
    /// KVC-413 for another one; those of a header that is no capsule's; 940.
    pub fn check(&self) -> Result<()> {
        let failed = |error| Error::source(&error, self.id);
        let file = self.output.file().try_clone().map_err(failed)?;
        let file = SourceFile::new(file).map_err(failed)?;
        let untrusted = Untrusted::read_at(&file, &Limits::default())?;
        if untrusted.file_len() != file.len() {
            let what = "the relay's capsule is not whole";
            return Err(Error::new(Code::FramingLength, what).at(self.id));
        }
        match untrusted.claims().id == self.id {
            true => Ok(()),
            false => {
                let what = "the relay gives another capsule than it was asked for";
                Err(Error::new(Code::ClaimsSession, what).at(self.id))
            }
        }
    }
}

impl Session {
    /// Makes a version of the events after the newest one, where there are any. Returns the newest version, `None` where
    /// nothing was said or done yet.
    ///
    /// # Errors
    /// As [`Self::checkpoint`].
    pub fn close_log(&mut self, now: u64) -> Result<Option<Record>> {
        let newest = self.newest()?;
        let head = self.head()?;
        match &newest {
            Some(record) if record.replay_cursor == head.seq => Ok(newest),
            None if head.seq == 0 => Ok(None),
            _ => self.checkpoint(now, Cause::Asked, None).map(Some),
        }
    }

    /// Returns whether there are events after the newest version.
    ///
    /// # Errors
    /// As [`Self::append`].
    pub fn is_open(&mut self) -> Result<bool> {
        let cursor = self.newest()?.map_or(0, |record| record.replay_cursor);
        Ok(self.head()?.seq > cursor)
    }

    /// Returns the head of the log as it was at a number; `None` where the log ends before.
    ///
    /// # Errors
    /// KVC-950 for a line that is no event; 94x.
    pub fn head_at(&self, seq: u64) -> Result<Option<Head>> {
        if seq == 0 {
            return Head::origin(&self.description.origin()).map(Some);
        }
        let log = self.tier.log_after(&self.names(), seq.saturating_sub(1))?;
        let event = log.line(seq).map(Event::from_json).transpose()?;
        let head = event.map(|event| {
            let digest = event.digest()?;
            Ok(Head { seq, digest })
        });
        head.transpose()
    }

    /// Returns a version as it leaves the device: with the events after a number.
    ///
    /// # Errors
    /// As [`Self::record`] and [`Self::events`].
    pub fn leaving(&self, version: u64, after: u64) -> Result<SealedVersion> {
        let record = self.record(version)?;
        let log = self.tier.log_after(&self.names(), after)?;
        let mut events = events_after(&log, after)?;
        events.retain(|event| event.seq <= record.replay_cursor);
        let left = SealedVersion {
            record,
            origin: self.description.origin.clone(),
            created: self.description.created,
            after,
            events,
        };
        left.check()?;
        Ok(left)
    }

    /// Returns the capsules of a record's state that are here, from the root of its chain on.
    ///
    /// # Errors
    /// KVC-940, 950.
    pub fn capsules_of(&self, record: &Record) -> Result<Vec<(CapsuleId, PathBuf)>> {
        let Some(entry) = &record.capsule else {
            return Ok(Vec::new());
        };
        let folder = self.tier.folder(&self.names())?;
        let held = self.chain(Some(entry))?;
        let wanted = wanted(entry)?.into_iter().rev();
        let here = wanted.filter_map(|id| {
            let is_it = |part: &&Artefact| matches!(part, Artefact::Capsule(_, own) if *own == id);
            let part = held.iter().find(is_it)?;
            Some((id, folder.join(part.file_name())))
        });
        Ok(here.collect())
    }

    /// Takes versions that another device has put: their events, then capsules that have arrived, then the `keep` newest
    /// records. The session is made where there is none. What is there is compared.
    ///
    /// # Errors
    /// KVC-952, 953 for events that do not follow the log's; 954 for another record of a version; 947, 95x; 94x.
    pub fn take(
        tier: &DeviceTier,
        names: &Names,
        versions: &[SealedVersion],
        arrived: Vec<Arrived>,
        keep: usize,
    ) -> Result<Self> {
        let (Some(first), Some(last)) = (versions.first(), versions.last()) else {
            return Self::load(tier, names);
        };
        let mut writer = tier.writer(names)?;
        let is_new = match Self::load(tier, names) {
            Ok(session) if session.description.origin != first.origin => {
                let what = "the relay's session began in another log";
                let error = Error::new(Code::SessionFork, what).at(printable(&names.session));
                return Err(error.sides(session.description.origin, &first.origin));
            }
            Ok(_) => false,
            Err(error) if error.code() == Code::SessionMissing => true,
            Err(error) => return Err(error),
        };
        follow(tier, names, versions)?;
        append_all(tier, names, &mut writer, versions)?;
        let begins = versions.iter().flat_map(|version| &version.events).next();
        // what an import's first version summarizes is in no event
        let first_stays = begins.is_some_and(|event| event.seq == 1 && event.is_import());
        let newest = versions.len().saturating_sub(keep.max(1));
        let kept = versions
            .iter()
            .enumerate()
            .filter(|(at, version)| *at >= newest || (first_stays && version.record.version == 1));
        let kept: Vec<&Record> = kept.map(|(_, version)| &version.record).collect();
        put_arrived(&mut writer, &kept, arrived)?;
        for record in kept {
            put_record(&mut writer, record)?;
        }
        if is_new {
            let mut description = Description::new(names, last.created);
            description.origin.clone_from(&first.origin);
            if first_stays {
                description.pinned.insert(1);
            }
            // last: before it there is no session
            writer.put(Artefact::Session, &description.to_json()?.into_bytes())?;
        }
        Self::load(tier, names)
    }

    /// Takes capsules of a record's state that have arrived.
    ///
    /// # Errors
    /// KVC-947 where another writer does not finish; 940, 950.
    pub fn receive(&self, record: &Record, arrived: Vec<Arrived>) -> Result<()> {
        let mut writer = self.tier.writer(&self.names())?;
        put_arrived(&mut writer, &[record], arrived)
    }

    /// Forgets all that the device holds of the session, at once, if nothing was added since a version, `None` for none: what
    /// is stopped in the middle is no session any more.
    ///
    /// # Errors
    /// KVC-947 where another writer does not finish, or has added something; 940.
    pub fn forget(self, newest: Option<&Record>) -> Result<()> {
        let writer = self.tier.writer(&self.names())?;
        let (now, end) = (self.newest()?, self.tier.log_end(&self.names(), 1)?.len());
        let seen = newest.map_or(0, |record| record.replay_cursor);
        match now.as_ref() == newest && end == seen {
            true => writer.forget_folder(),
            false => {
                let what = "the session was written to meanwhile";
                Err(Error::new(Code::LocalBusy, what).at(printable(&self.description.session)))
            }
        }
    }

    /// Removes all that the device holds of a session, also of one that was begun and never finished; nothing where there is
    /// none.
    ///
    /// # Errors
    /// KVC-947 where another writer does not finish; 940.
    pub fn erase(tier: &DeviceTier, names: &Names) -> Result<()> {
        match tier.folder(names)?.exists() {
            true => tier.writer(names)?.forget_folder(),
            false => Ok(()),
        }
    }

    /// Returns whether a branch of this session's newest version is there under another id, as [`Self::branch`] makes it.
    ///
    /// # Errors
    /// KVC-954 where that session is another one; else as [`Self::load`].
    pub fn has_branch(&self, id: &str, version: u64) -> Result<bool> {
        let names = Names {
            session: id.to_owned(),
            ..self.names()
        };
        let branch = match Self::load(&self.tier, &names) {
            Err(error) if error.code() == Code::SessionMissing => return Ok(false),
            loaded => loaded?,
        };
        let record = self.record(version)?;
        let first = branch.record(1);
        let is_it = first.is_ok_and(|first| {
            let of = first.branch_of.as_ref();
            of.is_some_and(|of| of.session == record.session && of.version == version)
                && (first.head, first.replay_cursor) == (record.head, record.replay_cursor)
        });
        match is_it {
            true => Ok(true),
            false => Self::check_absent(&self.tier, &names).map(|()| false),
        }
    }
}

/// Checks that versions follow one another, and the log as far as it goes.
fn follow(tier: &DeviceTier, names: &Names, versions: &[SealedVersion]) -> Result<()> {
    let mut head = None;
    for version in versions {
        let before = version.before()?;
        match head {
            None if before.seq > 0 => {
                let log = tier.log_after(names, before.seq.saturating_sub(1))?;
                let Some(line) = log.line(before.seq) else {
                    let what = "the relay does not keep the beginning of the session";
                    return Err(Error::new(Code::SessionGap, what).sides(log.len(), before.seq));
                };
                let digest = Event::from_json(line)?.digest()?;
                let own = Head {
                    seq: before.seq,
                    digest,
                };
                before.is_reached(own)?;
            }
            None => {}
            Some(head) => {
                before.is_reached(head)?;
                head.is_reached(before)?;
            }
        }
        head = Some(version.record.log_head());
    }
    Ok(())
}

/// Appends events that are not there, and compares those that are.
fn append_all(
    tier: &DeviceTier,
    names: &Names,
    writer: &mut DeviceWriter,
    versions: &[SealedVersion],
) -> Result<()> {
    let first = versions.first().map_or(0, |version| version.after);
    let log = tier.log_after(names, first)?;
    for event in versions.iter().flat_map(|version| &version.events) {
        match log.line(event.seq).map(Event::from_json).transpose()? {
            Some(there) if there == *event => {}
            Some(_) => {
                let what = "the relay has another event of this number";
                return Err(Error::new(Code::SessionFork, what).at(event.seq));
            }
            None => {
                let line = event.to_json()?.into_bytes();
                writer.put(Artefact::Event(event.seq), &line)?;
            }
        }
    }
    Ok(())
}

/// Gives capsules that have arrived their places, where those are free.
fn put_arrived(writer: &mut DeviceWriter, of: &[&Record], arrived: Vec<Arrived>) -> Result<()> {
    let places = places(of)?;
    for Arrived { id, output } in arrived {
        let Some(version) = places.get(&id) else {
            continue;
        };
        if !writer.path(Artefact::Capsule(*version, id)).exists() {
            writer.finish(output, *version, id)?;
        }
    }
    Ok(())
}

/// The version under which each capsule is kept: that of its own state, or of the first one that continues it.
fn places(records: &[&Record]) -> Result<BTreeMap<CapsuleId, u64>> {
    let entries: Vec<&CapsuleEntry> = records
        .iter()
        .filter_map(|record| record.capsule.as_ref())
        .collect();
    let mut places = BTreeMap::new();
    for entry in &entries {
        places.insert(capsule_id(&entry.id)?, entry.version);
    }
    for entry in &entries {
        for id in wanted(entry)? {
            places.entry(id).or_insert(entry.version);
        }
    }
    Ok(places)
}

/// The capsules of a state, its own first.
fn wanted(entry: &CapsuleEntry) -> Result<Vec<CapsuleId>> {
    let ids = [&entry.id].into_iter().chain(&entry.ancestors);
    ids.map(|id| capsule_id(id)).collect()
}

impl Record {
    /// Returns the ids of the capsules of its state, its own first.
    ///
    /// # Errors
    /// KVC-950.
    pub fn capsule_ids(&self) -> Result<Vec<CapsuleId>> {
        self.capsule.as_ref().map_or(Ok(Vec::new()), wanted)
    }
}
