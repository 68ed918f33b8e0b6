//! The device tier: `TENANT/SUBJECT/SESSION/{session.json, log.jsonl, VERSION-ID.kvcap, VERSION.json, lock}`.
//!
//! The files are the truth, and there is nothing beside them. A reader takes what has its name, which a file gets when
//! it is whole, and waits for nobody; a writer holds `lock`.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use kvcap::{CapsuleId, Code, Error, ReadAt, Result, SourceFile, WriteAt};
use kvcap_store::{
    Lock, Wait,
    operation::{self, Operation},
    output::{self, Output, Readers},
    private,
};

use super::{
    log::{self, Log, Part},
    name,
    tier::{Artefact, Put, Tier, Write, gap, is_same, stays, taken},
};
use crate::Names;

const SESSION: &str = "session.json";
pub(super) const LOG: &str = "log.jsonl";
const LOCK: &str = "lock";

/// Bytes copied at a time.
const STEP: u64 = 1 << 20;

/// Sessions in the files of a folder.
#[derive(Clone, Debug)]
pub struct DeviceTier {
    pub(super) root: PathBuf,
    wait: Wait,
}

impl DeviceTier {
    /// Returns the sessions below `root`, which is made with the first: `$XDG_STATE_HOME/kvcap/sessions`. A writer waits
    /// a second for another.
    #[must_use]
    pub fn at(root: PathBuf) -> Self {
        let at_most = Duration::from_secs(1);
        let told = |_: &Path| {};
        Self {
            root,
            wait: Wait { at_most, told },
        }
    }

    /// Returns the folder of a session.
    ///
    /// # Errors
    /// KVC-950 for names that are no claims; 944 for one that is too long for a file.
    pub fn folder(&self, session: &Names) -> Result<PathBuf> {
        let [tenant, subject, session] = name::folders(session)?;
        Ok(self.root.join(tenant).join(subject).join(session))
    }

    /// Returns the log of a session, with how much of it is torn.
    ///
    /// # Errors
    /// KVC-943 where others may read it; 910 over 1 GiB; 940.
    pub fn log(&self, session: &Names) -> Result<Log> {
        Log::read(&self.folder(session)?.join(LOG))
    }

    /// Returns the log of a session from the line after a number on, and its last line in any case: what it costs is
    /// what there is of that.
    ///
    /// # Errors
    /// As [`Self::log`].
    pub fn log_after(&self, session: &Names, seq: u64) -> Result<Log> {
        Log::read_part(&self.folder(session)?.join(LOG), Part::After(seq))
    }

    /// Returns so many of the last lines of the log of a session, or more.
    ///
    /// # Errors
    /// As [`Self::log`].
    pub fn log_end(&self, session: &Names, lines: usize) -> Result<Log> {
        Log::read_part(&self.folder(session)?.join(LOG), Part::Last(lines))
    }

    /// Returns the artefacts of a session that have files of their own, in order, with their lengths.
    ///
    /// # Errors
    /// KVC-940.
    pub fn files(&self, session: &Names) -> Result<Vec<(Artefact, u64)>> {
        let folder = self.folder(session)?;
        let with_length = |artefact: Artefact| {
            let meta = fs::symlink_metadata(folder.join(artefact.file_name()));
            // one that is gone since then is none
            Some((artefact, meta.ok()?.len()))
        };
        let found = self.parts(session)?.into_iter();
        Ok(found.filter_map(with_length).collect())
    }

    /// The artefacts of a session that have files of their own, in order.
    pub(crate) fn parts(&self, session: &Names) -> Result<Vec<Artefact>> {
        let folder = self.folder(session)?;
        let failed = |error| Error::source(&error, folder.display());
        let entries = match fs::read_dir(&folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(failed)?,
        };
        let mut found = Vec::new();
        for entry in entries {
            let name = entry.map_err(failed)?.file_name();
            found.extend(name.to_str().and_then(artefact_of));
        }
        found.sort_unstable();
        Ok(found)
    }

    /// Begins to write to a session, alone.
    ///
    /// # Errors
    /// KVC-947 where another writer does not finish within a second; 943, 945 where others can change the folder; 940.
    pub fn writer(&self, session: &Names) -> Result<DeviceWriter> {
        let folder = self.folder(session)?;
        private::folder(&folder)?;
        let lock = Lock::hold(&folder.join(LOCK), self.wait)?;
        Ok(DeviceWriter { folder, lock })
    }
}

impl Tier for DeviceTier {
    fn sessions(&self) -> Result<Vec<Names>> {
        let changed = self.changed()?.into_iter();
        Ok(changed.map(|(name, _)| name).collect())
    }

