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

pub(crate) struct Connection {
    address: SocketAddr,
    reader: BufReader<TcpStream>,
}

impl Connection {
    pub(crate) fn open(address: SocketAddr) -> Result<Self> {
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

    /// Reads a file that is there, and returns its length.
    #[cfg(feature = "shared")]
    pub(crate) fn get(&mut self, path: &str, token: &str) -> Result<u64> {
        self.head("GET", path, token, 0)?;
        match self.status()? {
            200 => {}
            other => return Err(unexpected(other)),
        }
        let mut length = 0;
        loop {
            let mut line = String::new();
            self.reader
                .read_line(&mut line)
                .map_err(broken(self.address))?;
            match line.trim_end().split_once(": ") {
                Some(("content-length", number)) => length = number.parse().unwrap_or(0),
                Some(_) => {}
                None => break,
            }
        }
        let mut body = io::Read::take(&mut self.reader, length);
        let read = io::copy(&mut body, &mut io::sink()).map_err(broken(self.address))?;
        match read == length && length > 0 {
            true => Ok(read),
            false => Err(unexpected(200)),
        }
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
pub(crate) fn upload(address: SocketAddr, token: &str, path: &Path) -> Result<Duration> {
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
