//! A [`CapsuleStore`] in a folder of one machine, for one process at a time.
//!
//! ```text
//! ROOT/lock                 held by the one process that writes
//! ROOT/SPACE/ID.kvcap       a capsule; SPACE stands for a tenant and a subject, and names neither
//! ROOT/SPACE/DIGEST.versions  the order of a session's versions
//! ```
//!
//! The files are the truth. Their names are hexadecimal digits that are made here, so that no name of a caller's is
//! ever a path. What is known of them besides is in memory, and read from them at the beginning.

use std::{
    collections::{HashMap, HashSet},
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use kvcap::{CapsuleId, Code, Error, IoSide, Limits, Result, SourceFile, WriteAt, binding::Digest};

use crate::{
    Arriving, CapsuleStore, Claimed, Coming, Entry, Lock, Name, Space, Stored, Tag, Wait,
    operation::{self, Operation},
    output::{self, Output, Readers},
    private,
};

mod versions;

const ENDING: &str = "kvcap";

/// A folder of capsules that are kept for others. One process has it at a time.
#[derive(Debug)]
pub struct FolderStore {
    root: PathBuf,
    shelves: Arc<Shelves>,
    ordered: versions::Ordered,
    _lock: Lock,
}

#[derive(Debug, Default)]
struct Shelves(Mutex<Shelved>);

#[derive(Debug, Default)]
struct Shelved {
    kept: HashMap<Name, Entry>,
    /// By the digest that a child names, in its space.
    lineages: HashMap<(Space, Digest), CapsuleId>,
    coming: HashSet<Name>,
    /// Bytes of each tenant, of what is coming too.
    used: HashMap<Option<String>, u64>,
    bytes: u64,
}

/// A name that nobody else puts, and room for its bytes; both are given back where nothing comes of it.
#[derive(Debug)]
struct Claim {
    shelves: Arc<Shelves>,
    name: Name,
    tenant: Option<String>,
    bytes: u64,
}

/// A file in the making.
#[derive(Debug)]
struct File {
    output: Output,
    at: u64,
    claim: Claim,
}

impl FolderStore {
    /// Opens the folder `root`, which is made where there is none, and holds it until it is dropped. What killed
    /// processes have left is removed; a file that is no whole capsule within `limits` is not listed, and not touched.
    ///
    /// # Errors
    /// KVC-945 where others can change the folder; 947 where another process has it; 940.
    pub fn open(root: &Path, wait: Wait, limits: &Limits) -> Result<Self> {
        private::folder(root)?;
        let store = Self {
            _lock: Lock::hold(&root.join("lock"), wait)?,
            shelves: Arc::default(),
            ordered: versions::Ordered::default(),
            root: root.to_owned(),
        };
        store.sweep()?;
        for name in store.list()? {
            let entry = SourceFile::open(store.path_of(name)).ok();
            if let Some(entry) = entry.and_then(|file| Entry::read(&file, limits).ok()) {
                store.shelves.lock().count(&entry.tenant, entry.bytes);
                store.shelves.lock().put(name, entry);
            }
        }
        store.read_versions()?;
        Ok(store)
    }

    /// The path of a capsule, whether or not it is there.
    fn path_of(&self, (space, id): Name) -> PathBuf {
        self.folder(space).join(format!("{id}.{ENDING}"))
    }

    fn folder(&self, space: Space) -> PathBuf {
        self.root.join(space.name())
    }

    /// All capsules, by the names of their files alone.
    fn list(&self) -> Result<Vec<Name>> {
        let mut found = Vec::new();
        for space in self.spaces()? {
            for name in names(&self.folder(space))? {
                let id = name
                    .strip_suffix(ENDING)
                    .and_then(|id| id.strip_suffix('.'));
                found.extend(id.and_then(CapsuleId::from_hex).map(|id| (space, id)));
            }
        }
        Ok(found)
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

impl CapsuleStore for FolderStore {
    fn check(&self) -> Result<()> {
        let made = tempfile::tempfile_in(&self.root);
        made.map(drop)
            .map_err(|error| Error::sink(&error, self.root.display()))
    }

    fn get(&self, name: Name) -> Result<Option<Entry>> {
        Ok(self.shelves.lock().kept.get(&name).cloned())
    }

    fn claim(&self, name: Name, coming: Coming<'_>, quota: u64) -> Result<Claimed> {
        let Some((claim, replaces)) = self.shelves.claim(name, coming, quota)? else {
            return Ok(Claimed::Kept);
        };
        let Some(claim) = claim else {
            return Ok(Claimed::Full);
        };
        private::folder(&self.folder(name.0))?;
        let output = Output::one_of_many(&self.path_of(name), replaces, Readers::Owner)?;
        match output.require(coming.bytes) {
            Err(error) if is_full(&error) => Ok(Claimed::Full),
            room => room.map(|()| {
                Claimed::New(Box::new(File {
                    output,
                    at: 0,
                    claim,
                }))
            }),
        }
    }

    fn open(&self, name: Name) -> Result<Option<(Entry, Box<dyn Stored>)>> {
        let Some(entry) = self.get(name)? else {
            return Ok(None);
        };
        let path = self.path_of(name);
        match SourceFile::open(&path) {
            Ok(file) => Ok(Some((entry, Box::new(file)))),
            Err(error) if error.io_kind() == Some(io::ErrorKind::NotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn path(&self, name: Name) -> Option<PathBuf> {
        let kept = self.shelves.lock().kept.contains_key(&name);
        kept.then(|| self.path_of(name))
    }

    fn remove(&self, name: Name) -> Result<bool> {
        if self.get(name)?.is_none() {
            return Ok(false);
        }
        let path = self.path_of(name);
        let failed = |error: io::Error| Error::sink(&error, path.display());
        operation::before(Operation::Remove(&path)).map_err(failed)?;
        match fs::remove_file(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            // so that a crash does not bring it back
            removed => removed
                .and_then(|()| operation::sync_folder(&self.folder(name.0)))
                .map_err(failed)?,
        }
        let taken = self.shelves.lock().take(name);
        self.cut_versions(name.0, name.1)?;
        Ok(taken)
    }

    fn ancestors(&self, space: Space, parent: Digest, most: usize) -> Result<Vec<CapsuleId>> {
        let shelved = self.shelves.lock();
        let (mut ids, mut wanted) = (Vec::new(), Some(parent));
        while let Some(lineage) = wanted
            && let Some(id) = shelved.lineages.get(&(space, lineage))
            && ids.len() < most
        {
            ids.push(*id);
            let entry = shelved.kept.get(&(space, *id));
            wanted = entry.and_then(|entry| entry.parent);
        }
        Ok(ids)
    }

    fn expired(&self, now: u64) -> Result<Vec<Name>> {
        let shelved = self.shelves.lock();
        let entries = shelved.kept.iter();
        let expired = entries.filter(|(_, entry)| now >= entry.expires);
        Ok(expired.map(|(name, _)| *name).collect())
    }

    fn each(&self, each: &mut dyn FnMut(Name) -> Result<()>) -> Result<()> {
        let names: Vec<Name> = self.shelves.lock().kept.keys().copied().collect();
        names.into_iter().try_for_each(each)
    }

    fn counts(&self) -> Result<(u64, u64)> {
        let shelved = self.shelves.lock();
        let capsules = u64::try_from(shelved.kept.len()).unwrap_or(u64::MAX);
        Ok((capsules, shelved.bytes))
    }

    fn set_sha256(&self, name: Name, tag: Tag, digest: [u8; 32]) -> Result<()> {
        if let Some(entry) = self.shelves.lock().kept.get_mut(&name)
            && entry.tag == tag
        {
            entry.sha256 = Some(digest);
        }
        Ok(())
    }

    fn sweep(&self) -> Result<usize> {
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
}

/// A disk that is full is no fault of the capsule's.
fn is_full(error: &Error) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    error.io_side() == Some(IoSide::Sink)
        && matches!(
            error.io_kind(),
            Some(StorageFull | QuotaExceeded | FileTooLarge)
        )
}

impl Arriving for File {
    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        let written = self.output.write_all_at(self.at, bytes);
        written.map_err(|error| Error::sink(&error, "capsule"))?;
        self.at += u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        Ok(())
    }

    fn keep(self: Box<Self>, entry: Entry) -> Result<()> {
        self.output.commit()?;
        self.claim.keep(entry);
        Ok(())
    }
}

impl Shelves {
    fn lock(&self) -> MutexGuard<'_, Shelved> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Claims a name, and says whether it takes the place of a capsule that is kept. The first `None` is the same file,
    /// kept already, the second a tenant without room.
    fn claim(
        self: &Arc<Self>,
        name: Name,
        coming: Coming<'_>,
        quota: u64,
    ) -> Result<Option<(Option<Claim>, bool)>> {
        let tenant = coming.tenant.map(ToOwned::to_owned);
        let mut shelved = self.lock();
        let kept = shelved.kept.get(&name);
        if kept.is_some_and(|kept| kept.tag == coming.tag) {
            return Ok(None);
        }
        if kept.is_some_and(|kept| !coming.renews(kept)) {
            let what = "another capsule of this id is kept";
            return Err(Error::new(Code::LocalExists, what));
        }
        let replaces = kept.is_some();
        if shelved.coming.contains(&name) {
            let what = "the capsule is being uploaded";
            return Err(Error::new(Code::LocalBusy, what));
        }
        let used = shelved.used.get(&tenant).copied().unwrap_or(0);
        let sum = used.checked_add(coming.bytes);
        if sum.is_none_or(|sum| sum > quota) {
            return Ok(Some((None, replaces)));
        }
        shelved.count(&tenant, coming.bytes);
        shelved.coming.insert(name);
        drop(shelved);
        let claim = Claim {
            shelves: Arc::clone(self),
            name,
            tenant,
            bytes: coming.bytes,
        };
        Ok(Some((Some(claim), replaces)))
    }
}

impl Shelved {
    fn put(&mut self, name: Name, entry: Entry) {
        self.bytes = self.bytes.saturating_add(entry.bytes);
        self.lineages.insert((name.0, entry.lineage), name.1);
        // what is replaced is no longer counted
        if let Some(old) = self.kept.insert(name, entry) {
            self.bytes = self.bytes.saturating_sub(old.bytes);
            self.give_back(&old.tenant, old.bytes);
        }
    }

    fn take(&mut self, name: Name) -> bool {
        let Some(entry) = self.kept.remove(&name) else {
            return false;
        };
        self.lineages.remove(&(name.0, entry.lineage));
        self.bytes = self.bytes.saturating_sub(entry.bytes);
        self.give_back(&entry.tenant, entry.bytes);
        true
    }

    fn count(&mut self, tenant: &Option<String>, bytes: u64) {
        let used = self.used.entry(tenant.clone()).or_default();
        *used = used.saturating_add(bytes);
    }

    fn give_back(&mut self, tenant: &Option<String>, bytes: u64) {
        if let Some(used) = self.used.get_mut(tenant) {
            *used = used.saturating_sub(bytes);
            if *used == 0 {
                self.used.remove(tenant);
            }
        }
    }
}

impl Claim {
    /// The capsule is durable, and kept from now on.
    fn keep(mut self, entry: Entry) {
        let mut shelved = self.shelves.lock();
        shelved.coming.remove(&self.name);
        shelved.put(self.name, entry);
        drop(shelved);
        // its bytes stay counted
        self.bytes = 0;
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut shelved = self.shelves.lock();
        if self.bytes > 0 {
            shelved.coming.remove(&self.name);
            shelved.give_back(&self.tenant, self.bytes);
        }
    }
}
