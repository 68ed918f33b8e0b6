//! The `kvcap` program, end to end: each verb on saved states of real runtimes, and what bad input gets.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod program {
    #[cfg(all(unix, feature = "server"))]
    mod authority;
    mod codec_profiles;
    #[cfg(unix)]
    mod disk;
    #[cfg(unix)]
    mod due;
    mod errors;
    mod files;
    #[cfg(unix)]
    mod images;
    #[cfg(unix)]
    mod increments;
    #[cfg(target_os = "linux")]
    mod large;
    #[cfg(unix)]
    mod leaving;
    #[cfg(unix)]
    mod naming;
    #[cfg(unix)]
    mod profiles;
    mod prune;
    mod refusals;
    #[cfg(unix)]
    mod resuming;
    mod round_trip;
    mod schema;
    mod serve;
    #[cfg(unix)]
    mod sessions;
    mod support;
    mod sync;
    mod verdicts;
    mod words;
}
