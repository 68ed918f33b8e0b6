//! Files in the making: named so that they are known, locked so that they are left alone, swept when their
//! writer is gone.

use std::{
    collections::BTreeSet,
    ffi::{OsStr, OsString},
    fs::{self, File, OpenOptions},
    io,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use tempfile::{Builder, NamedTempFile};

use super::Readers;
use crate::private;

const SUFFIX: &str = ".kvcap.tmp";
const RANDOM: usize = 8;

/// A younger file may be one whose writer has not locked it yet.
const SETTLED: Duration = Duration::from_secs(60);

/// Folders that this process has swept.
static SWEPT: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// Most folders to keep in mind.
const MOST_SWEPT: usize = 256;

/// Makes `.NAME.XXXXXXXX.kvcap.tmp` in a folder (capsule-v1 CAP-F-7), after sweeping it.
pub(super) fn begin(folder: &Path, name: &OsStr, readers: Readers) -> io::Result<NamedTempFile> {
    sweep_once(folder);
    let mut prefix = OsString::from(".");
    prefix.push(name);
    prefix.push(".");
    let mut builder = Builder::new();
    builder.prefix(&prefix).suffix(SUFFIX).rand_bytes(RANDOM);
    #[cfg(unix)]
    if readers == Readers::Umask {
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(fs::Permissions::from_mode(0o666));
    }
    #[cfg(not(unix))]
    let _all_alike = readers;
    let temporary = builder.tempfile_in(folder).map_err(without_path)?;
    // a file system without locks sweeps nothing either
    let _held = temporary.as_file().try_lock();
    Ok(temporary)
}

/// The system's error itself: the path beside it is that of the file in the making, which nobody has named.
fn without_path(error: io::Error) -> io::Error {
    let inner = error.get_ref().and_then(|error| error.source());
    match inner.and_then(|inner| inner.downcast_ref::<io::Error>()?.raw_os_error()) {
        Some(number) => io::Error::from_raw_os_error(number),
        None => error,
    }
}

fn sweep_once(folder: &Path) {
    let mut swept = SWEPT.lock().unwrap_or_else(PoisonError::into_inner);
    if swept.len() >= MOST_SWEPT {
        swept.clear();
    }
    if swept.insert(folder.to_owned()) {
        // what cannot be swept is in nobody's way
        let _in_vain = sweep(folder);
    }
}

/// Removes the files in the making that this user has left in a folder.
fn sweep(folder: &Path) -> io::Result<()> {
    for (path, _) in abandoned_in(folder)? {
        fs::remove_file(path)?;
    }
    Ok(())
}

/// Returns the files in the making that this user has left in a folder, and their lengths.
pub(crate) fn abandoned_in(folder: &Path) -> io::Result<Vec<(PathBuf, u64)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if is_unfinished(&entry.file_name()) && is_abandoned(&entry.path()).unwrap_or(false) {
            found.push((entry.path(), entry.metadata()?.len()));
        }
    }
    Ok(found)
}

fn is_unfinished(name: &OsStr) -> bool {
    let middle = name
        .to_str()
        .and_then(|name| name.strip_prefix('.')?.strip_suffix(SUFFIX));
    middle
        .and_then(|middle| middle.rsplit_once('.'))
        .is_some_and(|(name, random)| {
            let letters = random.bytes().all(|byte| byte.is_ascii_alphanumeric());
            !name.is_empty() && random.len() == RANDOM && letters
        })
}

/// Whether no living process writes a file of this user.
fn is_abandoned(path: &Path) -> io::Result<bool> {
    let file: File = private::open(path, OpenOptions::new().read(true))?;
    let meta = file.metadata()?;
    #[cfg(unix)]
    if std::os::unix::fs::MetadataExt::uid(&meta) != rustix::process::geteuid().as_raw() {
        return Ok(false);
    }
    let age = SystemTime::now().duration_since(meta.modified()?);
    Ok(age.is_ok_and(|age| age >= SETTLED) && file.try_lock().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_files_in_the_making_are_swept() {
        assert!(is_unfinished(OsStr::new(".a.kvcap.Ab3dEf9h.kvcap.tmp")));
        for name in [
            "a.Ab3dEf9h.kvcap.tmp",
            ".Ab3dEf9h.kvcap.tmp",
            "..Ab3dEf9h.kvcap.tmp",
            ".a.Ab3dEf9.kvcap.tmp",
            ".a.Ab3dEf9_.kvcap.tmp",
            ".a.Ab3dEf9h.kvcap.tmp.",
            ".a.Ab3dEf9h.tmp",
        ] {
            assert!(!is_unfinished(OsStr::new(name)), "{name}");
        }
    }
}
