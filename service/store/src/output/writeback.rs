//! A long output on its way to the disk while it is still being written.
//!
//! The system would begin when the output is synced at the end, and everybody would wait: the disk for
//! the processor first, and then the processor for the disk.

use std::{
    fs::File,
    io,
    sync::{
        atomic::{AtomicU64, Ordering},
        mpsc::{self, SyncSender, TrySendError},
    },
    thread::{self, JoinHandle},
};

/// Bytes that are written between two syncs, about.
const STEP: u64 = 32 << 20;

/// A thread that syncs a file each time that enough of it is new.
#[derive(Debug, Default)]
pub(super) struct Writeback {
    written: AtomicU64,
    thread: Option<(SyncSender<()>, JoinHandle<io::Result<()>>)>,
}

impl Writeback {
    /// Of `file`; nothing early where the system has no handle or thread to give.
    pub(super) fn new(file: &File) -> Self {
        match file.try_clone() {
            Ok(file) => Self::by(move || file.sync_data()),
            Err(_) => Self::default(),
        }
    }

    fn by(mut sync: impl FnMut() -> io::Result<()> + Send + 'static) -> Self {
        // one sync runs, and at most one more is asked for
        let (wake, woken) = mpsc::sync_channel(1);
        let work = move || woken.iter().try_for_each(|()| sync());
        let thread = thread::Builder::new().spawn(work).ok();
        Self {
            written: AtomicU64::new(0),
            thread: thread.map(|thread| (wake, thread)),
        }
    }

    /// Hears that `len` bytes more are written.
    pub(super) fn wrote(&self, len: usize) {
        let len = u64::try_from(len).unwrap_or(u64::MAX);
        let before = self.written.fetch_add(len, Ordering::Relaxed);
        if before / STEP != before.saturating_add(len) / STEP
            && let Some((wake, _)) = &self.thread
        {
            match wake.try_send(()) {
                // it is busy, or has failed, which `finish` tells
                Ok(()) | Err(TrySendError::Full(()) | TrySendError::Disconnected(())) => (),
            }
        }
    }

    /// Waits for what has begun.
    ///
    /// # Errors
    /// That of a sync: the system tells it once, and not to the next one.
    pub(super) fn finish(self) -> io::Result<()> {
        match self.thread {
            None => Ok(()),
            Some((wake, thread)) => {
                drop(wake);
                let ended = thread.join();
                ended.unwrap_or_else(|_| Err(io::Error::other("a sync has panicked")))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn syncs_as_it_goes() {
        let (called, calls) = mpsc::channel();
        let writeback = Writeback::by(move || called.send(()).map_err(io::Error::other));
        let step = usize::try_from(STEP).unwrap();
        writeback.wrote(step - 1);
        writeback.wrote(1);
        assert_eq!(calls.recv(), Ok(()));
        writeback.wrote(step / 2);
        writeback.finish().unwrap();
        assert_eq!(calls.iter().count(), 0);
    }

    #[test]
    fn a_failure_is_told() {
        let writeback = Writeback::by(|| Err(io::ErrorKind::StorageFull.into()));
        for _ in 0..10 {
            writeback.wrote(usize::try_from(STEP).unwrap());
        }
        let error = writeback.finish().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    }
}
