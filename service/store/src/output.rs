//! Outputs that appear whole or not at all.
//!
//! A file is written under a temporary name in its own folder, synced, renamed into place, and the
//! folder synced. Whatever goes wrong before the rename (an error, a panic, SIGINT, SIGTERM) removes
//! it; `kill -9` leaves at most `.NAME.XXXXXXXX.kvcap.tmp`. Without `--force` the rename is one that
//! does not replace (renameat2 where the system has it, else a hard link), so that two writers
//! cannot both win. Stdout gets its bytes from an unnamed temporary file, after success.

use std::{
    fs::{self, File},
    io::{self, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use kvcap::{Code, Error, Result, WriteAt};
use tempfile::{Builder, NamedTempFile};

use self::writeback::Writeback;

mod writeback;

/// Who may read an output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readers {
    /// Its owner: keys and opened states.
    Owner,
    /// Whom the process's umask lets: capsules and public keys.
    Umask,
}

/// Output in the making; dropped before [`Self::commit`] it leaves nothing.
#[derive(Debug)]
pub struct Output(Destination);

#[derive(Debug)]
enum Destination {
    Stdout(File),
    File {
        temporary: NamedTempFile,
        path: PathBuf,
        force: bool,
        writeback: Writeback,
    },
}

/// Temporary files to remove when a signal ends the process.
static UNFINISHED: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

impl Output {
    /// Begins the output `path`; `-` is stdout.
    ///
    /// # Errors
    /// KVC-941 where `path` exists and `force` is false, or is not a regular file; 940.
    pub fn create(path: &Path, force: bool, readers: Readers) -> Result<Self> {
        if is_stdout(path) {
            let spool =
                tempfile::tempfile().map_err(|error| Error::sink(&error, "temporary file"))?;
            return Ok(Self(Destination::Stdout(spool)));
        }
        let failed = |error: io::Error| Error::sink(&error, path.display());
        check_absent(path, force)?;
        let (folder, name) = split(path)?;
        let mut prefix = std::ffi::OsString::from(".");
        prefix.push(name);
        prefix.push(".");
        let mut builder = Builder::new();
        builder.prefix(&prefix).suffix(".kvcap.tmp").rand_bytes(8);
        #[cfg(unix)]
        if readers == Readers::Umask {
            use std::os::unix::fs::PermissionsExt;
            builder.permissions(fs::Permissions::from_mode(0o666));
        }
        #[cfg(not(unix))]
        let _all_alike = readers;
        watch_signals();
        // held, so that no signal falls between the file's creation and its entry
        let mut unfinished = unfinished();
        let temporary = builder.tempfile_in(folder).map_err(failed)?;
        unfinished.push(temporary.path().to_owned());
        Ok(Self(Destination::File {
            writeback: Writeback::new(temporary.as_file()),
            temporary,
            path: path.to_owned(),
            force,
        }))
    }

    /// Returns the file to write to, from its start.
    #[must_use]
    pub fn file(&self) -> &File {
        match &self.0 {
            Destination::Stdout(spool) => spool,
            Destination::File { temporary, .. } => temporary.as_file(),
        }
    }

    /// Makes the output appear.
    ///
    /// # Errors
    /// KVC-941 where the path has come to exist in the meantime; 940.
    pub fn commit(self) -> Result<()> {
        match self.0 {
            Destination::Stdout(mut spool) => {
                let mut out = io::stdout().lock();
                spool
                    .seek(SeekFrom::Start(0))
                    .and_then(|_| io::copy(&mut spool, &mut out))
                    .and_then(|_| out.flush())
                    .map_err(|error| Error::sink(&error, "stdout"))
            }
            Destination::File {
                temporary,
                path,
                force,
                writeback,
            } => {
                let failed = |error: io::Error| Error::sink(&error, path.display());
                writeback.finish().map_err(failed)?;
                temporary.as_file().sync_all().map_err(failed)?;
                let name = temporary.path().to_owned();
                let mut unfinished = unfinished();
                let moved = match force {
                    true => temporary.persist(&path),
                    false => temporary.persist_noclobber(&path),
                };
                unfinished.retain(|path| *path != name);
                drop(unfinished);
                moved.map_err(|refused| match refused.error.kind() {
                    io::ErrorKind::AlreadyExists => exists(&path),
                    _ => failed(refused.error),
                })?;
                let (folder, _) = split(&path)?;
                sync_folder(folder).map_err(failed)
            }
        }
    }
}

/// Long outputs go to the disk while they are still being written.
impl WriteAt for Output {
    fn write_all_at(&self, offset: u64, buf: &[u8]) -> io::Result<()> {
        self.file().write_all_at(offset, buf)?;
        if let Destination::File { writeback, .. } = &self.0 {
            writeback.wrote(buf.len());
        }
        Ok(())
    }

    fn reserve(&self, len: u64) {
        #[cfg(target_os = "linux")]
        if len > 0 {
            use rustix::fs::{FallocateFlags, fallocate};
            // a file system that cannot, or has not so much, says so when the bytes come
            let _reserved = fallocate(self.file(), FallocateFlags::KEEP_SIZE, 0, len);
        }
        #[cfg(not(target_os = "linux"))]
        let _not_here = len;
    }

    fn trim(&self, len: u64) -> io::Result<()> {
        self.file().trim(len)
    }
}

/// Writes a whole small output.
///
/// # Errors
/// As [`Output::create`] and [`Output::commit`].
pub fn write(path: &Path, force: bool, readers: Readers, content: &[u8]) -> Result<()> {
    let output = Output::create(path, force, readers)?;
    output
        .file()
        .write_all(content)
        .map_err(|error| Error::sink(&error, path.display()))?;
    output.commit()
}

/// Refuses an output that is there already; also before long work.
///
/// # Errors
/// KVC-941.
pub fn check_absent(path: &Path, force: bool) -> Result<()> {
    match fs::symlink_metadata(path) {
        _ if is_stdout(path) => Ok(()),
        Ok(_) if !force => Err(exists(path)),
        // a device or folder is never replaced by a file
        Ok(meta) if !meta.is_file() && !meta.is_symlink() => Err(Error::new(
            Code::LocalExists,
            "the output exists and is not a regular file",
        )
        .at(path.display())),
        _ => Ok(()),
    }
}

/// Returns whether `path` is stdout's name, `-`.
#[must_use]
pub fn is_stdout(path: &Path) -> bool {
    path.as_os_str() == "-"
}

fn exists(path: &Path) -> Error {
    Error::new(Code::LocalExists, "the output exists already").at(path.display())
}

fn split(path: &Path) -> Result<(&Path, &std::ffi::OsStr)> {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    match path.file_name() {
        Some(name) => Ok((folder.unwrap_or(Path::new(".")), name)),
        None => {
            let what = "the output's path names no file";
            Err(Error::new(Code::LocalUsage, what).at(path.display()))
        }
    }
}

/// Makes names in a folder durable.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    #[cfg(unix)]
    return File::open(folder)?.sync_all();
    #[cfg(not(unix))]
    {
        let _no_such_thing = folder;
        Ok(())
    }
}

fn unfinished() -> MutexGuard<'static, Vec<PathBuf>> {
    UNFINISHED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Removes unfinished files when the process is asked to end, and then lets it.
fn watch_signals() {
    #[cfg(unix)]
    {
        use std::sync::Once;

        use signal_hook::{
            consts::{SIGHUP, SIGINT, SIGTERM},
            iterator::Signals,
            low_level::emulate_default_handler,
        };
        static WATCHING: Once = Once::new();
        WATCHING.call_once(|| {
            // without the handler a signal leaves what kill -9 leaves
            if let Ok(mut signals) = Signals::new([SIGINT, SIGTERM, SIGHUP]) {
                std::thread::spawn(move || {
                    for signal in signals.forever() {
                        // held to the end: nothing new begins
                        let unfinished = unfinished();
                        for path in &*unfinished {
                            let _gone = fs::remove_file(path);
                        }
                        let _ended = emulate_default_handler(signal);
                    }
                });
            }
        });
    }
}
