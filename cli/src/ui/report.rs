//! What a verb says, as text and as JSON, and the one form of errors.

use std::{
    fmt::Display,
    io::{self, Write},
    process::ExitCode,
};

use clap::error::{ContextKind, ErrorKind};
use kvcap::{Code, Error, Outcome, Result};
use serde_json::{Map, Value, json};

use super::hint::hint;

/// Version of the JSON that `--json` prints.
const SCHEMA: u64 = 1;

/// The result of a verb: rows of text, and the same facts by name.
#[derive(Debug, Default)]
pub(crate) struct Report {
    items: Vec<Item>,
    facts: Map<String, Value>,
    /// Text that was asked for as such: printed even when quiet.
    data: Option<String>,
}

#[derive(Debug)]
enum Item {
    Row(&'static str, String),
    Line(String),
}

impl Report {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// The report of a verb that prints a text for other programs.
    pub(crate) fn data(text: String) -> Self {
        Self {
            data: Some(text),
            ..Self::default()
        }
    }

    /// A label and what goes with it.
    pub(crate) fn row(&mut self, label: &'static str, text: impl Display) {
        self.items
            .push(Item::Row(label, printable(&text.to_string())));
    }

    /// A line by itself.
    pub(crate) fn line(&mut self, text: impl Display) {
        self.items.push(Item::Line(printable(&text.to_string())));
    }

    /// A fact of the JSON.
    pub(crate) fn fact(&mut self, name: &str, value: impl Into<Value>) {
        self.facts.insert(name.to_owned(), value.into());
    }

    /// The JSON object, as `--json` prints it.
    pub(crate) fn to_json(&self) -> Value {
        let mut object = Map::from_iter([
            ("schema".to_owned(), json!(SCHEMA)),
            ("ok".to_owned(), json!(true)),
        ]);
        object.extend(self.facts.clone());
        Value::Object(object)
    }

    fn to_text(&self, quiet: bool) -> String {
        if let Some(data) = &self.data {
            return data.clone();
        }
        let mut text = String::new();
        if quiet {
            return text;
        }
        let labels = self.items.iter().map(|item| match item {
            Item::Row(label, _) => label.chars().count(),
            Item::Line(_) => 0,
        });
        let width = labels.max().unwrap_or(0);
        for item in &self.items {
            match item {
                Item::Row(label, value) => text.push_str(&format!("{label:width$}  {value}")),
                Item::Line(line) => text.push_str(line),
            }
            text.push('\n');
        }
        text
    }

    /// Prints it.
    pub(crate) fn print(&self, place: Printer) -> ExitCode {
        let text = match place.json {
            true => format!("{}\n", self.to_json()),
            false => self.to_text(place.quiet),
        };
        match place.write(&text) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => print_error(&Error::io(&error, "stdout"), place),
        }
    }
}

/// How and where a report is printed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Printer {
    json: bool,
    quiet: bool,
    /// Stdout carries an output, so that the report goes to stderr.
    aside: bool,
}

impl Printer {
    /// As JSON or text, with everything or only what was asked for; `aside` where stdout carries an output.
    pub(crate) fn new(json: bool, quiet: bool, aside: bool) -> Self {
        Self { json, quiet, aside }
    }

    fn write(self, text: &str) -> io::Result<()> {
        match self.aside {
            true => io::stderr().write_all(text.as_bytes()),
            false => to_stdout(text),
        }
    }
}

