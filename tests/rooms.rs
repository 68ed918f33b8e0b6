//! No circle among the modules of a crate: of two files that stand side by side in a folder, one may
//! know the other, never both each other, and no more than two may close a circle.
//!
//! An edge between files in different folders is one between the two folders that part them. A file
//! and those in its own folder are one thing, and may know each other.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that meets what it does not expect fails"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

/// The crates' folders, and pairs that may know each other: a trait and its helper.
const CRATES: &[(&str, &[(&str, &str)])] = &[
    ("codecs/src", &[]),
    ("capsule/src", &[]),
    ("runtimes/models/src", &[]),
    ("runtimes/states/src", &[]),
    ("runtimes/engines/src", &[]),
    ("service/store/src", &[]),
    ("service/session/src", &[]),
    ("service/server/src", &[]),
    ("web/inspect/src", &[]),
    ("bindings/calls/src", &[]),
    ("bindings/c/src", &[]),
    ("bindings/node/src", &[]),
    ("bindings/python/src", &[]),
    ("cli/src", &[]),
];

type Module = Vec<String>;

/// Every module of a folder with its text, without comments and tests.
fn modules(folder: &Path, at: &Module, found: &mut BTreeMap<Module, String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let mut module = at.clone();
        if !matches!(name.as_str(), "mod" | "lib" | "main") {
            module.push(name.clone());
        }
        if name == "tests" {
            continue;
        }
        if path.is_dir() {
            modules(&path, &module, found);
        } else if path.extension().is_some_and(|kind| kind == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
            let code = text.lines().map(|line| line.split("//").next().unwrap());
            found.insert(module, code.collect::<Vec<_>>().join("\n"));
        }
    }
}

/// The paths that begin here with `crate` or `super`, those of a group in braces one by one.
fn paths(text: &str, base: &[String]) -> (Vec<Module>, usize) {
    let (mut path, mut found, mut at) = (base.to_vec(), Vec::new(), 0);
    loop {
        let rest = &text[at..];
        if let Some(group) = rest.strip_prefix('{') {
            let mut inner = 1;
            while !group[inner - 1..].starts_with('}') {
                let skip = group[inner - 1..].len()
                    - group[inner - 1..]
                        .trim_start_matches(|c: char| c.is_whitespace() || c == ',')
                        .len();
                if skip > 0 {
                    inner += skip;
                    continue;
                }
                let (more, len) = paths(&group[inner - 1..], &path);
                found.extend(more);
                inner += len.max(1);
            }
            return (found, at + 1 + inner);
        }
        let len = rest
            .find(|c: char| !c.is_alphanumeric() && c != '_')
            .unwrap_or(rest.len());
        if len > 0 && &rest[..len] != "self" {
            path.push(rest[..len].to_owned());
        }
        at += len;
        match text[at..].strip_prefix("::") {
            Some(next) if next.starts_with(|c: char| c.is_alphanumeric() || "_{".contains(c)) => {
                at += 2;
            }
            _ => {
                // what follows `as` is a name of the importer's own
                if text[at..].starts_with(" as ") {
                    let end = text[at..].find([',', '}', ';']);
                    at += end.unwrap_or(0);
                }
                found.push(path);
                return (found, at);
            }
        }
    }
}

/// What a module's text names of its own crate.
fn named(module: &Module, text: &str) -> Vec<Module> {
    let mut found = Vec::new();
    for (at, word) in text
        .match_indices("crate::")
        .chain(text.match_indices("super::"))
    {
        let before = text[..at].chars().next_back();
        if before.is_some_and(|c| c.is_alphanumeric() || "_:$".contains(c)) {
            continue;
        }
        let (mut base, mut rest) = (Module::new(), &text[at + word.len()..]);
        if word == "super::" {
            base.clone_from(module);
            base.pop();
            while let Some(more) = rest.strip_prefix("super::") {
                base.pop();
                rest = more;
            }
        }
        found.extend(paths(rest, &base).0);
    }
    found
}

/// Who knows whom, by the folder in which both stand.
fn edges(modules: &BTreeMap<Module, String>) -> BTreeMap<Module, BTreeSet<(String, String)>> {
    let mut edges: BTreeMap<Module, BTreeSet<(String, String)>> = BTreeMap::new();
    for (from, text) in modules {
        for mut to in named(from, text) {
            while !modules.contains_key(&to) && to.pop().is_some() {}
            let shared = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
            if let (Some(a), Some(b)) = (from.get(shared), to.get(shared)) {
                let pair = (a.clone(), b.clone());
                edges.entry(to[..shared].to_vec()).or_default().insert(pair);
            }
        }
    }
    edges
}

/// What is left when everything is taken away that knows nothing left, or is known by nothing left.
fn circle(edges: &BTreeSet<(String, String)>) -> BTreeSet<(String, String)> {
    let mut left = edges.clone();
    loop {
        let knows: BTreeSet<String> = left.iter().map(|pair| pair.0.clone()).collect();
        let known: BTreeSet<String> = left.iter().map(|pair| pair.1.clone()).collect();
        let before = left.len();
        left.retain(|(a, b)| knows.contains(b) && known.contains(a));
        if left.len() == before {
            return left;
        }
    }
}

#[test]
fn no_two_rooms_know_each_other() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    for (source, allowed) in CRATES {
        let mut found = BTreeMap::new();
        modules(&root.join(source), &Module::new(), &mut found);
        let edges = edges(&found);
        assert!(
            edges.values().map(BTreeSet::len).sum::<usize>() > 2,
            "{source}: no edges"
        );
        for (folder, mut pairs) in edges {
            pairs.retain(|(a, b)| !allowed.contains(&(a.as_str(), b.as_str())));
            let circle = circle(&pairs);
            assert!(
                circle.is_empty(),
                "{source}/{}: {circle:?}",
                folder.join("/")
            );
        }
    }
}

#[test]
fn a_circle_is_seen() {
    let text = |pairs: &[(&str, &str)]| {
        let module = |name: &str| name.split('/').map(str::to_owned).collect::<Module>();
        let pairs = pairs
            .iter()
            .map(|(name, text)| (module(name), (*text).to_owned()));
        let edges = edges(&pairs.collect());
        edges
            .values()
            .map(|pairs| circle(pairs).len())
            .sum::<usize>()
    };
    let a = ("a/x", "use crate::{b::{self, y::{One, Two as T}, z}, c};");
    assert_eq!(text(&[a, ("b", ""), ("b/y", ""), ("c", "")]), 0);
    assert_eq!(
        text(&[a, ("b", ""), ("b/y", "fn f() -> crate::a::x::X {}")]),
        2
    );
    assert_eq!(
        text(&[
            a,
            ("b", ""),
            ("c", "use crate::d;"),
            ("d", "use crate::a::x;")
        ]),
        3
    );
    assert_eq!(text(&[("a", "use b::B;"), ("a/b", "use super::A;")]), 0);
    assert_eq!(
        text(&[("a/b", "use super::c::C;"), ("a/c", "use super::b;")]),
        2
    );
}
