//! The process around a relay: sockets, connections, and an end that loses nothing.

use std::{
    net::{SocketAddr, TcpListener},
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use axum::{Router, middleware::from_fn_with_state};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use kvcap::{Code, Error, Result};
use kvcap_store::Verifier;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    runtime::Runtime,
    sync::watch,
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::{
    connection::Connection,
    log::Log,
    policy::Policy,
    relay::{self, Relay},
    requests::{self, Requests},
    settings::Settings,
};
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
    log: Option<Log>,
    first: Fixed,
    #[cfg(feature = "gateway")]
    setup: Option<Setup>,
}

/// A relay that answers, in threads of its own.
#[derive(Debug)]
pub struct Running {
    address: SocketAddr,
    stop: Stop,
    reload: Reload,
    thread: JoinHandle<Result<()>>,
}

/// A word to a running relay to end.
#[derive(Clone, Debug)]
pub struct Stop(Arc<watch::Sender<bool>>);

impl Stop {
    pub(crate) fn by(sender: watch::Sender<bool>) -> Self {
        Self(Arc::new(sender))
    }

    /// Asks it to end what it has begun, and then itself.
    pub fn now(&self) {
        self.0.send_replace(true);
    }
}

/// A word to a running relay to go on by another configuration.
#[derive(Clone, Debug)]
pub struct Reload {
    relay: Arc<Relay>,
    log: Option<Log>,
    first: Fixed,
}

impl Reload {
    /// Judges what begins from now on by other settings; what has begun goes on. Where there are none, or they change
    /// what takes a new start, all stays as it is.
    ///
    /// # Errors
    /// As `settings` has it; KVC-945 where the address, the folder, the record, the engine, or whether there is TLS or a
    /// log is another; 3xx and 94x where nobody can be trusted.
    pub fn with(&self, settings: Result<Settings>) -> Result<()> {
        let reloaded = settings.and_then(|settings| {
            self.first.compare(&Fixed::of(&settings))?;
            settings.verifier.judge()?;
            self.relay.decide_by(settings.policy());
            Ok(())
        });
        if let Some(log) = &self.log {
            let code = reloaded
                .as_ref()
                .err()
                .map_or(0, |error| error.code().number());
            log.line([("event", "reload".into()), ("code", code.into())]);
        }
        reloaded
    }
}

