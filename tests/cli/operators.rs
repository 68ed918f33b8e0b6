//! What operators ask: how large and how long it will be, and where verification spends its time.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

#[expect(dead_code, reason = "shared with the tests of other verbs")]
#[path = "program/support.rs"]
mod support;

mod operators {
    mod scale;
    mod timings;
}
