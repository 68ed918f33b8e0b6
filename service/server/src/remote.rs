//! Asking a gateway that runs, here or elsewhere (http-v1): one request at a time, for programs.

use std::{path::Path, time::Duration};

use kvcap::{Code, Error, Result};
use kvcap_store::client;
use serde_json::Value;
use ureq::{Agent, http::Request};

use crate::{refusal::code_of, tokens::NewToken};

/// Time in which a connection is there.
const CONNECTING: Duration = Duration::from_secs(10);
/// Time for an answer: a long prompt may be evaluated for it.
const PATIENCE: Duration = Duration::from_secs(3600);
/// Longest answer, in bytes.
const LONGEST: u64 = 64 << 20;

/// A gateway, and who asks it.
pub struct Remote {
    agent: Agent,
    address: String,
    token: NewToken,
}

/// An answer of a gateway that has not refused.
#[derive(Clone, Debug)]
pub struct Reply {
    /// Its status.
    pub status: u16,
    /// Its headers whose names begin with `x-kvcap-`, without that.
    pub told: Vec<(String, String)>,
    /// Its body, where that is JSON.
    pub body: Value,
}

impl std::fmt::Debug for Remote {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Remote")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

impl Reply {
    /// Returns what a header says.
    #[must_use]
    pub fn told(&self, name: &str) -> &str {
        let found = self.told.iter().find(|told| told.0 == name);
        found.map_or("", |told| &told.1)
    }
}

impl Remote {
    /// Returns the gateway at a URL, or at a host and port, for who has the token in a file. With a file of authorities in PEM
    /// its certificate is of one of them, else of one of the web's.
    ///
    /// # Errors
    /// KVC-94x for the files; 945 where they hold no token and no certificate; 944 for authorities without HTTPS.
    pub fn at(address: &str, token: &Path, authorities: Option<&Path>) -> Result<Self> {
        let token = crate::own::read_token(token)?;
        let url = match address.contains("://") {
            true => address.to_owned(),
            false => format!("http://{address}"),
        };
        let address = url.trim_end_matches('/').trim_end_matches("/v1").to_owned();
        let settings = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_connect(Some(CONNECTING))
            .timeout_global(Some(PATIENCE))
            .max_redirects(0)
            .tls_config(client::tls(&address, authorities)?)
            .build();
        Ok(Self {
            agent: Agent::new_with_config(settings),
            address,
            token,
        })
    }

    /// Asks.
    ///
    /// # Errors
    /// The code of a refusal that has one; KVC-940 for one that has none, and where nobody answers.
    pub fn ask(
        &self,
        method: &str,
        path: &str,
        session: Option<&str>,
        body: Option<&Value>,
    ) -> Result<Reply> {
        let at = |error: ureq::Error| {
            client::unanswered("no gateway answers at this address", &self.address, error)
        };
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.address))
            .header("authorization", format!("Bearer {}", self.token.text()));
        if let Some(session) = session {
            request = request.header("x-kvcap-session", session);
        }
        if body.is_some() {
            request = request.header("content-type", "application/json");
        }
        let text = body.map(Value::to_string).unwrap_or_default();
        let request = request.body(text).map_err(|error| at(error.into()))?;
        let mut response = self.agent.run(request).map_err(at)?;
        let status = response.status().as_u16();
        let headers = response.headers().iter();
        let told = headers.filter_map(|(name, value)| {
            let name = name.as_str().strip_prefix("x-kvcap-")?.to_owned();
            Some((name, value.to_str().ok()?.to_owned()))
        });
        let told = told.collect();
        let limited = response.body_mut().with_config().limit(LONGEST);
        let bytes = limited.read_to_vec().map_err(at)?;
        let body: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        match status {
            200..300 => Ok(Reply { status, told, body }),
            _ => Err(refused(status, &body)),
        }
    }
}

fn refused(status: u16, body: &Value) -> Error {
    let text = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
    let said = match body["detail"].as_str() {
        Some(detail) => detail.to_owned(),
        None => text("title"),
    };
    let place = format!("status {status}: {said}");
    match code_of(body) {
        Some(code) => Error::new(code, "the gateway refuses the request").at(place),
        None => {
            let what = "the gateway refuses the request";
            Error::new(Code::LocalIo, what).at(place)
        }
    }
}
