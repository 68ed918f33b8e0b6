//! Capsules that are kept for others in a folder: each put once, whole or not at all.
//!
//! ```text
//! ROOT/lock                 held by the one process that writes
//! ROOT/SPACE/ID.kvcap       a capsule; SPACE stands for a tenant and a subject, and names neither
//! ```
//!
//! The files are the truth. Their names are hexadecimal digits that are made here, so that no name of a caller's is
//! ever a path.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use kvcap::{CapsuleId, Error, Result, binding::Digest};

use crate::{
    Lock, Wait,
    operation::{self, Operation},
    output::{self, Output, Readers},
    private,
};

const ENDING: &str = "kvcap";

/// The capsules of one tenant and one subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Space([u8; 16]);

impl Space {
    /// Returns the space of a tenant and a subject, where absent names are names of their own.
    #[must_use]
    pub fn of(tenant: Option<&str>, subject: Option<&str>) -> Self {
        let mut parts: Vec<&[u8]> = Vec::new();
        let len = |name: &str| u64::try_from(name.len()).unwrap_or(u64::MAX);
        let lengths = [tenant, subject].map(|name| name.map_or(0, len).to_le_bytes());
        for (name, len) in [tenant, subject].into_iter().zip(&lengths) {
            match name {
                None => parts.push(&[0]),
                Some(name) => parts.extend([&[1][..], len, name.as_bytes()]),
            }
        }
        let digest = Digest::labelled("kvcap store space", &parts);
        Self(*digest.0.first_chunk().unwrap_or(&[0; 16]))
    }

    fn name(self) -> String {
        CapsuleId(self.0).to_string()
    }

    fn parse(name: &str) -> Option<Self> {
        CapsuleId::from_hex(name).map(|id| Self(id.0))
    }
}

/// A folder of capsules that are kept for others. One process has it at a time.
#[derive(Debug)]
pub struct Blobs {
    root: PathBuf,
    _lock: Lock,
}

impl Blobs {
    /// Opens the folder `root`, which is made where there is none, and holds it until it is dropped.
    ///
    /// # Errors
    /// KVC-945 where others can change the folder; 947 where another process has it; 940.
    pub fn open(root: &Path, wait: Wait) -> Result<Self> {
        private::folder(root)?;
        Ok(Self {
            _lock: Lock::hold(&root.join("lock"), wait)?,
            root: root.to_owned(),
        })
    }

    /// Makes sure that files can be made in the folder.
    ///
    /// # Errors
    /// KVC-940.
    pub fn check_writable(&self) -> Result<()> {
        let made = tempfile::tempfile_in(&self.root);
        made.map(drop)
            .map_err(|error| Error::sink(&error, self.root.display()))
    }

    /// Returns the path of a capsule, whether or not it is there.
    #[must_use]
    pub fn path(&self, space: Space, id: CapsuleId) -> PathBuf {
        self.folder(space).join(format!("{id}.{ENDING}"))
    }

    fn folder(&self, space: Space) -> PathBuf {
        self.root.join(space.name())
    }

    /// Begins a capsule, which appears when the output is committed, and does not replace one that is there.
    ///
    /// # Errors
    /// KVC-941 where it is there; 945, 940.
    pub fn begin(&self, space: Space, id: CapsuleId) -> Result<Output> {
        private::folder(&self.folder(space))?;
        Output::one_of_many(&self.path(space, id), false, Readers::Owner)
    }

    /// Begins a capsule that takes the place of one that is there, whole and at once, when the output is committed.
    ///
    /// # Errors
    /// KVC-945, 940.
    pub fn replace(&self, space: Space, id: CapsuleId) -> Result<Output> {
        private::folder(&self.folder(space))?;
        Output::one_of_many(&self.path(space, id), true, Readers::Owner)
    }

