//! The rows of the project's list of negative cases, and what became of each.

/// One row of `rows.tsv`.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Its name; a case of this name is its vector.
    pub name: &'static str,
    /// The code that the list states.
    pub stated: u16,
    /// The code that a reader gives, or `None` where there is no vector.
    pub code: Option<u16>,
    /// Kind of attack or known bug.
    pub flag: &'static str,
    /// Reason that there is no vector, or that its code is another.
    pub note: &'static str,
}

/// All rows, in the order of the list.
#[must_use]
pub fn rows() -> Vec<Row> {
    let parse = |line: &'static str| {
        let fields: Vec<&str> = line.split('\t').collect();
        let [name, stated, code, flag, note] = fields[..] else {
            panic!("not a row: {line}");
        };
        Row {
            name,
            stated: stated.parse().unwrap(),
            code: code.parse().ok(),
            flag,
            note,
        }
    };
    include_str!("../rows.tsv")
        .lines()
        .skip(1)
        .map(parse)
        .collect()
}
