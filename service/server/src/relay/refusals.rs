//! Refusals as the description has them (http-v1 §4).

use std::collections::BTreeMap;

use axum::http::StatusCode;
use utoipa::{
    IntoResponses,
    openapi::{ContentBuilder, Ref, RefOr, Response, ResponseBuilder},
};

/// Refusals of every request that a token is asked for.
pub(crate) struct Asked;

/// Refusals of what has a body.
pub(crate) struct Received;

/// Refusals of what an engine evaluates.
#[cfg(feature = "gateway")]
pub(crate) struct Engine;

#[cfg(feature = "gateway")]
impl IntoResponses for Engine {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        refusals(&[501, 502])
    }
}

impl IntoResponses for Asked {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        refusals(&[400, 401, 403, 404, 422, 429, 500, 503])
    }
}

impl IntoResponses for Received {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        refusals(&[408, 409, 413, 415, 507])
    }
}

fn refusals(statuses: &[u16]) -> BTreeMap<String, RefOr<Response>> {
    let refusal = |status: &u16| {
        let known = StatusCode::from_u16(*status).ok();
        let reason = known.and_then(|status| status.canonical_reason());
        let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem")));
        let response = ResponseBuilder::new()
            .description(reason.unwrap_or_default())
            .content("application/problem+json", content.build());
        (status.to_string(), RefOr::T(response.build()))
    };
    statuses.iter().map(refusal).collect()
}
