//! Unnamed temporary files, and failures to write.

use std::{fs::File, io, path::Path};

use kvcap::{Error, IoSide, Result, SourceFile};

use crate::signals::watch_signals;

/// Makes an unnamed temporary file in `TMPDIR` or `/tmp`, of mode 0600: it may hold an opened state, and is
/// gone with the process (capsule-v1 CAP-F-7).
///
/// # Errors
/// KVC-940.
pub fn spool() -> Result<File> {
    watch_signals();
    let made = tempfile::tempfile().and_then(|file| {
        #[cfg(unix)]
        {
            use std::{fs::Permissions, os::unix::fs::PermissionsExt};
            file.set_permissions(Permissions::from_mode(0o600))?;
        }
        Ok(file)
    });
    made.map_err(|error| no_room(&error))
}

/// Says of a failure to write that it is a temporary file's.
#[must_use]
pub fn of_spool(error: Error) -> Error {
    at(error, &std::env::temp_dir())
}

/// Takes what was written to a temporary file as a source.
///
/// # Errors
/// KVC-940.
pub fn spooled(spool: File) -> Result<SourceFile> {
    SourceFile::new(spool).map_err(|error| Error::source(&error, "temporary file"))
}

/// A failure to write a temporary file.
pub(crate) fn no_room(error: &io::Error) -> Error {
    let folder = std::env::temp_dir();
    Error::sink(
        error,
        format_args!("temporary file in {}", folder.display()),
    )
}

/// Says of a failure to write that `path` could not be written; other errors stay as they are.
#[must_use]
pub fn at(error: Error, path: &Path) -> Error {
    match error.io_side() {
        Some(IoSide::Sink) => error.moved_to(path.display()),
        _ => error,
    }
}
