//! A relay as a device asks it (http-v1): capsules up and down, and the order of sessions' versions.

use std::{
    fs::{File, OpenOptions},
    io::{Cursor, Read, Seek, SeekFrom},
    path::Path,
    sync::Arc,
    thread::sleep,
    time::Duration,
};

use kvcap::{CapsuleId, Code, Error, Result, SourceFile, Untrusted, WriteAt, binding::Digest};
use kvcap_store::{Entry, client, input, private};
use serde_json::{Value, json};
use ureq::{
    Agent, Body, SendBody,
    http::{Request, Response},
    tls::TlsConfig,
};
use zeroize::Zeroizing;

/// Time in which a connection is there.
const CONNECTING: Duration = Duration::from_secs(10);
/// Time after which a relay that is silent, or takes nothing, is given up; also the time for the head of an answer.
const SILENCE: Duration = Duration::from_secs(60);
/// Times that a transfer that stands still is tried again, and the first pause before that.
pub(super) const TRIES: u32 = 5;
pub(super) const PAUSE: Duration = Duration::from_millis(200);
/// Most seconds that are waited where a relay says how long.
const LATEST: u64 = 10;
/// Longest answer that is not a capsule, in bytes.
const LONGEST: u64 = 16 << 20;
/// Bytes of a capsule that are sent at once: a longer one is sent so that it can be gone on with.
const AT_ONCE: u64 = 256 << 10;
/// Bytes that are read at once.
const PIECE: usize = 64 << 10;

/// What a token begins with (http-v1 §3).
const TAG: &str = "kvcap-token-1";

/// A relay, and who asks it.
pub struct Relay {
    agent: Agent,
    pub(super) address: String,
    token: Zeroizing<String>,
}

impl std::fmt::Debug for Relay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Relay")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

/// A version of a session that a relay keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    /// Its number.
    pub version: u64,
    /// Number of the last event that it has seen.
    pub cursor: u64,
    /// Time at which it was put, in seconds since 1970, by the relay's clock.
    pub at: u64,
    /// Its sealed version.
    pub capsule: CapsuleId,
    /// Time at which that expires.
    pub expires: u64,
}

/// Content of a request, which may be sent again.
pub(super) enum Content<'a> {
    None,
    Bytes(Arc<[u8]>),
    /// What a file has from a place on.
    Rest(&'a File, u64),
}

impl Content<'_> {
    fn body(&self) -> std::io::Result<SendBody<'static>> {
        Ok(match self {
            Self::None => SendBody::none(),
            Self::Bytes(bytes) => SendBody::from_owned_reader(Cursor::new(Arc::clone(bytes))),
            Self::Rest(file, at) => {
                let mut file = file.try_clone()?;
                file.seek(SeekFrom::Start(*at))?;
                SendBody::from_owned_reader(file)
            }
        })
    }

    fn len(&self) -> std::io::Result<Option<u64>> {
        Ok(match self {
            Self::None => None,
            Self::Bytes(bytes) => u64::try_from(bytes.len()).ok(),
            Self::Rest(file, at) => Some(file.metadata()?.len().saturating_sub(*at)),
        })
    }
}

/// An answer.
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) response: Response<Body>,
}

impl Reply {
    pub(super) fn field(&self, name: &str) -> Option<&str> {
        self.response.headers().get(name)?.to_str().ok()
    }

    fn number(&self, name: &str) -> Option<u64> {
        self.field(name)?.parse().ok()
    }

    pub(super) fn json(mut self) -> Result<Value> {
        let body = self.response.body_mut();
        let bytes = body.with_config().limit(LONGEST).read_to_vec();
        let bytes = bytes.map_err(|error| broken("the relay", error))?;
        match self.status {
            200..300 => serde_json::from_slice(&bytes).map_err(|_| odd("its answer is no JSON")),
            status => Err(refused(status, &bytes)),
        }
    }
}

