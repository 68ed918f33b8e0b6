//! The gateway's own resources described for programs (OpenAPI 3.1; http-v1 §§11, 12).

#![allow(unused_qualifications, reason = "the derived descriptions have them")]

use utoipa::{OpenApi, openapi};

use super::{answering, bases, events, sessions};

#[derive(OpenApi)]
#[openapi(paths(
    answering::models,
    answering::completions,
    answering::chat,
    bases::list,
    bases::show,
    bases::put,
    sessions::list,
    sessions::show,
    events::list,
    events::append,
    sessions::checkpoint,
    sessions::resume,
    events::revert
))]
struct Document;

/// The description of what a gateway has beside a relay.
pub(crate) fn described() -> openapi::OpenApi {
    Document::openapi()
}