/// What a configuration says once.
#[derive(Clone, Debug)]
struct Fixed([(&'static str, String); 6]);

impl Fixed {
    fn of(settings: &Settings) -> Self {
        #[cfg(feature = "gateway")]
        let engine = format!("{:?}", settings.gateway);
        #[cfg(not(feature = "gateway"))]
        let engine = String::new();
        Self([
            ("listen", settings.listen.to_string()),
            ("place", format!("{:?}", settings.place)),
            ("audit", format!("{:?}", settings.audit)),
            ("tls", settings.tls.is_some().to_string()),
            ("log", settings.log.is_some().to_string()),
            ("engine, keys and sessions", engine),
        ])
    }

    fn compare(&self, next: &Self) -> Result<()> {
        let mut both = self.0.iter().zip(&next.0);
        match both.find(|(first, next)| first != next) {
            None => Ok(()),
            Some(((name, _), _)) => {
                let what = "a relay that runs does not change this: start it again";
                Err(Error::new(Code::LocalConfig, what).at(name))
            }
        }
    }
}

impl Server {
    /// Opens the folder, reads the headers of what is kept there, and listens.
    ///
    /// # Errors
    /// KVC-940 for the folder and the address, 945 and 947 for the folder; 3xx and 94x where nobody can be trusted.
    pub fn bind(settings: Settings) -> Result<Self> {
        let address = settings.listen;
        let (log, first) = (settings.log.clone(), Fixed::of(&settings));
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
            log,
            first,
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
        let address = self.address;
        let behind = self.behind(&runtime)?;
        let reload = Reload {
            relay: Arc::clone(&self.relay),
            log: self.log.clone(),
            first: self.first.clone(),
        };
        let thread = thread::Builder::new()
            .spawn(move || self.run(&runtime, stopped, behind))
            .map_err(failed)?;
        let stop = Stop::by(sender);
        Ok(Running {
            address,
            stop,
            reload,
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
            let requests = Requests {
                relay: Arc::clone(&self.relay),
                log: self.log.clone(),
            };
            let described = behind.described().to_pretty_json().unwrap_or_default() + "\n";
            let router = behind.before(Arc::clone(&self.relay).router(described));
            let router = router.layer(from_fn_with_state(requests, requests::answer));
            event(self.log.as_ref(), self.address, "listening");
            let mut connections = JoinSet::new();
            let mut sweep = Box::pin(sleep(Duration::ZERO));
            loop {
                let limits = self.relay.policy().limits.clone();
                let room = connections.len() < limits.connections;
                tokio::select! {
                    _ = stopped.changed() => break,
                    () = sweep.as_mut() => {
                        sweep.set(sleep(limits.sweep));
                        let relay = Arc::clone(&self.relay);
                        let _in_the_background = tokio::task::spawn_blocking(move || relay.sweep());
                    }
                    // who has ended makes room
                    Some(_) = connections.join_next() => {}
                    stream = accept(&listener), if room => {
                        let policy = self.relay.policy();
                        connections.spawn(connect(stream, policy, router.clone(), stopped.clone()));
                    }
                }
            }
            drop(listener);
            event(self.log.as_ref(), self.address, "ending");
            let all = async { while connections.join_next().await.is_some() {} };
            // what is not ended by then was not acknowledged
            let ending = self.relay.policy().limits.ending;
            let _in_time = timeout(ending, all).await;
            behind.close(ending).await;
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
    /// The description of all that is answered.
    fn described(&self) -> utoipa::openapi::OpenApi {
        let mut described = relay::described();
        if self.0.is_some() {
            described.merge(crate::gateway::described());
        }
        described
    }

    fn before(&self, relay: Router) -> Router {
        match &self.0 {
            Some(gateway) => relay.merge(Arc::clone(gateway).router()),
            None => relay,
        }
    }

    /// Saves what is in slots.
    async fn close(&self, ending: Duration) {
        if let Some(gateway) = &self.0 {
            let _in_time = timeout(ending, gateway.close()).await;
        }
    }
}

#[cfg(not(feature = "gateway"))]
impl Behind {
    #[allow(clippy::unused_self, reason = "as with a gateway")]
    fn described(&self) -> utoipa::openapi::OpenApi {
        relay::described()
    }

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

fn event(log: Option<&Log>, address: SocketAddr, name: &str) {
    if let Some(log) = log {
        let address = address.to_string();
        log.line([("event", name.into()), ("address", address.into())]);
    }
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

/// Waits for a connection.
async fn accept(listener: &tokio::net::TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return stream,
            Err(_) => sleep(PAUSE).await,
        }
    }
}

/// Agrees on a secret, where there is TLS, in the time of a head; and answers.
async fn connect(
    stream: TcpStream,
    policy: Arc<Policy>,
    router: Router,
    stopped: watch::Receiver<bool>,
) {
    let head = policy.limits.head;
    let connection = Connection::new(stream, policy.limits.silence);
    match &policy.tls {
        None => answer(connection, router, head, stopped).await,
        Some(tls) => {
            // who is no client hears why from TLS alone
            if let Ok(Ok(connection)) = timeout(head, tls.acceptor().accept(connection)).await {
                answer(connection, router, head, stopped).await;
            }
        }
    }
}

pub(crate) async fn answer(
    connection: impl AsyncRead + AsyncWrite + Unpin,
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

    /// Returns the word to go on by another configuration.
    #[must_use]
    pub fn reload(&self) -> Reload {
        self.reload.clone()
    }

    /// Judges by another verifier from now on: one of the caller's own time.
    pub fn judge_by(&self, verifier: Verifier) {
        let relay = &self.reload.relay;
        relay.decide_by(Policy {
            verifier: Arc::new(verifier),
            ..(*relay.policy()).clone()
        });
    }

    /// Removes what has served its time, now and not at the next sweep. Returns the number of capsules.
    ///
    /// # Errors
    /// KVC-3xx and 94x where nothing can be judged.
    pub fn sweep(&self) -> Result<usize> {
        self.reload.relay.sweep()
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
