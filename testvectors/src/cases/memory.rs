//! What a verifier remembers: uses, sessions, the clock (registry-v1 §5).

use super::{
    accept::{memory, numbered, numbered_in, once},
    reissued::shortened,
};
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
    seq_same_again: A 0 Accept ["REG-U-5"] = after(numbered(3), &numbered(3));
    /// the next number of a session
    seq_next: A 0 Accept ["REG-U-5"] = after(numbered(4), &numbered(3));
    /// the clock lags by a minute behind the latest time seen
    clock_lags: A 0 Accept ["REG-U-1"] = latest(NOW + 60);
    /// a lower number, of another session of the same subject
    seq_other_session: A 0 Accept ["REG-U-5"] = after(numbered_in("s-1", 3), &numbered_in("s-2", 4));
    /// a lower number, of no session, where one has gone past it
    seq_no_session: A 0 Accept ["REG-U-5"] = after(numbered(3), &numbered_in("s-2", 4));
    /// a number lower than one that its named session has opened
    seq_rollback_in_session: C 411 Open ["REG-U-5"] = after(numbered_in("s-1", 3), &numbered_in("s-1", 4));
    /// for one use, and used
    single_use_replay: C 410 Open ["REG-U-4"] = after(once(), &once());
    /// for one use, and a copy used whose exp is shorter
    single_use_replay_renewed: C 410 Open ["REG-U-4" "LIN-N-3"] = after(once(), &shortened());
    /// for one use, by a reader that keeps no memory
    single_use_without_memory: C 410 Open ["REG-U-3"] = once();
    /// a number lower than one that its session has opened
    seq_rollback: C 411 Open ["REG-U-5"] = after(numbered(3), &numbered(4));
    /// the clock went back by more than a minute
    clock_regressed: C 412 Trust ["REG-U-1"] = latest(NOW + 61);
}
