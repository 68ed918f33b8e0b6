//! A session on its device (session-v1 §10): its log and its records.

pub(crate) mod beside;
pub(crate) mod branching;
pub(crate) mod confirming;
pub(crate) mod importing;
pub(crate) mod keeping;
pub(crate) mod living;
pub(crate) mod measuring;
pub(crate) mod opening;
pub(crate) mod resuming;
pub(crate) mod saving;
pub(crate) mod states;
pub(crate) mod syncing;

use std::path::PathBuf;

use kvcap::{CapsuleId, Code, Error, Result, text::printable};

use crate::{
    course::{current, end_of_turn},
    description::{Description, MAX_DESCRIPTION},
    event::{Body, Event, Kind},
    files::{Artefact, DeviceTier, Log, Write, get_small},
    log::Head,
    names::Names,
    record::{MAX_RECORD, Record},
    replay::{Summarize, replay, take},
    summary::plain_summary,
};

/// Longest record that is read, in bytes.
const LONGEST_RECORD: u64 = MAX_RECORD as u64;

/// A session in the files of its owner.
#[derive(Clone, Debug)]
pub struct Session {
    tier: DeviceTier,
    description: Description,
    /// The log was held against the newest record, which later ones only follow.
    is_compared: bool,
    /// Another place where a capsule of the session may be.
    beside: Option<PathBuf>,
}

impl Session {
    /// Loads the session of these names.
    ///
    /// # Errors
    /// KVC-955 where there is none; 950 for a description that is malformed or another session's; 94x.
    pub fn load(tier: &DeviceTier, names: &Names) -> Result<Self> {
        let longest = u64::try_from(MAX_DESCRIPTION).unwrap_or(u64::MAX);
        let Some(text) = get_small(tier, names, Artefact::Session, longest)? else {
            let error = Error::new(Code::SessionMissing, "there is no such session");
            return Err(error.at(printable(&names.session)));
        };
        let description = Description::from_json(&text)?;
        if description.names() != *names {
            let what = "the session's folder holds another session";
            let error = Error::new(Code::SessionMalformed, what);
            return Err(error.at(tier.folder(names)?.display()));
        }
        Ok(Self {
            tier: tier.clone(),
            description,
            is_compared: false,
            beside: None,
        })
    }

    /// Checks that there is no session of these names.
    ///
    /// # Errors
    /// KVC-954 where there is one; else as [`Self::load`].
    pub fn check_absent(tier: &DeviceTier, names: &Names) -> Result<()> {
        match Self::load(tier, names) {
            Err(error) if error.code() == Code::SessionMissing => Ok(()),
            Err(error) => Err(error),
            Ok(_) => {
                let what = "the session that is to begin is there already";
                Err(Error::new(Code::SessionVersion, what).at(printable(&names.session)))
            }
        }
    }

    /// Loads the session of these names, or makes it.
    ///
    /// # Errors
    /// As [`Self::load`], and KVC-947 where another writer does not finish.
    pub fn load_or_create(tier: &DeviceTier, names: &Names, now: u64) -> Result<Self> {
        match Self::load(tier, names) {
            Err(error) if error.code() == Code::SessionMissing => {}
            loaded => return loaded,
        }
        let mut writer = tier.writer(names)?;
        // it may have come while the lock was waited for
        match Self::load(tier, names) {
            Err(error) if error.code() == Code::SessionMissing => {}
            loaded => return loaded,
        }
        let description = Description::new(names, now);
        writer.put(Artefact::Session, &description.to_json()?.into_bytes())?;
        Ok(Self {
            tier: tier.clone(),
            description,
            is_compared: false,
            beside: None,
        })
    }

    /// Returns the session's names.
    #[must_use]
    pub fn names(&self) -> Names {
        self.description.names()
    }

    /// Returns the events of the log, from the first.
    ///
    /// # Errors
    /// KVC-950 for a line that is no event; 94x.
    pub fn events(&self) -> Result<Vec<Event>> {
        events_after(&self.log()?, 0)
    }

    /// Returns the record of a version.
    ///
    /// # Errors
    /// KVC-955 where there is none; 950 for one that is malformed, or another's.
    pub fn record(&self, version: u64) -> Result<Record> {
        let names = self.names();
        let artefact = Artefact::Checkpoint(version);
        let Some(text) = get_small(&self.tier, &names, artefact, LONGEST_RECORD)? else {
            let error = Error::new(Code::SessionMissing, "the session has no such version");
            return Err(error.at(version));
        };
        let record = Record::from_json(&text)?;
        if record.names() != names || record.version != version {
            let what = "the file holds another checkpoint than its name says";
            return Err(Error::new(Code::SessionMalformed, what).at(version));
        }
        Ok(record)
    }

    /// Returns the versions of the session's checkpoints, ascending.
    ///
    /// # Errors
    /// KVC-940.
    pub fn versions(&self) -> Result<Vec<u64>> {
        let parts = self.tier.parts(&self.names())?.into_iter();
        let versions = parts.filter_map(|part| match part {
            Artefact::Checkpoint(version) => Some(version),
            _ => None,
        });
        Ok(versions.collect())
    }

    /// Returns the newest checkpoint.
    ///
    /// # Errors
    /// As [`Self::record`].
    pub fn newest(&self) -> Result<Option<Record>> {
        let newest = self.versions()?.into_iter().next_back();
        newest.map(|version| self.record(version)).transpose()
    }

