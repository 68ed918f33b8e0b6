//! What a verifier remembers: uses, sessions, the clock (registry-v1 §5).

use super::accept::{memory, numbered, once};
use crate::{case::Made, cases, fixture::NOW};

/// `made` where `before` was opened before.
fn after(made: Made, before: &Made) -> Made {
    made.when(|context| {
        let name = context.hold("opened", "kvcap", &before.file);
        context.memory = memory(None, &[name]);
    })
}

fn latest(time: u64) -> Made {
    numbered(3).when(|context| context.memory = memory(Some(time), &[]))
}

cases! {
    /// the same number of a session again
    seq_same_again: A 0 Accept ["U-5"] = after(numbered(3), &numbered(3));
    /// the next number of a session
    seq_next: A 0 Accept ["U-5"] = after(numbered(4), &numbered(3));
    /// the clock lags by a minute behind the latest time seen
    clock_lags: A 0 Accept ["U-1"] = latest(NOW + 60);
    /// for one use, and used
    single_use_replay: C 410 Open ["U-4"] = after(once(), &once());
    /// for one use, by a reader that keeps no memory
    single_use_without_memory: C 410 Read ["U-3"] = once();
    /// a number lower than one that its session has opened
    seq_rollback: C 411 Open ["U-5"] = after(numbered(3), &numbered(4));
    /// the clock went back by more than a minute
    clock_regressed: C 412 Trust ["U-1"] = latest(NOW + 61);
}
