//! Which capsules are the versions of a session, and in which order (http-v1 §12.1): what a relay keeps beside capsules
//! that it cannot open, so that two devices of one session have one order.

use std::fmt::Debug;

use kvcap::{CapsuleId, Code, Error, Outline, Result};

use crate::Space;

/// Most versions of a session that are kept.
pub const MOST_VERSIONS: usize = 10_000;

/// A version of a session, sealed in a capsule that is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// Its number.
    pub version: u64,
    /// Number of the last event that it has seen.
    pub cursor: u64,
    /// Unix time at which it was put.
    pub at: u64,
    /// The capsule of its record and its events.
    pub capsule: CapsuleId,
    /// Unix time at which that expires: the store's own to say.
    pub expires: u64,
    /// The capsules of its state, which were kept when it was put.
    pub states: Vec<CapsuleId>,
}

impl Version {
    /// All capsules that it names.
    pub(crate) fn capsules(&self) -> impl Iterator<Item = CapsuleId> {
        [self.capsule]
            .into_iter()
            .chain(self.states.iter().copied())
    }
}

/// Returns whether a capsule is a sealed version by its header: of the history-only form, with a log (session-v1 §11.1).
#[must_use]
pub fn is_sealed_version(outline: &Outline) -> bool {
    let [name, _, format] = &outline.runtime;
    let sections = outline
        .streams
        .iter()
        .all(|stream| stream.kind == "section");
    let has = |wanted| outline.streams.iter().any(|stream| stream.name == wanted);
    name == "kvcap" && format == "history" && sections && has("history") && has("log")
}

/// Answer to putting a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VersionPut {
    /// It was not there.
    New,
    /// It was there, of the same capsule.
    Same,
    /// A capsule that it names is not kept.
    Missing,
}

/// Place where the order of sessions' versions is kept. A version goes with its capsule, and with it all that come after
/// it: those from the first on are kept, or none.
pub trait VersionStore: Debug + Send + Sync {
    /// Puts a version that follows the version `after`, 0 before the first; durable when it returns.
    ///
    /// # Errors
    /// KVC-954 where another capsule is this version, `after` is not the newest, or the version goes back behind it; 951
    /// for more than [`MOST_VERSIONS`]; 940.
    fn put_version(
        &self,
        space: Space,
        session: &str,
        version: &Version,
        after: u64,
    ) -> Result<VersionPut>;

    /// Returns at most so many versions of a session after a number, ascending.
    ///
    /// # Errors
    /// KVC-940.
    fn versions(
        &self,
        space: Space,
        session: &str,
        after: u64,
        most: usize,
    ) -> Result<Vec<Version>>;

    /// Returns the newest version of each session whose name comes after one, at most so many, by their names' bytes.
    ///
    /// # Errors
    /// KVC-940.
    fn newest_versions(
        &self,
        space: Space,
        after: &str,
        most: usize,
    ) -> Result<Vec<(String, Version)>>;

    /// Forgets the versions of a session, durably, and returns the capsules that they named and no other session of the
    /// space does; `None` where there are none.
    ///
    /// # Errors
    /// KVC-940.
    fn forget_versions(&self, space: Space, session: &str) -> Result<Option<Vec<CapsuleId>>>;
}

/// Judges a version by what is kept of its session: the one of its number, the newest, and how many there are.
pub(crate) fn judge(
    there: Option<CapsuleId>,
    newest: Option<(u64, u64)>,
    count: usize,
    next: &Version,
    after: u64,
) -> Result<VersionPut> {
    let (newest, cursor) = newest.unwrap_or((0, 0));
    let what = match there {
        Some(capsule) if capsule == next.capsule => return Ok(VersionPut::Same),
        Some(_) => "another capsule is this version",
        None if after != newest => "the version does not follow the newest one",
        None if next.version <= after => "the version is not above the one that it follows",
        None if next.cursor < cursor => "the version has seen less than the one that it follows",
        None if count >= MOST_VERSIONS => {
            let error = Error::new(Code::SessionLimit, "the session has too many versions");
            return Err(error.sides(format_args!("at most {MOST_VERSIONS}"), count));
        }
        None => return Ok(VersionPut::New),
    };
    Err(Error::new(Code::SessionVersion, what).sides(newest, after))
}
