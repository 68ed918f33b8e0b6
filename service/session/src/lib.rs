//! Sessions of agents over KV capsules: an append-only log, checkpoints that go with a capsule or without
//! one, and what resumes them. The specification is `spec/session-v1.md`.
//!
//! ```text
//! event ─append→ log ─replay(checkpoint)→ checkpoint ─context→ messages
//!                                             │
//!                        headers of capsules ─plan→ ladder: exact, shorter, history only, fresh
//! ```
//!
//! What is above [`files`] is pure: no files, no clock, no randomness. [`files`] keeps what it says in a folder.

#![forbid(unsafe_code)]

pub mod files;

// values, from the bottom up
mod agent_state;
mod description;
mod event;
mod log;
mod names;
mod record;
mod value;
// pure functions of them
mod context;
mod course;
mod ladder;
mod metrics;
mod policy;
mod prometheus;
mod replay;
mod retention;
mod sealed;
mod sealed_version;
mod summary;
// over files
mod session;
// over HTTP
#[cfg(feature = "sync")]
pub mod sync;

// whose it is, and what happened
pub use event::{Body, Event, Kind, MAX_EVENT};
pub use log::Head;
pub use names::Names;
// checkpoints
pub use agent_state::{AgentState, Artifact, Job, PlanStep, Repository, StepStatus};
pub use record::{BranchOf, CapsuleEntry, Cause, MAX_RECORD, MAX_SUMMARY, Record};
pub use value::MAX_INTEGER;
// moving on, and telling a model
pub use context::{Context, context};
pub use replay::{MAX_REPLAY, MOST_TURNS, Summarize, replay, replay_plainly};
pub use summary::plain_summary;
// as it is, back, and on in a branch
pub use course::{MAX_CHAIN, current, end_of_turn};
// leaving the device
pub use sealed::{
    CONTROLLER, Controller, HISTORY_FORMAT, HISTORY_RUNTIME, check_state, is_history_only,
    opened_agent_state, opened_controller, opened_history, seal_history,
};
pub use sealed_version::{LOG, MAX_LOG, SealedVersion};
// resuming
pub use ladder::{Facts, GREEDY_ONLY, LeadsTo, MAX_STATES, Plan, Rung, StateFacts, Step};
// saving and keeping
pub use policy::{Moment, SavePolicy};
pub use retention::{KEEP, Retained, retained};
// measuring
pub use metrics::{Coverage, Metrics, Observation, SessionFigures};
// a session on its device
pub use description::Description;
pub use session::{
    Session,
    confirming::{Claim, Confirmed, Reuse},
    keeping::{Clearance, Status},
    living::{Renewer, Signs},
    opening::{Opener, Written, open_to_continue},
    resuming::{Header, Request, Restorer, Resumed},
    saving::{NewState, Sealing},
    states::{Candidate, SavedState},
    syncing::Arrived,
};
