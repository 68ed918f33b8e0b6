//! Sessions between their device and a relay (session-v1 §11.1, §11.2): what either lacks, the other gives; who was
//! second hears who was first, and keeps his own as a branch.

mod kept;
mod keys;
mod relay;

use std::collections::HashSet;

use kvcap::{CapsuleId, Code, Error, Result, SourceFile, text::printable};
use kvcap_store::time;

pub use self::{
    kept::KeptCapsule,
    keys::Keys,
    relay::{Placed, Relay},
};
use self::{
    keys::{Foreign, expires},
    relay::is_it,
};
use crate::{
    files::DeviceTier,
    names::Names,
    record::Record,
    sealed_version::{MAX_LOG, SealedVersion},
    session::{Session, syncing::Arrived},
};

/// Longest sealed version that is read, in bytes: its events, its record twice over, and what is around them.
const LONGEST: u64 = MAX_LOG + (64 << 20);
/// Times that a session is compared anew where somebody else puts versions of it.
const TRIES: usize = 16;
/// Share of its life after which a sealed version is renewed, in seconds that it has left.
const RENEWED_BELOW: u64 = 15 * 24 * 3600;

/// A device's sessions, a relay, and who may read and sign for both.
pub struct Sync<'a> {
    /// The device.
    pub tier: &'a DeviceTier,
    /// The relay.
    pub relay: &'a Relay,
    /// The owner's keys.
    pub keys: &'a Keys<'a>,
    /// Newest versions of which the device gets records and states.
    pub keep: usize,
}

/// Differences between a session's device and the relay.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Due {
    /// Versions of the device that the relay has not.
    pub to_put: Vec<u64>,
    /// Events of the device that are no version's yet.
    pub is_open: bool,
    /// Versions of the relay that the device has not.
    pub to_take: Vec<u64>,
    /// Versions of the relay that are to be renewed.
    pub to_renew: Vec<u64>,
}

/// Changes to a session, on its device and on the relay.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Synced {
    /// Versions that the relay has got.
    pub put: Vec<u64>,
    /// Versions that the device has got.
    pub taken: Vec<u64>,
    /// Versions of the relay that were renewed, or wrapped for other keys.
    pub renewed: Vec<u64>,
    /// Capsules of states that the relay has got, and those that the device has got.
    pub capsules: (u64, u64),
    /// The branch that holds the device's own.
    pub branch: Option<String>,
}

/// What was found of a session.
struct Found {
    session: Option<Session>,
    placed: Vec<Placed>,
    /// What there is to do; or why nothing is done.
    due: Result<Due>,
    /// Versions that were opened for it.
    opened: Vec<Foreign>,
}

