//! The process around a relay: sockets, connections, and an end that loses nothing.

use std::{
    net::{SocketAddr, TcpListener},
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use kvcap::{Code, Error, Result};
use kvcap_store::Verifier;
use tokio::{
    net::TcpStream,
    runtime::Runtime,
    sync::{Semaphore, watch},
    task::JoinSet,
};

use crate::{connection::Connection, limits::Limits, relay::Relay, settings::Settings};
#[cfg(feature = "gateway")]
use crate::{gateway::Gateway, setup::Setup};

/// Bytes of a connection that are read before somebody takes them.
const BUFFER: usize = 64 << 10;

/// Threads for what waits for the disk.
const BLOCKING: usize = 48;

/// Pause after the system had no connection to give: it has too many files open.
const PAUSE: Duration = Duration::from_millis(50);

/// A relay that listens, and does not answer yet.
#[derive(Debug)]
pub struct Server {
    relay: Arc<Relay>,
    listener: TcpListener,
    address: SocketAddr,
    limits: Limits,
    #[cfg(feature = "gateway")]
    setup: Option<Setup>,
}

/// A relay that answers, in threads of its own.
#[derive(Debug)]
pub struct Running {
    relay: Arc<Relay>,
    address: SocketAddr,
    stop: Stop,
    thread: JoinHandle<Result<()>>,
}

/// A word to a running relay to end.
#[derive(Clone, Debug)]
pub struct Stop(Arc<watch::Sender<bool>>);

impl Stop {
    /// Asks it to end what it has begun, and then itself.
    pub fn now(&self) {
        self.0.send_replace(true);
    }
}

impl Server {
    /// Opens the folder, reads the headers of what is kept there, and listens.
    ///
    /// # Errors
    /// KVC-940 for the folder and the address, 945 and 947 for the folder; 3xx and 94x where nobody can be trusted.
    pub fn bind(settings: Settings) -> Result<Self> {
        let address = settings.listen;
        let limits = settings.limits.clone();
        #[cfg(feature = "gateway")]
        let setup = settings.gateway.clone();
        let relay = Arc::new(Relay::open(settings)?);
        let failed = |error: std::io::Error| Error::io(&error, address);
        let listener = TcpListener::bind(address).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self {
            relay,
            listener,
            address,
            limits,
            #[cfg(feature = "gateway")]
            setup,
        })
    }

    /// Begins to answer; a gateway, once its engine does.
    ///
    /// # Errors
    /// KVC-940 where the system has no threads to give; those of the engine, the model and the keys.
    pub fn start(self) -> Result<Running> {
        allow_open_files();
        let failed = |error: std::io::Error| Error::io(&error, "threads");
        let workers = thread::available_parallelism().map_or(2, usize::from);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(workers)
            .max_blocking_threads(BLOCKING)
            .enable_io()
            .enable_time()
            .build()
            .map_err(failed)?;
        let (sender, stopped) = watch::channel(false);
        let (relay, address) = (Arc::clone(&self.relay), self.address);
        let behind = self.behind(&runtime)?;
        let thread = thread::Builder::new()
            .spawn(move || self.run(&runtime, stopped, behind))
            .map_err(failed)?;
        let stop = Stop(Arc::new(sender));
        Ok(Running {
            relay,
            address,
            stop,
            thread,
        })
    }

    /// The model behind it, if there is one.
    #[cfg(feature = "gateway")]
    fn behind(&self, runtime: &Runtime) -> Result<Behind> {
        let Some(setup) = &self.setup else {
            return Ok(Behind(None));
        };
        let relay = Arc::clone(&self.relay);
        let gateway = runtime.block_on(Gateway::start(setup, relay))?;
        Ok(Behind(Some(Arc::new(gateway))))
    }

    #[cfg(not(feature = "gateway"))]
    #[allow(
        clippy::unused_self,
        clippy::unnecessary_wraps,
        reason = "as with a gateway"
    )]
    fn behind(&self, _runtime: &Runtime) -> Result<Behind> {
        Ok(Behind())
    }

    fn run(
        self,
        runtime: &Runtime,
        mut stopped: watch::Receiver<bool>,
        behind: Behind,
    ) -> Result<()> {
        let ended = runtime.block_on(async {
            let failed = |error: std::io::Error| Error::io(&error, self.address);
            let listener = tokio::net::TcpListener::from_std(self.listener).map_err(failed)?;
            let places = Arc::new(Semaphore::new(self.limits.connections));
            let router = behind.before(Arc::clone(&self.relay).router());
            let mut connections = JoinSet::new();
            let mut sweeps = tokio::time::interval(self.limits.sweep);
            loop {
                // the others are reaped as they end
                while connections.try_join_next().is_some() {}
                tokio::select! {
                    _ = stopped.changed() => break,
                    _ = sweeps.tick() => {
                        let relay = Arc::clone(&self.relay);
                        let _in_the_background = tokio::task::spawn_blocking(move || relay.sweep());
                    }
                    (stream, place) = accept(&listener, &places) => {
                        let connection = Connection::new(stream, self.limits.silence);
                        let (router, stopped) = (router.clone(), stopped.clone());
                        let head = self.limits.head;
                        connections.spawn(async move {
                            answer(connection, router, head, stopped).await;
                            drop(place);
                        });
                    }
                }
            }
            drop(listener);
            let all = async { while connections.join_next().await.is_some() {} };
            // what is not ended by then was not acknowledged
            let _in_time = tokio::time::timeout(self.limits.ending, all).await;
            behind.close(self.limits.ending).await;
            Ok(())
        });
        // a blocking step of one that was given up is short
        ended
    }
}

