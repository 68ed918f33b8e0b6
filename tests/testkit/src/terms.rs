//! Terms of capsules.

use kvcap::Terms;

/// Of issuer `tests`, for audience `tests`, valid for an hour from `now`.
#[must_use]
pub fn terms(now: u64) -> Terms {
    Terms::new("tests", "tests", now, now + 3600)
}
