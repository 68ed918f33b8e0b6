//! The digests of weights files by path, size and time, so that gigabytes are hashed once.
//!
//! Whoever can write the cache folder can forge model ids: it is made for its owner alone (0700),
//! and an entry holds for the file only while path, length, inode, and the times of its last modification and
//! of its last change are the same. The last is the system's: no program sets it back, as it can the other.
//! Whoever does not trust that switches the cache off, with `KVCAP_NO_CACHE=1` or [`HashCache::off`].

use std::{
    env, fs,
    io::{self, Write},
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use kvcap::binding::Digest;

/// A file changed this recently may change again without a new time; its digest is not kept.
const SETTLED: Duration = Duration::from_secs(2);

/// Folder that keeps digests of weights files between runs.
#[derive(Clone, Debug, Default)]
pub struct HashCache(Option<PathBuf>);

/// What tells a file from its later self.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) length: u64,
    modified: Duration,
    changed: Duration,
    inode: u64,
}

impl HashCache {
    /// No cache: every file is hashed.
    #[must_use]
    pub fn off() -> Self {
        Self(None)
    }

    /// A cache in this folder, which is created when there is something to keep.
    #[must_use]
    pub fn at(folder: impl Into<PathBuf>) -> Self {
        Self(Some(folder.into()))
    }

    /// The user's cache, `$XDG_CACHE_HOME/kvcap/model-ids` or `~/.cache/kvcap/model-ids`; off
    /// where neither variable holds an absolute path, and where `KVCAP_NO_CACHE` holds anything.
    #[must_use]
    pub fn user() -> Self {
        if env::var_os("KVCAP_NO_CACHE").is_some_and(|value| !value.is_empty()) {
            return Self::off();
        }
        let absolute = |name| {
            env::var_os(name)
                .map(PathBuf::from)
                .filter(|path| path.is_absolute())
        };
        let base = absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache")));
        Self(base.map(|base| base.join("kvcap").join("model-ids")))
    }

    /// The digest kept for this very file. Anything wrong with the entry is no entry.
    pub(crate) fn load(&self, path: &Path, stamp: &Stamp) -> Option<Digest> {
        let (entry, facts) = self.entry(path, stamp)?;
        let content = fs::read_to_string(entry).ok()?;
        let (digest, rest) = content.split_once('\n')?;
        (rest == facts).then(|| Digest::from_hex(digest)).flatten()
    }

    /// Keeps a digest. A cache that cannot be written is no reason to fail.
    pub(crate) fn store(&self, path: &Path, stamp: &Stamp, digest: Digest) {
        if let Some((entry, facts)) = self.entry(path, stamp)
            && stamp.settled()
        {
            let _unwritable = write(&entry, &format!("{digest}\n{facts}"));
        }
    }

    /// The entry's file, and the facts that must stand in it after the digest.
    fn entry(&self, path: &Path, stamp: &Stamp) -> Option<(PathBuf, String)> {
        let folder = self.0.as_ref()?;
        let path = fs::canonicalize(path).ok()?;
        let facts = format!(
            "length {}\nmodified {}\nchanged {}\ninode {}\npath {:?}\n",
            stamp.length,
            stamp.modified.as_nanos(),
            stamp.changed.as_nanos(),
            stamp.inode,
            path.as_os_str(),
        );
        let key = Digest::labelled("kvcap v2 hash cache", &[facts.as_bytes()]);
        Some((folder.join(key.to_string()), facts))
    }
}

impl Stamp {
    pub(crate) fn of(path: &Path) -> io::Result<Self> {
        let metadata = fs::metadata(path)?;
        if !metadata.is_file() {
            return Err(io::Error::other("this is not a regular file"));
        }
        #[cfg(unix)]
        let (changed, inode) = {
            use std::os::unix::fs::MetadataExt;
            let seconds = u64::try_from(metadata.ctime()).unwrap_or(0);
            let nanos = u32::try_from(metadata.ctime_nsec()).unwrap_or(0);
            (Duration::new(seconds, nanos), metadata.ino())
        };
        #[cfg(not(unix))]
        let (changed, inode) = (Duration::ZERO, 0);
        let modified = metadata.modified().unwrap_or(UNIX_EPOCH);
        Ok(Self {
            length: metadata.len(),
            modified: modified.duration_since(UNIX_EPOCH).unwrap_or_default(),
            changed,
            inode,
        })
    }

    fn settled(&self) -> bool {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .is_ok_and(|now| now.saturating_sub(self.modified.max(self.changed)) > SETTLED)
    }
}

/// Writes a file beside its place and moves it there, so that no half of it is ever read.
fn write(path: &Path, content: &str) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)?;
    let temporary = path.with_extension(std::process::id().to_string());
    let written = fs::File::create(&temporary)
        .and_then(|mut file| file.write_all(content.as_bytes()))
        .and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        let _nothing_there = fs::remove_file(&temporary);
    }
    written
}
