//! Outputs that appear whole or not at all.
//!
//! A file is written under a temporary name in its own folder, synced, renamed into place, and the
//! folder synced. Whatever goes wrong before the rename (an error, a panic, SIGINT, SIGTERM) removes
//! it; what `kill -9` leaves, `.NAME.XXXXXXXX.kvcap.tmp`, the next output in the folder sweeps. Without `--force` the rename is one that
//! does not replace (renameat2 where the system has it, else a hard link), so that two writers
//! cannot both win. Stdout gets its bytes from an unnamed temporary file, after success.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use kvcap::{Code, Error, Result, WriteAt};
use tempfile::NamedTempFile;
use zeroize::Zeroizing;

use self::writeback::Writeback;
use crate::{
    key_file,
    operation::{self, Operation},
    private,
    signals::doomed,
    spool,
};
pub use crate::{
    operation::sync_folder,
    signals::{at_first_signal, at_hangup, before_signal_ends, leave_signals, watch_signals},
    spool::at,
};

mod unfinished;
mod writeback;

pub(crate) use unfinished::abandoned_in;

/// Users who may read an output.
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

impl Output {
    /// Begins the output `path`; `-` is stdout.
    ///
    /// # Errors
    /// As [`check_absent`]; 940.
    pub fn create(path: &Path, force: bool, readers: Readers) -> Result<Self> {
        Self::begin(path, force, readers, Writeback::new)
    }

    /// Begins an output as [`Self::create`] does, without a thread of its own that syncs long ones early: for who
    /// writes many at once.
    ///
    /// # Errors
    /// As [`Self::create`].
    pub fn one_of_many(path: &Path, force: bool, readers: Readers) -> Result<Self> {
        Self::begin(path, force, readers, |_| Writeback::default())
    }

    fn begin(
        path: &Path,
        force: bool,
        readers: Readers,
        writeback: fn(&File) -> Writeback,
    ) -> Result<Self> {
        watch_signals();
        if is_stdout(path) {
            return Ok(Self(Destination::Stdout(spool::spool()?)));
        }
        let failed = |error: io::Error| Error::sink(&error, path.display());
        check_absent(path, force)?;
        let (folder, name) = split(path)?;
        // held, so that no signal falls between the file's creation and its entry
        let mut doomed = doomed();
        operation::before(Operation::Create(folder)).map_err(failed)?;
        let temporary = unfinished::begin(folder, name, readers).map_err(failed)?;
        doomed.push(temporary.path().to_owned());
        Ok(Self(Destination::File {
            writeback: writeback(temporary.as_file()),
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

    /// Sets aside room for `len` bytes, which the output will have at least, so that what is to be done once only is not begun in vain. A system that
    /// cannot set anything aside, and one that is not Linux, says nothing before the bytes come.
    ///
    /// # Errors
    /// KVC-940 where there is not so much room.
    pub fn require(&self, len: u64) -> Result<()> {
        match self.set_aside(len, true) {
            Err(error)
                if [
                    io::ErrorKind::StorageFull,
                    io::ErrorKind::QuotaExceeded,
                    io::ErrorKind::FileTooLarge,
                ]
                .contains(&error.kind()) =>
            {
                Err(self.at(Error::sink(&error, "output")))
            }
            _ => Ok(()),
        }
    }

    #[cfg_attr(
        not(target_os = "linux"),
        expect(clippy::unused_self, clippy::unnecessary_wraps)
    )]
    fn set_aside(&self, len: u64, sized: bool) -> io::Result<()> {
        #[cfg(target_os = "linux")]
        if len > 0 {
            use rustix::fs::{FallocateFlags, fallocate};
            // the limit of a file's length is asked for its size alone
            let how = match sized {
                true => FallocateFlags::empty(),
                false => FallocateFlags::KEEP_SIZE,
            };
            fallocate(self.file(), how, 0, len)?;
        }
        #[cfg(not(target_os = "linux"))]
        let _not_here = (len, sized);
        Ok(())
    }

    /// Says of a failure to write that it is this output's. Of other errors nothing is known here.
    #[must_use]
    pub fn at(&self, error: Error) -> Error {
        match &self.0 {
            Destination::Stdout(_) => at(error, &std::env::temp_dir()),
            Destination::File { path, .. } => at(error, path),
        }
    }

    /// Makes the output appear in its folder under another name than it was begun for: one that its content decides.
    ///
    /// # Errors
    /// As [`Self::commit`].
    pub fn commit_as(mut self, name: &str) -> Result<()> {
        if let Destination::File { path, .. } = &mut self.0 {
            path.set_file_name(name);
        }
        self.commit()
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
                let name = temporary.path().to_owned();
                operation::before(Operation::Cut(&name)).map_err(failed)?;
                // gives back what was set aside and not needed
                let len = temporary.as_file().metadata().map_err(failed)?.len();
                temporary.as_file().set_len(len).map_err(failed)?;
                operation::before(Operation::Sync(&name)).map_err(failed)?;
                temporary.as_file().sync_all().map_err(failed)?;
                let mut doomed = doomed();
                operation::before(Operation::Rename(&name, &path)).map_err(failed)?;
                let moved = match force {
                    true => temporary.persist(&path),
                    false => temporary.persist_noclobber(&path),
                };
                doomed.retain(|path| *path != name);
                drop(doomed);
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
        if let Destination::File { temporary, .. } = &self.0 {
            operation::before(Operation::Write(temporary.path()))?;
        }
        self.file().write_all_at(offset, buf)?;
        if let Destination::File { writeback, .. } = &self.0 {
            writeback.wrote(buf.len());
        }
        Ok(())
    }

    fn reserve(&self, len: u64) {
        // a file system that cannot, or has not so much, says so when the bytes come
        let _in_vain = self.set_aside(len, false);
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
        .write_all_at(0, content)
        .map_err(|error| Error::sink(&error, path.display()))?;
    output.commit()
}

/// Refuses an output that is there already, and with `force` a folder, a device and the file of a secret key;
/// also before long work. A link is replaced itself, never what it leads to.
///
/// # Errors
/// KVC-941; 944 for what is no file.
pub fn check_absent(path: &Path, force: bool) -> Result<()> {
    match fs::symlink_metadata(path) {
        _ if is_stdout(path) => Ok(()),
        Ok(meta) if meta.is_dir() => {
            let what = "the output is a folder: name a file in it";
            Err(Error::new(Code::LocalUsage, what).at(path.display()))
        }
        // a device is never replaced by a file
        Ok(meta) if !meta.is_file() && !meta.is_symlink() => {
            let what = "the output is a device, a pipe or a socket: name a file, or - for stdout";
            Err(Error::new(Code::LocalUsage, what).at(path.display()))
        }
        Ok(_) if !force => Err(exists(path)),
        Ok(meta) if meta.is_file() && meta.len() <= key_file::LONGEST => check_no_secret(path),
        _ => Ok(()),
    }
}

/// Refuses to replace a secret key: what needs it would be lost.
fn check_no_secret(path: &Path) -> Result<()> {
    let mut content = Zeroizing::new(Vec::with_capacity(8192));
    private::open(path, OpenOptions::new().read(true))
        .and_then(|file| file.take(key_file::LONGEST).read_to_end(&mut content))
        .map_err(|error| Error::sink(&error, path.display()))?;
    let mark = key_file::SECRET.as_bytes();
    match content.windows(mark.len()).any(|window| window == mark) {
        false => Ok(()),
        true => {
            let what = "the output is a secret key's file, which is not replaced: remove it first";
            Err(Error::new(Code::LocalExists, what).at(path.display()))
        }
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