    /// Appends an event, which is kept when this returns. It costs what it appends: of the log its end is read, and
    /// held against the newest record the first time.
    ///
    /// # Errors
    /// KVC-947 where another writer does not finish; 95x; 94x.
    pub fn append(&mut self, at: u64, kind: Kind, body: Body) -> Result<Event> {
        let mut writer = self.tier.writer(&self.names())?;
        let event = self.head()?.next(at, kind, body)?;
        let line = event.to_json()?.into_bytes();
        writer.put(Artefact::Event(event.seq), &line)?;
        Ok(event)
    }

    /// Appends the event of a number, or finds that it is there: whoever is not sure whether he was heard says it
    /// again. Returns it, and whether it is new.
    ///
    /// # Errors
    /// KVC-952 where an event before it is missing; 953 where another has its number; else as [`Self::append`].
    pub fn append_at(
        &mut self,
        seq: u64,
        at: u64,
        kind: Kind,
        body: Body,
    ) -> Result<(Event, bool)> {
        let mut writer = self.tier.writer(&self.names())?;
        let head = self.head()?;
        if seq <= head.seq {
            let log = self.tier.log_after(&self.names(), seq.saturating_sub(1))?;
            let there = log.line(seq).map(Event::from_json).transpose()?;
            return match there {
                Some(there) if there.kind == kind && there.body == body => Ok((there, false)),
                _ => {
                    let what = "another event of the session has this number";
                    Err(Error::new(Code::SessionFork, what).at(seq))
                }
            };
        }
        if seq != head.seq.saturating_add(1) {
            let error = Error::new(Code::SessionGap, "an event before it is missing");
            return Err(error.sides(head.seq.saturating_add(1), seq));
        }
        let event = head.next(at, kind, body)?;
        let line = event.to_json()?.into_bytes();
        writer.put(Artefact::Event(event.seq), &line)?;
        Ok((event, true))
    }

    /// Returns the number of the last event of a turn; turn 0 is the beginning.
    ///
    /// # Errors
    /// KVC-955 where there is no such turn.
    pub fn end_of_turn(&self, turn: u64) -> Result<u64> {
        let events = self.events()?;
        end_of_turn(&self.beginning(&events)?, &events, turn)
    }

    /// Returns the events that nothing has taken back, and the number after which they begin: 0, or that of an import.
    ///
    /// # Errors
    /// Those of replay; 94x.
    pub fn live_events(&self) -> Result<(u64, Vec<Event>)> {
        let events = self.events()?;
        let beginning = self.beginning(&events)?;
        let live = take(&beginning, events)?.live;
        Ok((beginning.replay_cursor, live))
    }

    /// What was before the events, or an import's first.
    fn beginning(&self, events: &[Event]) -> Result<Record> {
        let first = match events.first() {
            Some(first) if first.is_import() => self.record(1).ok(),
            _ => None,
        };
        // of a branch it is a later one
        match first.filter(|first| first.replay_cursor == 1) {
            Some(first) => Ok(first),
            None => Record::origin(&self.names(), &self.description.origin()),
        }
    }

    /// The head of the log, of which the last event is held against the one before.
    fn head(&mut self) -> Result<Head> {
        let end = self.tier.log_end(&self.names(), 2)?;
        let event = |seq| end.line(seq).map(Event::from_json).transpose();
        let last = end.len();
        let before = match event(last.saturating_sub(1))? {
            Some(before) => Head {
                seq: before.seq,
                digest: before.digest()?,
            },
            None => Head::origin(&self.description.origin())?,
        };
        let head = match event(last)? {
            Some(last) => before.follow(&last)?,
            None => before,
        };
        if !self.is_compared {
            if let Some(record) = self.newest()? {
                record.log_head().is_reached(head)?;
            }
            self.is_compared = true;
        }
        Ok(head)
    }

    /// The session as it is: its newest checkpoint that no revert goes behind, moved on.
    fn current(&self) -> Result<Record> {
        let names = self.names();
        let origin = Record::origin(&names, &self.description.origin())?;
        let newest = self.newest()?;
        // the event at the cursor among them
        let from = newest.as_ref().map_or(0, |record| record.replay_cursor);
        let log = self.tier.log_after(&names, from.saturating_sub(1))?;
        let events = events_after(&log, from.saturating_sub(1))?;
        let summarize: Summarize<'_> = &mut |summary, leaving| Ok(plain_summary(summary, leaving));
        let first = newest.as_ref().unwrap_or(&origin);
        match replay(first, events, summarize) {
            Err(error) if error.code() == Code::SessionBehind => {}
            Ok(current) if current.replay_cursor >= from && log.len() >= from => {
                return Ok(current);
            }
            Ok(_) => {}
            Err(error) => return Err(error),
        }
        let versions = self.versions()?.into_iter().rev();
        let records: Vec<Record> = versions
            .map(|version| self.record(version))
            .collect::<Result<_>>()?;
        current(&origin, &records, &self.events()?, summarize)
    }

    fn log(&self) -> Result<Log> {
        self.tier.log(&self.names())
    }
}

/// The events of a log after a number.
fn events_after(log: &Log, seq: u64) -> Result<Vec<Event>> {
    let of = |seq| log.line(seq).map(Event::from_json);
    (seq.saturating_add(1)..=log.len()).filter_map(of).collect()
}

fn capsule_id(text: &str) -> Result<CapsuleId> {
    CapsuleId::from_hex(text)
        .ok_or_else(|| Error::new(Code::SessionMalformed, "a capsule's id is malformed"))
}