impl Relay {
    /// Returns the relay at a URL, for who has the token in a private file. With a file of authorities in PEM its certificate
    /// is of one of them, else of one of the web's.
    ///
    /// # Errors
    /// KVC-944 for what is no URL, or with authorities none of HTTPS; 94x for the files; 945 where they hold no token and no
    /// certificate.
    pub fn at(address: &str, token: &Path, authorities: Option<&Path>) -> Result<Self> {
        let address = match address.contains("://") {
            true => address.to_owned(),
            false => format!("http://{address}"),
        };
        let address = address.trim_end_matches('/').trim_end_matches("/v1");
        if !(address.starts_with("http://") || address.starts_with("https://")) {
            let what = "a relay's address is HOST:PORT, or begins with http:// or https://";
            return Err(Error::new(Code::LocalUsage, what).at(address));
        }
        Ok(Self {
            agent: agent(client::tls(address, authorities)?, SILENCE),
            address: address.to_owned(),
            token: read_token(token)?,
        })
    }

    /// Gives up a relay that is silent for so long in place of 60 seconds.
    #[must_use]
    pub fn waiting(self, silence: Duration) -> Self {
        let tls = self.agent.config().tls_config().clone();
        Self {
            agent: agent(tls, silence),
            ..self
        }
    }

    /// Returns the newest version of each of the caller's sessions.
    ///
    /// # Errors
    /// Those of a refusal; KVC-940 where the relay does not answer, or not as one.
    pub fn newest(&self) -> Result<Vec<(String, Placed)>> {
        let mut all: Vec<(String, Placed)> = Vec::new();
        loop {
            let after = all.last().map_or("", |(session, _)| session.as_str());
            let told = self.get(&format!("/v1/versions?after={}", encoded(after)))?;
            let page = told["sessions"]
                .as_array()
                .ok_or_else(|| odd("it names no sessions"))?;
            if page.is_empty() {
                return Ok(all);
            }
            for entry in page {
                let session = entry["session"].as_str().unwrap_or_default();
                let rises = all.last().is_none_or(|(last, _)| last.as_str() < session);
                if session.is_empty() || !rises {
                    return Err(odd("its sessions are out of order"));
                }
                all.push((session.to_owned(), placed(entry)?));
            }
        }
    }

    /// Returns the versions of a session that are kept, ascending; none where there is no such session.
    ///
    /// # Errors
    /// As [`Self::newest`].
    pub fn versions(&self, session: &str) -> Result<Vec<Placed>> {
        let mut all: Vec<Placed> = Vec::new();
        loop {
            let after = all.last().map_or(0, |placed| placed.version);
            let path = format!("/v1/versions/{}?after={after}", encoded(session));
            let reply = self.ask("GET", &path, &[], Content::None)?;
            if reply.status == 404 {
                return Ok(Vec::new());
            }
            let told = reply.json()?;
            let page = told["versions"]
                .as_array()
                .ok_or_else(|| odd("it names no versions"))?;
            if page.is_empty() {
                return Ok(all);
            }
            for entry in page {
                let next = placed(entry)?;
                let rises = all
                    .last()
                    .is_none_or(|last| last.version < next.version && last.cursor <= next.cursor);
                if !rises || next.version == 0 {
                    return Err(odd("its versions are out of order"));
                }
                all.push(next);
            }
        }
    }

    /// Puts a version that follows another one, 0 before the first.
    ///
    /// # Errors
    /// KVC-954 where another one was first; else as [`Self::newest`].
    pub fn put_version(
        &self,
        session: &str,
        version: u64,
        after: u64,
        capsule: CapsuleId,
        states: &[CapsuleId],
    ) -> Result<()> {
        let states: Vec<String> = states.iter().map(CapsuleId::to_string).collect();
        let body = json!({"capsule": capsule.to_string(), "states": states, "after": after});
        let path = format!("/v1/versions/{}/{version}", encoded(session));
        let body = Content::Bytes(body.to_string().into_bytes().into());
        let fields = [("content-type", JSON.to_owned())];
        self.ask("PUT", &path, &fields, body)?.json().map(drop)
    }

    /// Forgets a session's versions, with their capsules; false where there is none.
    ///
    /// # Errors
    /// As [`Self::newest`].
    pub fn forget(&self, session: &str) -> Result<bool> {
        self.delete(&format!("/v1/versions/{}", encoded(session)))
    }

    /// Removes a capsule; false where it is not kept.
    ///
    /// # Errors
    /// As [`Self::newest`].
    pub fn remove(&self, id: CapsuleId) -> Result<bool> {
        self.delete(&format!("/v1/capsules/{id}"))
    }

