//! What each binding may link, where it may be unsafe, and that the table of docs/reference/bindings.md names what exists.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that meets what it does not expect fails"
)]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The packages of a section of a manifest, without comments.
fn linked(manifest: &str, section: &str) -> BTreeSet<String> {
    let lines = manifest
        .lines()
        .skip_while(|line| *line != format!("[{section}]"))
        .skip(1)
        .take_while(|line| !line.starts_with('['));
    let name = |line: &str| line.split(['=', '.', ' ']).next().unwrap().to_owned();
    lines
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(name)
        .collect()
}

#[test]
fn a_binding_links_the_libraries_and_its_language_alone() {
    let allowed: [(&str, &[&str]); 4] = [
        (
            "calls",
            &[
                "kvcap",
                "kvcap-codecs",
                "kvcap-models",
                "kvcap-states",
                "kvcap-store",
                "kvcap-session",
                "zeroize",
            ],
        ),
        ("c", &["kvcap", "kvcap-calls", "kvcap-states"]),
        (
            "node",
            &[
                "kvcap",
                "kvcap-calls",
                "kvcap-states",
                "napi",
                "napi-derive",
            ],
        ),
        ("python", &["kvcap", "kvcap-calls", "kvcap-states", "pyo3"]),
    ];
    for (binding, allowed) in allowed {
        let manifest = read(&format!("bindings/{binding}/Cargo.toml"));
        let allowed: BTreeSet<String> = allowed.iter().map(|name| (*name).to_owned()).collect();
        assert_eq!(linked(&manifest, "dependencies"), allowed, "{binding}");
    }
}

#[test]
fn a_binding_has_no_cryptography_and_is_unsafe_in_one_file() {
    for (binding, file) in [
        ("calls", None),
        ("c", Some("given.rs")),
        ("node", Some("source.rs")),
        ("python", Some("memory.rs")),
    ] {
        let folder = root().join("bindings").join(binding).join("src");
        let mut found = BTreeSet::new();
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let text = fs::read_to_string(&path).unwrap();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            let code = text.lines().map(|line| line.split("//").next().unwrap());
            for line in code {
                for word in ["blake3", "sha2", "aead", "hazmat", "cose"] {
                    assert!(
                        !line.contains(&format!("{word}::")),
                        "{binding}/{name}: {line}"
                    );
                }
                if line.contains("unsafe {") || line.contains("unsafe impl") {
                    found.insert(name.clone());
                }
            }
        }
        let found: Vec<_> = found.iter().map(String::as_str).collect();
        assert_eq!(found, file.into_iter().collect::<Vec<_>>(), "{binding}");
    }
}

/// Names in backquotes of a column of the table.
fn column(number: usize) -> Vec<String> {
    let page = read("docs/reference/bindings.md");
    let rows = page.lines().filter(|line| line.matches(" | ").count() == 5);
    let mut names = Vec::new();
    for row in rows {
        let cell = row.trim_matches('|').split(" | ").nth(number).unwrap();
        names.extend(cell.split('`').skip(1).step_by(2).map(str::to_owned));
    }
    assert!(names.len() > 5, "column {number} has names");
    names
}

/// True if a text has a word as a whole.
fn has_word(text: &str, word: &str) -> bool {
    let edge = |c: Option<char>| !c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    text.match_indices(word).any(|(at, _)| {
        edge(text[..at].chars().next_back()) && edge(text[at + word.len()..].chars().next())
    })
}

#[test]
fn what_the_table_names_exists() {
    let header = read("bindings/c/include/kvcap.h");
    for name in column(4).iter().filter(|name| name.starts_with("kvcap_")) {
        assert!(
            header.contains(&format!(" {name}(")) || header.contains(&format!("*{name}(")),
            "C: {name}"
        );
    }
    let types = read("bindings/node/index.d.ts");
    for name in column(3) {
        let name = name.strip_prefix("kvcap.").unwrap().to_owned();
        let class = format!("export class {name} ");
        let function = format!("export function {name}(");
        assert!(
            types.contains(&class) || types.contains(&function),
            "Node: {name}"
        );
    }
    let stub = read("bindings/python/python/kvcap/_kvcap.pyi");
    for name in column(2) {
        let name = name.strip_prefix("kvcap.").unwrap();
        let text = match name.split_once('.') {
            Some((module, _)) => read(&format!("bindings/python/python/kvcap/{module}.py")),
            None if root()
                .join(format!("bindings/python/python/kvcap/{name}.py"))
                .exists() =>
            {
                continue;
            }
            None => stub.clone(),
        };
        let last = name.rsplit('.').next().unwrap();
        let defined = [format!("def {last}("), format!("class {last}")];
        assert!(
            defined.iter().any(|text_of| text.contains(text_of)),
            "Python: {name}"
        );
    }
    for name in column(1).iter().filter(|name| name.starts_with("kvcap")) {
        let library = name.split("::").next().unwrap().replace('_', "-");
        assert!(
            has_word(&read(&format!("docs/api/{library}.txt")), name),
            "Rust: {name}"
        );
    }
    let program = read("docs/reference/cli.md");
    for name in column(5) {
        assert!(
            program.contains(&format!("\n## {name}\n"))
                || program.contains(&format!("`{name}`"))
                || program.contains(&format!("# {name}")),
            "program: {name}"
        );
    }
}

#[test]
fn every_call_of_a_binding_is_in_the_table() {
    let page = read("docs/reference/bindings.md");
    // what makes, asks and frees handles is one call with what it makes
    let parts = [
        "_free",
        "_facts",
        "_length",
        "_tokens",
        "_finish",
        "_count",
        "_number",
        "_name",
        "_where",
        "_expected",
        "_found",
        "_public",
        "_version",
        "verifying_new",
        "facts_text",
    ];
    let header = read("bindings/c/include/kvcap.h");
    let words = header.split(|c: char| !(c.is_alphanumeric() || c == '_' || c == '('));
    let functions = words
        .filter_map(|word| word.split_once('('))
        .map(|(name, _)| name);
    for name in functions.filter(|name| name.starts_with("kvcap_")) {
        let part = parts.iter().any(|part| name.ends_with(part));
        assert!(part || page.contains(&format!("`{name}`")), "C: {name}");
    }
    let types = read("bindings/node/index.d.ts");
    let exported = types.lines().filter_map(|line| {
        let line = line.strip_prefix("export ")?;
        let name = line
            .strip_prefix("class ")
            .or(line.strip_prefix("function "))?;
        name.split([' ', '(']).next()
    });
    for name in exported.filter(|name| *name != "Session") {
        assert!(page.contains(&format!("`kvcap.{name}`")), "Node: {name}");
    }
    let stub = read("bindings/python/python/kvcap/_kvcap.pyi");
    let functions = stub.lines().filter_map(|line| line.strip_prefix("def "));
    for name in functions.filter_map(|line| line.split('(').next()) {
        assert!(page.contains(&format!("`kvcap.{name}`")), "Python: {name}");
    }
}
