//! What a bench says, as text and as JSON.

use std::fmt::Display;

use serde_json::{Map, Value};

/// Rows of text, and the same facts by name.
#[derive(Default)]
pub(crate) struct Report {
    lines: Vec<(&'static str, String)>,
    facts: Map<String, Value>,
}

impl Report {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// A label and what goes with it.
    pub(crate) fn row(&mut self, label: &'static str, text: impl Display) {
        self.lines.push((label, text.to_string()));
    }

    /// A line by itself.
    pub(crate) fn line(&mut self, text: impl Display) {
        self.lines.push(("", text.to_string()));
    }

    /// A table under its heading. A column of `>` is aligned to the right.
    pub(crate) fn table(&mut self, head: &[(&str, char)], rows: &[Vec<String>]) {
        let heading: Vec<String> = head.iter().map(|(name, _)| (*name).to_owned()).collect();
        let all = || std::iter::once(&heading).chain(rows);
        let width = |column: usize| {
            let cells = all().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..head.len()).map(width).collect();
        for row in all() {
            let cells = row.iter().zip(&widths).zip(head);
            let cells = cells.map(|((cell, width), (_, align))| match align {
                '>' => format!("  {cell:>width$}"),
                _ => format!("  {cell:width$}"),
            });
            self.line(cells.collect::<String>().trim_end());
        }
    }

    /// A fact of the JSON.
    pub(crate) fn fact(&mut self, name: &str, value: impl Into<Value>) {
        self.facts.insert(name.to_owned(), value.into());
    }

    pub(crate) fn json(&self) -> String {
        format!("{}\n", Value::Object(self.facts.clone()))
    }

    pub(crate) fn text(&self) -> String {
        let labels = self.lines.iter().map(|(label, _)| label.chars().count());
        let width = labels.max().unwrap_or(0);
        let line = |(label, text): &(&str, String)| match label.is_empty() {
            true => format!("{text}\n"),
            false => format!("{label:width$}  {text}\n"),
        };
        self.lines.iter().map(line).collect()
    }
}

/// `50,224 bytes`.
pub(crate) fn bytes(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    format!("{text} bytes")
}
