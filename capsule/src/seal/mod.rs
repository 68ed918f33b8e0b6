//! Sealing: a new capsule, or a new header over the same body (capsule-v1 §3.1, lineage-v1 §1).

mod chunker;
pub(crate) mod renew;
mod sealer;

pub use chunker::Cut;
pub use sealer::{Draft, Sealed, Sealer};
