//! What goes wrong with a live runtime.

use std::fmt;

use kvcap::Error;

/// Failure of an engine's call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EngineError {
    /// The runtime, or what a capsule can keep, does not allow this request.
    Refused {
        /// Status for the client, 400 to 599.
        status: u16,
        /// Sentence for the client.
        message: String,
    },
    /// The runtime ended, or was restarted since the slot was leased. What its slots held is gone.
    Lost,
    /// A state or a runtime is not what it must be; the code says what.
    Unsuitable(Error),
    /// A file or a pipe failed (KVC-940).
    Io(Error),
}

impl fmt::Display for EngineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused { message, .. } => f.write_str(message),
            Self::Lost => f.write_str("the engine stopped, and what its slots held is gone"),
            Self::Unsuitable(error) | Self::Io(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for EngineError {}