/// What is behind a relay: a model, or nothing.
#[cfg(feature = "gateway")]
struct Behind(Option<Arc<Gateway>>);

#[cfg(not(feature = "gateway"))]
struct Behind();

#[cfg(feature = "gateway")]
impl Behind {
    fn before(&self, relay: Router) -> Router {
        match &self.0 {
            Some(gateway) => relay.merge(Arc::clone(gateway).router()),
            None => relay,
        }
    }

    /// Saves what is in slots.
    async fn close(&self, ending: Duration) {
        if let Some(gateway) = &self.0 {
            let _in_time = tokio::time::timeout(ending, gateway.close()).await;
        }
    }
}

#[cfg(not(feature = "gateway"))]
impl Behind {
    #[allow(clippy::unused_self, reason = "as with a gateway")]
    fn before(&self, relay: Router) -> Router {
        relay
    }

    #[allow(
        clippy::unused_self,
        clippy::unused_async,
        reason = "as with a gateway"
    )]
    async fn close(&self, _ending: Duration) {}
}

/// Allows this process as many open files as the system lets it: a connection and a file in the making are one each.
fn allow_open_files() {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
        let limit = getrlimit(Resource::Nofile);
        // where there are fewer than connections, they wait
        let _as_it_is = setrlimit(
            Resource::Nofile,
            Rlimit {
                current: limit.maximum,
                ..limit
            },
        );
    }
}

/// Waits for a place, and for a connection.
async fn accept(
    listener: &tokio::net::TcpListener,
    places: &Arc<Semaphore>,
) -> (TcpStream, Option<tokio::sync::OwnedSemaphorePermit>) {
    // the semaphore is never closed
    let place = Arc::clone(places).acquire_owned().await.ok();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return (stream, place),
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

async fn answer(
    connection: Connection,
    router: Router,
    head: Duration,
    mut stopped: watch::Receiver<bool>,
) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(head)
        .max_buf_size(BUFFER)
        .serve_connection(TokioIo::new(connection), TowerToHyperService::new(router));
    tokio::pin!(connection);
    // a caller who breaks off hears nothing of it
    tokio::select! {
        _ = connection.as_mut() => return,
        _ = stopped.wait_for(|stopped| *stopped) => connection.as_mut().graceful_shutdown(),
    }
    let _broken_off = connection.await;
}

impl Running {
    /// Returns the address that it listens at.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the word to end.
    #[must_use]
    pub fn stop(&self) -> Stop {
        self.stop.clone()
    }

    /// Judges by another verifier from now on: that of a configuration that has changed.
    pub fn judge_by(&self, verifier: Verifier) {
        self.relay.judge_by(verifier);
    }

    /// Removes what has served its time, now and not at the next sweep. Returns the number of capsules.
    ///
    /// # Errors
    /// KVC-3xx and 94x where nothing can be judged.
    pub fn sweep(&self) -> Result<usize> {
        self.relay.sweep()
    }

    /// Waits until it has ended.
    ///
    /// # Errors
    /// KVC-940 where it ended by itself.
    pub fn wait(self) -> Result<()> {
        let ended = self.thread.join();
        ended.unwrap_or_else(|_| Err(Error::new(Code::LocalIo, "the relay has broken off")))
    }
}
