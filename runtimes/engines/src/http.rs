//! HTTP/1.1 to an engine of the same machine: one connection a request.

use std::{io, path::PathBuf, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::{
    Method, Request,
    body::Incoming,
    client::conn::http1,
    header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue},
};
use hyper_util::rt::TokioIo;
use kvcap::{Code, Error};
use serde::Serialize;
use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
    task::JoinHandle,
    time::timeout,
};

use crate::error::EngineError;

/// Time in which a connection is there.
const CONNECTING: Duration = Duration::from_secs(5);

/// Longest answer that is held in memory.
const MOST: usize = 64 << 20;

/// Address that an engine listens on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A Unix socket.
    Socket(PathBuf),
    /// Host and port.
    Tcp(String),
}

/// Who speaks to one engine.
#[derive(Clone)]
pub(crate) struct Client {
    address: Address,
    /// `Bearer …`, marked as a secret.
    authorization: Option<HeaderValue>,
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// An answer whose body is still to be read. Its connection ends with it.
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) body: Incoming,
    _connection: Connection,
}

/// Ends when it is dropped, so that the engine sees at once that nobody listens.
struct Connection(JoinHandle<()>);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// No body.
pub(crate) const NOTHING: Option<&Value> = None;

impl Client {
    pub(crate) fn new(address: Address, key: Option<&str>) -> Result<Self, EngineError> {
        let header = |key: &str| {
            let mut value = HeaderValue::from_str(&format!("Bearer {key}")).map_err(|_| {
                EngineError::Unsuitable(Error::new(
                    Code::LocalUsage,
                    "the engine's key has characters that no key has",
                ))
            })?;
            value.set_sensitive(true);
            Ok(value)
        };
        Ok(Self {
            address,
            authorization: key.map(header).transpose()?,
        })
    }

    async fn connect(&self) -> io::Result<Box<dyn Stream>> {
        let connecting = async {
            Ok(match &self.address {
                Address::Socket(path) => Box::new(UnixStream::connect(path).await?) as _,
                Address::Tcp(address) => {
                    let stream = TcpStream::connect(address).await?;
                    stream.set_nodelay(true)?;
                    Box::new(stream) as _
                }
            })
        };
        timeout(CONNECTING, connecting).await?
    }

    /// Sends a request; the answer as soon as its head is there.
    ///
    /// # Errors
    /// [`EngineError::Lost`] where nobody answers.
    pub(crate) async fn open(
        &self,
        method: Method,
        path: &str,
        body: Option<&(impl Serialize + Sync)>,
    ) -> Result<Response, EngineError> {
        let lost = |_| EngineError::Lost;
        let stream = self.connect().await.map_err(|_| EngineError::Lost)?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(lost)?;
        let connection = Connection(tokio::spawn(async move {
            let _ = connection.await;
        }));
        let mut request = Request::builder().method(method).uri(path);
        request = request.header(HOST, "localhost");
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        let bytes = match body {
            Some(body) => {
                request = request.header(CONTENT_TYPE, "application/json");
                let text = serde_json::to_vec(body);
                Bytes::from(text.map_err(|_| io("a request is no json"))?)
            }
            None => Bytes::new(),
        };
        let request = request.body(Full::new(bytes)).map_err(|_| {
            EngineError::Unsuitable(Error::new(Code::LocalUsage, "an engine has no such path"))
        })?;
        let response = sender.send_request(request).await.map_err(lost)?;
        Ok(Response {
            status: response.status().as_u16(),
            body: response.into_body(),
            _connection: connection,
        })
    }

    /// Sends a request; its answer as one JSON, within `patience`.
    ///
    /// # Errors
    /// [`EngineError::Lost`] where nobody answers, [`EngineError::Refused`] with the engine's own sentence,
    /// [`EngineError::Io`] where the answer is late, too long or no JSON.
    pub(crate) async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<&(impl Serialize + Sync)>,
        patience: Duration,
    ) -> Result<Value, EngineError> {
        let asking = async {
            let response = self.open(method, path, body).await?;
            let status = response.status;
            let body = response.all().await?;
            match status {
                200 => json(&body),
                _ => Err(refused(status, &body)),
            }
        };
        timeout(patience, asking)
            .await
            .map_err(|_| io("the engine does not answer in time"))?
    }
}

impl Response {
    /// Reads the body.
    pub(crate) async fn all(self) -> Result<Bytes, EngineError> {
        match Limited::new(self.body, MOST).collect().await {
            Ok(body) => Ok(body.to_bytes()),
            Err(error) if error.is::<LengthLimitError>() => {
                Err(io("the engine's answer is longer than 64 MiB"))
            }
            Err(_) => Err(EngineError::Lost),
        }
    }
}

/// An answer as JSON.
pub(crate) fn json(body: &[u8]) -> Result<Value, EngineError> {
    serde_json::from_slice(body).map_err(|_| io("the engine's answer is no json"))
}

/// The engine's own words, if it has any.
pub(crate) fn refused(status: u16, body: &[u8]) -> EngineError {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let message = match (&body["error"]["message"], &body["error"]) {
        (Value::String(message), _) | (_, Value::String(message)) => message.clone(),
        _ => format!("the engine answers with status {status}"),
    };
    EngineError::Refused {
        status: if (400..600).contains(&status) {
            status
        } else {
            502
        },
        message,
    }
}

pub(crate) fn io(what: &'static str) -> EngineError {
    EngineError::Io(Error::new(Code::LocalIo, what))
}
