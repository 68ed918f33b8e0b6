//! The order of sessions' versions in a folder: `ROOT/SPACE/DIGEST.versions`, a line a version, replaced as a whole.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    fs, io,
    ops::Bound,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use kvcap::{CapsuleId, Error, Result, binding::Digest};

use super::{FolderStore, names};
use crate::{
    Space,
    operation::{self, Operation},
    output::{self, Readers},
    private,
    version_store::{Version, VersionPut, VersionStore, judge},
};

/// First line of a file.
const FORM: &str = "kvcap versions 1";
const ENDING: &str = "versions";

/// Versions of sessions, as the files have them.
#[derive(Debug, Default)]
pub(super) struct Ordered(Mutex<BTreeMap<(Space, String), Vec<Version>>>);

impl Ordered {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<(Space, String), Vec<Version>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl FolderStore {
    /// Reads the files: of each session the versions from the first on whose capsules are kept.
    pub(super) fn read_versions(&self) -> Result<()> {
        for space in self.spaces()? {
            for name in names(&self.folder(space))? {
                if !name.ends_with(&format!(".{ENDING}")) {
                    continue;
                }
                let path = self.folder(space).join(name);
                let text = fs::read_to_string(&path);
                let text = text.map_err(|error| Error::source(&error, path.display()))?;
                let (session, mut versions) = parse(&text).ok_or_else(|| damaged(&path))?;
                let kept = versions.iter().take_while(|version| {
                    let shelved = self.shelves.lock();
                    shelved.kept.contains_key(&(space, version.capsule))
                });
                versions.truncate(kept.count());
                if !versions.is_empty() {
                    self.ordered.lock().insert((space, session), versions);
                }
            }
        }
        Ok(())
    }

    /// Lets versions go whose capsule has gone, and those after them.
    pub(super) fn cut_versions(&self, space: Space, gone: CapsuleId) -> Result<()> {
        let mut ordered = self.ordered.lock();
        let of_space = (Bound::Included((space, String::new())), Bound::Unbounded);
        let mut cut = Vec::new();
        for ((own, session), versions) in ordered.range(of_space) {
            if *own != space {
                break;
            }
            if let Some(at) = versions.iter().position(|kept| kept.capsule == gone) {
                cut.push((session.clone(), at));
            }
        }
        for (session, at) in cut {
            let key = (space, session);
            if let Some(versions) = ordered.get_mut(&key) {
                versions.truncate(at);
                self.write(space, &key.1, versions)?;
                if versions.is_empty() {
                    ordered.remove(&key);
                }
            }
        }
        Ok(())
    }

    /// A version as it is told: with the end of its capsule as of now.
    fn told(&self, space: Space, version: &Version) -> Version {
        let shelved = self.shelves.lock();
        let kept = shelved.kept.get(&(space, version.capsule));
        Version {
            expires: kept.map_or(0, |entry| entry.expires),
            ..version.clone()
        }
    }

    /// Replaces the file of a session; where there are no versions there is no file.
    fn write(&self, space: Space, session: &str, versions: &[Version]) -> Result<()> {
        let path = self.path_of_versions(space, session);
        if !versions.is_empty() {
            private::folder(&self.folder(space))?;
            return output::write(
                &path,
                true,
                Readers::Owner,
                text(session, versions).as_bytes(),
            );
        }
        let failed = |error: io::Error| Error::sink(&error, path.display());
        operation::before(Operation::Remove(&path)).map_err(failed)?;
        match fs::remove_file(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed
                .and_then(|()| operation::sync_folder(&self.folder(space)))
                .map_err(failed),
        }
    }

