//! The `kvcap` program, end to end: each verb on saved states of real runtimes, and what bad input gets.

#[path = "cli/support.rs"]
mod support;

#[path = "cli/files.rs"]
mod files;
#[path = "cli/refusals.rs"]
mod refusals;
#[path = "cli/round_trip.rs"]
mod round_trip;
#[path = "cli/words.rs"]
mod words;