/// Writes to stdout. A reader that has seen enough (`| head`) is not an error.
fn to_stdout(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    match written {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

/// `kvcap: error[KVC-402]: …` and `hint: …` on stderr; with `--json` also an object, where the report
/// would have been.
pub(crate) fn print_error(error: &Error, place: Printer) -> ExitCode {
    say(error.code(), &message(error), hint(error.code()));
    if place.json {
        let _closed = place.write(&format!("{}\n", error_json(error)));
    }
    exit(error.code())
}

/// Help and version on stdout; anything else is an error of use in the same form as others.
pub(crate) fn print_usage(error: &clap::Error) -> ExitCode {
    let text = error.render().to_string();
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            let _closed = to_stdout(&text);
            return ExitCode::SUCCESS;
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let _closed = io::stderr().write_all(text.as_bytes());
            return exit(Code::LocalUsage);
        }
        _ => {}
    }
    let said: Vec<&str> = text
        .lines()
        .take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more"))
        .flat_map(str::split_whitespace)
        .collect();
    let said = said.join(" ");
    let said = said.strip_prefix("error: ").unwrap_or(&said);
    let (what, tip) = said.split_once(" tip: ").unwrap_or((said, ""));
    let error_kept = Error::new(Code::LocalUsage, lower_first(&printable(what)));
    let first = std::env::args_os()
        .nth(1)
        .and_then(|word| word.into_string().ok());
    let verb = first.filter(|verb| {
        error.get(ContextKind::InvalidSubcommand).is_none() && !verb.starts_with('-')
    });
    let help = match (tip, verb) {
        ("", Some(verb)) => format!("see: kvcap {} --help", printable(&verb)),
        ("", None) => "see: kvcap --help".to_owned(),
        (tip, _) => printable(tip),
    };
    say(Code::LocalUsage, error_kept.what(), &help);
    if std::env::args_os().any(|arg| arg == "--json") {
        let _closed = to_stdout(&format!("{}\n", error_json(&error_kept)));
    }
    exit(Code::LocalUsage)
}

fn say(code: Code, message: &str, hint: &str) {
    let _closed = writeln!(
        io::stderr(),
        "kvcap: error[{code}]: {message}\nhint: {hint}"
    );
}

/// An error as one line.
pub(crate) fn message(error: &Error) -> String {
    let mut text = lower_first(error.what());
    if let Some(place) = error.place() {
        text = format!("{place}: {text}");
    }
    if let (Some(expected), Some(found)) = (error.expected(), error.found()) {
        text.push_str(&format!(" (expected {expected}, found {found})"));
    }
    printable(&text)
}

/// An error as JSON.
pub(crate) fn error_json(error: &Error) -> Value {
    let code = error.code();
    json!({
        "schema": SCHEMA,
        "ok": false,
        "error": {
            "code": code.number(),
            "slug": code.slug(),
            "message": message(error),
            "what": error.what(),
            "place": error.place(),
            "expected": error.expected(),
            "found": error.found(),
            "hint": hint(code),
            "exit": exit_number(code),
        },
    })
}

fn exit(code: Code) -> ExitCode {
    ExitCode::from(exit_number(code))
}

fn exit_number(code: Code) -> u8 {
    match code.outcome() {
        Outcome::Refused => 1,
        Outcome::Usage => 2,
        Outcome::Malformed => 3,
        Outcome::Io => 4,
    }
}

/// The operating system's texts begin with a capital.
fn lower_first(text: &str) -> String {
    let mut chars = text.chars();
    match chars.next() {
        Some(first) => first.to_lowercase().chain(chars).collect(),
        None => String::new(),
    }
}

/// The text with everything that could steer a terminal shown as an escape.
pub(crate) fn printable(text: &str) -> String {
    let steers = |c: char| {
        c.is_control()
            || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    if !text.contains(steers) {
        return text.to_owned();
    }
    text.chars()
        .flat_map(|c| match steers(c) {
            true => c.escape_unicode().collect::<Vec<char>>(),
            false => vec![c],
        })
        .collect()
}

/// `50,224 bytes`.
pub(crate) fn bytes(count: u64) -> String {
    format!("{} bytes", grouped(count))
}

/// `50,224`.
pub(crate) fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// An error of use.
pub(crate) fn usage<T>(what: &'static str, place: impl Display) -> Result<T> {
    Err(Error::new(Code::LocalUsage, what).at(place))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_steers_a_terminal() {
        assert_eq!(
            printable("a\u{1b}[2Jb\n\u{202e}c"),
            "a\\u{1b}[2Jb\\u{a}\\u{202e}c"
        );
        assert_eq!(printable("2 heads × 64"), "2 heads × 64");
    }

    #[test]
    fn numbers_are_grouped() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(50_224), "50,224");
        assert_eq!(grouped(1_234_567), "1,234,567");
    }

    #[test]
    fn an_error_is_one_line_of_both_sides() {
        let error = Error::new(Code::LocalIo, "No such file")
            .at("a\nb")
            .sides(1, 2);
        assert_eq!(
            message(&error),
            "a\\u{a}b: no such file (expected 1, found 2)"
        );
    }
}