    fn delete(&self, path: &str) -> Result<bool> {
        let reply = self.ask("DELETE", path, &[], Content::None)?;
        match reply.status {
            204 => Ok(true),
            404 => Ok(false),
            _ => reply.json().map(|_| true),
        }
    }

    /// Has the relay keep the capsule of a file. Returns whether it was new there. One of which a renewal is kept that lives
    /// longer is there.
    ///
    /// # Errors
    /// The codes of a refusal; KVC-940 for the file, and where the relay does not answer.
    pub fn keep(&self, path: &Path) -> Result<bool> {
        let source = SourceFile::open(path)?;
        let untrusted = Untrusted::read_at(&source, &kvcap::Limits::default())?;
        let (id, len) = (untrusted.claims().id, untrusted.file_len());
        let held = self.ask("HEAD", &format!("/v1/capsules/{id}"), &[], Content::None)?;
        let own = Entry::read(&source, &kvcap::Limits::default())?;
        if held.status == 200 && held.field("etag") == Some(own.tag.quoted().as_str()) {
            return Ok(false);
        }
        let failed = |error| Error::source(&error, path.display());
        let mut file = File::open(path).map_err(failed)?;
        let put = match len <= AT_ONCE {
            true => {
                let mut bytes = Vec::new();
                file.read_to_end(&mut bytes).map_err(failed)?;
                self.keep_bytes(bytes)
            }
            false => self.send(&file, len, path),
        };
        match put {
            // a renewal that lives longer has taken its place
            Err(error) if error.code() == Code::LocalExists && held.status == 200 => Ok(false),
            put => put.map(|()| true),
        }
    }

    /// Has the relay keep a short capsule.
    ///
    /// # Errors
    /// As [`Self::keep`].
    pub fn keep_bytes(&self, capsule: Vec<u8>) -> Result<()> {
        let fields = [("content-type", CAPSULE.to_owned())];
        let body = Content::Bytes(capsule.into());
        let reply = self.ask("POST", "/v1/capsules", &fields, body)?;
        reply.json().map(drop)
    }

    /// Sends a long capsule, so that a connection that breaks costs what it had not brought (http-v1 §6).
    fn send(&self, mut file: &File, len: u64, path: &Path) -> Result<()> {
        let failed = |error| Error::source(&error, path.display());
        // its header alone is refused or not before the rest is on its way
        let mut first = vec![0; usize::try_from(AT_ONCE.min(len)).unwrap_or(0)];
        file.read_exact(&mut first).map_err(failed)?;
        let fields = [
            ("content-type", CAPSULE.to_owned()),
            ("upload-complete", "?0".to_owned()),
            ("upload-length", len.to_string()),
        ];
        let mut at = u64::try_from(first.len()).unwrap_or(0);
        let body = Content::Bytes(first.into());
        let created = self.ask("POST", "/v1/capsules", &fields, body)?;
        let upload = match (created.status, created.field("location")) {
            (201, Some(upload)) if created.field("upload-complete") == Some("?0") => {
                upload.to_owned()
            }
            _ => return created.json().map(drop),
        };
        let upload = upload
            .strip_prefix(&self.address)
            .unwrap_or(&upload)
            .to_owned();
        let mut tried = 0;
        loop {
            let fields = [
                ("content-type", "application/partial-upload".to_owned()),
                ("upload-complete", "?1".to_owned()),
                ("upload-offset", at.to_string()),
            ];
            let broken = match self.ask("PATCH", &upload, &fields, Content::Rest(file, at)) {
                Ok(reply) if reply.status == 409 && reply.number("upload-offset").is_some() => {
                    odd("the upload goes on elsewhere")
                }
                Ok(reply) => return reply.json().map(drop),
                Err(broken) => broken,
            };
            tried += 1;
            if tried > TRIES {
                return Err(broken);
            }
            sleep(PAUSE * 2_u32.pow(tried));
            let Ok(held) = self.ask("HEAD", &upload, &[], Content::None) else {
                continue;
            };
            match held.number("upload-offset").filter(|offset| *offset <= len) {
                Some(offset) => {
                    tried = if offset > at { 0 } else { tried };
                    at = offset;
                }
                // it has ended, well or not: what is asked next tells
                None => return Err(broken),
            }
        }
    }

