//! The interface described for programs, from what stands at its handlers (OpenAPI 3.1; http-v1 §2).

use axum::{
    http::header,
    response::{IntoResponse, Response},
};
use utoipa::{
    Modify, OpenApi,
    openapi::{
        self,
        security::{Http, HttpAuthScheme, SecurityScheme},
    },
};

use super::{admin, answer::Accepted, reading, resumable, upload, versions};
use crate::refusal::Problem;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "KV capsules over HTTP",
        version = "1",
        description = "Described in words, with every rule, by spec/http-v1.md.",
        license(name = "Apache-2.0 OR MIT")
    ),
    paths(
        upload::check,
        upload::post,
        upload::put,
        reading::get,
        reading::head,
        reading::delete,
        resumable::options,
        resumable::offset,
        resumable::append,
        resumable::delete,
        versions::list,
        versions::show,
        versions::put,
        versions::delete,
        admin::health,
        admin::ready,
        admin::metrics
    ),
    components(schemas(Accepted, Problem)),
    modifiers(&Token)
)]
struct Document;

struct Token;

impl Modify for Token {
    fn modify(&self, document: &mut openapi::OpenApi) {
        let scheme = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("token", scheme);
    }
}

/// The description of what a relay has.
pub(crate) fn described() -> openapi::OpenApi {
    Document::openapi()
}

/// `GET /openapi.json`.
pub(super) async fn document(described: String) -> Response {
    let typ = [(header::CONTENT_TYPE, "application/json")];
    (typ, described).into_response()
}
