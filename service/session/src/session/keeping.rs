//! What a session holds, and what a clean-up removes of it (session-v1 §8).

use std::collections::BTreeSet;

use kvcap::Result;

use super::Session;
use crate::{
    files::{Artefact, Write},
    record::Record,
    retention::{Retained, retained},
};

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
    /// Versions that are never removed.
    pub pinned: BTreeSet<u64>,
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
    /// Returns what is known of the session without opening anything.
    ///
    /// # Errors
    /// As [`Self::record`] and [`Self::events`].
    pub fn status(&self) -> Result<Status> {
        let files = self.tier.files(&self.names())?;
        let checkpoint = self.newest()?;
        let seen = checkpoint.as_ref().map_or(0, |record| record.replay_cursor);
        let log = self.tier.log_after(&self.names(), seen)?;
        let sizes = files.iter().filter_map(|(part, bytes)| match part {
            Artefact::Capsule(..) => Some(*bytes),
            _ => None,
        });
        let is_checkpoint = |(part, _): &&(Artefact, u64)| matches!(part, Artefact::Checkpoint(_));
        Ok(Status {
            checkpoint,
            current: self.current()?,
            events: log.len(),
            torn: log.torn(),
            checkpoints: files.iter().filter(is_checkpoint).count(),
            capsules: sizes.fold((0, 0), |(count, sum), bytes| (count + 1, sum + bytes)),
            pinned: self.description.pinned.clone(),
        })
    }

    /// Pins a version, which is then never removed, or unpins it.
    ///
    /// # Errors
    /// KVC-955 for a version to pin that there is not; 947, 94x.
    pub fn pin(&mut self, version: u64, is_pinned: bool) -> Result<()> {
        let mut writer = self.tier.writer(&self.names())?;
        self.read_again()?;
        let pinned = &mut self.description.pinned;
        match is_pinned {
            true if pinned.contains(&version) => return Ok(()),
            false if !pinned.remove(&version) => return Ok(()),
            false => {}
            true => {
                self.record(version)?;
                self.description.pinned.insert(version);
            }
        }
        let text = self.description.to_json()?.into_bytes();
        writer.put(Artefact::Session, &text).map(|_| ())
    }

    /// Returns the versions that are never removed.
    #[must_use]
    pub const fn pinned(&self) -> &BTreeSet<u64> {
        &self.description.pinned
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
        // what another process has pinned in the meantime stays
        self.read_again()?;
        let now = self.clearance(keep)?;
        for part in now.parts {
            if said.parts.contains(&part) {
                writer.remove(part)?;
            }
        }
        Ok(())
    }

    /// Reads the description as it is now.
    fn read_again(&mut self) -> Result<()> {
        self.description = Self::load(&self.tier, &self.names())?.description;
        Ok(())
    }
}