impl Sync<'_> {
    /// Returns the sessions of an owner that the device or the relay has, by name.
    ///
    /// # Errors
    /// Those of both.
    pub fn sessions(&self, owner: &Names) -> Result<Vec<Names>> {
        let named = |session| Names {
            session,
            ..owner.clone()
        };
        let changed = self.tier.changed()?.into_iter().map(|(names, _)| names);
        let mut all: Vec<Names> = changed
            .filter(|names| *names == named(names.session.clone()))
            .collect();
        // left by a writer that was stopped before there was a session
        all.retain(|names| {
            let loaded = Session::load(self.tier, names);
            !matches!(loaded, Err(error) if error.code() == Code::SessionMissing)
        });
        all.extend(self.relay.newest()?.into_iter().map(|(id, _)| named(id)));
        all.sort();
        all.dedup();
        Ok(all)
    }

    /// Returns what there is to do for a session, and changes nothing.
    ///
    /// # Errors
    /// KVC-953, 954 where both have gone on; 955 where neither has such a session; those of the relay, the device and
    /// the keys.
    pub fn due(&self, names: &Names) -> Result<Due> {
        self.find(names)?.due
    }

    /// Brings a session up to date on its device and on the relay. Where both have gone on the device's own is kept under
    /// the name `branch`, if one is given, and brought up to date too.
    ///
    /// # Errors
    /// As [`Self::due`]; KVC-954 for a branch that is another session.
    pub fn bring(&self, names: &Names, branch: Option<&str>) -> Result<Synced> {
        let mut synced = Synced::default();
        let mut found = self.find(names)?;
        if let Err(error) = &found.due
            && is_conflict(error)
            && let (Some(name), Some(session)) = (branch, found.session.take())
        {
            self.part(session, name, names)?;
            synced.branch = Some(name.to_owned());
            found = self.find(names)?;
        }
        for _ in 0..TRIES {
            let was_due = found.due.is_ok();
            match self.done(names, found, &mut synced) {
                // somebody has put a version since: the same ones, or others, as is found now
                Err(error) if was_due && is_conflict(&error) => found = self.find(names)?,
                done => {
                    done?;
                    return self.with_branch(names, branch, synced);
                }
            }
        }
        let what = "the relay's versions of the session change all the time";
        Err(Error::new(Code::LocalBusy, what).at(printable(&names.session)))
    }

    /// Brings the branch up to date too.
    fn with_branch(
        &self,
        names: &Names,
        branch: Option<&str>,
        mut synced: Synced,
    ) -> Result<Synced> {
        if let Some(name) = branch {
            let branch = Names {
                session: name.to_owned(),
                ..names.clone()
            };
            if Session::load(self.tier, &branch).is_ok() {
                let other = self.bring(&branch, None)?;
                synced.capsules.0 += other.capsules.0;
                synced.branch = Some(name.to_owned());
            }
        }
        Ok(synced)
    }

    /// Wraps the sealed versions of a session that the relay keeps for the keys that are sealed for now. Returns those that
    /// were wrapped for others.
    ///
    /// # Errors
    /// Those of the relay and the keys.
    pub fn rewrap(&self, names: &Names) -> Result<Vec<u64>> {
        let mut done = Vec::new();
        for placed in self.relay.versions(&names.session)? {
            if let Some(old) = self.relay.read(placed.capsule, LONGEST)?
                && let Some(new) = self.keys.rewrapped(&old)?
            {
                self.relay.keep_bytes(new)?;
                done.push(placed.version);
            }
        }
        Ok(done)
    }

    /// Fetches the capsules of a session's newest state that the device has lost, as far as the relay has them. Returns how
    /// many have come.
    ///
    /// # Errors
    /// Those of the relay and the device.
    pub fn recover(&self, session: &Session) -> Result<usize> {
        let states = session.states()?;
        let Some(newest) = states.first() else {
            return Ok(0);
        };
        let record = session.record(newest.version)?;
        let arrived = self.arrived_for(&session.names(), Some(session), &[&record])?;
        let count = arrived.len();
        if count > 0 {
            session.receive(&record, arrived)?;
        }
        Ok(count)
    }

    /// Keeps the device's own under another name, and forgets it under this one.
    fn part(&self, mut session: Session, branch: &str, names: &Names) -> Result<()> {
        let now = time::now();
        if branch == names.session {
            let what = "a branch has another name than its session";
            return Err(Error::new(Code::SessionVersion, what).at(printable(branch)));
        }
        let Some(newest) = session.close_log(now)? else {
            return session.forget(None);
        };
        // who was stopped after it was made finds it
        if !session.has_branch(branch, newest.version)? {
            session.branch(branch, newest.version, now)?;
        }
        session.forget(Some(&newest))
    }

    /// Compares the device with the relay.
    fn find(&self, names: &Names) -> Result<Found> {
        let placed = self.relay.versions(&names.session)?;
        let session = match Session::load(self.tier, names) {
            Err(error) if error.code() == Code::SessionMissing => None,
            loaded => Some(loaded?),
        };
        let mut found = Found {
            session,
            placed,
            due: Ok(Due::default()),
            opened: Vec::new(),
        };
        found.due = self.compare(names, &mut found.session, &found.placed, &mut found.opened);
        match found.due {
            Err(error) if !is_conflict(&error) => Err(error),
            due => Ok(Found { due, ..found }),
        }
    }

    fn compare(
        &self,
        names: &Names,
        session: &mut Option<Session>,
        placed: &[Placed],
        opened: &mut Vec<Foreign>,
    ) -> Result<Due> {
        let mut due = Due {
            to_renew: match self.keys.parties {
                Some(_) => to_renew(placed),
                None => Vec::new(),
            },
            ..Due::default()
        };
        let Some(session) = session else {
            if placed.is_empty() {
                let error = Error::new(
                    Code::SessionMissing,
                    "there is no such session, here or there",
                );
                return Err(error.at(printable(&names.session)));
            }
            self.open_all(names, placed, opened)?;
            due.to_take = numbers(placed);
            return Ok(due);
        };
        due.is_open = session.is_open()?;
        let own = session.versions()?;
        let Some(newest) = placed.last() else {
            due.to_put = own;
            return Ok(due);
        };
        // the newest version that both have by its number
        let base = placed
            .iter()
            .rposition(|placed| own.contains(&placed.version));
        let since = base
            .and_then(|at| placed.get(at))
            .map_or(0, |base| base.version);
        let mine: Vec<u64> = own.iter().copied().filter(|own| *own > since).collect();
        if let Some(base) = base.and_then(|at| placed.get(at)) {
            let there = self.open_one(names, base)?;
            let here = session.record(base.version)?;
            if there.version.record != here {
                return Err(first(base, &there, Code::SessionVersion));
            }
        }
        let theirs = placed
            .get(base.map_or(0, |at| at + 1)..)
            .unwrap_or_default();
        if theirs.is_empty() {
            due.to_put = mine;
            return Ok(due);
        }
        // a device that has forgotten its older records knows them by its log
        let is_behind = mine.first().is_some_and(|own| *own > newest.version);
        if is_behind && let Some(own) = session.head_at(newest.cursor)? {
            let there = self.open_one(names, newest)?;
            if there.version.record.log_head() != own {
                return Err(first(newest, &there, Code::SessionFork));
            }
            due.to_put = mine;
            return Ok(due);
        }
        self.open_all(names, theirs, opened)?;
        let first_of_theirs = opened.first().zip(theirs.first());
        if let (false, Some((there, placed))) = (mine.is_empty(), first_of_theirs) {
            return Err(first(placed, there, Code::SessionVersion));
        }
        for (there, placed) in opened.iter().zip(theirs) {
            let head = there.version.record.log_head();
            let is_other = |own| own != head;
            let differs = match session.head_at(head.seq)? {
                Some(own) => is_other(own),
                // the log ends among its events, or is another one before that
                None => differs(session, &there.version)?,
            };
            if differs {
                return Err(first(placed, there, Code::SessionFork));
            }
        }
        due.to_take = numbers(theirs);
        // what follows the relay's newest is put once that is there
        let end = session.head_at(newest.cursor)?;
        due.is_open = end.is_some() && session.head_at(newest.cursor.saturating_add(1))?.is_some();
        Ok(due)
    }

    fn open_one(&self, names: &Names, placed: &Placed) -> Result<Foreign> {
        let bytes = self.relay.read(placed.capsule, LONGEST)?;
        let Some(bytes) = bytes else {
            let what = "the relay does not keep a version that it names";
            return Err(Error::new(Code::SessionGap, what).at(placed.version));
        };
        let foreign = self.keys.open(&bytes, names, placed.version)?;
        match foreign.version.record.replay_cursor == placed.cursor {
            true => Ok(foreign),
            false => {
                let what = "the relay tells another cursor than the version has";
                let error = Error::new(Code::ClaimsSession, what).at(placed.version);
                Err(error.sides(foreign.version.record.replay_cursor, placed.cursor))
            }
        }
    }

    fn open_all(&self, names: &Names, placed: &[Placed], opened: &mut Vec<Foreign>) -> Result<()> {
        for placed in placed {
            opened.push(self.open_one(names, placed)?);
        }
        Ok(())
    }

    /// Does what was found to be due.
    fn done(&self, names: &Names, found: Found, synced: &mut Synced) -> Result<()> {
        let Found {
            session,
            mut placed,
            due,
            opened,
        } = found;
        let due = due?;
        let mut session = session;
        if !due.to_take.is_empty() {
            let versions: Vec<SealedVersion> =
                opened.into_iter().map(|foreign| foreign.version).collect();
            let arrived = self.arrived(names, session.as_ref(), &versions)?;
            synced.capsules.1 += u64::try_from(arrived.len()).unwrap_or(0);
            session = Some(Session::take(
                self.tier, names, &versions, arrived, self.keep,
            )?);
            synced.taken.clone_from(&due.to_take);
        }
        let Some(mut session) = session else {
            return Ok(());
        };
        session.close_log(time::now())?;
        let newest = placed.last().map_or(0, |placed| placed.version);
        let mine = session.versions()?.into_iter().filter(|own| *own > newest);
        let mut sent = HashSet::new();
        for version in mine {
            let put = self.put(&session, version, placed.last(), &mut sent, synced)?;
            placed.push(put);
            synced.put.push(version);
        }
        for placed in placed
            .iter()
            .filter(|placed| due.to_renew.contains(&placed.version))
        {
            if let Some(old) = self.relay.read(placed.capsule, LONGEST)? {
                let new = self.keys.renewed(&old)?;
                if expires(&new[..])? > placed.expires {
                    self.relay.keep_bytes(new)?;
                    synced.renewed.push(placed.version);
                }
            }
        }
        Ok(())
    }

    /// Puts a version after another one: its state first, then itself, then its place.
    fn put(
        &self,
        session: &Session,
        version: u64,
        before: Option<&Placed>,
        sent: &mut HashSet<CapsuleId>,
        synced: &mut Synced,
    ) -> Result<Placed> {
        let (after, cursor) = before.map_or((0, 0), |placed| (placed.version, placed.cursor));
        let leaving = session.leaving(version, cursor)?;
        let mut states = Vec::new();
        for (id, path) in session.capsules_of(&leaving.record)? {
            if expires(&SourceFile::open(&path)?)? <= time::now() {
                continue;
            }
            if sent.insert(id) {
                synced.capsules.0 += u64::from(self.relay.keep(&path)?);
            }
            states.push(id);
        }
        let (capsule, bytes) = self.keys.seal(&leaving)?;
        let end = expires(&bytes[..])?;
        is_it(&bytes, capsule)?;
        self.relay.keep_bytes(bytes)?;
        let name = &leaving.record.session;
        let put = self
            .relay
            .put_version(name, version, after, capsule, &states);
        if put.as_ref().is_err_and(is_conflict) {
            // nobody reads it
            let _in_vain = self.relay.remove(capsule);
        }
        put?;
        Ok(Placed {
            version,
            cursor: leaving.record.replay_cursor,
            at: time::now(),
            capsule,
            expires: end,
        })
    }

    /// The capsules of the newest states that the device has not, as far as the relay has them.
    fn arrived(
        &self,
        names: &Names,
        session: Option<&Session>,
        versions: &[SealedVersion],
    ) -> Result<Vec<Arrived>> {
        let newest = versions.len().saturating_sub(self.keep.max(1));
        let newest = versions.get(newest..).unwrap_or_default().iter();
        let records: Vec<&Record> = newest.map(|version| &version.record).collect();
        self.arrived_for(names, session, &records)
    }

    fn arrived_for(
        &self,
        names: &Names,
        session: Option<&Session>,
        records: &[&Record],
    ) -> Result<Vec<Arrived>> {
        let mut wanted = HashSet::new();
        let mut arrived = Vec::new();
        for record in records {
            let live = record
                .capsule
                .as_ref()
                .is_some_and(|own| own.expires > time::now());
            if !live {
                continue;
            }
            let here = session.map_or(Ok(Vec::new()), |session| session.capsules_of(record))?;
            for id in record.capsule_ids()? {
                if here.iter().any(|(own, _)| *own == id) || !wanted.insert(id) {
                    continue;
                }
                let coming = Arrived::begin(self.tier, names, id)?;
                if self.relay.fetch(id, coming.output())? {
                    coming.check()?;
                    arrived.push(coming);
                }
            }
        }
        Ok(arrived)
    }
}

