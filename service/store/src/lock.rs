//! One writer at a time: a lock file beside what is written.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use kvcap::{Code, Error, Result};

use crate::private;

/// Patience with a file that another process holds, and who is told.
#[derive(Clone, Copy, Debug)]
pub struct Wait {
    /// Longest wait.
    pub at_most: Duration,
    /// Called once, with the file, when it takes longer than a second.
    pub told: fn(&Path),
}

impl Default for Wait {
    /// A minute, in silence.
    fn default() -> Self {
        Self {
            at_most: Duration::from_secs(60),
            told: |_| {},
        }
    }
}

/// A wait that is worth a word.
const LONG: Duration = Duration::from_secs(1);

/// From one look to the next.
const PAUSE: Duration = Duration::from_millis(20);

/// A held lock; dropping it lets go, and so does the system when its holder ends, however it ends.
///
/// The lock file stays: removing it would let two writers hold locks on two files of one name.
#[derive(Debug)]
pub struct Lock {
    file: File,
    path: PathBuf,
}

impl Lock {
    /// Waits until nobody else holds the lock file `path`, which is made where there is none, and which nobody else
    /// may open.
    ///
    /// # Errors
    /// KVC-947 where it takes too long; 943 where others may open the lock; 940.
    pub fn hold(path: &Path, wait: Wait) -> Result<Self> {
        Self::wait_for(path, path, wait)
    }

    /// Waits until nobody else writes `path`, and holds `path.lock`.
    ///
    /// # Errors
    /// As [`Self::hold`].
    pub(crate) fn of(path: &Path, wait: Wait) -> Result<Self> {
        let mut name = path.as_os_str().to_owned();
        name.push(".lock");
        Self::wait_for(Path::new(&name), path, wait)
    }

    /// Refuses to go on where the lock file has another name now, or none: somebody else may hold the one that has its
    /// name.
    ///
    /// # Errors
    /// KVC-947.
    pub fn check(&self) -> Result<()> {
        if is_same(&self.file, &self.path).unwrap_or(false) {
            return Ok(());
        }
        let what = "the lock was removed or replaced while it was held";
        Err(Error::new(Code::LocalBusy, what).at(self.path.display()))
    }

    fn wait_for(name: &Path, held: &Path, wait: Wait) -> Result<Self> {
        let failed = |error| Error::sink(&error, name.display());
        let (since, mut told) = (Instant::now(), false);
        loop {
            let mut options = OpenOptions::new();
            options.create(true).truncate(false).write(true);
            let file = private::open(name, &mut options).map_err(failed)?;
            private::check(&file, name)?;
            match file.try_lock() {
                // a lock that was removed before it was held holds nobody off
                Ok(()) if is_same(&file, name).map_err(failed)? => {
                    let path = name.to_owned();
                    return Ok(Self { file, path });
                }
                Err(TryLockError::Error(error)) => return Err(failed(error)),
                Ok(()) | Err(TryLockError::WouldBlock) => {}
            }
            let waited = since.elapsed();
            if waited >= LONG.min(wait.at_most) && !told {
                (wait.told)(held);
                told = true;
            }
            if waited >= wait.at_most {
                let what = "another process is writing, and did not finish in time";
                return Err(Error::new(Code::LocalBusy, what).at(held.display()));
            }
            std::thread::sleep(PAUSE.min(wait.at_most - waited));
        }
    }
}

/// Whether a path still leads to an open file.
fn is_same(file: &File, path: &Path) -> io::Result<bool> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let open = file.metadata()?;
        match path.symlink_metadata() {
            Ok(named) => Ok((named.dev(), named.ino()) == (open.dev(), open.ino())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }
    #[cfg(not(unix))]
    {
        let _cannot_tell = file;
        path.try_exists()
    }
}
