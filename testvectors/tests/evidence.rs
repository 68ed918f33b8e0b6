//! Each rule of each page, and each code, has a vector or a row of `evidence.tsv`.

#![allow(
    clippy::unwrap_used,
    reason = "a test that meets what it does not expect fails"
)]

use std::{
    collections::BTreeSet,
    fs,
    path::{Component, Path, PathBuf},
};

use kvcap_testvectors::{beside_set, generate, session_set};

/// The pages, and the letters before the rules of each.
const PAGES: [(&str, &str); 10] = [
    ("capsule-v1", "CAP"),
    ("codecs-v1", "COD"),
    ("helper-v1", "HLP"),
    ("http-v1", "HTTP"),
    ("lineage-v1", "LIN"),
    ("model-id-v1", "MOD"),
    ("oci-v1", "OCI"),
    ("registry-v1", "REG"),
    ("runtimes-v1", "RUN"),
    ("session-v1", "SES"),
];
/// The page of codes.
const ERRORS: &str = "errors";
const COLUMNS: [&str; 5] = ["page", "rule", "file", "test", "shows"];

/// Page and rule, or the page of codes and a code.
type Rule = (String, String);

/// A row of the table: the test that fails where the rule is broken.
struct Row<'a> {
    rule: Rule,
    file: &'a str,
    test: &'a str,
    shows: &'a str,
}

/// Reads the table; the first row names its columns.
fn rows(table: &str) -> Result<Vec<Row<'_>>, String> {
    let mut lines = table.lines().map(|line| line.split('\t').collect());
    let head: Option<Vec<&str>> = lines.next();
    if head.as_deref() != Some(&COLUMNS) {
        return Err(format!("the columns are not {COLUMNS:?}"));
    }
    lines
        .map(|cells: Vec<&str>| match cells[..] {
            [page, rule, file, test, shows] => Ok(Row {
                rule: (page.to_owned(), rule.to_owned()),
                file,
                test,
                shows,
            }),
            _ => Err(format!("not five columns: {cells:?}")),
        })
        .collect()
}

/// The rules that a page states: `**PAGE-X-n**` opens each.
fn rules_of(text: &str) -> Vec<String> {
    let words: Vec<&str> = text.split("**").collect();
    let between = words.get(1..words.len() - 1).unwrap_or_default();
    let rules = between.iter().step_by(2);
    let rules = rules.filter(|word| cited(word) == [**word] && word.len() > 5);
    rules.map(|rule| (*rule).to_owned()).collect()
}

/// What a text cites: `PAGE-X-n`, and `X-n`, which says no page and is the name of no rule.
fn cited(text: &str) -> Vec<&str> {
    let part = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let letters = |word: &str| word.bytes().all(|byte| byte.is_ascii_uppercase());
    let words = text.split(|c: char| !part(c));
    let rule = |word: &&str| {
        let parts: Vec<&str> = word.split('-').collect();
        let (page, letter, number) = match parts[..] {
            [letter, number] => ("", letter, number),
            [page, letter, number] => (page, letter, number),
            _ => return false,
        };
        (page.is_empty() || PAGES.iter().any(|(_, name)| *name == page))
            && letter.len() == 1
            && letters(letter)
            && !number.is_empty()
            && number.bytes().all(|byte| byte.is_ascii_digit())
    };
    words.filter(rule).collect()
}

/// The sections of pages that a text cites with the page's name: `capsule-v1 §3.2`.
fn sections_cited(text: &str) -> Vec<(&str, &str)> {
    let mut found = Vec::new();
    for (page, _) in PAGES {
        for (at, _) in text.match_indices(page) {
            let after = &text[at + page.len()..];
            let after = after.strip_prefix(".md").unwrap_or(after);
            let after = after.trim_start_matches(['`', ')']);
            let Some(number) = after.strip_prefix(" §") else {
                continue;
            };
            let end = number.find(|c: char| !c.is_ascii_digit() && c != '.');
            let number = &number[..end.unwrap_or(number.len())];
            let number = number.trim_end_matches('.');
            if !number.is_empty() {
                found.push((page, number));
            }
        }
    }
    found
}

/// The numbers of a page's sections.
fn sections_of(text: &str) -> BTreeSet<&str> {
    let heads = text.lines().filter(|line| line.starts_with('#'));
    heads
        .filter_map(|line| line.trim_start_matches('#').trim().split(' ').next())
        .map(|number| number.trim_end_matches('.'))
        .collect()
}

/// The codes that the first column of a table lists.
fn codes_of(text: &str) -> BTreeSet<String> {
    let cells = text.lines().filter_map(|line| line.split('|').nth(1));
    let codes = cells.map(str::trim).filter(|cell| cell.starts_with("KVC-"));
    codes.map(str::to_owned).collect()
}

/// Whether `source` holds a test of this name.
fn has_test(source: &str, name: &str) -> bool {
    let head = format!("fn {name}(");
    let Some(at) = source.find(&head) else {
        return false;
    };
    // its attributes: what stands between the last item and it
    let before = &source[..at];
    let item = before.rfind(['}', ';']).map_or(0, |end| end + 1);
    before[item..].contains("#[test]")
}

