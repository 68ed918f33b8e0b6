//! Records: what is kept of a checkpoint beside its capsule (session-v1 §4.1).

use kvcap::{Code, Error, Result, binding::Digest};
use serde::{Deserialize, Serialize};

use crate::{
    agent_state::AgentState,
    event::Event,
    log::Head,
    names::Names,
    value::{self, MAX_INTEGER},
};

/// Longest CBOR of a record, in bytes.
pub const MAX_RECORD: usize = 16 << 20;
/// Longest summary, in bytes.
pub const MAX_SUMMARY: usize = 256 << 10;

/// Reasons for a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Cause {
    /// Somebody asked for it.
    Asked,
    /// So many turns have ended.
    Turns,
    /// A tool answered.
    Tool,
    /// A milestone was reached.
    Milestone,
    /// Nothing happened for a time.
    Idle,
    /// The capsule or the runtime's cache expires soon.
    Expiry,
    /// The tool ends.
    Exit,
    /// The tool was told to end.
    Signal,
    /// The session went back.
    Revert,
    /// The session began as a branch.
    Branch,
}

/// Capsule that holds a checkpoint's state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CapsuleEntry {
    /// Its id.
    pub id: String,
    /// The session that it names, where that is another: a branch keeps the state that it is from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// Its lineage digest.
    #[serde(with = "value::hex")]
    pub lineage: Digest,
    /// Version of the checkpoint that it was sealed for.
    pub version: u64,
    /// Number of the last event that it has seen.
    pub cursor: u64,
    /// Position at which it ends.
    pub positions: u64,
    /// Its length.
    pub bytes: u64,
    /// Earliest expiry of its chain.
    pub expires: u64,
    /// The model's id hash.
    #[serde(with = "value::hex")]
    pub model: Digest,
    /// Ids of the capsules that it continues, from its parent on.
    pub ancestors: Vec<String>,
    /// Sampler, generator and grammar are sealed with it.
    pub controller: bool,
}

/// Session and version that a branch is from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BranchOf {
    /// The session's id.
    pub session: String,
    /// The version.
    pub version: u64,
}

/// Record of a checkpoint: what is kept of it beside its capsule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    form: Form,
    /// The tenant, if the session has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// The subject, if the session has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// The session's id.
    pub session: String,
    /// Its number: 1, 2, 3, …; 0 where there is no checkpoint yet.
    pub version: u64,
    /// The version that this one goes on from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent_version: Option<u64>,
    /// The checkpoint that a branch is from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch_of: Option<BranchOf>,
    /// Time at which it was taken, in seconds since 1970.
    pub at: u64,
    /// Cause for which it was taken.
    pub cause: Cause,
    /// Number of the last event that it covers.
    pub replay_cursor: u64,
    /// Digest of that event.
    #[serde(with = "value::hex")]
    pub head: Digest,
    /// Turns so far.
    pub turns: u64,
    /// Messages so far.
    pub messages: u64,
    /// Turns that are not among the recent ones, in words.
    pub summary: String,
    /// Number of the last event that the summary covers.
    pub summary_cursor: u64,
    /// The messages after it.
    pub recent: Vec<Event>,
    /// The agent's own state.
    pub agent_state: AgentState,
    /// Its state, where one was saved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capsule: Option<CapsuleEntry>,
}

/// The form of a record: 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u64", into = "u64")]
pub(crate) struct Form;

impl TryFrom<u64> for Form {
    type Error = &'static str;

    fn try_from(form: u64) -> Result<Self, &'static str> {
        (form == 1).then_some(Self).ok_or("the form is not 1")
    }
}

impl From<Form> for u64 {
    fn from(_: Form) -> Self {
        1
    }
}

impl Record {
    /// Returns what a session knows before its first checkpoint: nothing, at the origin of its log.
    ///
    /// # Errors
    /// KVC-951 for names that are no claims.
    pub fn origin(names: &Names, origin: &Names) -> Result<Self> {
        let head = Head::origin(origin)?;
        Ok(Self {
            form: Form,
            tenant: names.tenant.clone(),
            subject: names.subject.clone(),
            session: names.session.clone(),
            version: 0,
            parent_version: None,
            branch_of: None,
            at: 0,
            cause: Cause::Asked,
            replay_cursor: 0,
            head: head.digest,
            turns: 0,
            messages: 0,
            summary: String::new(),
            summary_cursor: 0,
            recent: Vec::new(),
            agent_state: AgentState::default(),
            capsule: None,
        })
    }

