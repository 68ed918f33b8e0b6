//! The terms of a capsule that is sealed again from a chain.

use kvcap::{Chain, Code, Error, Result, Terms};

/// Returns the tip's terms for a capsule that is made of the chain's members at `now`: it lives no longer than any
/// of them, or `ttl` seconds if that is less, and cannot be renewed for longer than any of them.
///
/// # Errors
/// KVC-944 for a capsule for one use, which would be there twice.
pub fn resealed_terms<S>(chain: &Chain<S>, now: u64, ttl: Option<u64>) -> Result<Terms> {
    let mut terms = chain.tip().manifest().claims.terms.clone();
    if terms.single_use {
        let what = "a single-use capsule cannot be resealed";
        return Err(Error::new(Code::LocalUsage, what));
    }
    let caps = chain
        .members()
        .map(|(member, _)| member.manifest().claims.terms.renew_until);
    let cap = caps.min().unwrap_or(0);
    let left = chain.expires();
    let expires = ttl.map_or(left, |ttl| left.min(now.saturating_add(ttl)));
    terms.expires = expires;
    terms.not_before = terms.not_before.min(now);
    terms.issued_at = now;
    terms.renew_until = cap.max(expires);
    Ok(terms)
}
