//! Which capsule a file is, before it is revoked (registry-v1 §4).

use std::path::Path;

use kvcap::{CapsuleId, Code, Result, RootPublic};

use crate::{TrustSources, Verifier, input};

/// Returns the id of a capsule that a key of the registry `registry` has signed, both current: a file may
/// bear whatever id a stranger has written into it.
///
/// # Errors
/// As [`crate::Judge::verify`]; a capsule that is revoked already is no error.
pub fn vouched_id(registry: &Path, roots: &[RootPublic], capsule: &Path) -> Result<CapsuleId> {
    let (untrusted, _) = input::Capsule::read(capsule)?.split();
    let claims = untrusted.claims();
    let (id, terms) = (claims.id, claims.terms.clone());
    let verifier = Verifier {
        max_lifetime: u64::MAX,
        ..Verifier::new(TrustSources {
            keys: Vec::new(),
            registries: vec![registry.to_owned()],
            roots: roots.iter().map(RootPublic::to_text).collect(),
        })
    };
    let judge = verifier.judge()?.danger_as_stated(&terms);
    match judge.verify(untrusted) {
        // the last check of a header (REG-G-10): what comes before has passed
        Err(error) if error.code() == Code::ClaimsRevoked => Ok(id),
        Err(error) => Err(input::at(error, capsule)),
        Ok(verdict) => Ok(verdict.tip().manifest().claims.id),
    }
}