    /// Returns a short capsule that is kept; `None` where it is not there.
    ///
    /// # Errors
    /// The codes of a refusal; KVC-910 for more than `longest` bytes; 940.
    pub fn read(&self, id: CapsuleId, longest: u64) -> Result<Option<Vec<u8>>> {
        let reply = self.ask("GET", &format!("/v1/capsules/{id}"), &[], Content::None)?;
        let mut reply = match reply.status {
            200 => reply,
            404 => return Ok(None),
            _ => return reply.json().map(|_| None),
        };
        if reply
            .number("content-length")
            .is_some_and(|len| len > longest)
        {
            let what = "the relay's capsule is longer than a version may be";
            return Err(Error::new(Code::ResourceBudget, what).at(id));
        }
        let body = reply.response.body_mut().with_config().limit(longest);
        let bytes = body
            .read_to_vec()
            .map_err(|error| broken(&self.address, error))?;
        is_it(&bytes, id)?;
        Ok(Some(bytes))
    }

    /// Writes a capsule that is kept into an output, and goes on where a connection breaks. False where it is not there, or
    /// not any more.
    ///
    /// # Errors
    /// The codes of a refusal; KVC-413 where the relay gives another capsule; 940.
    pub fn fetch(&self, id: CapsuleId, out: &impl WriteAt) -> Result<bool> {
        let path = format!("/v1/capsules/{id}");
        let (mut at, mut tag, mut tried) = (0_u64, None::<String>, 0);
        loop {
            let mut fields = Vec::new();
            if let Some(tag) = tag.as_ref().filter(|_| at > 0) {
                fields.push(("range", format!("bytes={at}-")));
                fields.push(("if-range", tag.clone()));
            }
            let broken = match self.ask("GET", &path, &fields, Content::None) {
                Ok(reply) if reply.status == 404 => return Ok(false),
                Ok(reply) if [200, 206].contains(&reply.status) => {
                    if reply.status == 200 {
                        at = 0;
                    }
                    tag = reply.field("etag").map(str::to_owned);
                    let before = at;
                    let read = self.pour(reply, out, &mut at);
                    tried = if at > before { 0 } else { tried };
                    match read? {
                        None => return Ok(true),
                        Some(broken) => broken,
                    }
                }
                // what cannot be restored any more is not fetched
                Ok(reply) => match reply.json() {
                    Err(error) if is_over(&error) => return Ok(false),
                    Err(error) => return Err(error),
                    Ok(_) => return Err(odd("it gives no capsule")),
                },
                Err(broken) => broken,
            };
            tried += 1;
            if tried > TRIES {
                return Err(broken);
            }
            sleep(PAUSE * 2_u32.pow(tried));
        }
    }

    /// Writes the body of an answer at `at`. Returns why it broke off, if it did.
    fn pour(&self, reply: Reply, out: &impl WriteAt, at: &mut u64) -> Result<Option<Error>> {
        let len = reply.number("content-length");
        let end = len.and_then(|len| at.checked_add(len));
        let mut body = reply.response.into_body().into_reader();
        let mut piece = vec![0; PIECE];
        loop {
            match body.read(&mut piece) {
                Ok(0) if end.is_none_or(|end| end == *at) => return Ok(None),
                Ok(0) => return Ok(Some(odd("its answer ends early"))),
                Err(error) => return Ok(Some(broken(&self.address, error))),
                Ok(len) => {
                    let bytes = piece.get(..len).unwrap_or_default();
                    out.write_all_at(*at, bytes)
                        .map_err(|error| Error::sink(&error, "capsule"))?;
                    *at += u64::try_from(len).unwrap_or(0);
                }
            }
        }
    }

    fn get(&self, path: &str) -> Result<Value> {
        self.ask("GET", path, &[], Content::None)?.json()
    }

