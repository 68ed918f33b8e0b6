//! The agent's own state, as far as it is written down (session-v1 §4.2).

use kvcap::{Code, Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::value;

/// Longest CBOR of an agent state: that of the event that brings it.
const MAX: usize = 1 << 20;

/// State of an agent: what it is at, and what it knows. Members that are not known here are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentState {
    /// The aim, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub objective: Option<String>,
    /// The repository that it works in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository: Option<Repository>,
    /// Steps, in order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<Vec<PlanStep>>,
    /// Work that was handed to something else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jobs: Option<Vec<Job>>,
    /// Files that were made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifacts: Option<Vec<Artifact>>,
    /// Decisions, and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decisions: Option<Vec<String>>,
    /// Troubles that are known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub known_issues: Option<Vec<String>>,
    /// Next actions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_actions: Option<Vec<String>>,
    /// Members of the tool's own.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

macro_rules! part {
    ($(#[$doc:meta])+ $name:ident { $($(#[$field:meta])+ $member:ident: $kind:ty,)+ }) => {
        $(#[$doc])+
        #[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
        pub struct $name {
            $($(#[$field])+ pub $member: $kind,)+
            /// Members of the tool's own.
            #[serde(flatten)]
            pub other: Map<String, Value>,
        }
    };
}

part! {
    /// A repository, as the agent left it.
    Repository {
        /// Address.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        remote: Option<String>,
        /// Branch.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        branch: Option<String>,
        /// Commit.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        commit: Option<String>,
        /// Changes that are not committed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        dirty: Option<bool>,
    }
}

part! {
    /// A step of the plan.
    PlanStep {
        /// Words for it.
        step: String,
        /// Its progress.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        status: Option<StepStatus>,
    }
}

part! {
    /// Work that was handed to something else.
    Job {
        /// Its id there.
        id: String,
        /// Its purpose.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        what: Option<String>,
        /// Place where it runs.
        #[serde(default, rename = "where", skip_serializing_if = "Option::is_none")]
        at: Option<String>,
        /// Time at which it was handed over, in seconds since 1970.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        submitted: Option<u64>,
        /// Last known status.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        status: Option<String>,
    }
}

part! {
    /// A file that was made.
    Artifact {
        /// Its place.
        path: String,
        /// Its digest, in the tool's form.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        digest: Option<String>,
        /// Words for it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        what: Option<String>,
    }
}

/// Progress of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StepStatus {
    /// Not begun.
    Pending,
    /// Begun.
    Active,
    /// Done.
    Done,
    /// Given up.
    Dropped,
}

impl AgentState {
    /// Reads an agent state from JSON.
    ///
    /// # Errors
    /// KVC-950, 951; 204 for one of more than six levels.
    pub fn from_json(text: &[u8]) -> Result<Self> {
        let value: Value = value::from_json(text, MAX)?;
        Self::of(&value)
    }

    /// Reads an agent state from deterministic CBOR.
    ///
    /// # Errors
    /// As [`Self::from_json`]; KVC-201 to 206.
    pub fn from_cbor(bytes: &[u8]) -> Result<Self> {
        let value: Value = value::from_cbor(bytes, MAX)?;
        Self::of(&value)
    }

    /// Returns the deterministic CBOR of the agent state.
    ///
    /// # Errors
    /// KVC-950, 951; 204.
    pub fn to_cbor(&self) -> Result<Vec<u8>> {
        value::to_cbor(self, MAX)
    }

    /// Returns true where it says nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    pub(crate) fn of(value: &Value) -> Result<Self> {
        value::check_depth(value, 6, "agent_state")?;
        serde_json::from_value(value.clone()).map_err(|error| {
            Error::new(Code::SessionMalformed, error.to_string()).at("agent_state")
        })
    }
}
