//! Vectors that name an operation, its input and what comes of it: those of sessions and of what lies beside capsules.

use kvcap::Result;
use serde_json::{Value, json};

/// One vector: what is done with its input, and what a rule says comes of it.
#[derive(Clone, Debug)]
pub struct Case {
    /// Its name.
    pub name: String,
    /// Sentence of it.
    pub what: &'static str,
    /// Rules of the specification.
    pub rules: &'static [&'static str],
    /// Operation, of those that the set's `README.md` lists.
    pub operation: &'static str,
    /// Arguments of the operation by their names.
    pub input: Value,
    /// The code, 0 where it is accepted.
    pub code: u16,
}

impl Case {
    pub(crate) fn new(
        name: impl Into<String>,
        what: &'static str,
        rules: &'static [&'static str],
        (operation, input): (&'static str, Value),
        code: u16,
    ) -> Self {
        Self {
            name: name.into(),
            what,
            rules,
            operation,
            input,
            code,
        }
    }
}

/// Text of the file of a set; `run` does what a vector says by the library.
pub(crate) fn text(cases: &[Case], run: fn(&str, &Value) -> Result<Value>) -> String {
    let entry = |case: &Case| {
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
    };
    let vectors: Vec<Value> = cases.iter().map(entry).collect();
    let all = json!({ "format": 1, "vectors": vectors });
    serde_json::to_string_pretty(&all).unwrap() + "\n"
}
