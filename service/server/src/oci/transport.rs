//! Requests to a registry of containers, by whom it lets (oci-v1 §§2, 6).

use std::{fs::File, io, path::Path, time::Duration};

use kvcap::{Code, Error, Result};
use kvcap_store::client;
use serde_json::Value;
use ureq::{
    Agent, Body as Received, SendBody,
    http::{Request, Response},
};
use zeroize::Zeroizing;

use super::{
    credentials::Credentials,
    reference::{ImageReference, is_loopback},
};

/// Time in which a connection is there.
const CONNECTING: Duration = Duration::from_secs(10);

/// Time for an answer to begin, and for silence within a body.
const SILENCE: Duration = Duration::from_secs(60);

/// Longest text of a refusal or a token, in bytes.
const LONGEST: u64 = 256 << 10;

/// Places that an answer may lead to, one after the other.
const PLACES: usize = 5;

/// What is sent.
pub(super) enum Body {
    Nothing,
    Bytes(Vec<u8>),
    File(File),
}

/// A registry, one name in it, and who asks.
#[derive(Debug)]
pub(super) struct Transport {
    agent: Agent,
    /// `SCHEME://HOST`.
    base: String,
    name: String,
    credentials: Credentials,
    /// The header that was accepted last.
    authorization: Option<Zeroizing<String>>,
}

/// An answer.
pub(super) struct Answer<'a> {
    of: &'a Transport,
    response: Response<Received>,
}

impl Transport {
    pub(super) fn to(
        reference: &ImageReference,
        credentials: Credentials,
        authorities: Option<&Path>,
    ) -> Result<Self> {
        let is_plain = is_loopback(reference.host()) && authorities.is_none();
        let scheme = if is_plain { "http" } else { "https" };
        let base = format!("{scheme}://{}", reference.host());
        let settings = Agent::config_builder()
            .http_status_as_error(false)
            .https_only(!is_plain)
            .tls_config(client::tls(&base, authorities)?)
            .max_redirects(0)
            .timeout_connect(Some(CONNECTING))
            .timeout_recv_response(Some(SILENCE))
            .timeout_per_read(Some(SILENCE))
            .timeout_per_write(Some(SILENCE))
            .build();
        Ok(Self {
            agent: Agent::new_with_config(settings),
            base,
            name: reference.name().to_owned(),
            credentials,
            authorization: None,
        })
    }