    pub(super) fn ask(
        &self,
        method: &str,
        path: &str,
        fields: &[(&str, String)],
        content: Content<'_>,
    ) -> Result<Reply> {
        let read = |error| Error::source(&error, "capsule");
        let mut tried = 0;
        loop {
            let mut request = Request::builder()
                .method(method)
                .uri(format!("{}{path}", self.address))
                .header("authorization", format!("Bearer {}", *self.token));
            for (name, value) in fields {
                request = request.header(*name, value);
            }
            if let Some(len) = content.len().map_err(read)? {
                request = request.header("content-length", len);
            }
            let body = content.body().map_err(read)?;
            let request = request.body(body);
            let request = request.map_err(|error| broken(&self.address, error))?;
            let response = self.agent.run(request);
            let response = response.map_err(|error| broken(&self.address, error))?;
            let status = response.status().as_u16();
            let reply = Reply { status, response };
            // too often, at a bad time, or while somebody else puts the same
            let later = reply
                .number("retry-after")
                .filter(|_| [409, 429, 503].contains(&status));
            tried += 1;
            match later.filter(|_| tried <= TRIES) {
                None => return Ok(reply),
                Some(seconds) => sleep(Duration::from_secs(seconds.clamp(1, LATEST))),
            }
        }
    }
}

fn agent(tls: TlsConfig, silence: Duration) -> Agent {
    let settings = Agent::config_builder()
        .http_status_as_error(false)
        .timeout_connect(Some(CONNECTING.min(silence)))
        .timeout_recv_response(Some(silence))
        .timeout_per_read(Some(silence))
        .timeout_per_write(Some(silence))
        .tls_config(tls)
        .max_redirects(0);
    Agent::new_with_config(settings.build())
}

const JSON: &str = "application/json";
const CAPSULE: &str = "application/vnd.kvcap";

/// Whether bytes are the capsule of an id, whole.
pub(super) fn is_it(bytes: &[u8], id: CapsuleId) -> Result<()> {
    let untrusted = Untrusted::read_at(bytes, &kvcap::Limits::default())?;
    match untrusted.claims().id == id {
        true => Ok(()),
        false => Err(another(id)),
    }
}

pub(super) fn another(id: CapsuleId) -> Error {
    let what = "the relay gives another capsule than it was asked for";
    Error::new(Code::ClaimsSession, what).at(id)
}

/// A state that cannot be restored any more.
fn is_over(error: &Error) -> bool {
    matches!(
        error.code(),
        Code::ClaimsExpired | Code::ClaimsRevoked | Code::KeyCompromised
    )
}

fn placed(entry: &Value) -> Result<Placed> {
    let number = |name: &str| {
        let number = entry[name].as_u64();
        number.ok_or_else(|| odd("a version lacks a number"))
    };
    let capsule = entry["capsule"].as_str().and_then(CapsuleId::from_hex);
    Ok(Placed {
        version: number("version")?,
        cursor: number("cursor")?,
        at: number("at")?,
        capsule: capsule.ok_or_else(|| odd("a version has no capsule"))?,
        expires: number("expires")?,
    })
}

fn refused(status: u16, body: &[u8]) -> Error {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let number = body["code"]
        .as_u64()
        .and_then(|code| u16::try_from(code).ok());
    let title = body["title"].as_str().unwrap_or_default();
    let place = format!("status {status}: {title}");
    let code = number.and_then(Code::from_number).unwrap_or(Code::LocalIo);
    Error::new(code, "the relay refuses").at(place)
}

pub(super) fn broken(address: &str, error: impl Into<ureq::Error>) -> Error {
    let what = "no relay answers at this address, or it broke off";
    client::unanswered(what, address, error)
}

pub(super) fn odd(what: &'static str) -> Error {
    Error::new(Code::LocalIo, "the relay does not answer as one").at(what)
}

/// A part of a path, with every other byte written `%xx`.
fn encoded(text: &str) -> String {
    let mut path = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'~' => {
                path.push(char::from(byte));
            }
            // a dot too: `..` is a way, and no name
            _ => path.push_str(&format!("%{byte:02X}")),
        }
    }
    path
}

/// The token in a private file.
fn read_token(path: &Path) -> Result<Zeroizing<String>> {
    let file = private::open(path, OpenOptions::new().read(true));
    let file = file.map_err(|error| Error::io(&error, path.display()))?;
    private::check(&file, path)?;
    let text = input::small(path, 4096)?;
    let text = Zeroizing::new(String::from_utf8_lossy(&text).trim().to_owned());
    match text.strip_prefix(TAG).and_then(Digest::from_hex) {
        Some(_) => Ok(text),
        None => Err(Error::new(Code::LocalConfig, "this is no token").at(path.display())),
    }
}
