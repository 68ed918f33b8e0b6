//! What tests and benches set up: made states, keys and terms.

#![forbid(unsafe_code)]

mod fixtures;
mod made;
mod normal;
mod terms;

// states of mlx-lm of any length, and their model
pub use made::{LEAST, keys, profile, start, state};
pub use normal::{Normal, push};
// states of real runtimes, stored
pub use fixtures::fixture;
// what a capsule says of itself
pub use terms::terms;
