//! One capsule in the inspector, on its reader's own machine: the page and the files, at an address that nobody else
//! knows.

use std::{
    fmt::Write as _,
    fs::File,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::{Path, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use kvcap::{Code, Error, Result};
use tokio::{io::AsyncReadExt, net::TcpListener, sync::watch, task::JoinSet};
use tokio_util::io::ReaderStream;

use crate::{
    connection::Connection,
    inspector::Inspector,
    server::{Stop, answer},
};

/// Bytes that are read at once.
const PIECE: usize = 1 << 20;
/// Time that a browser has for a head, and keeps a connection without reading.
const PATIENCE: Duration = Duration::from_secs(60);

/// A capsule to show.
#[derive(Debug)]
pub struct Viewer {
    /// The page.
    pub inspector: Inspector,
    /// Texts of public key files, whose holders are trusted.
    pub keys: String,
    /// The capsule's file, and those of its ancestors.
    pub files: Vec<PathBuf>,
}

/// A capsule that is shown until it is told to end.
#[derive(Debug)]
pub struct Viewing {
    url: String,
    stop: Stop,
    thread: JoinHandle<()>,
}

impl Viewer {
    /// Serves page and files to this machine alone, at a port that the system chooses and a path that is secret.
    ///
    /// # Errors
    /// KVC-940 where a file cannot be opened, or the system has no port, thread or randomness to give.
    pub fn start(self) -> Result<Viewing> {
        let failed = |error: std::io::Error| Error::io(&error, "the inspector");
        for path in &self.files {
            File::open(path).map_err(|error| Error::source(&error, path.display()))?;
        }
        let secret = secret()?;
        let shared = Arc::new(Self {
            inspector: self.inspector.with_keys(&self.keys),
            ..self
        });
        let links = (0..shared.files.len()).map(|file| format!("/{secret}/{file}"));
        let links = links.collect::<Vec<_>>().join("&");
        let router = Router::new()
            .route(&format!("/{secret}/inspect"), get(page))
            .route(&format!("/{secret}/{{file}}"), get(file))
            .with_state(shared);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build()
            .map_err(failed)?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let listener = runtime
            .block_on(TcpListener::bind(address))
            .map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let (sender, stopped) = watch::channel(false);
        let thread = thread::Builder::new()
            .spawn(move || runtime.block_on(serve(&listener, router, stopped)))
            .map_err(failed)?;
        Ok(Viewing {
            url: format!("http://{address}/{secret}/inspect#{links}"),
            stop: Stop::by(sender),
            thread,
        })
    }
}

impl Viewing {
    /// Returns the address of the page, which shows the capsule at once.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Returns the word to end.
    #[must_use]
    pub fn stop(&self) -> Stop {
        self.stop.clone()
    }

    /// Waits until it has ended.
    ///
    /// # Errors
    /// KVC-940 where it ended by itself.
    pub fn wait(self) -> Result<()> {
        let broken = |_| Error::new(Code::LocalIo, "the inspector has broken off");
        self.thread.join().map_err(broken)
    }
}

/// 128 random bits, in hexadecimal.
fn secret() -> Result<String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)
        .map_err(|_| Error::new(Code::LocalIo, "the system has no random numbers to give"))?;
    Ok(bytes.iter().fold(String::new(), |mut text, byte| {
        let _infallible = write!(text, "{byte:02x}");
        text
    }))
}

async fn serve(listener: &TcpListener, router: Router, mut stopped: watch::Receiver<bool>) {
    let mut connections = JoinSet::new();
    let ended = stopped.clone();
    loop {
        tokio::select! {
            _ = stopped.changed() => return, // who reads still is the one who ends it
            Some(_) = connections.join_next() => {}
            Ok((stream, _)) = listener.accept() => {
                let connection = Connection::new(stream, PATIENCE);
                connections.spawn(answer(connection, router.clone(), PATIENCE, ended.clone()));
            }
        }
    }
}

async fn page(State(viewer): State<Arc<Viewer>>) -> Response {
    viewer.inspector.answer()
}

async fn file(State(viewer): State<Arc<Viewer>>, Path(file): Path<usize>) -> Response {
    let gone = || StatusCode::NOT_FOUND.into_response();
    let Some(path) = viewer.files.get(file) else {
        return gone();
    };
    let Ok(file) = tokio::fs::File::open(path).await else {
        return gone();
    };
    let Ok(about) = file.metadata().await else {
        return gone();
    };
    let fields = [
        (header::CONTENT_TYPE, "application/vnd.kvcap"),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    let length = [(header::CONTENT_LENGTH, about.len())];
    // as long as was promised, whoever writes to it meanwhile
    let file = file.take(about.len());
    let body = Body::from_stream(ReaderStream::with_capacity(file, PIECE));
    (fields, length, body).into_response()
}
