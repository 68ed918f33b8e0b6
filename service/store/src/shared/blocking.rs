//! Waiting for what is asynchronous, from threads that may wait.

use std::{io, sync::Arc};

use kvcap::{Error, Result};
use tokio::{
    runtime::{Builder, Runtime},
    task::JoinHandle,
};

/// A runtime of its own: a caller's, if there is one, does not matter.
#[derive(Clone, Debug)]
pub(super) struct Blocking(Arc<Inner>);

#[derive(Debug)]
struct Inner(Option<Runtime>);

impl Blocking {
    pub(super) fn new() -> Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("kvcap-shared")
            .enable_all()
            .build();
        let failed = |error: io::Error| Error::source(&error, "threads");
        Ok(Self(Arc::new(Inner(Some(runtime.map_err(failed)?)))))
    }

    /// Waits for a future. Not for threads that run futures themselves.
    pub(super) fn wait<F: Future>(&self, future: F) -> F::Output {
        self.runtime().block_on(future)
    }

    /// Runs a future beside whatever calls.
    pub(super) fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        drop(self.runtime().spawn(future));
    }

    /// Runs a future beside whatever calls, to be waited for.
    pub(super) fn task<T: Send + 'static>(
        &self,
        future: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<T> {
        self.runtime().spawn(future)
    }

    /// Runs what waits for the disk beside whatever calls, to be waited for.
    pub(super) fn aside<T: Send + 'static>(
        &self,
        step: impl FnOnce() -> T + Send + 'static,
    ) -> JoinHandle<T> {
        self.runtime().spawn_blocking(step)
    }

    #[expect(clippy::expect_used, reason = "it is there until it is dropped")]
    fn runtime(&self) -> &Runtime {
        self.0.0.as_ref().expect("a runtime")
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // the last to let go may be a thread that must not wait
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}
