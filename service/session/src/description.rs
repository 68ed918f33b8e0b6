//! Descriptions: what a session is, in `session.json` (session-v1 §10).

use std::collections::BTreeSet;

use kvcap::Result;
use serde::{Deserialize, Serialize};

use crate::{names::Names, record::Form, value};

/// Longest description, in bytes.
pub(crate) const MAX_DESCRIPTION: usize = 1 << 20;

/// Description of a session: what it is beside its log and its checkpoints.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Description {
    form: Form,
    /// The tenant, if the session has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// The subject, if the session has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// The session's id.
    pub session: String,
    /// Id of the session that began the log.
    pub origin: String,
    /// Time at which it was made, in seconds since 1970.
    pub created: u64,
    /// Versions that are never removed.
    pub pinned: BTreeSet<u64>,
}

impl Description {
    /// Returns the description of a new session that begins a log.
    #[must_use]
    pub fn new(names: &Names, created: u64) -> Self {
        Self {
            form: Form,
            tenant: names.tenant.clone(),
            subject: names.subject.clone(),
            session: names.session.clone(),
            origin: names.session.clone(),
            created,
            pinned: BTreeSet::new(),
        }
    }

    /// Returns the names of the session that began the log.
    #[must_use]
    pub fn origin(&self) -> Names {
        Names {
            session: self.origin.clone(),
            ..self.names()
        }
    }

    /// Returns the session's names.
    #[must_use]
    pub fn names(&self) -> Names {
        Names {
            tenant: self.tenant.clone(),
            subject: self.subject.clone(),
            session: self.session.clone(),
        }
    }

    /// Reads a description from JSON.
    ///
    /// # Errors
    /// KVC-950, 951; 204.
    pub fn from_json(text: &[u8]) -> Result<Self> {
        let description: Self = value::from_json(text, MAX_DESCRIPTION)?;
        description.names().check()?;
        description.origin().check()?;
        Ok(description)
    }

    /// Returns the description as one line of JSON.
    ///
    /// # Errors
    /// KVC-950, 951; 204.
    pub fn to_json(&self) -> Result<String> {
        value::to_json(self)
    }
}
