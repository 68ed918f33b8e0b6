//! Sessions through the library's public names (session-v1).

#![allow(
    clippy::unwrap_used,
    reason = "a test that meets what it does not expect fails"
)]

mod course;
mod keeping;
mod ladder;
mod leaving;
mod living;
mod measuring;
mod replaying;
mod resuming;
mod versions;
