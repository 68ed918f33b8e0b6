//! Where sessions are kept (session-v1 §9): the tiers' one interface.
//!
//! A session is its [`Artefact`]s. All but the first are put once: the same bytes again are accepted, others refused, so
//! that a writer that lost its answer asks again, and two writers never make one version twice.

use kvcap::{CapsuleId, Code, Error, ReadAt, Result};

use crate::Names;

/// A part of a session that is kept as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Artefact {
    /// Description of the session: its name and its settings. Replaced as a whole.
    Session,
    /// The event with this number, from 1 on without a gap.
    Event(u64),
    /// The capsule of a version.
    Capsule(u64, CapsuleId),
    /// The checkpoint of a version: once it is there, so is all that it names.
    Checkpoint(u64),
}

/// Answer to putting an artefact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    /// It was not there.
    New,
    /// It was there, with the same bytes.
    Same,
}

/// A place of sessions: files, a cache, a store of objects.
pub trait Tier {
    /// Returns the names of all sessions, the one last written to first where the tier knows.
    ///
    /// # Errors
    /// KVC-940.
    fn sessions(&self) -> Result<Vec<Names>>;

    /// Returns the artefacts of a session that are there whole, in order; none where there is no such session.
    ///
    /// # Errors
    /// KVC-940.
    fn list(&self, session: &Names) -> Result<Vec<Artefact>>;

    /// Returns the bytes of an artefact, if it is there.
    ///
    /// # Errors
    /// KVC-940.
    fn get(&self, session: &Names, artefact: Artefact) -> Result<Option<Box<dyn ReadAt + Send>>>;

    /// Begins to write to a session, alone: until it is dropped others wait, and readers do not.
    ///
    /// # Errors
    /// KVC-947 where another writer does not finish; 940.
    fn write<'t>(&'t self, session: &Names) -> Result<Box<dyn Write + 't>>;
}

/// The one writer of a session.
pub trait Write {
    /// Puts an artefact; when this returns, no crash loses it.
    ///
    /// # Errors
    /// KVC-953 and 954 where an event or a version is there with other bytes, 952 for an event that is not the next; 947 where the lock was taken
    /// away; 940.
    fn put(&mut self, artefact: Artefact, bytes: &dyn ReadAt) -> Result<Put>;

    /// Removes an artefact that is there; events stay.
    ///
    /// # Errors
    /// KVC-944 for an event, 947, 940.
    fn remove(&mut self, artefact: Artefact) -> Result<()>;

    /// Forgets all that a copy holds of the session, its events among it.
    ///
    /// # Errors
    /// KVC-944 where the tier is the truth; 940.
    fn forget(&mut self) -> Result<()>;
}

/// Returns a whole small artefact, if it is there.
///
/// # Errors
/// As [`Tier::get`]; KVC-910 where it is longer than `longest`.
pub fn get_small(
    tier: &dyn Tier,
    session: &Names,
    artefact: Artefact,
    longest: u64,
) -> Result<Option<Vec<u8>>> {
    let Some(source) = tier.get(session, artefact)? else {
        return Ok(None);
    };
    let len = usize::try_from(source.len()).ok();
    let Some(len) = len.filter(|_| source.len() <= longest) else {
        let what = "a part of a session is longer than it may be";
        let error = Error::new(Code::ResourceBudget, what).at(place(session));
        return Err(error.sides(format!("at most {longest} bytes"), source.len()));
    };
    let mut bytes = vec![0; len];
    source
        .read_exact_at(0, &mut bytes)
        .map_err(|error| Error::source(&error, place(session)))?;
    Ok(Some(bytes))
}

/// Part of a session that a tier holds of the one below.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    /// Number of newest checkpoints.
    pub checkpoints: usize,
    /// Number of newest events.
    pub events: usize,
    /// True for the capsules of those checkpoints too.
    pub capsules: bool,
}

impl Keep {
    /// Everything.
    pub const ALL: Self = Self {
        checkpoints: usize::MAX,
        events: usize::MAX,
        capsules: true,
    };
}

/// Rebuilds a session in one tier from another: copies what it is to hold, and is safe to be stopped and begun again.
///
/// # Errors
/// Those of the tiers.
pub fn rebuild(from: &dyn Tier, to: &dyn Tier, session: &Names, keep: Keep) -> Result<()> {
    let held = from.list(session)?;
    let newest = |number: usize, wanted: fn(&Artefact) -> bool| {
        let mut found: Vec<Artefact> = held.iter().copied().filter(wanted).collect();
        found.drain(..found.len().saturating_sub(number));
        found
    };
    let checkpoints = newest(keep.checkpoints, |a| matches!(a, Artefact::Checkpoint(_)));
    let of_those = |version| checkpoints.contains(&Artefact::Checkpoint(version));
    let capsules = held.iter().copied().filter(
        |artefact| matches!(artefact, Artefact::Capsule(version, _) if keep.capsules && of_those(*version)),
    );
    let mut wanted = newest(1, |artefact| *artefact == Artefact::Session);
    wanted.extend(newest(keep.events, |a| matches!(a, Artefact::Event(_))));
    wanted.extend(capsules);
    wanted.extend(&checkpoints);
    let mut writer = to.write(session)?;
    for artefact in wanted {
        if let Some(bytes) = from.get(session, artefact)? {
            writer.put(artefact, &&*bytes)?;
        }
    }
    Ok(())
}

/// A session's name, for an error.
pub(super) fn place(session: &Names) -> impl std::fmt::Display + '_ {
    kvcap::text::printable(&session.session)
}

/// The refusal of other bytes under a name that is taken.
pub(super) fn taken(artefact: Artefact) -> Error {
    let (code, what) = match artefact {
        Artefact::Event(_) => (
            Code::SessionFork,
            "the session has another event with this number",
        ),
        _ => (
            Code::SessionVersion,
            "the session has another checkpoint with this version",
        ),
    };
    Error::new(code, what).at(number(artefact))
}

/// The refusal of an event that is not the next.
pub(super) fn gap(next: u64, found: u64) -> Error {
    let what = "the event is not the next of its session";
    Error::new(Code::SessionGap, what).sides(next, found)
}

/// The refusal to remove an event.
pub(super) fn stays(artefact: Artefact) -> Error {
    let what = "events are not removed: the log is append only";
    Error::new(Code::LocalUsage, what).at(number(artefact))
}

fn number(artefact: Artefact) -> u64 {
    match artefact {
        Artefact::Session => 0,
        Artefact::Event(n) | Artefact::Capsule(n, _) | Artefact::Checkpoint(n) => n,
    }
}

/// Whether two sources hold the same bytes.
pub(super) fn is_same(one: &dyn ReadAt, other: &dyn ReadAt) -> std::io::Result<bool> {
    const STEP: u64 = 1 << 16;
    if one.len() != other.len() {
        return Ok(false);
    }
    let mut at = 0;
    let (mut a, mut b) = (Vec::new(), Vec::new());
    while at < one.len() {
        let len = usize::try_from(STEP.min(one.len() - at)).unwrap_or(0);
        a.resize(len, 0);
        b.resize(len, 0);
        one.read_exact_at(at, &mut a)?;
        other.read_exact_at(at, &mut b)?;
        if a != b {
            return Ok(false);
        }
        at += STEP.min(one.len() - at);
    }
    Ok(true)
}
