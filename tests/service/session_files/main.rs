//! The device tier of sessions (session-v1 §10): what it refuses, and that no crash loses or halves anything.

#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that meets what it does not expect fails"
)]

mod costs;
mod crash;
mod disk;
mod kill;
mod mishaps;
mod recall;
mod renewal;
mod taking;
mod tier;
mod work;
