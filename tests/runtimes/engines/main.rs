//! Engines: how they fail, by a program that speaks as llama-server does; and what every live one must do, where
//! `KVCAP_ENGINE` names one (`tests/live/run --engines`).

#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test that meets what it does not expect fails"
)]

mod attached;
mod conformance;
mod failures;
mod live;
mod stand_in;
mod state_folder;
mod support;
