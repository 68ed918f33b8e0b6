//! The checks of key and claims (capsule-v1 §3.2, steps 7–9).

use crate::{
    error::{Code, Error, Result},
    limits::MAX_SKEW,
    manifest::Manifest,
    text::show_instant,
    trust::{Purpose, Status, TrustedKey},
    verify::policy::{ExpectedSession, Policy},
    wire::claims::{Claims, Session, Terms},
};

/// CAP-K-1, CAP-K-2.
pub(crate) fn trusted_key<'t>(policy: &Policy<'t>, claims: &Claims) -> Result<&'t TrustedKey> {
    policy.trust.check_current(policy.now)?;
    let key = policy.trust.find(claims.key)?;
    match key.status {
        Status::Compromised => {
            let what = "the key is marked compromised";
            Err(Error::new(Code::KeyCompromised, what).at(claims.key))
        }
        _ => Ok(key),
    }
}

/// CAP-K-3, CAP-K-4, CAP-A-4.
pub(crate) fn check_key(policy: &Policy<'_>, key: &TrustedKey, manifest: &Manifest) -> Result<()> {
    let terms = &manifest.claims.terms;
    if terms.issued_at < key.not_before
        || (terms.issued_at >= key.sign_until && key.sign_until != TrustedKey::NO_END)
        || (policy.now >= key.verify_until && key.verify_until != TrustedKey::NO_END)
    {
        let until = match key.sign_until {
            TrustedKey::NO_END => "no end".to_owned(),
            until => show_instant(until),
        };
        return Err(
            Error::new(Code::KeyWindow, "the capsule lies outside the key's window").sides(
                format_args!("signed {} to {}", show_instant(key.not_before), until),
                show_instant(terms.issued_at),
            ),
        );
    }
    let suite = manifest.context.suite;
    if key.purpose != Purpose::Capsules || !key.suites.contains(&suite.number()) {
        return Err(Error::new(
            Code::KeyPurpose,
            "the key is not meant for capsules of this suite",
        ));
    }
    if key.issuer != terms.issuer {
        return Err(
            Error::new(Code::KeyIssuer, "the key belongs to another issuer")
                .names(&[&key.issuer], Some(&terms.issuer)),
        );
    }
    match policy.suites.contains(&suite) {
        true => Ok(()),
        false => {
            Err(Error::new(Code::ManifestSuite, "the suite is not allowed here").at(suite.name()))
        }
    }
}

/// Steps 8 and 9.
pub(crate) fn check_claims(policy: &Policy<'_>, terms: &Terms) -> Result<()> {
    check_time(policy, terms)?;
    if !policy.audiences.contains(&terms.audience) {
        let own: Vec<&str> = policy.audiences.iter().map(String::as_str).collect();
        return Err(Error::new(
            Code::ClaimsAudience,
            "the capsule is meant for another audience",
        )
        .names(&own, Some(&terms.audience)));
    }
    let same = |code, what, own: &Option<String>, stated: &Option<String>| match stated {
        Some(stated) if own.as_ref() != Some(stated) => {
            Err(Error::new(code, what).names(own.as_deref().as_slice(), Some(stated)))
        }
        _ => Ok(()),
    };
    same(
        Code::ClaimsSubject,
        "the capsule belongs to another subject",
        &policy.subject,
        &terms.subject,
    )?;
    same(
        Code::ClaimsTenant,
        "the capsule belongs to another tenant",
        &policy.tenant,
        &terms.tenant,
    )?;
    if let Some(expected) = &policy.expected.session {
        check_session(expected, terms.session.as_ref())?;
    }
    if !terms.scope.split(' ').any(|word| word == policy.scope) {
        return Err(
            Error::new(Code::ClaimsScope, "the scope does not grant this use")
                .names(&[&policy.scope], Some(&terms.scope)),
        );
    }
    Ok(())
}

fn check_session(expected: &ExpectedSession, stated: Option<&Session>) -> Result<()> {
    let other = |what| Error::new(Code::ClaimsSession, what);
    let Some(stated) = stated else {
        return Err(other("the capsule names no session").names(&[&expected.id], None));
    };
    if stated.id != expected.id {
        return Err(
            other("the capsule is of another session").names(&[&expected.id], Some(&stated.id))
        );
    }
    for (place, expected, found) in [
        ("version", expected.version, stated.version),
        (
            "replay cursor",
            expected.replay_cursor,
            stated.replay_cursor,
        ),
    ] {
        if let Some(expected) = expected.filter(|expected| *expected != found) {
            return Err(other("the capsule is another checkpoint of the session")
                .at(place)
                .sides(expected, found));
        }
    }
    Ok(())
}

pub(crate) fn check_time(policy: &Policy<'_>, terms: &Terms) -> Result<()> {
    let now = policy.now;
    for (name, start) in [("nbf", terms.not_before), ("iat", terms.issued_at)] {
        if start >= terms.expires {
            return Err(Error::new(
                Code::ClaimsMalformed,
                "the capsule expires before it is valid",
            )
            .at(name)
            .sides(
                format_args!("before {}, its end", show_instant(terms.expires)),
                show_instant(start),
            ));
        }
    }
    if now >= terms.expires {
        return Err(
            Error::new(Code::ClaimsExpired, "the capsule has expired").sides(
                format_args!("an end after {}", show_instant(now)),
                show_instant(terms.expires),
            ),
        );
    }
    let latest = now.saturating_add(policy.skew.min(MAX_SKEW));
    for (name, start) in [("nbf", terms.not_before), ("iat", terms.issued_at)] {
        if start > latest {
            return Err(
                Error::new(Code::ClaimsNotYetValid, "the capsule is not valid yet")
                    .at(name)
                    .sides(
                        format_args!("at most {}", show_instant(latest)),
                        show_instant(start),
                    ),
            );
        }
    }
    let lifetime = terms.expires - terms.issued_at;
    if lifetime > policy.max_lifetime {
        return Err(
            Error::new(Code::ClaimsLifetime, "the lifetime is longer than allowed").sides(
                format_args!("at most {} s", policy.max_lifetime),
                format_args!("{lifetime} s"),
            ),
        );
    }
    match terms.expires > terms.renew_until {
        true => Err(past_renewal(terms.renew_until, terms.expires)),
        false => Ok(()),
    }
}

pub(crate) fn past_renewal(until: u64, expires: u64) -> Error {
    let what = "the capsule would outlive what its issuer allowed";
    Error::new(Code::ClaimsLifetime, what).sides(
        format_args!("an end of at most {}", show_instant(until)),
        show_instant(expires),
    )
}
