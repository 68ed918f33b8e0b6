//! Files in the making when a signal ends the process.

use std::{
    path::PathBuf,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

/// Temporary files to remove when a signal ends the process.
static DOOMED: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

pub(crate) fn doomed() -> MutexGuard<'static, Vec<PathBuf>> {
    DOOMED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a program does before a signal ends it.
static LAST: Mutex<Vec<fn()>> = Mutex::new(Vec::new());

/// Calls `act` when a signal ends the process, in a thread of its own and after the unfinished files are removed.
pub fn before_signal_ends(act: fn()) {
    watch_signals();
    LAST.lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(act);
}

/// What the first signal does instead of ending the process.
static FIRST: Mutex<Option<Box<dyn FnOnce() + Send>>> = Mutex::new(None);

/// Calls `act` at the first signal that asks the process to end, in a thread of its own, and leaves the rest to it: for
/// a process that ends what it has begun. The second signal ends the process as [`watch_signals`] says.
pub fn at_first_signal(act: impl FnOnce() + Send + 'static) {
    watch_signals();
    *FIRST.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(act));
}

/// What a hangup does instead of ending the process.
static HANGUP: Mutex<Option<Box<dyn FnMut() + Send>>> = Mutex::new(None);

/// Calls `act` at each SIGHUP, in a thread of its own, which then does not end the process: for one that reads its
/// configuration again.
pub fn at_hangup(act: impl FnMut() + Send + 'static) {
    watch_signals();
    *HANGUP.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(act));
}

/// The process's signals are another's.
static LEFT: AtomicBool = AtomicBool::new(false);

/// Leaves all signals to the process from now on, where none are watched yet: for a library in a process of another,
/// whose handlers they are. What a signal then leaves unfinished, the next output in its folder removes.
pub fn leave_signals() {
    LEFT.store(true, Ordering::Relaxed);
}

/// Removes unfinished files when the process is asked to end, and then lets it. A file that grows past its limit is an
/// error of its writer from then on, and no end of the process: every output begins with this, and a program may
/// sooner.
pub fn watch_signals() {
    if LEFT.load(Ordering::Relaxed) {
        return;
    }
    #[cfg(unix)]
    {
        use std::sync::{Arc, Once};

        use signal_hook::{
            consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ},
            flag,
            iterator::Signals,
            low_level::emulate_default_handler,
        };
        static WATCHING: Once = Once::new();
        WATCHING.call_once(|| {
            // heard and not acted upon: the write that is too long fails, and is told as any other
            let _heard = flag::register(SIGXFSZ, Arc::default());
            // without the handler a signal leaves what kill -9 leaves
            if let Ok(mut signals) = Signals::new([SIGINT, SIGTERM, SIGHUP]) {
                std::thread::spawn(move || {
                    for signal in signals.forever() {
                        let mut hangup = HANGUP.lock().unwrap_or_else(PoisonError::into_inner);
                        if let (SIGHUP, Some(act)) = (signal, hangup.as_mut()) {
                            act();
                            continue;
                        }
                        drop(hangup);
                        let first = FIRST.lock().unwrap_or_else(PoisonError::into_inner).take();
                        if let Some(act) = first {
                            act();
                            continue;
                        }
                        // held to the end: nothing new begins
                        let doomed = doomed();
                        for path in &*doomed {
                            let _gone = std::fs::remove_file(path);
                        }
                        for act in LAST
                            .lock()
                            .unwrap_or_else(PoisonError::into_inner)
                            .drain(..)
                        {
                            act();
                        }
                        let _ended = emulate_default_handler(signal);
                    }
                });
            }
        });
    }
}
