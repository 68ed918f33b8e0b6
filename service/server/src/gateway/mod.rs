//! The gateway: a model behind the relay's door, whose states leave it sealed and come back verified (http-v1 §11).
//!
//! ```text
//! request ─tokens→ ids ─lease→ slot: what it holds │ resuming: verify → open → admit │ nothing
//!                                └─answer→ the engine's count ≥ the claim? → answer, then saving: export → seal
//! ```

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    extract::Request,
    http::{HeaderMap, StatusCode},
    middleware::from_fn_with_state,
    routing::{get, post, put},
};
use kvcap::{Code, Error, Result};
use kvcap_engines::{Asked, Engine, EngineError, Slot};
use kvcap_session::{Names, files::DeviceTier};
use kvcap_store::{Verifier, private};

use self::{
    figures::Figures,
    finding::Finding,
    keys::Keys,
    probing::Probes,
    resuming::of_engine,
    slots::{Lease, Slots},
};
use crate::{
    refusal::{Answer, Refusal},
    relay::{Relay, record, short_body},
    setup::{Sessions, Setup},
    tokens::{Permission, Token},
};

mod answering;
mod asked;
mod bases;
mod described;
mod events;
mod figures;
mod finding;
mod keys;
mod probing;
mod resuming;
mod saving;
mod sessions;
mod settling;
mod shapes;
mod slots;
mod turns;
mod unnamed;

pub use self::bases::is_base_name;
pub(crate) use self::described::described;

/// Most bytes of a request that is evaluated.
const LONGEST: usize = 32 << 20;

/// Longest time that a request waits for an engine that has stopped.
const REVIVAL: Duration = Duration::from_secs(120);
/// Time from one look at it to the next.
const PAUSE: Duration = Duration::from_millis(50);

/// All that requests to the model share.
pub(crate) struct Gateway {
    relay: Arc<Relay>,
    engine: Arc<dyn Engine>,
    keys: Keys,
    sessions: DeviceTier,
    setup: Sessions,
    slots: Arc<Slots>,
    /// Sessions by their tokens, where requests without a name are to find them.
    finding: Option<Arc<Finding>>,
    probes: Probes,
    /// Nanoseconds that a token of a prompt takes to evaluate, as it was lately; 0 where that is not known.
    pace: AtomicU64,
}

impl std::fmt::Debug for Gateway {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = f.debug_struct("Gateway");
        shown
            .field("engine", self.engine.about())
            .finish_non_exhaustive()
    }
}

impl Gateway {
    /// Starts the engine, and reads the keys.
    ///
    /// # Errors
    /// Those of the engine and its model; KVC-3xx and 94x for keys and folders.
    pub(crate) async fn start(setup: &Setup, relay: Arc<Relay>) -> Result<Self> {
        // what is wrong with a key is known before a model is loaded
        let keys = Keys::read(&setup.keys, &relay.verifier())?;
        private::folder(&setup.sessions.folder)?;
        let engine = setup.engine.start().await.map_err(of_engine)?;
        let sessions = DeviceTier::at(setup.sessions.folder.clone());
        let figures = Figures::of(sessions.clone());
        relay.metrics.tell_sessions(move || figures.gauges());
        Ok(Self {
            sessions,
            setup: setup.sessions.clone(),
            slots: Arc::new(Slots::new(engine.about().slots)),
            finding: setup.sessions.find.then(|| {
                let folder = setup.sessions.folder.with_extension("index");
                Arc::new(Finding::at(folder))
            }),
            probes: Probes::default(),
            pace: AtomicU64::new(0),
            keys,
            engine,
            relay,
        })
    }

    pub(crate) fn router(self: Arc<Self>) -> Router {
        let relay = Arc::clone(&self.relay);
        Router::new()
            .route("/v1/models", get(answering::models))
            .route("/v1/completions", post(answering::completions))
            .route("/v1/chat/completions", post(answering::chat))
            .route("/v1/bases", get(bases::list))
            .route("/v1/bases/{name}", put(bases::put).get(bases::show))
            .route("/v1/sessions", get(sessions::list))
            .route("/v1/sessions/{session}", get(sessions::show))
            .route(
                "/v1/sessions/{session}/events",
                get(events::list).post(events::append),
            )
            .route(
                "/v1/sessions/{session}/checkpoint",
                post(sessions::checkpoint),
            )
            .route("/v1/sessions/{session}/resume", post(sessions::resume))
            .route("/v1/sessions/{session}/revert", post(events::revert))
            .layer(from_fn_with_state(relay, record))
            .method_not_allowed_fallback(async || Refusal::Status(StatusCode::METHOD_NOT_ALLOWED))
            .with_state(self)
    }

