//! Progress of a long call, told to its caller, who may end it.

use std::{
    io,
    sync::{Mutex, MutexGuard, PoisonError},
};

use kvcap::{Code, Error, Result, WriteAt};

/// A caller's function: it is told bytes done and bytes in all, and says whether the call shall go on.
type Told<'a> = &'a (dyn Fn(u64, u64) -> bool + Sync);

/// Tells a caller how far a call is, a hundred times or so; the caller may end it, and then nothing appears.
#[derive(Default)]
pub struct Progress<'a> {
    told: Option<Told<'a>>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    done: u64,
    next: u64,
    ended: bool,
}

impl<'a> Progress<'a> {
    /// Tells nobody.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// Tells `told` bytes done and bytes in all; the call ends where it returns false.
    #[must_use]
    pub fn telling(told: Told<'a>) -> Self {
        Self {
            told: Some(told),
            state: Mutex::default(),
        }
    }

    /// Returns true once the caller has ended the call.
    #[must_use]
    pub fn ended(&self) -> bool {
        self.lock().ended
    }

    /// Adds `more` bytes of `all`.
    pub(crate) fn add(&self, more: u64, all: u64) {
        let Some(told) = self.told else { return };
        let done = {
            let mut state = self.lock();
            state.done = state.done.saturating_add(more);
            if state.ended || (state.done < state.next && state.done != all) {
                return;
            }
            state.next = state.done.saturating_add(all / 100);
            state.done
        };
        // not under the lock: the caller's other threads may hold what it waits for
        if !told(done, all) {
            self.lock().ended = true;
        }
    }

    /// Refuses to go on where the caller has ended the call.
    pub(crate) fn check(&self) -> Result<()> {
        match self.ended() {
            true => Err(Error::new(
                Code::LocalUsage,
                "the caller has ended the call",
            )),
            false => Ok(()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An output that takes no more once the caller has ended the call.
pub(crate) struct Watched<'a> {
    pub(crate) out: &'a dyn WriteAt,
    pub(crate) progress: &'a Progress<'a>,
}

impl WriteAt for Watched<'_> {
    fn write_all_at(&self, offset: u64, buf: &[u8]) -> io::Result<()> {
        match self.progress.ended() {
            true => Err(io::ErrorKind::ConnectionAborted.into()),
            false => self.out.write_all_at(offset, buf),
        }
    }

    fn lend(&self, offset: u64, len: usize, fill: &mut dyn FnMut(&mut [u8], bool)) -> bool {
        self.out.lend(offset, len, fill)
    }

    fn reserve(&self, len: u64) {
        self.out.reserve(len);
    }

    fn trim(&self, len: u64) -> io::Result<()> {
        self.out.trim(len)
    }
}
