//! The `kvcap` program, end to end: each verb on saved states of real runtimes, and what bad input gets.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod program {
    mod files;
    #[cfg(target_os = "linux")]
    mod large;
    mod refusals;
    mod round_trip;
    mod support;
    mod words;
}
