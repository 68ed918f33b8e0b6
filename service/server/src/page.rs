//! The operator's page: one file without anything from elsewhere, which reads `/metrics` with a token that is typed in.

use axum::{
    http::{HeaderName, HeaderValue, header},
    response::{Html, IntoResponse, Response},
};
use sha2::{Digest, Sha256};

use crate::base64::encode;

const PAGE: &str = include_str!("page.html");

/// `GET /`.
pub(crate) async fn page() -> Response {
    answer(Html(PAGE).into_response(), &policy(PAGE))
}

/// An answer with the fields that every page has: its policy, and nothing kept, told or guessed.
pub(crate) fn answer(mut response: Response, policy: &str) -> Response {
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, policy),
        (header::CACHE_CONTROL, "no-store"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (CROSS_ORIGIN_OPENER_POLICY, "same-origin"),
    ] {
        if let Ok(value) = HeaderValue::try_from(value) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

const CROSS_ORIGIN_OPENER_POLICY: HeaderName =
    HeaderName::from_static("cross-origin-opener-policy");

/// Allows the page's own style and script by their digests, requests to where it came from, and nothing else.
fn policy(page: &str) -> String {
    let digest = |tag: &str| {
        let (open, close) = (format!("<{tag}>"), format!("</{tag}>"));
        let after = page.split_once(&open).map_or("", |(_, after)| after);
        let text = after.split_once(&close).map_or("", |(text, _)| text);
        encode(&Sha256::digest(text))
    };
    format!(
        "default-src 'none'; style-src 'sha256-{}'; script-src 'sha256-{}'; connect-src 'self'; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'",
        digest("style"),
        digest("script"),
    )
}