    /// Asks for a path below the name, or at a URL; once more with name and password, or a token, where the registry asks
    /// for them.
    pub(super) fn ask(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &dyn Fn() -> io::Result<Body>,
    ) -> Result<Answer<'_>> {
        let url = match path.starts_with("http://") || path.starts_with("https://") {
            true => path.to_owned(),
            false => format!("{}/v2/{}/{path}", self.base, self.name),
        };
        let mut response = self.send(method, &url, headers, body)?;
        if response.status().as_u16() == 401
            && let Some(challenge) = challenge(&response)
            && let Some(authorization) = self.authorize(&challenge)?
        {
            self.authorization = Some(authorization);
            response = self.send(method, &url, headers, body)?;
        }
        let mut answer = Answer { of: self, response };
        // what it has may lie elsewhere
        for _ in 0..PLACES {
            if !answer.leads_elsewhere() {
                break;
            }
            let place = answer.location()?;
            answer.response = self.send(method, &place, headers, body)?;
        }
        Ok(answer)
    }

    fn send(
        &self,
        method: &str,
        url: &str,
        headers: &[(&str, &str)],
        body: &dyn Fn() -> io::Result<Body>,
    ) -> Result<Response<Received>> {
        let mut request = Request::builder().method(method).uri(url);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let own = url.strip_prefix(&self.base);
        // not to another host that it leads to
        if own.is_some_and(|path| path.starts_with('/'))
            && let Some(authorization) = &self.authorization
        {
            request = request.header("authorization", authorization.as_str());
        }
        let body = body().map_err(|error| Error::source(&error, "capsule"))?;
        let body = match body {
            Body::Nothing => SendBody::none(),
            Body::Bytes(bytes) => SendBody::from_owned_reader(io::Cursor::new(bytes)),
            Body::File(file) => SendBody::from_owned_reader(file),
        };
        let request = request.body(body).map_err(|error| self.failed(error))?;
        self.agent.run(request).map_err(|error| self.failed(error))
    }

    /// What is to be sent to somebody who asks so; nothing where there is nothing to send.
    fn authorize(&self, challenge: &Challenge) -> Result<Option<Zeroizing<String>>> {
        let realm = match challenge {
            Challenge::Basic => return Ok(self.credentials.basic()),
            Challenge::Bearer(realm) => realm,
        };
        self.check_place(realm)?;
        let mut request = Request::get(realm.as_str());
        if let Some(basic) = self.credentials.basic() {
            request = request.header("authorization", basic.as_str());
        }
        let request = request.body(()).map_err(|error| self.failed(error))?;
        let response = self.agent.run(request);
        let response = response.map_err(|error| self.failed(error))?;
        let answer = Answer { of: self, response };
        answer.expect(&[200])?;
        let text = Zeroizing::new(answer.bytes(LONGEST)?);
        let told: Value = serde_json::from_slice(&text).unwrap_or_default();
        let token = told["token"].as_str().or(told["access_token"].as_str());
        Ok(token.map(|token| Zeroizing::new(format!("Bearer {token}"))))
    }

    /// Refuses plain HTTP but to this machine.
    fn check_place(&self, url: &str) -> Result<()> {
        let ends = |c| ['/', '?', '#'].contains(&c);
        let host = match (url.strip_prefix("https://"), url.strip_prefix("http://")) {
            (Some(_), _) => return Ok(()),
            (_, host) => host.and_then(|rest| rest.split(ends).next()),
        };
        match host {
            Some(host) if is_loopback(host) => Ok(()),
            _ => {
                let what = "the registry leads elsewhere, over plain HTTP";
                Err(Error::new(Code::LocalIo, what).at(&self.base))
            }
        }
    }

    fn failed(&self, error: impl Into<ureq::Error>) -> Error {
        client::unanswered("no registry answers at this address", &self.base, error)
    }
}

impl Answer<'_> {
    pub(super) fn status(&self) -> u16 {
        self.response.status().as_u16()
    }

    /// Refuses another status.
    pub(super) fn expect(&self, statuses: &[u16]) -> Result<()> {
        let status = self.status();
        if statuses.contains(&status) {
            return Ok(());
        }
        let what = match status {
            401 | 403 => "the registry does not let this caller",
            404 => "the registry has no such image",
            _ => "the registry refuses the request",
        };
        let place = format!("{}: status {status}", self.place());
        Err(Error::new(Code::LocalIo, what).at(place))
    }

    /// The registry and the name that were asked.
    pub(super) fn place(&self) -> String {
        format!("{}/{}", self.of.base, self.of.name)
    }

    /// What a header says.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.response.headers().get(name)?.to_str().ok()
    }

    /// Where the answer goes on (RFC 8288), if it does: at the same registry.
    pub(super) fn next(&self) -> Result<Option<String>> {
        let Some(told) = self.header("link").and_then(next_in) else {
            return Ok(None);
        };
        let path = told.strip_prefix(&self.of.base).unwrap_or(told);
        match path.starts_with('/') && !path.starts_with("//") {
            true => Ok(Some(format!("{}{path}", self.of.base))),
            false => {
                let what = "the registry's answer goes on elsewhere";
                Err(Error::new(Code::LocalIo, what).at(&self.of.base))
            }
        }
    }

    /// Where the answer leads.
    pub(super) fn location(&self) -> Result<String> {
        let told = self.header("location").unwrap_or_default();
        if told.starts_with('/') && !told.starts_with("//") {
            return Ok(format!("{}{told}", self.of.base));
        }
        self.of.check_place(told).map(|()| told.to_owned())
    }

    fn leads_elsewhere(&self) -> bool {
        [301, 302, 303, 307, 308].contains(&self.status())
    }

    pub(super) fn bytes(self, most: u64) -> Result<Vec<u8>> {
        let (of, mut response) = (self.of, self.response);
        let limited = response.body_mut().with_config().limit(most);
        limited.read_to_vec().map_err(|error| match error {
            ureq::Error::BodyExceedsLimit(_) => {
                let what = "the registry's answer is longer than is read";
                Error::new(Code::LocalIo, what).at(&of.base)
            }
            error => of.failed(error),
        })
    }

    pub(super) fn into_reader(self) -> impl io::Read {
        self.response.into_body().into_reader()
    }
}

