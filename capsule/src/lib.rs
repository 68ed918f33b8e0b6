//! The KV capsule (under construction; see `spec/capsule-v1.md`).
mod bank;
pub mod binding;
mod error;
pub use bank::{Bank, Role, Rows};
pub use error::{Code, Error, Outcome, Result};
