//! Work shared by threads, with the outcome of one thread (capsule-v1 §3.5).
//!
//! Items come from one ordered source and are handed out in its order; whichever thread is free
//! takes the next. What an item has to do in the order of items it does in its [`Ticket`]. The error
//! of the first item that fails is the result, since every item before it has been handed out too
//! and is finished. One thread runs the same code. Threads live no longer than the call.
//!
//! Not rayon: its iterators promise neither the order in which items begin nor which error wins, and
//! a task that waits for its turn would block its pool.

use std::{
    num::NonZeroUsize,
    panic::resume_unwind,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    thread,
};

use crate::error::{Code, Error, Result};

/// Number of threads that share the work. Results do not depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Workers(NonZeroUsize);

impl Workers {
    /// The calling thread alone.
    pub const ONE: Self = Self(NonZeroUsize::MIN);

    /// `count` threads; one where it is 0.
    #[must_use]
    pub fn new(count: usize) -> Self {
        Self(NonZeroUsize::new(count).unwrap_or(NonZeroUsize::MIN))
    }

    /// As many as this process may use cores.
    #[must_use]
    pub fn all() -> Self {
        thread::available_parallelism().map_or(Self::ONE, Self)
    }

    /// Returns their number.
    #[must_use]
    pub fn count(self) -> usize {
        self.0.get()
    }

    /// Calls `work` for every item that `source` gives until `None`. Each thread has its own
    /// `scratch`; `source` is called by one thread at a time, and by the thread that will do the item.
    ///
    /// # Errors
    /// The error of the first item, in the order of `source`, that failed or could not be given.
    pub fn run<S, I>(
        self,
        scratch: impl Fn() -> S + Sync,
        source: impl FnMut(&mut S) -> Result<Option<I>> + Send,
        work: impl Fn(&mut S, I, &Ticket<'_>) -> Result<()> + Sync,
    ) -> Result<()> {
        let queue = Mutex::new(Queue {
            source,
            next: 0,
            ended: false,
        });
        let order = Order::default();
        let worker = || {
            let mut scratch = scratch();
            while let Some((item, turn)) = take(&queue, &order, &mut scratch) {
                if let Err(error) = work(&mut scratch, item, &turn) {
                    order.fail(turn.index, error);
                }
            }
        };
        thread::scope(|scope| {
            // where the system gives no thread, there is one fewer
            let spawn = |_| thread::Builder::new().spawn_scoped(scope, worker).ok();
            let others: Vec<_> = (1..self.count()).filter_map(spawn).collect();
            worker();
            // a scope waits for a thread's work alone, and not until the thread has freed what was its own
            for other in others {
                if let Err(panic) = other.join() {
                    resume_unwind(panic);
                }
            }
        });
        let line = order.line.into_inner();
        let failed = line.unwrap_or_else(PoisonError::into_inner).failed;
        failed.map_or(Ok(()), |(_, error)| Err(error))
    }
}

struct Queue<F> {
    source: F,
    next: u64,
    ended: bool,
}

/// The next item and its turn.
fn take<'o, S, I>(
    queue: &Mutex<Queue<impl FnMut(&mut S) -> Result<Option<I>>>>,
    order: &'o Order,
    scratch: &mut S,
) -> Option<(I, Ticket<'o>)> {
    let mut queue = lock(queue);
    if queue.ended || order.lock().failed.is_some() {
        return None;
    }
    let index = queue.next;
    queue.next += 1;
    // true until the source has given an item, so that one that panics is not asked again
    queue.ended = true;
    match (queue.source)(scratch) {
        Ok(Some(item)) => {
            queue.ended = false;
            order.lock().waiting.push(index);
            Some((item, Ticket { order, index }))
        }
        Ok(None) => None,
        Err(error) => {
            order.fail(index, error);
            None
        }
    }
}

#[derive(Default)]
struct Order {
    line: Mutex<Line>,
    moved: Condvar,
}

#[derive(Default)]
struct Line {
    /// Items that were handed out and whose turn has not passed: at most one a thread.
    waiting: Vec<u64>,
    /// The first item that failed, of those that are finished.
    failed: Option<(u64, Error)>,
}

impl Order {
    fn lock(&self) -> MutexGuard<'_, Line> {
        lock(&self.line)
    }

    fn fail(&self, index: u64, error: Error) {
        let mut line = self.lock();
        if line.failed.as_ref().is_none_or(|(first, _)| index < *first) {
            line.failed = Some((index, error));
        }
    }

    fn pass(&self, index: u64) {
        let mut line = self.lock();
        let before = line.waiting.len();
        line.waiting.retain(|waiting| *waiting != index);
        let left = line.waiting.len();
        drop(line);
        // who waits is still in line, and telling nobody is a system call all the same
        if (1..before).contains(&left) {
            self.moved.notify_all();
        }
    }
}

/// An item's place in the order of items. It has passed when the item is finished.
pub struct Ticket<'o> {
    order: &'o Order,
    index: u64,
}

impl Ticket<'_> {
    /// Runs `work` when the turns of all items before have passed.
    ///
    /// # Errors
    /// That of `work`, or one that is of no interest because an earlier item has failed.
    pub fn run<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let behind = |line: &mut Line| {
            let failed = line.failed.as_ref().is_some_and(|(at, _)| *at < self.index);
            !failed && line.waiting.iter().any(|other| *other < self.index)
        };
        let line = self.order.moved.wait_while(self.order.lock(), behind);
        let line = line.unwrap_or_else(PoisonError::into_inner);
        if line.failed.as_ref().is_some_and(|(at, _)| *at < self.index) {
            return Err(Error::new(
                Code::LocalIo,
                "stopped: something before it failed",
            ));
        }
        drop(line);
        let done = work()?;
        self.order.pass(self.index);
        Ok(done)
    }
}

impl Drop for Ticket<'_> {
    // also where the work panics, so that nobody waits for it
    fn drop(&mut self) {
        self.order.pass(self.index);
    }
}

/// What threads share one at a time; a panic elsewhere does not matter here.
pub(crate) fn lock<T: ?Sized>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
