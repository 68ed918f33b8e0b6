//! The gateway over real connections, before an engine in memory (http-v1 §§11, 12).

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "a test that meets what it does not expect fails"
)]

mod attacks;
mod capsules;
mod going_on;
mod interface;
mod killed;
mod losing;
mod probing;
mod profiled;
mod round_trip;
mod sessions;
mod support;
mod turns;
