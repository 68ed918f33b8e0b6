//! Operations on a disk that a crash can fall between, and one observer of all of them.
//!
//! What is written so that a crash loses nothing is tested by crashing at each of its operations. The observer hears
//! of an operation before it happens, and whatever it answers but success is the operation's failure; where there is
//! none, nothing is asked.

use std::{
    io,
    path::Path,
    sync::{
        PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
};

/// An operation on a disk that is about to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Operation<'a> {
    /// A file, or a folder, is made in this folder.
    Create(&'a Path),
    /// Bytes are written to this file.
    Write(&'a Path),
    /// This file is cut short.
    Cut(&'a Path),
    /// This file's bytes are made durable.
    Sync(&'a Path),
    /// The first name becomes the second.
    Rename(&'a Path, &'a Path),
    /// The names in this folder are made durable.
    SyncFolder(&'a Path),
    /// This file loses its name.
    Remove(&'a Path),
}

/// A listener to operations: an error is the operation's own.
pub type Observer = Box<dyn Fn(Operation<'_>) -> io::Result<()> + Send + Sync>;

static OBSERVED: AtomicBool = AtomicBool::new(false);
static OBSERVER: RwLock<Option<Observer>> = RwLock::new(None);

/// Sets the process's observer of operations, or none: for tests that crash, and for measurements.
pub fn observe(observer: Option<Observer>) {
    let mut place = OBSERVER.write().unwrap_or_else(PoisonError::into_inner);
    OBSERVED.store(observer.is_some(), Ordering::SeqCst);
    *place = observer;
}

/// Tells of an operation that is about to happen.
///
/// # Errors
/// The observer's.
pub fn before(operation: Operation<'_>) -> io::Result<()> {
    if !OBSERVED.load(Ordering::Relaxed) {
        return Ok(());
    }
    let observer = OBSERVER.read().unwrap_or_else(PoisonError::into_inner);
    observer.as_ref().map_or(Ok(()), |tell| tell(operation))
}

/// Makes names in a folder durable.
///
/// # Errors
/// As the system.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    before(Operation::SyncFolder(folder))?;
    #[cfg(unix)]
    return std::fs::File::open(folder)?.sync_all();
    #[cfg(not(unix))]
    {
        let _no_such_thing = folder;
        Ok(())
    }
}
