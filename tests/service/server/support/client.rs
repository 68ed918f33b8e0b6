//! HTTP/1.1 by hand: heads and bodies in any pieces, and answers as they are.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use serde_json::Value;

/// Longer than any answer takes; a test that waits so long fails.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Client {
    reader: BufReader<TcpStream>,
}

#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let found = self.fields.iter().find(|field| field.0 == name);
        found.map(|field| field.1.as_str())
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// The status, and the code or 0.
    pub(crate) fn told(&self) -> (u16, u64) {
        let problem = self.field("content-type") == Some("application/problem+json");
        let code = problem.then(|| self.json()["code"].as_u64()).flatten();
        (self.status, code.unwrap_or(0))
    }
}

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        Self::try_connect(address).unwrap()
    }

    /// A connection, if somebody listens.
    pub(crate) fn try_connect(address: SocketAddr) -> Option<Self> {
        let stream = TcpStream::connect(address).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        let reader = BufReader::new(stream);
        Some(Self { reader })
    }

    /// One request with its whole body, and the answer.
    pub(crate) fn ask(
        &mut self,
        token: &str,
        method: &str,
        path: &str,
        fields: &[&str],
        body: &[u8],
    ) -> Reply {
        self.try_ask(token, method, path, fields, body)
            .expect("an answer")
    }

    /// The same of who may be gone.
    pub(crate) fn try_ask(
        &mut self,
        token: &str,
        method: &str,
        path: &str,
        fields: &[&str],
        body: &[u8],
    ) -> Option<Reply> {
        self.try_head(token, method, path, fields, Some(body.len()))
            .ok()?;
        // a refusal may come before all is sent
        let _sent = self.send(body);
        self.try_reply(method)
    }

    /// The head of a request.
    pub(crate) fn head(
        &mut self,
        token: &str,
        method: &str,
        path: &str,
        fields: &[&str],
        length: Option<usize>,
    ) {
        self.try_head(token, method, path, fields, length).unwrap();
    }

    fn try_head(
        &mut self,
        token: &str,
        method: &str,
        path: &str,
        fields: &[&str],
        length: Option<usize>,
    ) -> std::io::Result<()> {
        let mut head = format!("{method} {path} HTTP/1.1\r\nhost: relay\r\n");
        if !token.is_empty() {
            head += &format!("authorization: Bearer {token}\r\n");
        }
        if let Some(length) = length.filter(|length| *length > 0 || method != "GET") {
            head += &format!("content-length: {length}\r\n");
        }
        for field in fields {
            head += &format!("{field}\r\n");
        }
        head += "\r\n";
        self.send(head.as_bytes())
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.reader.get_ref().write_all(bytes)
    }

    /// A connection that can no longer be written to.
    pub(crate) fn end_sending(&self) {
        let stream = self.reader.get_ref();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
    }

    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.reader.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    fn try_line(&mut self) -> Option<String> {
        let mut line = String::new();
        let read = self.reader.read_line(&mut line).ok()?;
        (read > 0).then(|| line.trim_end().to_owned())
    }

    /// The answer, after those in between.
    pub(crate) fn reply(&mut self, method: &str) -> Reply {
        self.try_reply(method).expect("an answer")
    }

    /// The answer, or none where the connection has ended.
    pub(crate) fn try_reply(&mut self, method: &str) -> Option<Reply> {
        loop {
            let mut first = String::new();
            if self.reader.read_line(&mut first).ok()? == 0 {
                return None;
            }
            let status: u16 = first.split(' ').nth(1)?.parse().ok()?;
            let mut fields = Vec::new();
            loop {
                let line = self.try_line()?;
                if line.is_empty() {
                    break;
                }
                let (name, value) = line.split_once(':')?;
                fields.push((name.to_ascii_lowercase(), value.trim().to_owned()));
            }
            if status < 200 {
                continue;
            }
            let mut reply = Reply {
                status,
                fields,
                body: Vec::new(),
            };
            let bodiless = method == "HEAD" || [204, 304].contains(&status);
            if !bodiless {
                let length = reply
                    .field("content-length")
                    .map(|text| text.parse().unwrap());
                let mut body = vec![0; length.unwrap_or(0)];
                match length {
                    Some(_) => self.reader.read_exact(&mut body).ok()?,
                    None => drop(self.reader.read_to_end(&mut body).ok()?),
                }
                reply.body = match reply.field("transfer-encoding") {
                    Some("chunked") => unchunked(&body)?,
                    _ => body,
                };
            }
            return Some(reply);
        }
    }
}

/// A body from its chunks, or none where the last one is missing.
fn unchunked(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = rest.windows(2).position(|pair| pair == b"\r\n")?;
        let length = std::str::from_utf8(&rest[..end]).ok()?;
        let length = usize::from_str_radix(length, 16).ok()?;
        if length == 0 {
            return Some(body);
        }
        body.extend(rest.get(end + 2..end + 2 + length)?);
        rest = rest.get(end + 4 + length..)?;
    }
}
