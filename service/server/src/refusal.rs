//! Refusals as problem details (http-v1 §4): a code and its meaning, and nothing of anybody else.

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use kvcap::{Code, Error};
use serde::Serialize;
use utoipa::ToSchema;

/// Seconds after which a caller who came too often, or at a bad time, may come again.
const LATER: &str = "1";

/// Reason that a request is refused.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// By a code of the specification.
    Code(Error),
    /// By a code, though nothing is wrong with the request: the relay cannot judge.
    Unready(Error),
    /// By HTTP alone.
    Status(StatusCode),
    /// By the engine, with a sentence of its own.
    #[cfg(feature = "gateway")]
    Engine(StatusCode, String),
    /// The engine has stopped.
    #[cfg(feature = "gateway")]
    Lost,
}

/// Refusal as problem details (RFC 9457): with `code` and `name` where it has a code.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Problem {
    /// `urn:kvcap:KVC-nnn`, or `about:blank` without a code
    #[serde(rename = "type")]
    kind: String,
    /// Meaning of the code, or of the status
    title: &'static str,
    /// Status of the answer
    status: u16,
    /// Number of the code, as spec/errors.md has it
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<u16>,
    /// Name of the code
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'static str>,
    /// Sentence of an engine, of its caller's own request
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
}

/// Result of handling a request.
pub(crate) type Answer<T = Response> = Result<T, Refusal>;

impl Refusal {
    /// The status of HTTP-P-3.
    fn status(&self) -> StatusCode {
        match self {
            Self::Status(status) => *status,
            Self::Unready(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Code(error) => status_of(error.public().code()),
            #[cfg(feature = "gateway")]
            Self::Engine(status, _) => *status,
            #[cfg(feature = "gateway")]
            Self::Lost => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// What an engine has said.
    fn detail(&self) -> Option<String> {
        match self {
            #[cfg(feature = "gateway")]
            Self::Engine(_, message) => Some(message.clone()),
            _ => None,
        }
    }

    /// The code, where there is one.
    pub(crate) fn code(&self) -> Option<Code> {
        match self {
            Self::Code(error) | Self::Unready(error) => Some(error.public().code()),
            Self::Status(_) => None,
            #[cfg(feature = "gateway")]
            Self::Engine(..) | Self::Lost => None,
        }
    }

    /// A refusal of the engine.
    #[cfg(feature = "gateway")]
    pub(crate) fn engine(status: u16, message: String) -> Self {
        let status = StatusCode::from_u16(status).ok();
        let status = status.filter(|status| status.is_client_error() || status.is_server_error());
        Self::Engine(status.unwrap_or(StatusCode::BAD_GATEWAY), message)
    }
}

/// The code in problem details, if one is there.
#[cfg(feature = "gateway")]
pub(crate) fn code_of(problem: &serde_json::Value) -> Option<Code> {
    let number = problem["code"].as_u64()?;
    Code::from_number(u16::try_from(number).ok()?)
}

fn status_of(code: Code) -> StatusCode {
    match code.number() {
        910 => StatusCode::PAYLOAD_TOO_LARGE,
        941 | 947 => StatusCode::CONFLICT,
        308..=311 | 313..=316 | 412 | 930..=946 | 948 => StatusCode::SERVICE_UNAVAILABLE,
        300..=499 | 600..=799 => StatusCode::FORBIDDEN,
        _ => StatusCode::UNPROCESSABLE_ENTITY,
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::Code(error)
    }
}

impl From<StatusCode> for Refusal {
    fn from(status: StatusCode) -> Self {
        Self::Status(status)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = self.status();
        let code = self.code();
        let problem = Problem {
            kind: code.map_or("about:blank".to_owned(), |code| format!("urn:kvcap:{code}")),
            title: match code {
                Some(code) => code.meaning(),
                None => status.canonical_reason().unwrap_or_default(),
            },
            status: status.as_u16(),
            code: code.map(Code::number),
            name: code.map(Code::slug),
            detail: self.detail(),
        };
        let mut response = (status, Json(problem)).into_response();
        // for the record
        if let Some(code) = code {
            response.extensions_mut().insert(code);
        }
        let headers = response.headers_mut();
        let typ = HeaderValue::from_static("application/problem+json");
        headers.insert(header::CONTENT_TYPE, typ);
        match status {
            StatusCode::UNAUTHORIZED => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static(LATER));
            }
            // who is in the way is gone in a moment, or already is and has not been missed yet
            _ if code == Some(Code::LocalBusy) => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static(LATER));
            }
            _ => {}
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_the_status_of_the_table() {
        for code in Code::ALL {
            let expected = match code.number() {
                910 => 413,
                941 | 947 => 409,
                308..=311 | 313..=316 | 412 => 503,
                number if (930..=946).contains(&number) || number == 948 => 503,
                number if [3, 4, 6, 7].contains(&(number / 100)) => 403,
                _ => 422,
            };
            assert_eq!(status_of(*code).as_u16(), expected, "{code}");
        }
        let unready = Refusal::Unready(Error::new(Code::KeyWeak, "a key"));
        assert_eq!(unready.status(), 503);
    }
}