    fn list(&self, session: &Names) -> Result<Vec<Artefact>> {
        let mut found = self.parts(session)?;
        found.extend((1..=self.log(session)?.len()).map(Artefact::Event));
        found.sort_unstable();
        Ok(found)
    }

    fn get(&self, session: &Names, artefact: Artefact) -> Result<Option<Box<dyn ReadAt + Send>>> {
        if let Artefact::Event(seq) = artefact {
            let log = self.log_after(session, seq.saturating_sub(1))?;
            let line = log.line(seq).map(<[u8]>::to_vec);
            return Ok(line.map(|line| -> Box<dyn ReadAt + Send> { Box::new(line) }));
        }
        let file = open(&self.folder(session)?, artefact)?;
        Ok(file.map(|file| -> Box<dyn ReadAt + Send> { Box::new(file) }))
    }

    fn write<'t>(&'t self, session: &Names) -> Result<Box<dyn Write + 't>> {
        Ok(Box::new(self.writer(session)?))
    }
}

/// The one writer of a session's folder.
#[derive(Debug)]
pub struct DeviceWriter {
    folder: PathBuf,
    lock: Lock,
}

impl DeviceWriter {
    /// Begins the capsule of a version, to be written in its own place; [`Self::finish`] gives it its name.
    ///
    /// # Errors
    /// KVC-940.
    pub fn begin(&self, version: u64) -> Result<Output> {
        let path = self.folder.join(format!("{version}.kvcap"));
        Output::create(&path, false, Readers::Owner)
    }

    /// Puts the capsule that was begun.
    ///
    /// # Errors
    /// As [`Write::put`].
    pub fn finish(&mut self, output: Output, version: u64, id: CapsuleId) -> Result<()> {
        self.lock.check()?;
        output.commit_as(&Artefact::Capsule(version, id).file_name())
    }

    /// Puts a capsule's renewal in its place: the same body under another header.
    ///
    /// # Errors
    /// KVC-947 where the lock was taken away; 940; those of `write`.
    pub fn replace(
        &mut self,
        artefact: Artefact,
        write: impl FnOnce(&Output) -> Result<()>,
    ) -> Result<()> {
        let output = Output::create(&self.path(artefact), true, Readers::Owner)?;
        write(&output).map_err(|error| output.at(error))?;
        self.lock.check()?;
        output.commit()
    }

    /// Returns the path of an artefact that has a file of its own.
    #[must_use]
    pub fn path(&self, artefact: Artefact) -> PathBuf {
        self.folder.join(artefact.file_name())
    }

    /// The session's folder, while it is this writer's alone.
    pub(super) fn held(&self) -> Result<&Path> {
        self.lock.check()?;
        Ok(&self.folder)
    }

    fn append(&self, seq: u64, bytes: &dyn ReadAt) -> Result<Put> {
        let path = self.folder.join(LOG);
        let log = Log::read_part(&path, Part::After(seq.saturating_sub(1)))?;
        let line = whole(bytes)?;
        match log.line(seq) {
            Some(there) if there == line => Ok(Put::Same),
            Some(_) => Err(taken(Artefact::Event(seq))),
            None if seq != log.len().saturating_add(1) => {
                Err(gap(log.len().saturating_add(1), seq))
            }
            None => log::append(&path, &log, &line).map(|()| Put::New),
        }
    }
}

impl Write for DeviceWriter {
    fn put(&mut self, artefact: Artefact, bytes: &dyn ReadAt) -> Result<Put> {
        self.lock.check()?;
        if let Artefact::Event(seq) = artefact {
            return self.append(seq, bytes);
        }
        let path = self.path(artefact);
        let failed = |error| Error::source(&error, path.display());
        if let Some(there) = open(&self.folder, artefact)? {
            if is_same(&there, bytes).map_err(failed)? {
                return Ok(Put::Same);
            }
            if artefact != Artefact::Session {
                return Err(taken(artefact));
            }
        }
        let replaces = artefact == Artefact::Session;
        let output = Output::create(&path, replaces, Readers::Owner)?;
        fill(&output, bytes, &path)?;
        output.commit().map(|()| Put::New)
    }

    fn remove(&mut self, artefact: Artefact) -> Result<()> {
        self.lock.check()?;
        if matches!(artefact, Artefact::Event(_)) {
            return Err(stays(artefact));
        }
        self.remove_file(&self.path(artefact))
    }

    fn forget(&mut self) -> Result<()> {
        let what = "the device's files are the truth of a session, and are not forgotten";
        Err(Error::new(Code::LocalUsage, what).at(self.folder.display()))
    }
}

