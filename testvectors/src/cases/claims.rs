//! Claims, time and scope (capsule-v1 §5.2 CAP-E-9, §3.2 steps 8 and 9).

use ciborium::Value;

use super::accept::checkpoint;
use crate::{
    case::{Made, given, keys, sealed, signed},
    cases,
    fixture::{self, EXPIRES, ISSUED, NOW},
    hex::hex,
    raw::{edit_map, encode, int, put, text},
};

/// A claim with another value. Those that enter the keys are sealed under it.
fn claim(key: i64, value: &Value) -> Made {
    sealed(|parts| put(&mut parts.header, &keys([15, key]), &encode(value)))
}

/// A claim whose value no reader should look past.
fn malformed(key: i64, value: &Value) -> Made {
    signed(|parts| put(&mut parts.header, &keys([15, key]), &encode(value)))
}

fn without(key: i64) -> Made {
    signed(|parts| {
        edit_map(&mut parts.header, &keys([15]), |map| {
            map.retain(|(own, _)| *own != int(key));
        });
    })
}

fn number(key: i64, value: u64) -> Made {
    claim(key, &int(value))
}

fn times(issued: u64, not_before: u64, expires: u64) -> Made {
    sealed(|parts| {
        for (key, value) in [(4, expires), (5, not_before), (6, issued)] {
            put(&mut parts.header, &keys([15, key]), &encode(&int(value)));
        }
    })
}

/// Claims more.
fn with<const N: usize>(claims: [(i64, Value); N]) -> Made {
    sealed(|parts| {
        edit_map(&mut parts.header, &keys([15]), |map| {
            map.extend(claims.map(|(key, value)| (int(key), value)));
        });
    })
}

fn at(now: u64) -> Made {
    given(|context| context.now = now)
}