    /// No name of a caller's is a path.
    fn path_of_versions(&self, space: Space, session: &str) -> PathBuf {
        let digest = Digest::labelled("kvcap store session", &[session.as_bytes()]);
        let name = CapsuleId(*digest.0.first_chunk().unwrap_or(&[0; 16]));
        self.folder(space).join(format!("{name}.{ENDING}"))
    }
}

impl VersionStore for FolderStore {
    fn put_version(
        &self,
        space: Space,
        session: &str,
        version: &Version,
        after: u64,
    ) -> Result<VersionPut> {
        let mut ordered = self.ordered.lock();
        let key = (space, session.to_owned());
        let mut versions = ordered.get(&key).cloned().unwrap_or_default();
        let there = versions.iter().find(|kept| kept.version == version.version);
        let newest = versions.last().map(|kept| (kept.version, kept.cursor));
        let there = there.map(|kept| kept.capsule);
        let put = judge(there, newest, versions.len(), version, after)?;
        if put == VersionPut::New {
            let kept = |id| self.shelves.lock().kept.contains_key(&(space, id));
            if !version.capsules().all(kept) {
                return Ok(VersionPut::Missing);
            }
            versions.push(version.clone());
            self.write(space, session, &versions)?;
            ordered.insert(key, versions);
        }
        Ok(put)
    }

    fn versions(
        &self,
        space: Space,
        session: &str,
        after: u64,
        most: usize,
    ) -> Result<Vec<Version>> {
        let ordered = self.ordered.lock();
        let versions = ordered.get(&(space, session.to_owned()));
        let later = versions.into_iter().flatten();
        let later = later.filter(|version| version.version > after);
        let later = later.take(most);
        Ok(later.map(|version| self.told(space, version)).collect())
    }

    fn newest_versions(
        &self,
        space: Space,
        after: &str,
        most: usize,
    ) -> Result<Vec<(String, Version)>> {
        let ordered = self.ordered.lock();
        let later = (Bound::Excluded((space, after.to_owned())), Bound::Unbounded);
        let of_space = ordered
            .range(later)
            .take_while(|((own, _), _)| *own == space);
        let newest = of_space.filter_map(|((_, session), versions)| {
            let newest = versions.last()?;
            Some((session.clone(), self.told(space, newest)))
        });
        Ok(newest.take(most).collect())
    }

    fn forget_versions(&self, space: Space, session: &str) -> Result<Option<Vec<CapsuleId>>> {
        let mut ordered = self.ordered.lock();
        let Some(versions) = ordered.remove(&(space, session.to_owned())) else {
            return Ok(None);
        };
        if let Err(error) = self.write(space, session, &[]) {
            ordered.insert((space, session.to_owned()), versions);
            return Err(error);
        }
        let own: BTreeSet<CapsuleId> = versions.iter().flat_map(Version::capsules).collect();
        let of_space = (Bound::Included((space, String::new())), Bound::Unbounded);
        let others = ordered
            .range(of_space)
            .take_while(|((own, _), _)| *own == space);
        let others: HashSet<CapsuleId> = others
            .flat_map(|(_, versions)| versions.iter().flat_map(Version::capsules))
            .collect();
        Ok(Some(
            own.into_iter().filter(|id| !others.contains(id)).collect(),
        ))
    }
}

fn text(session: &str, versions: &[Version]) -> String {
    let mut text = format!("{FORM}\n{session}\n");
    for version in versions {
        let Version {
            version,
            cursor,
            at,
            capsule,
            states,
            ..
        } = version;
        text.push_str(&format!("{version} {cursor} {at} {capsule}"));
        for state in states {
            text.push_str(&format!(" {state}"));
        }
        text.push('\n');
    }
    text
}

fn parse(text: &str) -> Option<(String, Vec<Version>)> {
    let mut lines = text.lines();
    if lines.next()? != FORM {
        return None;
    }
    let session = lines.next()?.to_owned();
    let version = |line: &str| {
        let mut words = line.split(' ');
        Some(Version {
            version: words.next()?.parse().ok()?,
            cursor: words.next()?.parse().ok()?,
            at: words.next()?.parse().ok()?,
            capsule: CapsuleId::from_hex(words.next()?)?,
            expires: 0,
            states: words.map(CapsuleId::from_hex).collect::<Option<_>>()?,
        })
    };
    Some((session, lines.map(version).collect::<Option<_>>()?))
}

fn damaged(path: &Path) -> Error {
    let error = io::Error::other("the order of a session's versions is damaged");
    Error::source(&error, path.display())
}
