//! A process that is started again when it ends.

use std::{future::Future, pin::Pin, time::Duration};

use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, sleep},
};

use crate::{
    engine::{Health, Slot},
    error::EngineError,
};

/// First wait before a restart; each is twice the one before.
const FIRST_WAIT: Duration = Duration::from_millis(200);

/// Longest wait.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// Life after which the next wait is the first one again.
const LONG_LIFE: Duration = Duration::from_secs(60);

/// A process that is ready: who speaks to it, and its end. It is killed when its end is dropped.
pub(crate) struct Life<H> {
    pub(crate) handle: H,
    pub(crate) end: Pin<Box<dyn Future<Output = ()> + Send>>,
}

type Starting<H> = Pin<Box<dyn Future<Output = Result<Life<H>, EngineError>> + Send>>;

/// A process that is started again when it ends. It ends when this is dropped.
pub(crate) struct Supervisor<H> {
    now: watch::Receiver<Now<H>>,
    /// Asks that the process be ended.
    give_up: watch::Sender<u64>,
    keeping: JoinHandle<()>,
}

#[derive(Clone)]
struct Now<H> {
    generation: u64,
    handle: Option<H>,
}

impl<H> Drop for Supervisor<H> {
    fn drop(&mut self) {
        self.keeping.abort();
    }
}

impl<H: Clone + Send + Sync + 'static> Supervisor<H> {
    /// Starts the process, and again whenever it ends.
    ///
    /// # Errors
    /// The first start's.
    pub(crate) async fn start(
        mut start: impl FnMut() -> Starting<H> + Send + 'static,
    ) -> Result<Self, EngineError> {
        let first = start().await?;
        let (say, now) = watch::channel(Now {
            generation: 1,
            handle: Some(first.handle.clone()),
        });
        let (give_up, given_up) = watch::channel(0);
        let keeping = tokio::spawn(keep(first, start, say, given_up));
        Ok(Self {
            now,
            give_up,
            keeping,
        })
    }

    /// Returns who speaks to the process.
    ///
    /// # Errors
    /// [`EngineError::Lost`] while there is none.
    pub(crate) fn any(&self) -> Result<H, EngineError> {
        self.now.borrow().handle.clone().ok_or(EngineError::Lost)
    }

    /// Returns who speaks to the process that a slot is of.
    ///
    /// # Errors
    /// [`EngineError::Lost`] after its end.
    pub(crate) fn of(&self, slot: Slot) -> Result<H, EngineError> {
        let now = self.now.borrow();
        let alive = now
            .handle
            .clone()
            .filter(|_| slot.generation == now.generation);
        alive.ok_or(EngineError::Lost)
    }

    pub(crate) fn health(&self) -> Health {
        let now = self.now.borrow();
        Health {
            generation: now.generation,
            ready: now.handle.is_some(),
        }
    }

    /// Ends the life that a slot is of: what it holds is not to be used.
    pub(crate) fn give_up(&self, slot: Slot) {
        self.give_up.send_replace(slot.generation);
    }
}

async fn keep<H: Clone>(
    first: Life<H>,
    mut start: impl FnMut() -> Starting<H>,
    say: watch::Sender<Now<H>>,
    mut given_up: watch::Receiver<u64>,
) {
    let (mut life, mut generation, mut wait) = (first, 1, FIRST_WAIT);
    loop {
        let began = Instant::now();
        tokio::select! {
            () = life.end => {}
            _ = given_up.wait_for(|of| *of == generation) => {}
        }
        generation += 1;
        say.send_replace(Now {
            generation,
            handle: None,
        });
        if began.elapsed() > LONG_LIFE {
            wait = FIRST_WAIT;
        }
        life = loop {
            sleep(wait).await;
            wait = (wait * 2).min(LONGEST_WAIT);
            if let Ok(life) = start().await {
                break life;
            }
        };
        say.send_replace(Now {
            generation,
            handle: Some(life.handle.clone()),
        });
    }
}
