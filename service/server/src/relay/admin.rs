//! Health and metrics (http-v1 §10).

use std::sync::Arc;

use axum::{
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use kvcap_store::{RegistryFile, roots};

use super::{Relay, aside, refusals::Asked};
use crate::{
    metrics::Gauges,
    refusal::{Answer, Problem, Refusal},
    tokens::Permission,
};

/// `GET /healthz`.
#[utoipa::path(get, path = "/healthz", tag = "operating", responses((status = 200, description = "It runs")))]
pub(super) async fn health() -> StatusCode {
    StatusCode::OK
}

/// `GET /readyz`.
#[utoipa::path(
    get,
    path = "/readyz",
    tag = "operating",
    responses(
        (status = 200, description = "It can judge and keep"),
        (status = 503, description = "It cannot", body = Problem, content_type = "application/problem+json")
    )
)]
pub(super) async fn ready(State(relay): State<Arc<Relay>>) -> Answer {
    aside(move || {
        relay.verifier().judge().map_err(Refusal::Unready)?;
        relay.store.check().map_err(Refusal::Unready)?;
        Ok(StatusCode::OK.into_response())
    })
    .await
}

/// `GET /metrics`.
#[utoipa::path(
    get,
    path = "/metrics",
    tag = "operating",
    responses((status = 200, description = "Figures, for Prometheus", body = String, content_type = "text/plain; version=0.0.4"), Asked),
    security(("token" = []))
)]
pub(super) async fn metrics(State(relay): State<Arc<Relay>>, headers: HeaderMap) -> Answer {
    relay.caller(&headers, Permission::Admin)?;
    aside(move || {
        let (capsules, bytes) = relay.store.counts()?;
        let text = relay.metrics.render(Gauges {
            capsules,
            bytes,
            uploads: relay.gates.uploads(),
            revocation_age: revocation_age(&relay),
            edge: relay.gates.edge(),
        });
        let typ = [(header::CONTENT_TYPE, "text/plain; version=0.0.4")];
        let response: Response = (typ, text).into_response();
        Ok(response)
    })
    .await
}

fn revocation_age(relay: &Relay) -> Option<u64> {
    let verifier = relay.verifier();
    let now = verifier.judge().ok()?.now();
    let roots = roots(&verifier.trust.roots).ok()?;
    let registries = verifier.trust.registries.iter();
    let issued = registries
        .filter_map(|path| RegistryFile::at(path).verify(&roots, now).ok())
        .map(|registry| registry.listing().issued_at)
        .min()?;
    Some(now.saturating_sub(issued))
}
