//! A cache that relays share, before bucket and database, and never the truth (http-v1 §8): what a relay's other parts
//! ask of it.

use std::{fmt::Debug, path::PathBuf};

/// Address of an edge, and how much of everything it keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EdgeSettings {
    /// Private file with its address: `redis://`, `rediss://` or `unix://`.
    pub address: PathBuf,
    /// Longest capsule that is kept whole; of a longer one, its beginning with the header is.
    pub bytes: u64,
    /// Newest capsules of a space that are kept.
    pub capsules: u32,
}

impl EdgeSettings {
    /// Returns the usual settings: eight capsules of a space, whole up to 8 MiB.
    #[must_use]
    pub fn at(address: PathBuf) -> Self {
        Self {
            address,
            bytes: 8 << 20,
            capsules: 8,
        }
    }
}

/// Measure that a tenant's requests are counted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Measure {
    /// Requests of a second.
    pub rate: u32,
    /// Requests at once.
    pub burst: u32,
}

/// Hears how many requests are left of a measure; less than none, where relays had let through more. Nothing where the
/// edge has not answered.
pub type Told = Box<dyn FnOnce(Option<f64>) + Send>;

/// Counts of what came of asking an edge for pieces of capsules, and of telling it of requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EdgeOutcomes {
    /// Pieces that it had.
    pub hits: u64,
    /// Pieces that it did not have.
    pub misses: u64,
    /// Pieces that no relay had put there so.
    pub wrong: u64,
    /// Questions that were not answered in time, or by an error.
    pub failed: u64,
    /// Questions that were not asked, since one had failed a moment before.
    pub passed: u64,
}

/// Edge, for who counts requests and shows figures. Nothing here waits for it.
pub trait Edge: Debug + Send + Sync {
    /// Counts requests of a tenant that were let through with those of all relays.
    fn count(&self, tenant: Option<&str>, requests: u32, measure: Measure, told: Told);

    /// Returns how often it was asked since this relay began.
    fn outcomes(&self) -> EdgeOutcomes;
}
