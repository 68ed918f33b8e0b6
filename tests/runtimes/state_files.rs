//! Saved states of real runtimes, taken apart and put together again, and files that lie.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod state_files {
    mod carried;
    mod refused;
    mod support;
    mod versions;
    mod written_back;
}
