//! States in clear, for the moment in which they move.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use kvcap::{Code, Error, Result};

/// A folder of its own for an engine's states: mode 0700, under a name that nobody guesses, and gone with the last
/// state in it and the engine.
#[derive(Clone, Debug)]
pub struct StateFolder(Arc<Folder>);

#[derive(Debug)]
struct Folder {
    path: PathBuf,
    /// Made here, so removed here.
    ours: bool,
}

impl Drop for Folder {
    fn drop(&mut self) {
        if self.ours {
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

impl StateFolder {
    /// Makes a folder in `parent`.
    ///
    /// # Errors
    /// KVC-940 where it cannot be made.
    pub fn new(parent: &Path) -> Result<Self> {
        let path = parent.join(format!("kvcap-engine-{}", random_name()?));
        let made = DirBuilder::new().mode(0o700).create(&path);
        made.map_err(|error| Error::sink(&error, path.display()))?;
        Ok(Self(Arc::new(Folder { path, ours: true })))
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
        Ok(Self(Arc::new(Folder { path, ours: false })))
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
        let path = self.path().join(random_name()?);
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

/// 128 random bits, in hexadecimal.
fn random_name() -> Result<String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)
        .map_err(|_| Error::new(Code::LocalIo, "the system gives no random bytes"))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
