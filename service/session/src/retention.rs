//! Retention: which checkpoints of a session are kept (session-v1 §8).

use std::collections::BTreeSet;

use crate::record::Record;

/// Versions that are kept by default.
pub const KEEP: usize = 5;

/// Checkpoints of a session: what is kept and what may go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Retained {
    /// Versions whose records are kept.
    pub versions: BTreeSet<u64>,
    /// Ids of the capsules that they need, ancestors among them.
    pub capsules: BTreeSet<String>,
    /// Versions whose records may go.
    pub removable_versions: BTreeSet<u64>,
    /// Ids of capsules that may go.
    pub removable_capsules: BTreeSet<String>,
}

/// Returns which of the records' versions and capsules are kept: the `keep` newest, those that are `pinned`,
/// and in any case the newest of all and the newest that has a state.
#[must_use]
pub fn retained<'a>(
    records: impl IntoIterator<Item = &'a Record>,
    pinned: &BTreeSet<u64>,
    keep: usize,
) -> Retained {
    let mut records: Vec<&Record> = records.into_iter().collect();
    records.sort_by_key(|record| std::cmp::Reverse(record.version));
    let with_state = records.iter().find(|record| record.capsule.is_some());
    let with_state = with_state.map(|record| record.version);
    let mut retained = Retained::default();
    let mut named = BTreeSet::new();
    for (at, record) in records.iter().enumerate() {
        let version = record.version;
        let kept = at < keep.max(1) || pinned.contains(&version) || with_state == Some(version);
        let ids = record.capsule.iter();
        let ids = ids.flat_map(|capsule| capsule.ancestors.iter().chain([&capsule.id]).cloned());
        match kept {
            true => {
                retained.versions.insert(version);
                retained.capsules.extend(ids);
            }
            false => {
                retained.removable_versions.insert(version);
                named.extend(ids);
            }
        }
    }
    retained.removable_capsules = &named - &retained.capsules;
    retained
}
