//! A session on its device: what is appended, saved, found again and removed (session-v1 §§4, 8, 10).

use std::{collections::BTreeSet, path::PathBuf};

use kvcap::{
    CapsuleId, Code, Error, ExpectedSession, Limits, Result, SourceFile, Untrusted, binding::Digest,
};
use kvcap_store::output::Output;

use crate::{
    course::{current, end_of_turn},
    description::{Description, MAX_DESCRIPTION},
    event::{Body, Event, Kind},
    files::{Artefact, DeviceTier, DeviceWriter, Log, Tier, Write, get_small},
    ladder::{Facts, MAX_STATES, Plan, StateFacts},
    names::Names,
    record::{CapsuleEntry, Cause, MAX_RECORD, Record},
    replay::{Summarize, replay},
    retention::{Retained, retained},
    summary::plain_summary,
};

/// Seals a state into an output, as the capsule of these claims, and names it.
pub type Seal<'a> = &'a mut dyn FnMut(&Output, kvcap::Session) -> Result<CapsuleId>;

/// Judges a state, or restores it.
pub type OfState<'a> = &'a mut dyn FnMut(&SavedState) -> Result<()>;

/// A session in the files of its owner.
#[derive(Clone, Debug)]
pub struct Session {
    tier: DeviceTier,
    description: Description,
}

/// A state that a session may resume from.
#[derive(Clone, Debug)]
pub struct SavedState {
    /// Version of the newest checkpoint that has it.
    pub version: u64,
    /// Entry of it in the record.
    pub capsule: CapsuleEntry,
    /// Path of its capsule.
    pub path: PathBuf,
    /// The session that its capsule has to name.
    pub expected: ExpectedSession,
}

/// Outcome of resuming a session.
#[derive(Clone, Debug)]
pub struct Resumed {
    /// Every rung with its reason, and the one that was taken.
    pub plan: Plan,
    /// The state that was restored.
    pub state: Option<SavedState>,
    /// The session as it is now.
    pub current: Record,
}

/// Status of a session: what is known of it without opening anything.
#[derive(Clone, Debug)]
pub struct Status {
    /// The newest checkpoint.
    pub checkpoint: Option<Record>,
    /// The session as it is now: the newest checkpoint moved on over the events after it.
    pub current: Record,
    /// Number of events in the log.
    pub events: u64,
    /// Bytes of the log's last line that a writer that was stopped has left, and that count for nothing.
    pub torn: usize,
    /// Number of checkpoints.
    pub checkpoints: usize,
    /// Number of capsules, and their bytes.
    pub capsules: (usize, u64),
}

