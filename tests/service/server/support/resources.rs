//! Resources as the specification's table has them, and as a description does.

use std::{collections::BTreeSet, fs, path::Path};

use serde_json::Value;

/// The description that is checked in, which a gateway's test writes.
pub(crate) const DESCRIPTION: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/../../spec/openapi.json");

/// Paths and methods of http-v1 §2 up to where `end` stands; of pages for people, and of the description itself,
/// nothing is said to programs.
pub(crate) fn specified(end: &str) -> BTreeSet<(String, String)> {
    let spec = Path::new(DESCRIPTION).with_file_name("http-v1.md");
    let spec = fs::read_to_string(spec).unwrap();
    let table = spec.split("## 2. Resources").nth(1).unwrap();
    let table = table.split(end).next().unwrap();
    let mut found = BTreeSet::new();
    for row in table.lines().filter(|line| line.starts_with("| `/")) {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        for path in cells[1].split(", ") {
            let mut path = path.trim_matches('`').to_owned();
            for name in ["UPLOAD", "VERSION", "SESSION", "NAME", "ID"] {
                path = path.replace(name, &format!("{{{}}}", name.to_lowercase()));
            }
            for method in cells[2].split(", ") {
                found.insert((path.clone(), method.to_lowercase()));
            }
        }
    }
    found.retain(|(path, _)| !["/", "/inspect", "/openapi.json"].contains(&path.as_str()));
    found
}

/// Paths and methods of a description.
pub(crate) fn described(document: &str) -> BTreeSet<(String, String)> {
    let document: Value = serde_json::from_str(document).unwrap();
    let mut found = BTreeSet::new();
    for (path, operations) in document["paths"].as_object().unwrap() {
        for method in operations.as_object().unwrap().keys() {
            found.insert((path.clone(), method.clone()));
        }
    }
    found
}
