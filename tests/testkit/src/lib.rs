//! Set-ups of tests and benches: made states, keys and terms.

#![forbid(unsafe_code)]

mod fixtures;
mod made;
mod normal;
#[cfg(unix)]
mod postgres;
pub mod profile;
mod program;
#[cfg(feature = "s3")]
pub mod s3;
pub mod schema;
mod sealing;
mod terms;
#[cfg(unix)]
mod valkey;

// states of mlx-lm of any length, and their model
pub use made::{LEAST, keys, profile, start, state};
pub use normal::{Normal, push};
// states of real runtimes, stored
pub use fixtures::fixture;
// a database, and a cache
#[cfg(unix)]
pub use postgres::Postgres;
#[cfg(unix)]
pub use valkey::Valkey;
// the program, without what its user has configured
pub use program::isolated;
// keys, model and capture that states are sealed with
pub use sealing::{capture, model, signer, wrapping};
// what a capsule says of itself
pub use terms::terms;
