//! Names of the environment's variables: one that is nearly right is no setting, and nobody would hear of it.

use std::ffi::OsString;

use kvcap::Result;

use super::{Setting, file::fault};

/// Variables that are no settings of a profile.
const OTHERS: [&str; 6] = [
    "KVCAP_BACKEND",
    "KVCAP_CPU",
    "KVCAP_LLAMA_SERVER",
    "KVCAP_NO_CACHE",
    "KVCAP_PASSPHRASE_FILE",
    "KVCAP_PROFILE",
];

/// Refuses variables whose names are those of settings but for a slip: without it, a misspelt ledger were no ledger.
/// Other names are somebody else's.
///
/// # Errors
/// KVC-945, with the nearest name.
pub fn check_variables(names: impl IntoIterator<Item = OsString>) -> Result<()> {
    let known: Vec<String> = Setting::ALL
        .iter()
        .map(|setting| setting.variable())
        .chain(OTHERS.map(str::to_owned))
        .collect();
    for name in names {
        let Some(name) = name.to_str().filter(|name| name.starts_with("KVCAP_")) else {
            continue;
        };
        if known.iter().any(|known| known == name) {
            continue;
        }
        let distance = |known: &&String| strsim::damerau_levenshtein(known, name);
        let nearest = known.iter().min_by_key(distance);
        if let Some(nearest) = nearest.filter(|known| distance(known) <= slips(known)) {
            let error = fault("the variable is not known: rename it, or unset it");
            return Err(error.sides(nearest, name));
        }
    }
    Ok(())
}

/// How many letters of a name may be wrong before it is another one: of short names, one.
fn slips(known: &str) -> usize {
    match known.len() {
        ..=10 => 1,
        _ => 2,
    }
}
