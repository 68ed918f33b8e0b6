//! Registries, revocation, replay and erasure, by the program as its users run it.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

#[path = "program/support.rs"]
#[allow(dead_code, reason = "shared with the other tests of the program")]
mod support;

mod registry_cli {
    mod registry;
    mod roots;
    mod shred;
    mod state;
}
