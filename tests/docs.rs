//! Every link of the project's pages leads somewhere, every page of the book is in its contents, and
//! every script has a name in `do`. Docs of public items begin with a verb or a noun.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that meets what it does not expect fails"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Component, Path, PathBuf},
};

fn root() -> PathBuf {
    fs::canonicalize(Path::new(env!("CARGO_MANIFEST_DIR")).join("..")).unwrap()
}

/// Every file of the project below a folder, without what is built or installed.
fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        let left_out = [
            "target",
            "corpus",
            "artifacts",
            "__pycache__",
            ".git",
            ".venv",
            "node_modules",
        ];
        if left_out.contains(&name) || path.is_symlink() {
            continue;
        }
        if path.is_dir() {
            files(&path, found);
        } else {
            found.push(path);
        }
    }
}

fn project() -> Vec<PathBuf> {
    let mut found = Vec::new();
    files(&root(), &mut found);
    found.sort();
    found
}

/// The lines of a page outside of its code blocks, without code in backquotes.
fn prose(page: &str) -> Vec<String> {
    let mut fence: Option<&str> = None;
    let mut lines = Vec::new();
    for line in page.lines() {
        let start = line.trim_start();
        let mark = ["```", "~~~"]
            .into_iter()
            .find(|mark| start.starts_with(mark));
        match (fence, mark) {
            (None, Some(mark)) => fence = Some(mark),
            (Some(open), Some(mark)) if open == mark => fence = None,
            (Some(_), _) => {}
            (None, None) => lines.push(line.split('`').step_by(2).collect::<Vec<_>>().join("`")),
        }
    }
    lines
}

/// The text between two marks, wherever a line has both.
fn between<'a>(line: &'a str, open: &str, close: &str) -> Vec<&'a str> {
    let rest = line.split(open).skip(1);
    rest.filter_map(|rest| rest.split_once(close))
        .map(|(text, _)| text)
        .collect()
}

fn links(page: &str) -> Vec<String> {
    let mut found = Vec::new();
    for line in prose(page) {
        for (open, close) in [
            ("](", ")"),
            ("src=\"", "\""),
            ("href=\"", "\""),
            ("srcset=\"", "\""),
        ] {
            found.extend(between(&line, open, close).into_iter().map(str::to_owned));
        }
        // [text]: target
        if let Some(rest) = line.strip_prefix('[')
            && let Some((_, target)) = rest.split_once("]: ")
        {
            found.push(target.split_whitespace().next().unwrap_or("").to_owned());
        }
    }
    found.retain(|link| !link.contains("://") && !link.starts_with("mailto:"));
    found
}

/// The names that a page's headings and anchors get.
fn anchors(page: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut seen: BTreeMap<String, u32> = BTreeMap::new();
    let mut fenced = false;
    for line in page.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        }
        if fenced {
            continue;
        }
        for mark in ["id=\"", "name=\""] {
            found.extend(between(line, mark, "\"").into_iter().map(str::to_owned));
        }
        let Some(title) = line.strip_prefix('#') else {
            continue;
        };
        let title = title.trim_start_matches('#').trim();
        let title = match title.split_once("](") {
            Some((text, _)) => text.replace('[', ""),
            None => title.to_owned(),
        };
        let slug: String = title
            .to_lowercase()
            .chars()
            .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
            .map(|c| if c == ' ' { '-' } else { c })
            .collect();
        let count = seen.entry(slug.clone()).or_default();
        found.insert(match *count {
            0 => slug,
            _ => format!("{slug}-{count}"),
        });
        *count += 1;
    }
    found
}

/// A path without `.` and `..`.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                plain.pop();
            }
            part => plain.push(part),
        }
    }
    plain
}

/// Where a link of a page leads: a file or folder, and the anchor in it.
fn target(page: &Path, link: &str) -> (PathBuf, Option<String>) {
    let (path, anchor) = match link.split_once('#') {
        Some((path, anchor)) => (path, Some(anchor.to_owned())),
        None => (link, None),
    };
    let path = if path.is_empty() {
        page.to_owned()
    } else {
        plain(&page.parent().unwrap().join(path))
    };
    (path, anchor)
}

