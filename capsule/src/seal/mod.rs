//! Sealing: a new capsule, or a new header over the same body (capsule-v1 §8.5, §11.1).

mod chunker;
pub(crate) mod renew;
mod sealer;

pub use chunker::Cut;
pub use sealer::{Draft, Sealed, Sealer};
