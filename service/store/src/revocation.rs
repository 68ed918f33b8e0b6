//! Which capsule a file is, before it is revoked (registry-v1 §4).

use std::path::Path;

use kvcap::{CapsuleId, Code, Error, Result, RootPublic};

use crate::{TrustSources, Verifier, input};

/// Returns the id of the capsule that `text` names: a file, which a key of the registry `registry` has signed, or an id,
/// which nobody verifies.
///
/// # Errors
/// KVC-944 where it is an id and the name of a file; as [`crate::Judge::verify`] for a file.
pub fn revocable_id(registry: &Path, roots: &[RootPublic], text: &str) -> Result<CapsuleId> {
    match CapsuleId::from_hex(text) {
        Some(_) if Path::new(text).exists() => {
            let what = "this is an id and the name of a file";
            let which = format!("./{text} is the file");
            Err(Error::new(Code::LocalUsage, what).at(which))
        }
        Some(id) => Ok(id),
        None => vouched_id(registry, roots, Path::new(text)),
    }
}

/// Returns the id of a capsule that a key of the registry `registry` has signed, both current: a file may
/// bear whatever id a stranger has written into it.
///
/// # Errors
/// As [`crate::Judge::verify`]; a capsule that is revoked already is no error.
fn vouched_id(registry: &Path, roots: &[RootPublic], capsule: &Path) -> Result<CapsuleId> {
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
