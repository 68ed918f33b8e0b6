//! Vectors of what lies beside capsules: statements of equivalence, notes of a registry, key files under a passphrase
//! (`beside/README.md`).

mod keys;
mod notes;
mod statements;

use kvcap::Result;
use serde_json::Value;

use crate::operations::{self, Case};

/// File in which they are stored.
pub const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/beside/vectors.json");

/// Text of the file.
#[must_use]
pub fn text() -> String {
    let cases = [statements::cases(), notes::cases(), keys::cases()].concat();
    operations::text(&cases, run)
}

/// Does what a vector says by the library.
///
/// # Errors
/// The library's.
pub fn run(operation: &str, input: &Value) -> Result<Value> {
    match operation {
        "equivalence" => statements::equivalence(input),
        "notes" => notes::notes(input),
        "locked-key" => keys::locked_key(input),
        other => panic!("no operation {other}"),
    }
}
