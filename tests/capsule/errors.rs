//! `spec/errors.md` and the codes of the library say the same.

use kvcap::{Code, Outcome};

#[test]
fn the_registry_and_the_code_are_in_step() {
    let spec = include_str!("../../spec/errors.md");
    let rows: Vec<Vec<&str>> = spec
        .lines()
        .filter(|line| line.starts_with("| KVC-"))
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect();
    let ours: Vec<Vec<String>> = Code::ALL
        .iter()
        .map(|code| {
            let exit = match code.outcome() {
                Outcome::Refused => 1,
                Outcome::Usage => 2,
                Outcome::Malformed => 3,
                Outcome::Io => 4,
            };
            vec![
                code.to_string(),
                format!("`{}`", code.slug()),
                exit.to_string(),
                code.meaning().to_owned(),
            ]
        })
        .collect();
    assert_eq!(rows, ours);
    assert!(Code::ALL.is_sorted());
    for code in Code::ALL {
        assert_eq!(Code::from_number(code.number()), Some(*code));
    }
}
