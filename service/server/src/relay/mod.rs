//! The relay: what it holds, and which request goes where (http-v1 §2).

#[cfg(feature = "gateway")]
use std::path::PathBuf;
use std::sync::Arc;

use axum::{
    Router,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    middleware::from_fn_with_state,
    routing::{get, head, post, put},
};
use kvcap::{CapsuleId, Result};
use kvcap_store::{CapsuleStore, LedgerSource, Space, Verifier, VersionStore};
use tokio::sync::Semaphore;

use self::resumable::Uploads;
use crate::{
    audit::Audit,
    gates::Gates,
    inspector::Inspector,
    metrics::Metrics,
    page,
    place::Open,
    policy::{Current, Policy},
    refusal::{Answer, Refusal},
    settings::Settings,
    tokens::{Permission, Token},
};

mod admin;
mod answer;
mod fields;
mod incoming;
mod judging;
mod openapi;
mod pump;
mod reading;
mod recording;
mod refusals;
mod resumable;
mod sweep;
mod upload;
mod versions;

pub(crate) use self::{answer::closing, openapi::described, recording::record};
#[cfg(feature = "gateway")]
pub(crate) use self::{
    fields::CAPSULE,
    pump::short_body,
    refusals::{Asked as AskedFor, Engine, Received},
    upload::put_whole,
};

/// Steps at once that write to the disk, so that some threads are left for who only asks.
const WRITERS: usize = 24;

/// All that requests share.
#[derive(Debug)]
pub(crate) struct Relay {
    current: Current,
    store: Arc<dyn CapsuleStore>,
    /// The order of sessions' versions.
    order: Arc<dyn VersionStore>,
    /// What all relays of a database remember.
    ledger: Option<Arc<dyn LedgerSource>>,
    gates: Arc<Gates>,
    pub(crate) metrics: Metrics,
    audit: Option<Audit>,
    uploads: Uploads,
    writers: Arc<Semaphore>,
    swept: sweep::Swept,
}

impl Relay {
    /// Opens the store.
    pub(crate) fn open(settings: Settings) -> Result<Self> {
        let Open {
            store,
            order,
            ledger,
            edge,
        } = settings.place.open(&settings.limits.reader())?;
        let policy = remembering(settings.policy(), ledger.as_ref());
        // who cannot judge says so at once
        policy.verifier.judge()?;
        Ok(Self {
            current: Current::new(policy),
            store,
            order,
            ledger,
            gates: Arc::new(Gates::before(edge)),
            metrics: Metrics::default(),
            audit: settings.audit.map(Audit::at).transpose()?,
            uploads: Uploads::default(),
            writers: Arc::new(Semaphore::new(WRITERS)),
            swept: sweep::Swept::default(),
        })
    }

    /// The relay's requests, and the description of all that there are.
    pub(crate) fn router(self: Arc<Self>, described: String) -> Router {
        Router::new()
            .route("/v1/capsules:check", post(upload::check))
            .route(
                "/v1/capsules",
                post(upload::post).options(resumable::options),
            )
            .route(
                "/v1/capsules/{id}",
                put(upload::put)
                    .get(reading::get)
                    .head(reading::head)
                    .delete(reading::delete),
            )
            .route(
                "/v1/uploads/{upload}",
                head(resumable::offset)
                    .patch(resumable::append)
                    .delete(resumable::delete),
            )
            .route("/v1/versions", get(versions::list))
            .route(
                "/v1/versions/{session}",
                get(versions::show).delete(versions::delete),
            )
            .route("/v1/versions/{session}/{version}", put(versions::put))
            .layer(from_fn_with_state(Arc::clone(&self), record))
            .route("/", get(page::page))
            .route("/inspect", get(inspect))
            .route("/openapi.json", get(move || openapi::document(described)))
            .route("/healthz", get(admin::health))
            .route("/readyz", get(admin::ready))
            .route("/metrics", get(admin::metrics))
            .fallback(async || Refusal::Status(StatusCode::NOT_FOUND))
            .method_not_allowed_fallback(async || Refusal::Status(StatusCode::METHOD_NOT_ALLOWED))
            .with_state(self)
    }

    /// Decides by another policy from now on.
    pub(crate) fn decide_by(&self, policy: Policy) {
        self.current.set(remembering(policy, self.ledger.as_ref()));
    }

    pub(crate) fn policy(&self) -> Arc<Policy> {
        self.current.get()
    }

    pub(crate) fn verifier(&self) -> Arc<Verifier> {
        Arc::clone(&self.policy().verifier)
    }

    /// The path of a capsule that is kept for a caller.
    #[cfg(feature = "gateway")]
    pub(crate) fn kept(&self, caller: &Token, id: CapsuleId) -> Option<PathBuf> {
        self.store.path((space(caller), id))
    }

    /// Who asks, if he is known.
    fn known(&self, headers: &HeaderMap) -> Option<Arc<Token>> {
        let mut named = headers.get_all(header::AUTHORIZATION).iter();
        match (named.next(), named.next()) {
            (Some(value), None) => value
                .to_str()
                .ok()
                .and_then(|value| self.policy().tokens.find(value)),
            _ => None,
        }
    }

    /// Who asks, if he may.
    pub(crate) fn caller(&self, headers: &HeaderMap, permission: Permission) -> Answer<Arc<Token>> {
        let caller = self.known(headers);
        let caller = caller.ok_or(Refusal::Status(StatusCode::UNAUTHORIZED))?;
        if !caller.may.contains(&permission) {
            return Err(Refusal::Status(StatusCode::FORBIDDEN));
        }
        self.gates
            .request(caller.tenant.as_ref(), &self.policy().limits)?;
        Ok(caller)
    }
}

/// `GET /inspect`.
async fn inspect(State(relay): State<Arc<Relay>>) -> Answer {
    let policy = relay.policy();
    let page = policy.inspector.as_ref().map(Inspector::answer);
    page.ok_or(Refusal::Status(StatusCode::NOT_FOUND))
}

/// A policy whose verifier remembers what the relays that share a database do.
fn remembering(policy: Policy, ledger: Option<&Arc<dyn LedgerSource>>) -> Policy {
    match ledger {
        None => policy,
        Some(ledger) => Policy {
            verifier: Arc::new(Verifier {
                ledger: Some(Arc::clone(ledger)),
                ..(*policy.verifier).clone()
            }),
            ..policy
        },
    }
}

fn space(caller: &Token) -> Space {
    Space::of(caller.tenant.as_deref(), caller.subject.as_deref())
}

/// The id in a path, in its one form.
fn id_in(path: &str) -> Answer<CapsuleId> {
    CapsuleId::from_hex(path)
        .filter(|id| id.to_string() == path)
        .ok_or(Refusal::Status(StatusCode::NOT_FOUND))
}

/// Runs what may wait for the disk or compute for long, beside the connections.
async fn aside<T: Send + 'static>(step: impl FnOnce() -> Answer<T> + Send + 'static) -> Answer<T> {
    let done = tokio::task::spawn_blocking(step).await;
    done.unwrap_or(Err(Refusal::Status(StatusCode::INTERNAL_SERVER_ERROR)))
}

impl Relay {
    /// Runs what writes to the disk, beside the connections and in its turn.
    async fn writing<T: Send + 'static>(
        &self,
        step: impl FnOnce() -> Answer<T> + Send + 'static,
    ) -> Answer<T> {
        // the semaphore is never closed
        let turn = Arc::clone(&self.writers).acquire_owned().await.ok();
        aside(move || {
            let _turn = turn;
            step()
        })
        .await
    }
}