    /// Removes a capsule, so that a crash does not bring it back; false where there is none.
    ///
    /// # Errors
    /// KVC-940.
    pub fn remove(&self, space: Space, id: CapsuleId) -> Result<bool> {
        let path = self.path(space, id);
        let failed = |error: io::Error| Error::sink(&error, path.display());
        operation::before(Operation::Remove(&path)).map_err(failed)?;
        match fs::remove_file(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(failed(error)),
            Ok(()) => operation::sync_folder(&self.folder(space))
                .map(|()| true)
                .map_err(failed),
        }
    }

    /// Returns all capsules, by their names alone.
    ///
    /// # Errors
    /// KVC-940.
    pub fn list(&self) -> Result<Vec<(Space, CapsuleId)>> {
        let mut found = Vec::new();
        for space in self.spaces()? {
            let folder = self.folder(space);
            for name in names(&folder)? {
                let id = name
                    .strip_suffix(ENDING)
                    .and_then(|id| id.strip_suffix('.'));
                found.extend(id.and_then(CapsuleId::from_hex).map(|id| (space, id)));
            }
        }
        Ok(found)
    }

    /// Removes the files in the making that a killed process has left. Returns their number.
    ///
    /// # Errors
    /// KVC-940.
    pub fn sweep(&self) -> Result<usize> {
        let mut removed = 0;
        for space in self.spaces()? {
            let folder = self.folder(space);
            let failed = |error: io::Error| Error::sink(&error, folder.display());
            for (path, _) in output::abandoned_in(&folder).map_err(failed)? {
                fs::remove_file(path).map_err(failed)?;
                removed += 1;
            }
        }
        Ok(removed)
    }

    fn spaces(&self) -> Result<Vec<Space>> {
        let names = names(&self.root)?;
        Ok(names.iter().filter_map(|name| Space::parse(name)).collect())
    }
}

fn names(folder: &Path) -> Result<Vec<String>> {
    let failed = |error: io::Error| Error::source(&error, folder.display());
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        names.extend(entry.map_err(failed)?.file_name().into_string());
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use kvcap::WriteAt;

    use super::*;

    #[test]
    fn no_two_owners_share_a_space() {
        let names = [None, Some(""), Some("a"), Some("ab"), Some("b")];
        let mut spaces: Vec<Space> = names
            .iter()
            .flat_map(|tenant| names.map(|subject| Space::of(*tenant, subject)))
            .collect();
        spaces.sort();
        spaces.dedup();
        assert_eq!(spaces.len(), names.len() * names.len());
        let space = Space::of(Some("acme"), None);
        assert_eq!(Space::parse(&space.name()), Some(space));
    }

    #[test]
    fn a_capsule_is_put_once_and_listed_by_its_name() {
        let home = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(&home.path().join("kept"), Wait::default()).unwrap();
        let (space, id) = (Space::of(None, None), CapsuleId([7; 16]));
        assert_eq!(blobs.list().unwrap(), []);
        let first = blobs.begin(space, id).unwrap();
        let second = blobs.begin(space, id).unwrap();
        first.write_all_at(0, b"one").unwrap();
        first.commit().unwrap();
        assert_eq!(second.commit().unwrap_err().code().number(), 941);
        assert_eq!(blobs.begin(space, id).unwrap_err().code().number(), 941);
        assert_eq!(blobs.list().unwrap(), [(space, id)]);
        assert_eq!(fs::read(blobs.path(space, id)).unwrap(), b"one");
        let next = blobs.replace(space, id).unwrap();
        next.write_all_at(0, b"two").unwrap();
        assert_eq!(fs::read(blobs.path(space, id)).unwrap(), b"one");
        next.commit().unwrap();
        assert_eq!(fs::read(blobs.path(space, id)).unwrap(), b"two");
        assert_eq!(blobs.list().unwrap(), [(space, id)]);
        assert!(blobs.remove(space, id).unwrap());
        assert!(!blobs.remove(space, id).unwrap());
        assert_eq!(blobs.list().unwrap(), []);
        let wait = Wait {
            at_most: std::time::Duration::ZERO,
            ..Wait::default()
        };
        let other = Blobs::open(&home.path().join("kept"), wait);
        assert_eq!(other.unwrap_err().code().number(), 947);
    }
}