    /// Who asks, if he may, and what of: nothing of a body is read for who may not.
    async fn asked(
        &self,
        request: Request,
        permission: Permission,
    ) -> Answer<(Arc<Token>, HeaderMap, Vec<u8>)> {
        let caller = self.relay.caller(request.headers(), permission)?;
        let (head, body) = request.into_parts();
        let body = short_body(body, self.relay.policy(), LONGEST).await?;
        Ok((caller, head.headers, body))
    }

    /// The session of a caller by its id.
    fn names_of(&self, caller: &Token, session: &str) -> Answer<Names> {
        let names = Names {
            tenant: caller.tenant.clone(),
            subject: caller.subject.clone(),
            session: session.to_owned(),
        };
        names.check()?;
        // one that has no place among the sessions is the caller's fault, and no failure here
        let placed = self.sessions.folder(&names).map(drop);
        placed.map_err(|error| Error::new(Code::SessionMalformed, error.what().to_owned()))?;
        Ok(names)
    }

    /// The one verifier, for the owner of a session.
    fn verifier_of(&self, names: &Names) -> Verifier {
        Verifier {
            tenant: names.tenant.clone(),
            subject: names.subject.clone(),
            ..(*self.relay.verifier()).clone()
        }
    }

    /// Waits for a slot, from which another session is saved first.
    async fn lease(self: &Arc<Self>, names: Option<&Names>) -> Answer<(Lease, Slot)> {
        let mut lease = self.slots.lease(names).await;
        let generation = self.generation().await?;
        let slot = Slot {
            index: lease.index,
            generation,
        };
        if let Some(mut other) = lease.displaced.take()
            && other.generation == generation
            && other.unsaved > 0
        {
            // what cannot be saved falls back to its last checkpoint
            let _parked = self.save(slot, &mut other, false).await;
        }
        Ok((lease, slot))
    }

    /// Waits until the engine answers. Returns the life that it is in.
    async fn generation(&self) -> Answer<u64> {
        for _ in 0..REVIVAL.as_millis() / PAUSE.as_millis() {
            let health = self.engine.health().await;
            if let Some(health) = health.ok().filter(|health| health.ready) {
                return Ok(health.generation);
            }
            tokio::time::sleep(PAUSE).await;
        }
        Err(Refusal::Lost)
    }

    /// The token ids of a request, one at least; again, where the engine stops meanwhile.
    async fn tokens(&self, asked: &Asked) -> Answer<Vec<u32>> {
        self.generation().await?;
        let told = match self.engine.tokens(asked).await {
            Err(EngineError::Lost) => {
                tokio::time::sleep(PAUSE).await;
                self.generation().await?;
                self.engine.tokens(asked).await
            }
            told => told,
        };
        some(told.map_err(failed)?)
    }

    /// Saves what the slots hold, and waits for who uses them.
    pub(crate) async fn close(self: &Arc<Self>) {
        // what is being saved behind an answer has left its slot's place meanwhile
        self.slots.idle().await;
        for names in self.slots.held() {
            let Some(mut lease) = self.slots.lease_held(&names).await else {
                continue;
            };
            let (Some(held), Ok(health)) = (lease.held.as_mut(), self.engine.health().await) else {
                continue;
            };
            let slot = Slot {
                index: lease.index,
                generation: health.generation,
            };
            if held.generation == health.generation && held.unsaved > 0 {
                let _saved = self.save(slot, held, false).await;
            }
        }
    }

    /// Nanoseconds that a token takes; learnt where enough were evaluated to tell.
    fn learn_pace(&self, evaluated: u64, milliseconds: f64) {
        if evaluated >= 32 && milliseconds > 0.0 {
            #[allow(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                clippy::cast_precision_loss,
                reason = "an estimate: what is too large is cut"
            )]
            let each = (milliseconds * 1e6 / evaluated as f64) as u64;
            self.pace.store(each, Ordering::Relaxed);
        }
    }

    /// Milliseconds that evaluating so many tokens would take.
    fn estimate(&self, tokens: u64) -> u64 {
        self.pace.load(Ordering::Relaxed).saturating_mul(tokens) / 1_000_000
    }
}

/// Tokens that an engine can evaluate.
fn some(tokens: Vec<u32>) -> Answer<Vec<u32>> {
    match tokens.is_empty() {
        true => Err(Refusal::engine(
            400,
            "there is no token to evaluate".to_owned(),
        )),
        false => Ok(tokens),
    }
}

/// An engine's failure, as its caller is told.
fn failed(error: EngineError) -> Refusal {
    match error {
        EngineError::Refused { status, message } => Refusal::engine(status, message),
        EngineError::Lost => Refusal::Lost,
        EngineError::Unsuitable(error) => Refusal::Code(error),
        EngineError::Io(error) => Refusal::Unready(error),
    }
}
