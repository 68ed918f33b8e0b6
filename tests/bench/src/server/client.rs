//! A client that blocks.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Write},
    net::{SocketAddr, TcpStream},
    path::Path,
    time::{Duration, Instant},
};

use kvcap::Result;

use super::{broken, failed, unexpected};

/// Longer than anything takes.
const PATIENCE: Duration = Duration::from_secs(600);

pub(super) struct Connection {
    address: SocketAddr,
    reader: BufReader<TcpStream>,
}

impl Connection {
    pub(super) fn open(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).map_err(broken(address))?;
        stream.set_nodelay(true).map_err(broken(address))?;
        stream
            .set_read_timeout(Some(PATIENCE))
            .map_err(broken(address))?;
        let reader = BufReader::new(stream);
        Ok(Self { address, reader })
    }

    pub(super) fn head(
        &mut self,
        method: &str,
        path: &str,
        token: &str,
        length: usize,
    ) -> Result<()> {
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: relay\r\nauthorization: Bearer {token}\r\n\
             content-length: {length}\r\n\r\n"
        );
        self.send(head.as_bytes())
    }

    pub(super) fn send(&mut self, bytes: &[u8]) -> Result<()> {
        let mut stream = self.reader.get_ref();
        stream.write_all(bytes).map_err(broken(self.address))
    }

    /// The status of the answer.
    pub(super) fn status(&mut self) -> Result<u16> {
        let mut line = String::new();
        self.reader
            .read_line(&mut line)
            .map_err(broken(self.address))?;
        let status = line.split(' ').nth(1).and_then(|text| text.parse().ok());
        status.ok_or_else(|| unexpected(0))
    }

    /// A request without a body, and the status that it has to be answered with.
    pub(super) fn expect(
        &mut self,
        method: &str,
        path: &str,
        token: &str,
        status: u16,
    ) -> Result<()> {
        self.head(method, path, token, 0)?;
        match self.status()? {
            told if told == status => Ok(()),
            other => Err(unexpected(other)),
        }
    }
}

/// Uploads a file; from its first byte to the answer that it is kept.
pub(super) fn upload(address: SocketAddr, token: &str, path: &Path) -> Result<Duration> {
    let mut file = File::open(path).map_err(failed(path))?;
    let len = file.metadata().map_err(failed(path))?.len();
    let mut connection = Connection::open(address)?;
    let since = Instant::now();
    connection.head(
        "POST",
        "/v1/capsules",
        token,
        usize::try_from(len).unwrap_or(usize::MAX),
    )?;
    let mut stream = connection.reader.get_ref();
    io::copy(&mut file, &mut stream).map_err(broken(address))?;
    match connection.status()? {
        201 => Ok(since.elapsed()),
        other => Err(unexpected(other)),
    }
}
