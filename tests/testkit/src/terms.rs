//! Terms of capsules.

use kvcap::{RESTORE, Terms};

/// Of issuer `tests`, for audience `tests`, valid for an hour from `now`.
#[must_use]
pub fn terms(now: u64) -> Terms {
    Terms {
        issuer: "tests".to_owned(),
        subject: None,
        audience: "tests".to_owned(),
        expires: now + 3600,
        not_before: now,
        issued_at: now,
        renew_until: None,
        scope: RESTORE.to_owned(),
        tenant: None,
        sequence: None,
        single_use: false,
    }
}
