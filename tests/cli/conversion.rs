//! States opened as another state than the one that was sealed: other element types.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

#[expect(dead_code, reason = "shared with the tests of other verbs")]
#[path = "program/support.rs"]
mod support;

mod conversion {
    mod elements;
    mod equivalence;
    mod models;
    mod runtimes;
}
