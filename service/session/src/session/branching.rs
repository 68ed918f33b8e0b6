//! Branches: another session with a copy of the log up to a checkpoint, and of its state (session-v1 §4.3).

use kvcap::{Code, Error, Result, text::printable};

use super::{LONGEST_RECORD, Session, saving::put_record};
use crate::{
    description::Description,
    files::{Artefact, DeviceWriter, Tier, Write, get_small},
    names::Names,
    record::{CapsuleEntry, Cause, Record},
};

impl Session {
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
        Self::check_absent(&self.tier, &names)?;
        self.discard_copy(&names, &mut writer)?;
        let first = record.branch(&names, now);
        let log = self.log()?;
        for seq in 1..=record.replay_cursor {
            let line = log.line(seq).unwrap_or_default();
            writer.put(Artefact::Event(seq), &line)?;
        }
        for artefact in self.chain(record.capsule.as_ref())? {
            if let Some(bytes) = self.tier.get(&self.names(), artefact)? {
                writer.put(artefact, &&*bytes)?;
            }
        }
        put_record(&mut writer, &first)?;
        let mut description = Description::new(&names, now);
        description.origin.clone_from(&self.description.origin);
        // last: before it there is no session
        writer.put(Artefact::Session, &description.to_json()?.into_bytes())?;
        Self::load(&self.tier, &names)
    }

    /// Removes a copy that was begun and not finished. One that has something of its own is a session that has lost its
    /// description, and stays.
    fn discard_copy(&self, names: &Names, writer: &mut DeviceWriter) -> Result<()> {
        let parts = self.tier.parts(names)?;
        for part in &parts {
            if let Artefact::Checkpoint(version) = part {
                let text = get_small(&self.tier, names, *part, LONGEST_RECORD)?.unwrap_or_default();
                let record = Record::from_json(&text);
                if *version > 1 || !record.is_ok_and(|record| record.cause == Cause::Branch) {
                    return Err(is_there(names));
                }
            }
        }
        let (copy, own) = (self.tier.log(names)?, self.log()?);
        if (1..=copy.len()).any(|seq| copy.line(seq) != own.line(seq)) {
            return Err(is_there(names));
        }
        // no record is ever without its capsule
        for part in parts.into_iter().rev() {
            writer.remove(part)?;
        }
        writer.remove_log()
    }

    /// The capsules of a state that are there: its own, and those that it continues.
    pub(super) fn chain(&self, capsule: Option<&CapsuleEntry>) -> Result<Vec<Artefact>> {
        let held = self.tier.parts(&self.names())?.into_iter();
        let is_of = |artefact: &Artefact| match (artefact, capsule) {
            (Artefact::Capsule(_, id), Some(capsule)) => {
                let id = id.to_string();
                id == capsule.id || capsule.ancestors.contains(&id)
            }
            _ => false,
        };
        Ok(held.filter(is_of).collect())
    }
}

fn is_there(names: &Names) -> Error {
    let what = "the session that is to be the branch is there already";
    Error::new(Code::SessionVersion, what).at(printable(&names.session))
}
