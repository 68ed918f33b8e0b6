//! A session that lives: saved when it is time to, and its capsules renewed (session-v1 §8).

use std::path::Path;

use kvcap::{Limits, ReadAt, Reissued, Result, SourceFile, Untrusted};

use super::{
    Session,
    saving::{NewState, put_record},
};
use crate::{
    event::Kind,
    files::Artefact,
    policy::{Moment, SavePolicy},
    record::{CapsuleEntry, Cause, Record},
};

/// Circumstances that a session does not know by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Signs {
    /// The tool ends of itself.
    pub exiting: bool,
    /// The tool was told to end.
    pub signalled: bool,
    /// Time at which the runtime's own cache expires, in seconds since 1970, where it does.
    pub cache_expires: Option<u64>,
}

/// Signer of new headers over capsules that are there.
pub trait Renewer {
    /// Returns the time until which capsules shall live, in seconds since 1970.
    fn expires(&self) -> u64;

    /// Verifies the capsule at a path as its issuer, and signs a header of it that expires at `expires`. Gives the
    /// capsule's file with it.
    ///
    /// # Errors
    /// Those of [`kvcap::Verified::renew`].
    fn renew(&mut self, capsule: &Path, expires: u64) -> Result<(SourceFile, Reissued)>;
}

impl Session {
    /// Returns what the policy has to know of the session now.
    ///
    /// # Errors
    /// As [`Self::record`] and [`Self::events`].
    pub fn moment(&self, now: u64, signs: Signs) -> Result<Moment> {
        let newest = self.newest()?;
        let (seen, turns) = newest
            .as_ref()
            .map_or((0, 0), |record| (record.replay_cursor, record.turns));
        let current = self.current()?;
        let events = self.events()?;
        let since: Vec<_> = events.iter().filter(|event| event.seq > seen).collect();
        // a turn has ended once the assistant had the last word
        let last_word = since.iter().rev().find(|event| event.kind.is_message());
        let is_open = last_word.is_some_and(|event| event.kind != Kind::Assistant);
        let begun = current.turns.saturating_sub(turns);
        let capsule = current.capsule.as_ref().map(|capsule| capsule.expires);
        let expires = [capsule, signs.cache_expires].into_iter().flatten().min();
        let last_at = events.last().map_or(now, |event| event.at);
        Ok(Moment {
            exiting: signs.exiting,
            signalled: signs.signalled,
            events: u64::try_from(since.len()).unwrap_or(u64::MAX),
            turns: begun.saturating_sub(u64::from(is_open)),
            milestone: since.iter().any(|event| event.kind == Kind::Milestone),
            last: since.last().map(|event| event.kind),
            idle: now.saturating_sub(last_at),
            expires_in: expires.map(|expires| expires.saturating_sub(now)),
        })
    }

    /// Saves the session if the policy says so: renews its latest capsule where that is due and `renewer` can, else makes
    /// the next version, with `state` where one is given. Returns the new version, or `None` where nothing was due or
    /// could be done.
    ///
    /// # Errors
    /// As [`Self::checkpoint`] and [`Self::renew`].
    pub fn save_if_due(
        &mut self,
        policy: &SavePolicy,
        moment: &Moment,
        now: u64,
        state: Option<&mut dyn NewState>,
        renewer: Option<&mut dyn Renewer>,
    ) -> Result<Option<Record>> {
        let Some(cause) = policy.due(moment) else {
            return Ok(None);
        };
        // without a state nothing else keeps the latest one
        let renews = policy.renews(moment) || (cause == Cause::Expiry && state.is_none());
        match renewer.filter(|_| renews).map(|by| self.renew(now, by)) {
            Some(Ok(Some(renewed))) => return Ok(Some(renewed)),
            Some(Err(error)) if state.is_none() => return Err(error),
            // what cannot be renewed is sealed again
            _ => {}
        }
        match moment.events == 0 && state.is_none() {
            true => Ok(None),
            false => self.checkpoint(now, cause, state).map(Some),
        }
    }

    /// Renews the latest state's capsules and makes the next version, which names them. None lives on past its cap; where
    /// that leaves nothing to gain, or one of them is gone, there is no new version.
    ///
    /// # Errors
    /// KVC-947 where another writer does not finish; 95x; 94x; those of `renewer`.
    pub fn renew(&mut self, now: u64, renewer: &mut dyn Renewer) -> Result<Option<Record>> {
        let mut writer = self.tier.writer(&self.names())?;
        let mut next = self.next(now, Cause::Expiry)?;
        let Some(entry) = &mut next.capsule else {
            return Ok(None);
        };
        let members = self.chain(Some(entry))?;
        let mut ends = Vec::new();
        for artefact in &members {
            let file = SourceFile::open(writer.path(*artefact))?;
            let terms = Untrusted::read_at(&file, &Limits::default())?;
            let terms = &terms.claims().terms;
            ends.push((*artefact, terms.expires, terms.renew_until));
        }
        let cap = ends.iter().map(|(_, _, cap)| *cap).min();
        let until = renewer.expires().min(cap.unwrap_or(0));
        let is_whole = members.len() == entry.ancestors.len() + 1;
        if !is_whole || until <= entry.expires || entry.expires <= now {
            return Ok(None);
        }
        for (artefact, expires, _) in ends {
            if expires < until {
                let (old, header) = renewer.renew(&writer.path(artefact), until)?;
                writer.replace(artefact, |output| {
                    header.write(&mut old.file(), &mut output.file())
                })?;
            }
        }
        renewed(entry, until, &members, |artefact| {
            SourceFile::open(writer.path(artefact))
        })?;
        put_record(&mut writer, &next)?;
        Ok(Some(next))
    }
}

/// Says in a record's entry what is new of its capsules.
fn renewed(
    entry: &mut CapsuleEntry,
    until: u64,
    members: &[Artefact],
    file: impl Fn(Artefact) -> Result<SourceFile>,
) -> Result<()> {
    entry.expires = until;
    let own = |artefact: &&Artefact| matches!(artefact, Artefact::Capsule(_, id) if id.to_string() == entry.id);
    if let Some(artefact) = members.iter().find(own) {
        entry.bytes = file(*artefact)?.len();
    }
    Ok(())
}
