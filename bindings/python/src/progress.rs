//! Progress of a long call, told to a function of Python's.

use std::sync::{Mutex, PoisonError};

use pyo3::prelude::*;

/// Calls a function with bytes done and bytes in all, a hundred times or so. What it raises ends the call with its
/// exception, and nothing appears.
pub(crate) struct Progress {
    call: Option<Py<PyAny>>,
    told: Mutex<Told>,
}

#[derive(Default)]
struct Told {
    done: u64,
    next: u64,
    raised: Option<PyErr>,
}

impl Progress {
    pub(crate) fn new(call: Option<Py<PyAny>>) -> Self {
        let told = Mutex::default();
        Self { call, told }
    }

    /// Adds `more` bytes of `all`.
    pub(crate) fn add(&self, more: u64, all: u64) {
        let Some(call) = &self.call else { return };
        let done = {
            let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
            told.done = told.done.saturating_add(more);
            if told.raised.is_some() || (told.done < told.next && told.done != all) {
                return;
            }
            told.next = told.done.saturating_add(all / 100);
            told.done
        };
        // not under the lock: another thread may hold the interpreter and wait for it
        let called = Python::attach(|py| call.call1(py, (done, all)).map(drop));
        if let Err(error) = called {
            let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
            told.raised.get_or_insert(error);
        }
    }

    /// Gives what the function has raised.
    pub(crate) fn finish(self) -> PyResult<()> {
        let told = self.told.into_inner();
        match told.unwrap_or_else(PoisonError::into_inner).raised {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }
}
