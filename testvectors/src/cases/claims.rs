//! Claims, time and scope (capsule-v1 §4.2 E-9, §11.2 steps 8 and 9).

use ciborium::Value;

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

fn at(now: u64) -> Made {
    given(|context| context.now = now)
}

cases! {
    /// no exp
    exp_missing: R 401 Header ["E-9"] = without(4);
    /// exp as text
    exp_text: R 401 Header ["E-9"] = malformed(4, &text("2026-11-21T00:00:00Z"));
    /// exp −1
    exp_negative: R 401 Header ["E-9"] = malformed(4, &int(-1));
    /// exp 2⁶⁴ − 1
    exp_u64max: R 404 Verify ["§11.2"] = number(4, u64::MAX);
    /// exp = now
    exp_equals_now: C 402 Verify ["§11.2"] = at(EXPIRES);
    /// valid when the header came, expired when the body had
    exp_mid_upload: C 402 Body ["§11.2"] = given(|context| {
        context.now = EXPIRES - 1;
        context.later = Some(EXPIRES);
    });
    /// the largest skew does not help an expired capsule
    exp_no_skew: C 402 Verify ["§11.2"] = given(|context| {
        context.now = EXPIRES + 1;
        context.skew = 60;
    });
    /// now + 60 = nbf − 1
    nbf_beyond_skew: C 403 Verify ["§11.2"] = at(ISSUED - 61);
    /// a policy cannot grant more than 60 seconds
    skew_over_limit: C 403 Verify ["§11.2"] = given(|context| {
        context.now = ISSUED - 61;
        context.skew = 3600;
    });
    /// iat = now + 61
    iat_future: R 403 Verify ["§11.2"] = times(NOW + 61, ISSUED, EXPIRES);
    /// nbf = exp
    nbf_after_exp: R 401 Verify ["§11.2"] = times(ISSUED, EXPIRES, EXPIRES);
    /// iat = exp
    iat_after_exp: R 401 Verify ["§11.2"] = times(EXPIRES, ISSUED, EXPIRES);
    /// exp − iat = 30 days and a second
    lifetime_over_policy: R 404 Verify ["§11.2"] = times(ISSUED, ISSUED, ISSUED + 30 * 86_400 + 1);
    /// no aud
    aud_missing: R 401 Header ["E-9"] = without(3);
    /// an empty aud
    aud_empty: R 401 Header ["E-9"] = malformed(3, &text(""));
    /// aud as a list
    aud_list: R 401 Header ["E-9"] = malformed(3, &Value::Array(vec![text(fixture::AUDIENCE)]));
    /// the verifier has another name
    aud_wrong: C 405 Verify ["§11.2"] = given(|context| context.audiences = vec!["other.example.com".to_owned()]);
    /// "kv.example.com.evil"
    aud_suffix_trick: R 405 Verify ["§11.2"] = claim(3, &text("kv.example.com.evil"));
    /// aud in capitals: names are compared bytewise
    aud_case: R 405 Verify ["§11.2"] = claim(3, &text("KV.example.com"));
    /// the caller is another subject
    sub_other_user: C 406 Verify ["§11.2"] = given(|context| context.subject = Some("mallory".to_owned()));
    /// the caller states no subject
    sub_not_stated: C 406 Verify ["§11.2"] = given(|context| context.subject = None);
    /// the same name composed in another way
    sub_confusable: R 406 Verify ["§11.2"] = claim(2, &text("rene\u{301}e"));
    /// the caller is of another tenant
    org_other: C 407 Verify ["§11.2"] = given(|context| context.organisation = Some("other".to_owned()));
    /// kv:inspect alone
    scope_no_restore: R 408 Verify ["§11.2"] = claim(9, &text("kv:inspect"));
    /// "kv:restore-all"
    scope_superstring: R 408 Verify ["§11.2"] = claim(9, &text("kv:restore-all"));
    /// "KV:RESTORE"
    scope_case: R 408 Verify ["§11.2"] = claim(9, &text("KV:RESTORE"));
    /// the caller means another capsule of the same issuer
    cti_mismatch: C 507 Verify ["§11.2"] = given(|context| {
        context.expected.capsule = Some(hex(&crate::parts::Parts::of(&fixture::other()).cti()));
    });
    /// a cti of 15 bytes
    cti_short: R 401 Header ["E-9"] = malformed(7, &Value::Bytes(vec![7; 15]));
    /// a claim that the profile does not know
    claim_unknown: R 401 Header ["E-9"] = signed(|parts| {
        edit_map(&mut parts.header, &keys([15]), |map| map.insert(8, (int(10), int(0))));
    });
    /// a control character in iss
    iss_control: R 401 Header ["E-9"] = malformed(1, &text("pre\u{7}fill"));
    /// an iss of 1,025 bytes
    iss_too_long: R 401 Header ["E-9"] = malformed(1, &text(&"x".repeat(1025)));
    /// single use 0
    single_use_zero: R 401 Header ["E-9"] = signed(|parts| {
        edit_map(&mut parts.header, &keys([15]), |map| map.push((int(-70_003), int(0))));
    });
}
