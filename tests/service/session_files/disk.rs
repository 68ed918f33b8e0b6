//! A disk that loses what was not made durable: from the operations that a process announces, each folder that a crash
//! could leave behind.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use kvcap_store::operation::Operation;

/// What a crash keeps of what was not made durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Crash {
    /// Everything: the process was killed.
    Killed,
    /// Nothing.
    Lost,
    /// Names alone.
    Names,
    /// Bytes alone.
    Bytes,
    /// Names, and the first half of the bytes.
    Torn,
    /// Names and lengths, and zeros for the bytes but the last.
    Holes,
    /// Bytes, and of the names the one that came last.
    Latest,
}

impl Crash {
    pub(crate) const ALL: [Self; 7] = [
        Self::Killed,
        Self::Lost,
        Self::Names,
        Self::Bytes,
        Self::Torn,
        Self::Holes,
        Self::Latest,
    ];
}

type Inode = u64;

/// A name's file, or a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Entry {
    Folder,
    File(Inode),
}

#[derive(Debug)]
enum Syncing {
    Nothing,
    File(Inode, Vec<u8>),
    Folder(PathBuf),
}

/// What of a folder is durable, and what will be.
#[derive(Debug)]
pub(crate) struct Disk {
    root: PathBuf,
    names: BTreeMap<PathBuf, Entry>,
    bytes: BTreeMap<Inode, Vec<u8>>,
    syncing: Syncing,
    /// Names in the order in which they came.
    came: Vec<PathBuf>,
}

type Tree = (BTreeMap<PathBuf, Entry>, BTreeMap<Inode, Vec<u8>>);

impl Disk {
    /// Begins with an empty folder, which is durable.
    pub(crate) fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            names: BTreeMap::new(),
            bytes: BTreeMap::new(),
            syncing: Syncing::Nothing,
            came: Vec::new(),
        }
    }

    /// Hears of an operation that is about to happen, after the one before has.
    pub(crate) fn hear(&mut self, operation: Operation<'_>) -> io::Result<()> {
        self.settle()?;
        match operation {
            Operation::Sync(path) => {
                self.syncing = Syncing::File(fs::metadata(path)?.ino(), fs::read(path)?);
            }
            Operation::SyncFolder(folder) => self.syncing = Syncing::Folder(folder.to_owned()),
            _ => {}
        }
        Ok(())
    }

    /// Takes what the last operation has made durable.
    pub(crate) fn settle(&mut self) -> io::Result<()> {
        match std::mem::replace(&mut self.syncing, Syncing::Nothing) {
            Syncing::Nothing => {}
            Syncing::File(inode, bytes) => {
                self.bytes.insert(inode, bytes);
            }
            Syncing::Folder(folder) => {
                let (now, _) = self.tree()?;
                let inside = |path: &PathBuf| path.parent() == Some(&folder);
                self.names.retain(|path, _| !inside(path));
                self.names
                    .extend(now.into_iter().filter(|(path, _)| inside(path)));
            }
        }
        let (now, _) = self.tree()?;
        self.came.retain(|path| now.contains_key(path));
        let came = |path: &&PathBuf| !self.came.contains(path);
        let new: Vec<PathBuf> = now.keys().filter(came).cloned().collect();
        self.came.extend(new);
        let used: Vec<Entry> = self.names.values().chain(now.values()).copied().collect();
        // numbers of files are used again
        self.bytes
            .retain(|inode, _| used.contains(&Entry::File(*inode)));
        Ok(())
    }

    /// Everything that is there now.
    fn tree(&self) -> io::Result<Tree> {
        let (mut names, mut bytes) = Tree::default();
        let mut left = vec![self.root.clone()];
        while let Some(folder) = left.pop() {
            for entry in fs::read_dir(&folder)? {
                let path = entry?.path();
                let meta = fs::symlink_metadata(&path)?;
                if meta.is_dir() {
                    left.push(path.clone());
                    names.insert(path, Entry::Folder);
                } else {
                    bytes.insert(meta.ino(), fs::read(&path)?);
                    names.insert(path, Entry::File(meta.ino()));
                }
            }
        }
        Ok((names, bytes))
    }

    /// Returns what a crash would leave now: below the root, files with their bytes, and folders.
    pub(crate) fn crash(&self, crash: Crash) -> io::Result<Remains> {
        let (now_names, now_bytes) = self.tree()?;
        let names = match crash {
            Crash::Lost | Crash::Bytes => self.names.clone(),
            Crash::Latest => {
                let mut names = self.names.clone();
                let lost = |path: &&PathBuf| !self.names.contains_key(*path);
                if let Some(latest) = self.came.iter().rev().find(lost) {
                    names.extend(
                        now_names
                            .get_key_value(latest)
                            .map(|(path, entry)| (path.clone(), *entry)),
                    );
                }
                names
            }
            _ => now_names,
        };
        let mut remains = Remains::default();
        for (path, entry) in &names {
            let Ok(below) = path.strip_prefix(&self.root) else {
                continue;
            };
            // its own name is lost with that of a folder above it
            let above = below.parent().unwrap_or(Path::new(""));
            if above != Path::new("") && !remains.contains_key(above) {
                continue;
            }
            let bytes = match entry {
                Entry::Folder => None,
                Entry::File(inode) => {
                    let durable = self.bytes.get(inode).cloned().unwrap_or_default();
                    let now = now_bytes.get(inode).unwrap_or(&durable);
                    Some(left(crash, &durable, now))
                }
            };
            remains.insert(below.to_owned(), bytes);
        }
        Ok(remains)
    }
}

/// What a crash leaves: paths with the bytes of files; those above come first.
pub(crate) type Remains = BTreeMap<PathBuf, Option<Vec<u8>>>;

/// Makes the folder `to` of it.
pub(crate) fn make(remains: &Remains, to: &Path) -> io::Result<()> {
    let folder = |path: &Path| fs::DirBuilder::new().mode(0o700).create(path);
    folder(to)?;
    for (path, bytes) in remains {
        let path = to.join(path);
        let Some(bytes) = bytes else {
            folder(&path)?;
            continue;
        };
        let mut options = fs::File::options();
        let mut file = options
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)?;
        file.write_all(bytes)?;
    }
    Ok(())
}

/// What a crash leaves of a file's bytes.
fn left(crash: Crash, durable: &[u8], now: &[u8]) -> Vec<u8> {
    // what was only appended to keeps its beginning
    let kept = match now.starts_with(durable) {
        true => durable.len(),
        false => 0,
    };
    match crash {
        Crash::Killed | Crash::Bytes | Crash::Latest => now.to_vec(),
        Crash::Lost | Crash::Names => durable.to_vec(),
        Crash::Torn => now[..kept + (now.len() - kept) / 2].to_vec(),
        Crash::Holes => {
            let mut bytes = now.to_vec();
            let end = now.len().saturating_sub(1).max(kept);
            bytes[kept..end].fill(0);
            bytes
        }
    }
}