#[test]
fn every_link_leads_somewhere() {
    let mut wrong = Vec::new();
    let mut count = 0;
    for page in project() {
        if page.extension().is_none_or(|kind| kind != "md") {
            continue;
        }
        for link in links(&fs::read_to_string(&page).unwrap()) {
            count += 1;
            let (path, anchor) = target(&page, &link);
            let there = path.exists()
                && anchor.is_none_or(|anchor| {
                    path.extension().is_some_and(|kind| kind == "md")
                        && anchors(&fs::read_to_string(&path).unwrap()).contains(&anchor)
                });
            if !there {
                wrong.push(format!("{}: {link}", page.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(count > 150, "only {count} links were found");
}

/// Every page that can be reached from the book is in its contents, so that no link breaks in it.
#[test]
fn the_book_holds_every_page_that_it_links() {
    let contents = root().join("docs/SUMMARY.md");
    let listed = |page: &Path| -> BTreeSet<PathBuf> {
        let links = links(&fs::read_to_string(page).unwrap());
        links.iter().map(|link| target(page, link).0).collect()
    };
    let pages = listed(&contents);
    for page in &pages {
        for link in listed(page) {
            if link.extension().is_some_and(|kind| kind == "md") {
                assert!(
                    pages.contains(&link),
                    "{} links {}, which is not in docs/SUMMARY.md",
                    page.display(),
                    link.display()
                );
            }
        }
    }
    for page in project() {
        let of_docs = page.starts_with(root().join("docs")) && page != contents;
        if of_docs && page.extension().is_some_and(|kind| kind == "md") {
            assert!(
                pages.contains(&page),
                "{} is not in docs/SUMMARY.md",
                page.display()
            );
        }
    }
}

/// Scripts that others call.
const PARTS: &[&str] = &[
    ".ci/linked",
    ".ci/no-hazmat",
    ".ci/no-sys",
    ".ci/remap",
    ".ci/rustc",
    ".ci/wheel",
    "codecs/mlx/linux/backends",
    "codecs/mlx/linux/bind",
    "codecs/mlx/linux/setup",
    "tests/bench/peers.sh",
    "tests/platforms/wine",
    "tests/platforms/libnode",
    "tests/platforms/python-arm64",
    "tests/platforms/zig",
    "tests/platforms/zig-cc",
    "tests/service/helper/wrong",
];

#[test]
#[cfg(unix)]
fn every_script_has_a_name() {
    use std::os::unix::fs::PermissionsExt;
    let front = fs::read_to_string(root().join("do")).unwrap();
    for path in project() {
        let script = fs::metadata(&path).unwrap().permissions().mode() & 0o111 != 0
            && fs::read(&path).unwrap().starts_with(b"#!");
        let name = path
            .strip_prefix(root())
            .unwrap()
            .to_str()
            .unwrap()
            .to_owned();
        if !script || name == "do" || PARTS.contains(&name.as_str()) {
            continue;
        }
        assert!(front.contains(&name), "`do` does not name {name}");
    }
    let names = front.lines().filter(|line| line.starts_with("#: "));
    assert!(names.clone().count() > 10);
    for line in names {
        assert!(line.contains(" | "), "what it takes: {line}");
    }
}

/// Openings that put off what the caller gets: a doc begins with a verb ("Returns") or a noun ("Length").
const PUT_OFF: &[&str] = &[
    "How", "The same", "What", "Whatever", "When", "Where", "Whether", "Which", "Who", "Whoever",
    "Whose", "Why",
];

/// First lines of the docs of a source's public items, with their numbers: of the crate itself, of
/// whatever is `pub`, and of all that stands in a public enum or trait.
fn public_docs(source: &str) -> Vec<(usize, &str)> {
    let (mut found, mut first) = (Vec::new(), None);
    let (mut inside, mut attribute) = (false, false);
    for (number, line) in (1..).zip(source.lines()) {
        let code = line.trim_start();
        if let (1, Some(text)) = (number, code.strip_prefix("//!")) {
            found.push((number, text.trim()));
        } else if let Some(text) = code.strip_prefix("///") {
            first = first.or(Some((number, text.trim())));
        } else if attribute || code.starts_with("#[") {
            attribute = !code.ends_with(']');
        } else {
            let public = inside || code.starts_with("pub ");
            found.extend(first.take().filter(|_| public));
            let begins = ["pub enum ", "pub trait "].map(|head| line.starts_with(head));
            inside = line != "}" && (inside || begins.contains(&true));
        }
    }
    found
}

/// The lines of [`public_docs`] that begin with none of a verb and a noun.
fn put_off(source: &str) -> Vec<(usize, &str)> {
    let mut docs = public_docs(source);
    docs.retain(|(_, text)| {
        PUT_OFF.iter().any(|opening| {
            let rest = text.strip_prefix(opening);
            rest.is_some_and(|rest| !rest.starts_with(char::is_alphanumeric))
        })
    });
    docs
}

#[test]
fn docs_of_public_items_begin_with_a_verb_or_a_noun() {
    let (mut faults, mut seen) = (Vec::new(), BTreeMap::<PathBuf, usize>::new());
    for path in project() {
        let below = path.strip_prefix(root()).unwrap();
        let mut parts = below.components();
        let krate: PathBuf = parts
            .by_ref()
            .take_while(|part| part.as_os_str() != "src")
            .collect();
        if krate == below || path.extension().is_none_or(|kind| kind != "rs") {
            continue;
        }
        let source = fs::read_to_string(&path).unwrap();
        // the docs of a module that is a file are its readers', those of a crate its users' too
        let module = usize::from(path.file_name().unwrap() != "lib.rs");
        let inner = |(number, _): &(usize, &str)| *number > module;
        let found = put_off(&source).into_iter().filter(inner);
        faults.extend(found.map(|(number, text)| format!("{}:{number}: {text}", below.display())));
        *seen.entry(krate).or_default() += public_docs(&source).len();
    }
    for krate in [
        "capsule",
        "codecs",
        "runtimes/models",
        "runtimes/states",
        "service/store",
    ] {
        assert!(seen[Path::new(krate)] > 50, "{krate}: {seen:?}");
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn a_doc_that_puts_off_is_seen() {
    let planted = "//! Where all is kept.\n\n/// What it holds.\n#[derive(Debug)]\npub struct A {\n    \
        /// Whether it is so.\n    #[allow(\n        dead_code,\n        reason = \"a\"\n    )]\n    pub b: bool,\n    \
        /// What only this file sees.\n    c: u8,\n}\n\n/// Whatsoever: a noun.\npub enum C {\n    /// The same.\n    D,\n}\n\n\
        /// How it is done here.\nfn e() {}\n\n/// Length.\n///\n/// What follows is not first.\npub fn f() {}\n";
    let lines: Vec<usize> = put_off(planted).iter().map(|(number, _)| *number).collect();
    assert_eq!(lines, [1, 3, 6, 18]);
}

/// Everything of a cell that stands between two of a mark.
fn marked<'a>(cell: &'a str, mark: &str) -> Vec<&'a str> {
    cell.split(mark).skip(1).step_by(2).collect()
}

/// The cells of a table's rows, of which the first is in bold.
fn rows(page: &str) -> Vec<Vec<String>> {
    let rows = page.lines().filter(|line| line.starts_with("| **"));
    rows.map(|row| {
        let cells = row.trim_matches('|').split(" | ");
        cells.map(|cell| cell.trim().to_owned()).collect()
    })
    .collect()
}

/// Every promise of the threat model is in the security review's map, in its order, and every file, vector, rule of
/// the model, rule of the specification and test that the map names is there.
#[test]
fn the_map_of_promises_is_true() {
    let read = |path: &str| fs::read_to_string(root().join(path)).unwrap();
    let section = |page: &str, from: &str| -> String {
        let rest = page.split_once(from).unwrap().1;
        rest.split("\n## ").next().unwrap().to_owned()
    };
    let promised = section(&read("spec/threat-model.md"), "## What is promised");
    let name = |cell: &str| marked(cell, "**")[0].trim_end_matches('.').to_owned();
    let promised: Vec<String> = rows(&promised).iter().map(|row| name(&row[0])).collect();
    let map = section(
        &read("docs/security-review.md"),
        "## Each promise, and what holds it",
    );
    let map = rows(&map);
    let mapped: Vec<String> = map.iter().map(|row| name(&row[0])).collect();
    assert_eq!(mapped, promised);

    let sources: Vec<String> = project()
        .iter()
        .filter(|path| path.extension().is_some_and(|kind| kind == "rs"))
        .map(|path| fs::read_to_string(path).unwrap())
        .collect();
    let spec: String = ["capsule-v1", "helper-v1", "lineage-v1", "registry-v1"]
        .map(|page| read(&format!("spec/{page}.md")))
        .concat();
    let (index, model) = (
        read("testvectors/vectors/manifest.json"),
        read("tests/capsule/protocol/main.rs"),
    );
    let mut wrong = Vec::new();
    for row in &map {
        let [_, rules, code, vectors, taken_out, tests] = row.as_slice() else {
            panic!("six cells: {row:?}");
        };
        let mut look = |what: &str, there: &dyn Fn(&str) -> bool, names: Vec<&str>| {
            let missing = names.into_iter().filter(|name| !there(name));
            wrong.extend(missing.map(|name| format!("{}: {what} {name}", row[0])));
        };
        let rule = |rule: &str| match rule.strip_prefix('§') {
            Some(number) => {
                spec.contains(&format!("# {number} ")) || spec.contains(&format!("# {number}. "))
            }
            None => spec.contains(&format!("**{rule}** ")),
        };
        look("rule", &rule, rules.split(", ").collect());
        look(
            "file",
            &|path| root().join(path).is_file(),
            marked(code, "`"),
        );
        let vector = |vector: &str| {
            index.contains(&format!("\"name\":\"{vector}\""))
                || index.contains(&format!("\"name\": \"{vector}\""))
        };
        look("vector", &vector, marked(vectors, "`"));
        let rule = |rule: &str| model.contains(&format!("Rule::{rule},"));
        let of_model: Vec<&str> = marked(taken_out, "`");
        assert!(
            taken_out.starts_with("none: ") || !of_model.is_empty(),
            "{}",
            row[0]
        );
        look("rule of the model", &rule, of_model);
        let test = |test: &str| {
            sources
                .iter()
                .any(|source| source.contains(&format!("fn {test}(")))
        };
        let tests: Vec<&str> = marked(tests, "`");
        assert!(!tests.is_empty(), "{}", row[0]);
        look("test", &test, tests);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