/// Parts that a clean-up would remove.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Clearance {
    /// Parts that would go.
    pub parts: Vec<Artefact>,
    /// Their bytes.
    pub bytes: u64,
    /// Versions that stay.
    pub kept: BTreeSet<u64>,
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
            return Err(error.at(kvcap::text::printable(&names.session)));
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
        })
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
        let longest = u64::try_from(MAX_RECORD).unwrap_or(u64::MAX);
        let names = self.names();
        let artefact = Artefact::Checkpoint(version);
        let Some(text) = get_small(&self.tier, &names, artefact, longest)? else {
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
        let parts = self.tier.files(&self.names())?.into_iter();
        let versions = parts.filter_map(|(part, _)| match part {
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

    /// Appends an event, which is kept when this returns.
    ///
    /// # Errors
    /// KVC-947 where another writer does not finish; 95x; 94x.
    pub fn append(&mut self, at: u64, kind: Kind, body: Body) -> Result<Event> {
        let mut writer = self.tier.writer(&self.names())?;
        let event = self.current()?.log_head().next(at, kind, body)?;
        let line = event.to_json()?.into_bytes();
        writer.put(Artefact::Event(event.seq), &line)?;
        Ok(event)
    }

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

    /// Returns the number of the last event of a turn; turn 0 is the beginning.
    ///
    /// # Errors
    /// KVC-955 where there is no such turn.
    pub fn end_of_turn(&self, turn: u64) -> Result<u64> {
        let origin = Record::origin(&self.names(), &self.description.origin())?;
        end_of_turn(&origin, &self.events()?, turn)
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
                return Err(Error::new(Code::SessionVersion, what).at(kvcap::text::printable(id)));
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

    /// Returns the states that the session may resume from, the newest checkpoint's first.
    ///
    /// # Errors
    /// As [`Self::record`].
    pub fn states(&self) -> Result<Vec<SavedState>> {
        let mut seen = BTreeSet::new();
        let mut states = Vec::new();
        for version in self.versions()?.into_iter().rev() {
            let Some(capsule) = self.record(version)?.capsule else {
                continue;
            };
            if seen.insert(capsule.id.clone()) {
                states.push(self.state(version, capsule)?);
            }
        }
        // what a revert took back is in the state all the same; what another one brought back is live again
        let mut live = Vec::new();
        let (events, mut end) = (self.events()?, u64::MAX);
        while let Some((seq, to)) = last_revert(&events, end) {
            live.push(seq..=end);
            end = to;
        }
        live.push(0..=end);
        states.retain(|state| live.iter().any(|part| part.contains(&state.capsule.cursor)));
        Ok(states)
    }

    /// Resumes at the best rung that holds: `judge` accepts a state by its header, and `restore` restores it, where that
    /// is wanted. A state that fails to is left, and the rungs below are tried.
    ///
    /// # Errors
    /// Those of a state that its user has to mend, as for a key's passphrase or a full disk; 95x; 94x.
    pub fn resume(&self, judge: OfState<'_>, mut restore: Option<OfState<'_>>) -> Result<Resumed> {
        let mut states = self.states()?;
        states.truncate(MAX_STATES);
        let current = self.current()?;
        let mut facts = Facts {
            messages: current.messages,
            ..Facts::default()
        };
        for state in &states {
            facts.states.push(StateFacts {
                name: state.capsule.id.clone(),
                positions: state.capsule.positions,
                common: None,
                whole: true,
                refused: None,
            });
        }
        for state in &states {
            let judged = match state.path.try_exists() {
                Ok(false) => {
                    let what = "the checkpoint's capsule is not there";
                    Err(Error::new(Code::SessionNoState, what).at(state.path.display()))
                }
                _ => judge(state),
            };
            if let Err(error) = judged {
                facts.failed(&state.capsule.id, error)?;
            }
        }
        loop {
            let plan = Plan::of(&facts)?;
            let name = plan.taken().and_then(|step| step.state.clone());
            let state = states
                .iter()
                .find(|state| Some(&state.capsule.id) == name.as_ref());
            if let (Some(state), Some(restore)) = (state, &mut restore)
                && let Err(error) = restore(state)
            {
                facts.failed(&state.capsule.id, error)?;
                continue;
            }
            return Ok(Resumed {
                plan,
                state: state.cloned(),
                current,
            });
        }
    }

    /// Returns what is known of the session without opening anything.
    ///
    /// # Errors
    /// As [`Self::record`] and [`Self::events`].
    pub fn status(&self) -> Result<Status> {
        let files = self.tier.files(&self.names())?;
        let log = self.log()?;
        let sizes = files.iter().filter_map(|(part, bytes)| match part {
            Artefact::Capsule(..) => Some(*bytes),
            _ => None,
        });
        let is_checkpoint = |(part, _): &&(Artefact, u64)| matches!(part, Artefact::Checkpoint(_));
        Ok(Status {
            checkpoint: self.newest()?,
            current: self.current()?,
            events: log.len(),
            torn: log.torn(),
            checkpoints: files.iter().filter(is_checkpoint).count(),
            capsules: sizes.fold((0, 0), |(count, sum), bytes| (count + 1, sum + bytes)),
        })
    }

    /// Says what a clean-up would remove that keeps the `keep` newest versions, those that are pinned, and what their
    /// states need; capsules without a record, too, which only a writer that was stopped has left.
    ///
    /// # Errors
    /// As [`Self::record`].
    pub fn clearance(&self, keep: usize) -> Result<Clearance> {
        let files = self.tier.files(&self.names())?;
        let records: Vec<Record> = self
            .versions()?
            .into_iter()
            .map(|version| self.record(version))
            .collect::<Result<_>>()?;
        let Retained {
            versions, capsules, ..
        } = retained(&records, &self.description.pinned, keep);
        let goes = |part: &Artefact| match part {
            Artefact::Checkpoint(version) => !versions.contains(version),
            Artefact::Capsule(_, id) => !capsules.contains(&id.to_string()),
            Artefact::Session | Artefact::Event(_) => false,
        };
        let gone: Vec<&(Artefact, u64)> = files.iter().filter(|(part, _)| goes(part)).collect();
        Ok(Clearance {
            // no record is ever without its capsule
            parts: gone.iter().rev().map(|(part, _)| *part).collect(),
            bytes: gone.iter().map(|(_, bytes)| *bytes).sum(),
            kept: versions,
        })
    }

    /// Removes what a clean-up was said to remove, and is still to be removed.
    ///
    /// # Errors
    /// As [`Self::clearance`], and KVC-947.
    pub fn clear(&mut self, said: &Clearance, keep: usize) -> Result<()> {
        let mut writer = self.tier.writer(&self.names())?;
        let now = self.clearance(keep)?;
        for part in now.parts {
            if said.parts.contains(&part) {
                writer.remove(part)?;
            }
        }
        Ok(())
    }

    /// The session as it is: its newest checkpoint that no revert goes behind, moved on.
    fn current(&self) -> Result<Record> {
        let names = self.names();
        let origin = Record::origin(&names, &self.description.origin())?;
        let log = self.log()?;
        let newest = self.newest()?;
        // the event at the cursor among them
        let from = newest.as_ref().map_or(0, |record| record.replay_cursor);
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
        current(&origin, &records, &events_after(&log, 0)?, summarize)
    }

    fn log(&self) -> Result<Log> {
        self.tier.log(&self.names())
    }

    fn state(&self, version: u64, capsule: CapsuleEntry) -> Result<SavedState> {
        let id = capsule_id(&capsule.id)?;
        let folder = self.tier.folder(&self.names())?;
        let artefact = Artefact::Capsule(capsule.version, id);
        Ok(SavedState {
            version,
            path: folder.join(artefact.file_name()),
            expected: ExpectedSession {
                id: match &capsule.session {
                    Some(branched_from) => branched_from.clone(),
                    None => self.description.session.clone(),
                },
                version: Some(capsule.version),
                replay_cursor: Some(capsule.cursor),
            },
            capsule,
        })
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

/// The last revert up to an event: its own number, and the one that it goes back to.
fn last_revert(events: &[Event], end: u64) -> Option<(u64, u64)> {
    let mut before = events.iter().rev().filter(|event| event.seq <= end);
    before.find_map(|event| Some((event.seq, event.reverts_to()?)))
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