cases! {
    /// no exp
    exp_missing: R 401 Header ["CAP-E-9"] = without(4);
    /// exp as text
    exp_text: R 401 Header ["CAP-E-9"] = malformed(4, &text("2026-11-21T00:00:00Z"));
    /// exp −1
    exp_negative: R 401 Header ["CAP-E-9"] = malformed(4, &int(-1));
    /// exp 2⁶⁴ − 1
    exp_u64max: R 404 Verify ["CAP-V-4"] = number(4, u64::MAX);
    /// exp = now
    exp_equals_now: C 402 Verify ["CAP-V-2"] = at(EXPIRES);
    /// valid when the header came, expired when the body had
    exp_mid_upload: C 402 Body ["CAP-V-11"] = given(|context| {
        context.now = EXPIRES - 1;
        context.later = Some(EXPIRES);
    });
    /// the largest skew does not help an expired capsule
    exp_no_skew: C 402 Verify ["CAP-V-2"] = given(|context| {
        context.now = EXPIRES + 1;
        context.skew = 60;
    });
    /// now + 60 = nbf − 1
    nbf_beyond_skew: C 403 Verify ["CAP-V-3"] = at(ISSUED - 61);
    /// a policy cannot grant more than 60 seconds
    skew_over_limit: C 403 Verify ["CAP-V-3"] = given(|context| {
        context.now = ISSUED - 61;
        context.skew = 3600;
    });
    /// iat = now + 61
    iat_future: R 403 Verify ["CAP-V-3"] = times(NOW + 61, ISSUED, EXPIRES);
    /// nbf = exp
    nbf_after_exp: R 401 Verify ["CAP-V-1"] = times(ISSUED, EXPIRES, EXPIRES);
    /// iat = exp
    iat_after_exp: R 401 Verify ["CAP-V-1"] = times(EXPIRES, ISSUED, EXPIRES);
    /// exp − iat = 30 days and a second
    lifetime_over_policy: R 404 Verify ["CAP-V-4"] = times(ISSUED, ISSUED, ISSUED + 30 * 86_400 + 1);
    /// no aud
    aud_missing: R 401 Header ["CAP-E-9"] = without(3);
    /// an empty aud
    aud_empty: R 401 Header ["CAP-E-9"] = malformed(3, &text(""));
    /// aud as a list
    aud_list: R 401 Header ["CAP-E-9"] = malformed(3, &Value::Array(vec![text(fixture::AUDIENCE)]));
    /// the verifier has another name
    aud_wrong: C 405 Verify ["CAP-V-5"] = given(|context| context.audiences = vec!["other.example.com".to_owned()]);
    /// the verifier states no name
    aud_not_stated: C 405 Verify ["CAP-V-5"] = given(|context| context.audiences.clear());
    /// "kv.example.com.evil"
    aud_suffix_trick: R 405 Verify ["CAP-V-5"] = claim(3, &text("kv.example.com.evil"));
    /// aud in capitals: names are compared bytewise
    aud_case: R 405 Verify ["CAP-V-5"] = claim(3, &text("KV.example.com"));
    /// the caller is another subject
    sub_other_user: C 406 Verify ["CAP-V-6"] = given(|context| context.subject = Some("mallory".to_owned()));
    /// the caller states no subject
    sub_not_stated: C 406 Verify ["CAP-V-6"] = given(|context| context.subject = None);
    /// the same name composed in another way
    sub_confusable: R 406 Verify ["CAP-V-6"] = claim(2, &text("rene\u{301}e"));
    /// the caller is of another tenant
    org_other: C 407 Verify ["CAP-V-6"] = given(|context| context.organisation = Some("other".to_owned()));
    /// kv:inspect alone
    scope_no_restore: R 408 Verify ["CAP-V-8"] = claim(9, &text("kv:inspect"));
    /// "kv:restore-all"
    scope_superstring: R 408 Verify ["CAP-V-8"] = claim(9, &text("kv:restore-all"));
    /// "KV:RESTORE"
    scope_case: R 408 Verify ["CAP-V-8"] = claim(9, &text("KV:RESTORE"));
    /// the caller means another capsule of the same issuer
    cti_mismatch: C 507 Verify ["CAP-V-9"] = given(|context| {
        context.expected.capsule = Some(hex(&crate::parts::Parts::of(&fixture::other()).cti()));
    });
    /// a cti of 15 bytes
    cti_short: R 401 Header ["CAP-E-9"] = malformed(7, &Value::Bytes(vec![7; 15]));
    /// a claim that the profile does not know
    claim_unknown: R 401 Header ["CAP-E-9"] = signed(|parts| {
        edit_map(&mut parts.header, &keys([15]), |map| map.insert(8, (int(10), int(0))));
    });
    /// a control character in iss
    iss_control: R 401 Header ["CAP-E-9"] = malformed(1, &text("pre\u{7}fill"));
    /// an iss of 1,025 bytes
    iss_too_long: R 401 Header ["CAP-E-9"] = malformed(1, &text(&"x".repeat(1025)));
    /// a session without a version
    session_without_version: R 401 Header ["CAP-E-9"] = with([(-70_005, text("s")), (-70_007, int(1))]);
    /// a session without a replay cursor
    session_without_cursor: R 401 Header ["CAP-E-9"] = with([(-70_005, text("s")), (-70_006, int(1))]);
    /// a version and a replay cursor of no session
    session_id_missing: R 401 Header ["CAP-E-9"] = with([(-70_006, int(1)), (-70_007, int(1))]);
    /// a session without a name
    session_empty: R 401 Header ["CAP-E-9"] = with([(-70_005, text("")), (-70_006, int(1)), (-70_007, int(1))]);
    /// the caller resumes another session
    session_other: C 413 Verify ["CAP-V-7"] = checkpoint("s-1", 7, 42).when(|context| {
        context.expected.session = Some(("s-2".to_owned(), None, None));
    });
    /// the caller means another version of it
    session_other_version: C 413 Verify ["CAP-V-7"] = checkpoint("s-1", 7, 42).when(|context| {
        context.expected.session = Some(("s-1".to_owned(), Some(8), None));
    });
    /// the caller's log goes on from another event
    session_other_cursor: C 413 Verify ["CAP-V-7"] = checkpoint("s-1", 7, 42).when(|context| {
        context.expected.session = Some(("s-1".to_owned(), Some(7), Some(43)));
    });
    /// the caller resumes a session, and the capsule names none
    session_none: C 413 Verify ["CAP-V-7"] = given(|context| {
        context.expected.session = Some(("s-1".to_owned(), None, None));
    });
    /// single use 0
    single_use_zero: R 401 Header ["CAP-E-9"] = signed(|parts| {
        // in its place before the cap
        edit_map(&mut parts.header, &keys([15]), |map| map.insert(map.len() - 1, (int(-70_003), int(0))));
    });
}
