//! What a configuration decides and the next one may decide otherwise: whom to trust, who may, how much.

use std::sync::{Arc, PoisonError, RwLock};

use kvcap_store::Verifier;

use crate::{inspector::Inspector, limits::Limits, tls::Tls, tokens::Tokens};

/// Decisions of one configuration.
#[derive(Clone, Debug)]
pub(crate) struct Policy {
    pub(crate) verifier: Arc<Verifier>,
    pub(crate) tokens: Arc<Tokens>,
    pub(crate) limits: Limits,
    pub(crate) tls: Option<Tls>,
    pub(crate) inspector: Option<Inspector>,
}

/// The policy of now. Who has begun by one goes on by it.
#[derive(Debug)]
pub(crate) struct Current(RwLock<Arc<Policy>>);

impl Current {
    pub(crate) fn new(policy: Policy) -> Self {
        Self(RwLock::new(Arc::new(policy)))
    }

    pub(crate) fn get(&self) -> Arc<Policy> {
        let policy = self.0.read();
        Arc::clone(&policy.unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn set(&self, policy: Policy) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(policy);
    }
}
