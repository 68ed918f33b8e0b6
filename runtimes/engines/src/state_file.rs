//! States in clear, for the moment in which they move.

use std::{
    env,
    fs::{self, DirBuilder, File, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use kvcap::{Code, Error, Result, SourceFile};

/// A folder in memory, where there is one: states in clear should not reach a disk.
pub(crate) fn in_memory() -> PathBuf {
    let candidates = [
        Some(PathBuf::from("/dev/shm")),
        env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from),
    ];
    let mut there = candidates
        .into_iter()
        .flatten()
        .filter(|path| path.is_dir());
    there.next().unwrap_or_else(env::temp_dir)
}

pub(crate) fn is_in_memory(path: &Path) -> bool {
    path.starts_with("/dev/shm") || path.starts_with("/run")
}

/// A folder of its own for an engine's states: mode 0700, under a name that nobody guesses, and gone with the last
/// state in it and the engine.
#[derive(Clone, Debug)]
pub struct StateFolder(Arc<Folder>);

#[derive(Debug)]
struct Folder {
    path: PathBuf,
    /// Held while the folder is in use, where it was made here: it is removed here too.
    lock: Option<File>,
}

impl Drop for Folder {
    fn drop(&mut self) {
        if self.lock.is_some() {
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

impl StateFolder {
    /// Makes a folder in `parent`, and removes those that dead processes of this user left there.
    ///
    /// # Errors
    /// KVC-940 where it cannot be made.
    pub fn new(parent: &Path) -> Result<Self> {
        let path = parent.join(format!("{NAME}{}", random_name()?));
        let made = DirBuilder::new().mode(0o700).create(&path);
        let lock = made.and_then(|()| locked(&path));
        let lock = lock.map_err(|error| Error::sink(&error, path.display()))?;
        sweep(parent, &path);
        let lock = Some(lock);
        Ok(Self(Arc::new(Folder { path, lock })))
    }

    /// Uses a folder that is there, and stays.
    ///
    /// # Errors
    /// KVC-940 where it is no folder.
    pub fn existing(path: &Path) -> Result<Self> {
        let path = fs::canonicalize(path).map_err(|error| Error::io(&error, path.display()))?;
        let about = fs::metadata(&path).map_err(|error| Error::io(&error, path.display()))?;
        if !about.is_dir() {
            return Err(Error::new(Code::LocalIo, "it is no folder").at(path.display()));
        }
        Ok(Self(Arc::new(Folder { path, lock: None })))
    }

    /// Returns its path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// Returns whether its user alone may enter it.
    ///
    /// # Errors
    /// KVC-940 where nobody can tell.
    pub fn is_private(&self) -> Result<bool> {
        let about = fs::metadata(self.path());
        let about = about.map_err(|error| Error::io(&error, self.path().display()))?;
        Ok(about.mode().trailing_zeros() >= 6)
    }

    /// Makes an empty file in it, mode 0600, under a name that nobody guesses.
    ///
    /// # Errors
    /// KVC-940 where it cannot be made.
    pub fn create(&self) -> Result<StateFile> {
        self.create_ending("")
    }

    /// Makes one whose name ends so, for a runtime that goes by that.
    pub(crate) fn create_ending(&self, ending: &str) -> Result<StateFile> {
        let path = self.path().join(random_name()? + ending);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true).mode(0o600);
        let file = options.open(&path);
        let file = file.map_err(|error| Error::sink(&error, path.display()))?;
        Ok(StateFile {
            path,
            file,
            tokens: None,
            _folder: self.clone(),
        })
    }
}

/// A state in clear. Its file is unlinked when this is dropped.
#[derive(Debug)]
pub struct StateFile {
    path: PathBuf,
    file: File,
    tokens: Option<Vec<u32>>,
    _folder: StateFolder,
}

impl StateFile {
    /// Returns the file, which may be read and written.
    #[must_use]
    pub const fn file(&self) -> &File {
        &self.file
    }

    /// Returns it as a source, as long as it is now.
    ///
    /// # Errors
    /// KVC-940 where it cannot be examined.
    pub fn source(&self) -> Result<SourceFile> {
        let again = self.file.try_clone().and_then(SourceFile::new);
        again.map_err(|error| Error::source(&error, self.path.display()))
    }

    /// Returns the ids that an exported state is of, where its file does not carry them itself.
    #[must_use]
    pub fn tokens(&self) -> Option<&[u32]> {
        self.tokens.as_deref()
    }

    /// Says which ids it is of.
    #[must_use]
    pub fn with_tokens(mut self, tokens: Vec<u32>) -> Self {
        self.tokens = Some(tokens);
        self
    }

    /// Returns its path, for a runtime that is told paths.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns its name in the folder.
    #[must_use]
    pub fn name(&self) -> &str {
        let name = self.path.file_name().and_then(|name| name.to_str());
        name.unwrap_or_default()
    }
}

impl Drop for StateFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// Beginning of the folders' names.
const NAME: &str = "kvcap-engine-";

const LOCK: &str = "lock";

fn locked(folder: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    let file = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(folder.join(LOCK))?;
    file.try_lock()?;
    Ok(file)
}

/// Removes the folders beside `own` whose lock nobody holds: states in clear do not outlive who needed them.
fn sweep(parent: &Path, own: &Path) {
    let (Ok(entries), Ok(mine)) = (fs::read_dir(parent), fs::symlink_metadata(own)) else {
        return;
    };
    for entry in entries.flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        let name = name.to_str().and_then(|name| name.strip_prefix(NAME));
        let named = name.is_some_and(|name| {
            name.len() == 32 && name.bytes().all(|byte| byte.is_ascii_hexdigit())
        });
        let ours = entry
            .metadata()
            .is_ok_and(|about| about.is_dir() && about.uid() == mine.uid());
        let dead = || File::open(path.join(LOCK)).is_ok_and(|lock| lock.try_lock().is_ok());
        if named && ours && path != own && dead() {
            let _ = fs::remove_dir_all(&path);
        }
    }
}

/// 128 random bits, in hexadecimal.
pub(crate) fn random_name() -> Result<String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)
        .map_err(|_| Error::new(Code::LocalIo, "the system gives no random bytes"))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