impl DeviceWriter {
    /// Removes the log of what is no session.
    ///
    /// # Errors
    /// KVC-947 where the lock was taken away; 940.
    pub(crate) fn remove_log(&mut self) -> Result<()> {
        self.lock.check()?;
        self.remove_file(&self.folder.join(LOG))
    }

    /// Removes the whole folder: first its name, at once, then what was in it. What a removal that was stopped has left goes
    /// too.
    ///
    /// # Errors
    /// KVC-947 where the lock was taken away; 940.
    pub(crate) fn forget_folder(self) -> Result<()> {
        self.lock.check()?;
        let failed = |error: io::Error| Error::sink(&error, self.folder.display());
        let name = self
            .folder
            .file_name()
            .unwrap_or_default()
            .to_string_lossy();
        // no session's folder has such a name
        let gone = self.folder.with_file_name(format!(".{name}"));
        let remove = || match fs::remove_dir_all(&gone) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed,
        };
        remove().map_err(failed)?;
        operation::before(Operation::Rename(&self.folder, &gone)).map_err(failed)?;
        fs::rename(&self.folder, &gone).map_err(failed)?;
        if let Some(parent) = self.folder.parent() {
            output::sync_folder(parent).map_err(failed)?;
        }
        operation::before(Operation::Remove(&gone)).map_err(failed)?;
        remove().map_err(failed)
    }

    fn remove_file(&self, path: &Path) -> Result<()> {
        let removed = operation::before(Operation::Remove(path))
            .and_then(|()| fs::remove_file(path))
            .and_then(|()| output::sync_folder(&self.folder));
        match removed {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(Error::sink(&error, path.display()))
            }
            _ => Ok(()),
        }
    }
}

impl Artefact {
    /// Returns the name of its file in the session's folder.
    #[must_use]
    pub fn file_name(self) -> String {
        match self {
            Self::Session => SESSION.to_owned(),
            Self::Event(_) => LOG.to_owned(),
            Self::Checkpoint(version) => format!("{version}.json"),
            Self::Capsule(version, id) => format!("{version}-{id}.kvcap"),
        }
    }
}

/// The artefact whose file this is.
fn artefact_of(name: &str) -> Option<Artefact> {
    let number = |text: &str| text.parse().ok();
    let artefact = match name.rsplit_once('.')? {
        ("session", "json") => Artefact::Session,
        (version, "json") => Artefact::Checkpoint(number(version)?),
        (stem, "kvcap") => {
            let (version, id) = stem.split_once('-')?;
            Artefact::Capsule(number(version)?, CapsuleId::from_hex(id)?)
        }
        _ => return None,
    };
    (artefact.file_name() == name).then_some(artefact)
}

/// The file of an artefact, if it is there: a regular one, reached through no link.
fn open(folder: &Path, artefact: Artefact) -> Result<Option<SourceFile>> {
    let path = folder.join(artefact.file_name());
    let failed = |error| Error::source(&error, path.display());
    let file = match private::open(&path, fs::OpenOptions::new().read(true)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(failed)?,
    };
    private::check(&file, &path)?;
    SourceFile::new(file).map(Some).map_err(failed)
}

/// Writes a source's bytes into an output.
pub(crate) fn fill(output: &Output, bytes: &dyn ReadAt, path: &Path) -> Result<()> {
    let mut at = 0;
    let mut piece = Vec::new();
    while at < bytes.len() {
        let len = STEP.min(bytes.len() - at);
        piece.resize(usize::try_from(len).unwrap_or(0), 0);
        bytes
            .read_exact_at(at, &mut piece)
            .map_err(|error| Error::source(&error, path.display()))?;
        output
            .write_all_at(at, &piece)
            .map_err(|error| Error::sink(&error, path.display()))?;
        at += len;
    }
    Ok(())
}

/// The bytes of one line.
fn whole(bytes: &dyn ReadAt) -> Result<Vec<u8>> {
    const LONGEST: u64 = 16 << 20;
    let len = usize::try_from(bytes.len()).ok();
    let Some(len) = len.filter(|_| bytes.len() <= LONGEST) else {
        let error = Error::new(
            Code::ResourceBudget,
            "the event is longer than a line may be",
        );
        return Err(error.sides(format!("at most {LONGEST} bytes"), bytes.len()));
    };
    let mut line = vec![0; len];
    bytes
        .read_exact_at(0, &mut line)
        .map_err(|error| Error::source(&error, "event"))?;
    Ok(line)
}
