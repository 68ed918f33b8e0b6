//! What of a folder has served its time: expired capsules that nothing alive continues, and files in the making
//! whose writers are gone.
//!
//! A capsule's times are its own claims until a trusted key's signature says otherwise. What nobody trusted has
//! signed stays, unless its owner takes it at its word; either way, what it claims to continue is kept for it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use kvcap::{Error, Limits, MAX_SKEW, Result, SourceFile, Trust, Untrusted};

use crate::{ancestors, output};

/// Reason that a file can go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dead {
    /// The capsule has expired, and no capsule of the folder that has not continues it.
    Expired,
    /// The file is one in the making, and its writer is gone.
    Unfinished,
}

/// A file that can go.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Prunable {
    /// The file.
    pub path: PathBuf,
    /// Reason that it can go.
    pub dead: Dead,
    /// Its length.
    pub bytes: u64,
    /// Time at which the capsule has expired, in seconds since 1970.
    pub expires: Option<u64>,
    /// True where a trusted key has signed what the capsule says.
    pub verified: bool,
}

/// Files of a folder, by whether they can go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Plan {
    /// The files that can go, by name.
    pub prunable: Vec<Prunable>,
    /// Expired capsules that a living one continues.
    pub needed: Vec<PathBuf>,
    /// Expired capsules, as they say themselves, that no trusted key has signed.
    pub unverified: Vec<PathBuf>,
}

struct Capsule {
    path: PathBuf,
    lineage: String,
    parent: Option<String>,
    expires: u64,
    bytes: u64,
    verified: bool,
}

/// Finds what of a folder can go at `now`. Regular files named `*.kvcap` are looked at, and files in the making;
/// links, folders and everything else are not. With `danger_unverified`, a capsule that no trusted key has signed is
/// taken at its word.
///
/// # Errors
/// KVC-940, and 944 where there are too many capsules.
pub fn plan(folder: &Path, trust: &Trust, now: u64, danger_unverified: bool) -> Result<Plan> {
    let mut plan = Plan::default();
    let paths = ancestors::capsules_in(folder)?;
    let is_file = |path: &PathBuf| fs::symlink_metadata(path).is_ok_and(|meta| meta.is_file());
    // what a link leads to may be needed, and is not removed
    let capsules: Vec<(Capsule, bool)> = paths
        .into_iter()
        .filter_map(|path| {
            let own = is_file(&path);
            Some((Capsule::read(path, trust)?, own))
        })
        .collect();
    let mut parents: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (capsule, _) in &capsules {
        let own = parents.entry(&capsule.lineage).or_default();
        own.extend(capsule.parent.as_deref());
    }
    let mut needed = BTreeSet::new();
    let alive = capsules.iter().filter(|(capsule, own)| {
        !own || !capsule.has_ended(now) || !(capsule.verified || danger_unverified)
    });
    let mut left: Vec<&str> = alive
        .filter_map(|(capsule, _)| capsule.parent.as_deref())
        .collect();
    while let Some(lineage) = left.pop() {
        if needed.insert(lineage) {
            left.extend(parents.get(lineage).into_iter().flatten());
        }
    }
    for (capsule, own) in &capsules {
        let path = capsule.path.clone();
        match capsule {
            _ if !own || !capsule.has_ended(now) => {}
            _ if needed.contains(capsule.lineage.as_str()) => plan.needed.push(path),
            _ if !capsule.verified && !danger_unverified => plan.unverified.push(path),
            _ => plan.prunable.push(Prunable {
                path,
                dead: Dead::Expired,
                bytes: capsule.bytes,
                expires: Some(capsule.expires),
                verified: capsule.verified,
            }),
        }
    }
    for (path, bytes) in
        output::abandoned_in(folder).map_err(|error| Error::source(&error, folder.display()))?
    {
        plan.prunable.push(Prunable {
            path,
            dead: Dead::Unfinished,
            bytes,
            expires: None,
            verified: false,
        });
    }
    plan.prunable
        .sort_by(|one, other| one.path.cmp(&other.path));
    Ok(plan)
}

impl Plan {
    /// Returns the length of all files that can go.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let lengths = self.prunable.iter().map(|file| file.bytes);
        lengths.fold(0, u64::saturating_add)
    }

    /// Removes the files that can go.
    ///
    /// # Errors
    /// KVC-940, with the first that cannot be removed.
    pub fn carry_out(&self) -> Result<()> {
        for file in &self.prunable {
            match fs::remove_file(&file.path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(Error::sink(&error, file.path.display()));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

impl Capsule {
    /// The header of a whole capsule; `None` for what is none.
    fn read(path: PathBuf, trust: &Trust) -> Option<Self> {
        let file = SourceFile::open(&path).ok()?;
        let untrusted = Untrusted::read_at(&file, &Limits::default()).ok()?;
        let outline = untrusted.outline().ok()?;
        let terms = &untrusted.claims().terms;
        Some(Self {
            lineage: untrusted.lineage().ok()?.to_string(),
            parent: outline.parent,
            expires: terms.expires,
            bytes: kvcap::ReadAt::len(&file),
            verified: untrusted.signed_lineage(trust).is_ok(),
            path,
        })
    }

    /// Whether it has expired for every verifier, whose clock may be behind.
    fn has_ended(&self, now: u64) -> bool {
        self.expires.saturating_add(MAX_SKEW) <= now
    }
}