/// What a registry asks for (RFC 9110 §11.6.1).
#[derive(Debug, PartialEq, Eq)]
enum Challenge {
    Basic,
    /// A token, from this URL.
    Bearer(String),
}

fn challenge(response: &Response<Received>) -> Option<Challenge> {
    let told = response.headers().get("www-authenticate")?;
    challenge_in(told.to_str().ok()?)
}

fn challenge_in(text: &str) -> Option<Challenge> {
    let (scheme, rest) = text.split_once(' ').unwrap_or((text, ""));
    if scheme.eq_ignore_ascii_case("basic") {
        return Some(Challenge::Basic);
    }
    if !scheme.eq_ignore_ascii_case("bearer") {
        return None;
    }
    let of = |wanted: &str| {
        let start = rest.find(&format!("{wanted}=\""))? + wanted.len() + 2;
        let value = rest.get(start..)?;
        value.get(..value.find('"')?).map(str::to_owned)
    };
    let mut url = of("realm")?;
    for name in ["service", "scope"] {
        if let Some(value) = of(name) {
            let and = if url.contains('?') { '&' } else { '?' };
            url = format!("{url}{and}{name}={}", escaped(&value));
        }
    }
    Some(Challenge::Bearer(url))
}

/// The target of the link that is the next.
fn next_in(text: &str) -> Option<&str> {
    let mut links = text.split('<').skip(1);
    links.find_map(|link| {
        let (target, parameters) = link.split_once('>')?;
        let mut parameters = parameters.split([';', ',']).map(str::trim);
        parameters
            .any(|text| text == "rel=\"next\"" || text == "rel=next")
            .then_some(target)
    })
}

/// A value in a query (RFC 3986 §2).
pub(super) fn escaped(value: &str) -> String {
    let mut text = String::new();
    for byte in value.bytes() {
        match byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            true => text.push(char::from(byte)),
            false => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_link_is_found_among_others() {
        for (text, next) in [
            (
                "</v2/a/referrers/b?n=2>; rel=\"next\"",
                Some("/v2/a/referrers/b?n=2"),
            ),
            ("<a>; rel=\"prev\", <b>; title=\"x\"; rel=next", Some("b")),
            ("<a>; rel=\"prev\"", None),
            ("a; rel=\"next\"", None),
            ("<a; rel=\"next\"", None),
        ] {
            assert_eq!(next_in(text), next, "{text}");
        }
    }

    #[test]
    fn what_a_registry_asks_for_is_understood() {
        let bearer = "Bearer realm=\"https://auth.example.com/token\",service=\"images\",\
                      scope=\"repository:a/b:pull,push\"";
        let url =
            "https://auth.example.com/token?service=images&scope=repository%3Aa%2Fb%3Apull%2Cpush";
        for (text, challenge) in [
            (bearer, Some(Challenge::Bearer(url.to_owned()))),
            ("basic realm=\"x\"", Some(Challenge::Basic)),
            ("Basic", Some(Challenge::Basic)),
            ("Bearer realm=\"open", None),
            ("Digest realm=\"x\"", None),
        ] {
            assert_eq!(challenge_in(text), challenge, "{text}");
        }
    }
}
