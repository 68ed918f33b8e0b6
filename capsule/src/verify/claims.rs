//! The checks of key and claims (capsule-v1 §11.2, steps 7–9).

use crate::{
    error::{Code, Error, Result},
    limits::MAX_SKEW,
    manifest::Manifest,
    trust::{Purpose, TrustedKey},
    verify::{policy::Policy, quoted},
    wire::claims::Terms,
};

/// K-3, K-4.
pub(crate) fn check_key(policy: &Policy<'_>, key: &TrustedKey, manifest: &Manifest) -> Result<()> {
    let terms = &manifest.claims.terms;
    if terms.issued_at < key.not_before
        || (terms.issued_at >= key.sign_until && key.sign_until != TrustedKey::NO_END)
        || (policy.now >= key.verify_until && key.verify_until != TrustedKey::NO_END)
    {
        return Err(
            Error::new(Code::KeyWindow, "the capsule lies outside the key's window").sides(
                format_args!("signed {} to {}", key.not_before, key.sign_until),
                format_args!("iat {}", terms.issued_at),
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
    if !policy.suites.contains(&suite) {
        return Err(
            Error::new(Code::ManifestSuite, "the suite is not allowed here").at(suite.name()),
        );
    }
    match &key.issuer {
        Some(issuer) if *issuer != terms.issuer => Err(Error::new(
            Code::KeyIssuer,
            "the key belongs to another issuer",
        )
        .sides(quoted(issuer), quoted(&terms.issuer))),
        _ => Ok(()),
    }
}

/// Steps 8 and 9.
pub(crate) fn check_claims(policy: &Policy<'_>, terms: &Terms) -> Result<()> {
    check_time(policy, terms)?;
    if !policy.audiences.contains(&terms.audience) {
        let own: Vec<String> = policy.audiences.iter().map(|name| quoted(name)).collect();
        return Err(Error::new(
            Code::ClaimsAudience,
            "the capsule is meant for another audience",
        )
        .sides(own.join(" or "), quoted(&terms.audience)));
    }
    let same = |code, what, own: &Option<String>, stated: &Option<String>| match stated {
        Some(stated) if own.as_ref() != Some(stated) => Err(Error::new(code, what).sides(
            own.as_deref()
                .map_or_else(|| "none stated".to_owned(), quoted),
            quoted(stated),
        )),
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
    if !terms.scope.split(' ').any(|word| word == policy.scope) {
        return Err(
            Error::new(Code::ClaimsScope, "the scope does not grant this use")
                .sides(quoted(&policy.scope), quoted(&terms.scope)),
        );
    }
    Ok(())
}

fn check_time(policy: &Policy<'_>, terms: &Terms) -> Result<()> {
    let now = policy.now;
    for (name, start) in [("nbf", terms.not_before), ("iat", terms.issued_at)] {
        if start >= terms.expires {
            return Err(Error::new(
                Code::ClaimsMalformed,
                "the capsule expires before it is valid",
            )
            .at(name)
            .sides(format_args!("before exp {}", terms.expires), start));
        }
    }
    if now >= terms.expires {
        return Err(Error::new(Code::ClaimsExpired, "the capsule has expired")
            .sides(format_args!("exp after now {now}"), terms.expires));
    }
    let latest = now.saturating_add(policy.skew.min(MAX_SKEW));
    for (name, start) in [("nbf", terms.not_before), ("iat", terms.issued_at)] {
        if start > latest {
            return Err(
                Error::new(Code::ClaimsNotYetValid, "the capsule is not valid yet")
                    .at(name)
                    .sides(format_args!("at most {latest}"), start),
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
    match terms.renew_until {
        Some(until) if terms.expires > until => Err(past_renewal(until, terms.expires)),
        _ => Ok(()),
    }
}

pub(crate) fn past_renewal(until: u64, expires: u64) -> Error {
    let what = "the capsule would outlive what its issuer allowed";
    Error::new(Code::ClaimsLifetime, what).sides(format_args!("exp at most {until}"), expires)
}