/// What is wrong with `rows` as the evidence for all of `stated` that vectors do not show. `source`
/// gives a file of the repository.
fn faults(
    stated: &BTreeSet<Rule>,
    shown: &BTreeSet<Rule>,
    rows: &[Row<'_>],
    source: impl Fn(&str) -> Option<String>,
) -> Vec<String> {
    let mut faults = Vec::new();
    let mut named = BTreeSet::new();
    for row in rows {
        let (page, rule) = &row.rule;
        let mut fault = |what: &str| faults.push(format!("{page} {rule}: {what}"));
        match (stated.contains(&row.rule), shown.contains(&row.rule)) {
            (false, _) => fault("there is no such rule"),
            (true, true) => fault("a vector shows it: the row is superfluous"),
            (true, false) => {}
        }
        if !named.insert(&row.rule) {
            fault("two rows");
        }
        match source(row.file) {
            None => fault(&format!("there is no {}", row.file)),
            Some(text) if !has_test(&text, row.test) => {
                fault(&format!("{} has no test {}", row.file, row.test));
            }
            Some(_) => {}
        }
        if row.shows.split_whitespace().count() < 3 || !row.shows.ends_with('.') {
            fault("the row does not say what the test shows");
        }
    }
    let lost = stated
        .iter()
        .filter(|rule| !shown.contains(rule) && !named.contains(rule));
    faults.extend(lost.map(|(page, rule)| format!("{page} {rule}: neither vector nor row")));
    faults
}

fn repository(path: &str) -> Option<String> {
    let inside = |part: Component<'_>| matches!(part, Component::Normal(_));
    let path = Path::new(path);
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    (path.components().all(inside)).then(|| fs::read_to_string(root.join(path)).ok())?
}

#[test]
fn every_rule_and_code_has_a_vector_or_a_test() {
    let page = |name: &str| repository(&format!("spec/{name}.md")).unwrap();
    let pair = |page: &str, rule: String| (page.to_owned(), rule);
    let manifest = generate::manifest();
    let sessions = generate::load(Path::new(session_set::FILE));
    let sessions: serde_json::Value = serde_json::from_slice(&sessions).unwrap();
    let beside = generate::load(Path::new(beside_set::FILE));
    let beside: serde_json::Value = serde_json::from_slice(&beside).unwrap();
    let lists =
        [&manifest, &sessions, &beside].map(|index| index["vectors"].as_array().unwrap().clone());
    let vectors = lists.concat();
    let named: BTreeSet<&str> = vectors
        .iter()
        .flat_map(|vector| vector["rules"].as_array().unwrap())
        .map(|rule| rule.as_str().unwrap())
        .collect();
    // a plan is told codes, and refuses nothing by them
    let refused: BTreeSet<String> = vectors
        .iter()
        .filter(|vector| vector["operation"] != "plan")
        .map(|vector| format!("KVC-{}", vector["code"]))
        .collect();
    let (mut stated, mut shown) = (BTreeSet::new(), BTreeSet::new());
    for (name, letters) in PAGES {
        let rules = rules_of(&page(name));
        assert!(rules.len() > 8, "{name}: {} rules", rules.len());
        for rule in rules {
            assert!(rule.starts_with(&format!("{letters}-")), "{name}: {rule}");
            if named.contains(&*rule) {
                shown.insert(pair(name, rule.clone()));
            }
            assert!(stated.insert(pair(name, rule.clone())), "{rule}: twice");
        }
    }
    let codes = codes_of(&page(ERRORS));
    assert!(codes.len() > 100, "{} codes", codes.len());
    shown.extend(
        codes
            .intersection(&refused)
            .map(|code| pair(ERRORS, code.clone())),
    );
    stated.extend(codes.into_iter().map(|code| pair(ERRORS, code)));
    let table = repository("testvectors/evidence.tsv").unwrap();
    let faults = faults(&stated, &shown, &rows(&table).unwrap(), repository);
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// Folders without text of ours: built, fetched, generated, or frozen with the names of their day.
const APART: [&str; 9] = [
    "target",
    "vectors",
    "frozen",
    "fixtures",
    "seeds",
    "corpus",
    "artifacts",
    "node_modules",
    "mutants.out",
];

/// The texts of the repository: pages, code and tables.
fn texts(folder: &Path, found: &mut Vec<(PathBuf, String)>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy();
        if path.is_dir() {
            let ours = !name.starts_with('.') || name == ".github" || name == ".ci";
            if ours && !APART.contains(&&*name) {
                texts(&path, found);
            }
        } else if path.extension().is_some_and(|ending| {
            ["rs", "py", "md", "tsv", "toml"]
                .iter()
                .any(|known| ending == *known)
        }) && let Ok(text) = fs::read_to_string(&path)
        {
            found.push((path, text));
        }
    }
}

/// Each rule and section that is cited anywhere is one that its page has.
#[test]
fn what_is_cited_exists() {
    let page = |name: &str| repository(&format!("spec/{name}.md")).unwrap();
    let pages = PAGES.map(|(name, _)| (name, page(name)));
    let rules: BTreeSet<String> = pages.iter().flat_map(|(_, text)| rules_of(text)).collect();
    let sections: BTreeSet<(&str, &str)> = pages
        .iter()
        .flat_map(|(name, text)| sections_of(text).into_iter().map(|number| (*name, number)))
        .collect();
    let mut found = Vec::new();
    texts(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join(".."),
        &mut found,
    );
    let (mut citations, mut faults) = (0, Vec::new());
    for (path, text) in &found {
        // this file cites rules that are none, to test itself
        if path.ends_with("testvectors/tests/evidence.rs") {
            continue;
        }
        for rule in cited(text) {
            citations += 1;
            if !rules.contains(rule) {
                faults.push(format!("{}: no rule {rule}", path.display()));
            }
        }
        for (name, number) in sections_cited(text) {
            citations += 1;
            if !sections.contains(&(name, number)) {
                faults.push(format!("{}: no {name} §{number}", path.display()));
            }
        }
    }
    assert!(citations > 1000, "{citations} citations");
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn citations_are_found() {
    let text = "CAP-A-1, B-2 and UTF-8, `COD-C-3`: x-D-4, E-5x, CAP-F6, XYZ-G-7 (H-8).";
    assert_eq!(cited(text), ["CAP-A-1", "B-2", "COD-C-3", "H-8"]);
    let text = "`capsule-v1.md` §3.2. capsule-v1 §4, §5 codecs-v1 §10 RFC 1 §2 registry-v1";
    let expected = [
        ("capsule-v1", "3.2"),
        ("capsule-v1", "4"),
        ("codecs-v1", "10"),
    ];
    assert_eq!(sections_cited(text), expected);
    let page = "# A page\n## 1. One\n### 1.2 Two\n";
    assert!(sections_of(page).is_superset(&BTreeSet::from(["1", "1.2"])));
}

#[test]
fn a_page_states_what_it_sets_in_bold() {
    let page = "- **CAP-A-1** One. **Bold** is no rule, nor is CAP-A-9 or **CAP-A-b** or **A-1**.\n\
                - **COD-T-12** Twelve, as **bold** CAP-A-1";
    assert_eq!(rules_of(page), ["CAP-A-1", "COD-T-12"]);
    let table = "| code | name |\n|---|---|\n| KVC-101 | `a` |\n| 7 | KVC-102 |\nKVC-103";
    assert_eq!(codes_of(table), BTreeSet::from(["KVC-101".to_owned()]));
}

#[test]
fn a_test_is_a_function_that_is_run() {
    let source =
        "fn a() {}\n#[test]\n#[cfg(unix)]\nfn b() {}\n// fn c(\n#[test]\nfn d() {}\nfn e() {}";
    let found = ["a", "b", "d", "e", "f"].map(|name| has_test(source, name));
    assert_eq!(found, [false, true, true, false, false]);
}

#[test]
fn what_is_missing_or_wrong_is_told() {
    let pair = |rule: &str| ("page".to_owned(), rule.to_owned());
    let stated = BTreeSet::from(["A-1", "A-2", "A-3"].map(pair));
    let shown = BTreeSet::from([pair("A-1")]);
    let source = |file: &str| (file == "x.rs").then(|| "#[test]\nfn t() {}\nfn u() {}".to_owned());
    let check = |lines: &[&str]| {
        let table = [&["page\trule\tfile\ttest\tshows"], lines]
            .concat()
            .join("\n");
        let rows = rows(&table);
        rows.map(|rows| faults(&stated, &shown, &rows, source))
    };
    let good = "page\tA-2\tx.rs\tt\tIt shows this.";
    let other = "page\tA-3\tx.rs\tt\tIt shows that.";
    assert_eq!(check(&[good, other]), Ok(Vec::new()));
    for (line, what) in [
        (
            "page\tA-1\tx.rs\tt\tIt shows this.",
            "A-1: a vector shows it",
        ),
        (
            "page\tA-4\tx.rs\tt\tIt shows this.",
            "A-4: there is no such rule",
        ),
        (
            "else\tA-3\tx.rs\tt\tIt shows this.",
            "else A-3: there is no such rule",
        ),
        (good, "A-2: two rows"),
        (
            "page\tA-3\ty.rs\tt\tIt shows this.",
            "A-3: there is no y.rs",
        ),
        (
            "page\tA-3\tx.rs\tu\tIt shows this.",
            "A-3: x.rs has no test u",
        ),
        ("page\tA-3\tx.rs\tt\t", "A-3: the row does not say"),
        (
            "page\tA-3\tx.rs\tt\tIt shows this",
            "A-3: the row does not say",
        ),
    ] {
        let found = check(&[good, other, line]).unwrap();
        assert!(found.iter().any(|fault| fault.contains(what)), "{found:?}");
    }
    let lost = vec!["page A-3: neither vector nor row".to_owned()];
    assert_eq!(check(&[good]), Ok(lost));
    assert!(check(&["page\tA-3\tx.rs\tt"]).is_err());
    assert!(rows("rule\tpage\tfile\ttest\tshows").is_err());
}
