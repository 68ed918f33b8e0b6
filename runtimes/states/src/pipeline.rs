//! From a state to a capsule and back: what is sealed, frame by frame, and where it is written.

pub(crate) mod arena;
pub(crate) mod bank_io;
mod buffer;
mod check_quality;
pub(crate) mod encoding;
pub(crate) mod frames;
pub(crate) mod hadamard;
pub(crate) mod increment;
pub(crate) mod open;
pub(crate) mod plan;
mod receipts;
pub(crate) mod residue;
pub(crate) mod seal;
pub(crate) mod whole;

pub use arena::Arena;
pub use buffer::Buffer;
pub use check_quality::check_quality;
pub use encoding::Encoding;
pub use hadamard::check_rotation;
pub use increment::Continued;
pub use open::{OpenReport, open_state, state_len};
pub use plan::{Capture, Choice, Chosen, Fallback, Lineage, Plan, Prompt, Source};
pub use receipts::{Receipt, receipts};
pub use residue::{Skeleton, residue};
pub use seal::{SealReport, SealRequest, seal_state};
