//! Answers to uploads (http-v1 HTTP-U-8).

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use kvcap::CapsuleId;
use kvcap_store::Tag;
use serde::Serialize;
use utoipa::ToSchema;

use crate::refusal::Answer;

/// What became of an upload.
#[derive(Clone, Debug)]
pub(super) struct Outcome {
    pub(super) id: CapsuleId,
    pub(super) tag: Tag,
    pub(super) bytes: u64,
    pub(super) expires: u64,
    pub(super) unchecked: Vec<&'static str>,
    pub(super) kind: Kind,
}

/// How an upload ended well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Its header was checked, and nothing more was asked.
    Checked,
    /// It was there already.
    There,
    /// It is kept now.
    Kept,
}

/// Facts about a capsule that was accepted.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Accepted {
    /// Id of the capsule
    #[schema(pattern = "^[0-9a-f]{32}$")]
    id: String,
    /// Length of its file
    bytes: u64,
    /// Unix time at which it expires
    expires: u64,
    /// Names of what was not checked
    unchecked: Vec<&'static str>,
}

impl IntoResponse for Outcome {
    fn into_response(self) -> Response {
        let mut response = Json(Accepted {
            id: self.id.to_string(),
            bytes: self.bytes,
            expires: self.expires,
            unchecked: self.unchecked,
        })
        .into_response();
        if self.kind == Kind::Kept {
            *response.status_mut() = StatusCode::CREATED;
        }
        let headers = response.headers_mut();
        if self.kind != Kind::Checked {
            let place = format!("/v1/capsules/{}", self.id);
            for (name, text) in [(header::LOCATION, place), (header::ETAG, self.tag.quoted())] {
                if let Ok(value) = HeaderValue::try_from(text) {
                    headers.insert(name, value);
                }
            }
        }
        response
    }
}

/// The answer to an upload. The connection ends with a refusal: the rest of the body is not waited for.
pub(crate) fn closing(answer: Answer) -> Response {
    answer.unwrap_or_else(|refusal| {
        let mut response = refusal.into_response();
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(header::CONNECTION, close);
        response
    })
}
