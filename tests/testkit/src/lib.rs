//! What tests and benches set up: made states, keys and terms.

#![forbid(unsafe_code)]

mod made;
mod normal;

// states of mlx-lm of any length, and their model
pub use made::{LEAST, keys, profile, start, state};
pub use normal::{Normal, push};