/// Whether both have gone on.
fn is_conflict(error: &Error) -> bool {
    matches!(error.code(), Code::SessionFork | Code::SessionVersion)
}

/// Says who was first.
fn first(placed: &Placed, there: &Foreign, code: Code) -> Error {
    let what = match code {
        Code::SessionFork => {
            "the session has gone on here and on the relay, where another device was first"
        }
        _ => "another device has put other versions of this session on the relay first",
    };
    Error::new(code, what).at(format_args!(
        "version {} of the relay, put {}, signed by {}",
        placed.version,
        time::show_instant(placed.at),
        printable(&there.issuer)
    ))
}

/// Whether a log that ends among a version's events is another one.
fn differs(session: &Session, version: &SealedVersion) -> Result<bool> {
    let before = version.before()?;
    match session.head_at(before.seq)? {
        Some(own) if own != before => return Ok(true),
        None => return Ok(false),
        Some(_) => {}
    }
    for event in &version.events {
        match session.head_at(event.seq)? {
            Some(own) if own.digest != event.digest()? => return Ok(true),
            Some(_) => {}
            None => break,
        }
    }
    Ok(false)
}

fn numbers(placed: &[Placed]) -> Vec<u64> {
    placed.iter().map(|placed| placed.version).collect()
}

fn to_renew(placed: &[Placed]) -> Vec<u64> {
    let soon = time::now().saturating_add(RENEWED_BELOW);
    let soon = placed.iter().filter(|placed| placed.expires < soon);
    soon.map(|placed| placed.version).collect()
}