    /// Returns the names of its session.
    #[must_use]
    pub fn names(&self) -> Names {
        Names {
            tenant: self.tenant.clone(),
            subject: self.subject.clone(),
            session: self.session.clone(),
        }
    }

    /// Returns where its log had come to.
    #[must_use]
    pub fn log_head(&self) -> Head {
        Head {
            seq: self.replay_cursor,
            digest: self.head,
        }
    }

    /// Reads a record from JSON.
    ///
    /// # Errors
    /// KVC-950, 951; 204.
    pub fn from_json(text: &[u8]) -> Result<Self> {
        let record: Self = value::from_json(text, MAX_RECORD)?;
        record.check()?;
        Ok(record)
    }

    /// Returns the record as one line of JSON.
    ///
    /// # Errors
    /// KVC-950, 951; 204.
    pub fn to_json(&self) -> Result<String> {
        self.to_cbor()?;
        value::to_json(self)
    }

    /// Reads a record from deterministic CBOR.
    ///
    /// # Errors
    /// KVC-950, 951; 201 to 206.
    pub fn from_cbor(bytes: &[u8]) -> Result<Self> {
        let record: Self = value::from_cbor(bytes, MAX_RECORD)?;
        record.check()?;
        Ok(record)
    }

    /// Returns the deterministic CBOR of the record.
    ///
    /// # Errors
    /// KVC-950, 951; 204.
    pub fn to_cbor(&self) -> Result<Vec<u8>> {
        self.check()?;
        value::to_cbor(self, MAX_RECORD)
    }

    /// Checks that another record is put in its place or after it: the same again, or the next version.
    ///
    /// # Errors
    /// KVC-954 for another record of this version, and for a version that is not the next one.
    pub fn check_put(&self, next: &Self) -> Result<()> {
        let what = match next.version {
            version if version == self.version && self.to_cbor()? == next.to_cbor()? => {
                return Ok(());
            }
            version if version == self.version => "this version exists with other content",
            version if version == self.version.saturating_add(1) => return Ok(()),
            _ => "the version is not the next one",
        };
        Err(Error::new(Code::SessionVersion, what)
            .sides(self.version.saturating_add(1), next.version))
    }

    fn check(&self) -> Result<()> {
        self.names().check()?;
        let numbers = [
            self.version,
            self.at,
            self.replay_cursor,
            self.turns,
            self.messages,
        ];
        let mut last = self.summary_cursor;
        let mut rising = true;
        for event in &self.recent {
            event.check()?;
            rising &= event.kind.is_message() && event.seq > last;
            last = event.seq;
        }
        let state = self.capsule.as_ref();
        let ids = state
            .iter()
            .flat_map(|capsule| capsule.ancestors.iter().chain([&capsule.id]));
        let faults = [
            (self.version == 0, "the version is 0"),
            (
                numbers.iter().any(|number| *number > MAX_INTEGER),
                "a number is beyond 2^53 - 1",
            ),
            (
                self.parent_version
                    .is_some_and(|parent| parent >= self.version),
                "the parent's version is not below its own",
            ),
            (
                !rising || last > self.replay_cursor,
                "recent messages are not between the summary and the cursor, in order",
            ),
            (
                self.messages < self.turns,
                "there are fewer messages than turns",
            ),
            (
                ids.into_iter().any(|id| !value::hex::is_id(id)),
                "a capsule's id is not 32 lower-case hexadecimal digits",
            ),
            (
                state.is_some_and(|state| {
                    (state.session.is_none() && state.version > self.version)
                        || state.cursor > self.replay_cursor
                }),
                "the capsule is of a later checkpoint",
            ),
        ];
        if let Some((_, what)) = faults.iter().find(|(broken, _)| *broken) {
            return Err(Error::new(Code::SessionMalformed, *what).at("record"));
        }
        if self.summary.len() > MAX_SUMMARY {
            return Err(Error::new(Code::SessionLimit, "the summary is too long"));
        }
        Ok(())
    }
}
