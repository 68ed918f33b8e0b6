//! Vectors of what lies beside capsules: statements of equivalence, notes of a registry, key files under a passphrase
//! (`beside/README.md`).

mod keys;
mod notes;
mod statements;

use kvcap::Result;
use serde_json::{Value, json};

/// File in which they are stored.
pub const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/beside/vectors.json");

/// One vector: what is done with its input, and what comes of it.
#[derive(Clone, Debug)]
struct Case {
    name: String,
    what: &'static str,
    rules: &'static [&'static str],
    operation: &'static str,
    input: Value,
    code: u16,
}

impl Case {
    fn new(
        name: &str,
        what: &'static str,
        rules: &'static [&'static str],
        (operation, input): (&'static str, Value),
        code: u16,
    ) -> Self {
        Self {
            name: name.to_owned(),
            what,
            rules,
            operation,
            input,
            code,
        }
    }
}

/// Text of the file.
#[must_use]
pub fn text() -> String {
    let cases = [statements::cases(), notes::cases(), keys::cases()].concat();
    let vectors: Vec<Value> = cases.iter().map(entry).collect();
    let all = json!({ "format": 1, "vectors": vectors });
    serde_json::to_string_pretty(&all).unwrap() + "\n"
}

fn entry(case: &Case) -> Value {
    let mut entry = json!({
        "name": case.name,
        "what": case.what,
        "rules": case.rules,
        "operation": case.operation,
        "input": case.input,
        "code": case.code,
    });
    if let Ok(output) = run(case.operation, &case.input) {
        entry["output"] = output;
    }
    entry
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
