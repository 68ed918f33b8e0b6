//! What a verb says, as text and as JSON, and the one form of errors.

use std::{
    fmt::Display,
    io::{self, Write},
    path::Path,
    process::ExitCode,
};

use clap::{
    builder::styling::{AnsiColor, Style},
    error::{ContextKind, ErrorKind},
};
use kvcap::{
    Code, Error, IoSide, Outcome, Result,
    text::{is_unseen, printable},
};
use serde_json::{Map, Value, json};

use super::{
    hint::hint_for,
    width::{of_stdout, usage_wrapped, wrapped},
};

/// Version of the JSON that `--json` prints.
const SCHEMA: u64 = 2;

/// The least columns that a value is wrapped to.
const NARROWEST: usize = 24;

/// Exit status of an output whose reader has closed it, `open -o - | head`: 128 and the number of SIGPIPE.
const CLOSED: u8 = 141;

/// The result of a verb: rows of text, and the same facts by name.
#[derive(Debug, Default)]
pub(crate) struct Report {
    items: Vec<Item>,
    facts: Map<String, Value>,
    /// Text that was asked for as such: printed even when quiet.
    data: Option<String>,
    /// Names of checks that were left out without a word: on stderr, even when quiet.
    unchecked: Vec<&'static str>,
    /// What a person should hear of; all of it is in the JSON.
    notes: Vec<Note>,
}

#[derive(Debug)]
struct Note {
    text: String,
    /// On stderr, even when quiet.
    aside: bool,
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
            .push(Item::Row(label, printable(&text.to_string()).into_owned()));
    }

    /// A line by itself.
    pub(crate) fn line(&mut self, text: impl Display) {
        self.items
            .push(Item::Line(printable(&text.to_string()).into_owned()));
    }

    /// A fact of the JSON.
    pub(crate) fn fact(&mut self, name: &str, value: impl Into<Value>) {
        self.facts.insert(name.to_owned(), value.into());
    }

    /// Something worth knowing.
    pub(crate) fn note(&mut self, text: impl Display) {
        self.row("note", &text);
        self.remark(text, false);
    }

    /// Something that will go wrong later if nothing is done: on stderr, even when quiet.
    pub(crate) fn warn(&mut self, text: impl Display) {
        self.remark(text, true);
    }

    fn remark(&mut self, text: impl Display, aside: bool) {
        let text = printable(&text.to_string()).into_owned();
        self.notes.push(Note { text, aside });
    }

    /// Names of checks that were left out, and that nobody has accepted.
    pub(crate) fn unchecked(&mut self, names: impl IntoIterator<Item = &'static str>) {
        self.unchecked.extend(names);
    }

    /// The JSON object, as `--json` prints it.
    pub(crate) fn to_json(&self) -> Value {
        let mut object = Map::from_iter([
            ("schema".to_owned(), json!(SCHEMA)),
            ("ok".to_owned(), json!(true)),
        ]);
        let notes = self.notes.iter().map(|note| note.text.as_str());
        object.insert("notes".to_owned(), notes.collect());
        object.extend(self.facts.clone());
        Value::Object(object)
    }

    /// The text, in lines of at most `columns`.
    fn to_text(&self, quiet: bool, columns: Option<usize>) -> String {
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
            let (first, indent, content) = match item {
                Item::Row(label, value) => (format!("{label:width$}  "), width + 2, value),
                Item::Line(line) => {
                    let own = line.chars().take_while(|c| *c == ' ').count();
                    (String::new(), own + 4, line)
                }
            };
            let left = columns.map_or(usize::MAX, |columns| columns.saturating_sub(indent));
            let mut lines = match item {
                Item::Row(..) => wrapped(content, left.max(NARROWEST)),
                Item::Line(line)
                    if columns.is_some_and(|columns| line.chars().count() > columns) =>
                {
                    wrapped(content, left.max(NARROWEST))
                }
                Item::Line(line) => vec![line.as_str()],
            }
            .into_iter();
            text.push_str(&first);
            text.push_str(lines.next().unwrap_or_default());
            for line in lines {
                text.push_str(&format!("\n{:indent$}{line}", ""));
            }
            text.push('\n');
        }
        text
    }

    /// Prints it.
    pub(crate) fn print(&self, place: &Printer) -> ExitCode {
        for note in self.notes.iter().filter(|note| note.aside) {
            let _closed = writeln!(io::stderr(), "kvcap: note: {}", note.text);
        }
        if !self.unchecked.is_empty() {
            let names = self.unchecked.join(", ");
            let _closed = writeln!(io::stderr(), "kvcap: not checked: {names}");
        }
        let text = match place.json {
            true => place.json_line(self.to_json()),
            false => self.to_text(place.quiet, of_stdout()),
        };
        match place.write(&text) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => print_error(&Error::sink(&error, "stdout"), place),
        }
    }
}

/// How and where a report is printed.
#[derive(Debug)]
pub(crate) struct Printer {
    /// The verb that reports, as it is written: `registry add`.
    verb: String,
    json: bool,
    quiet: bool,
    /// Stdout carries an output, so that the report goes to stderr.
    aside: bool,
}

impl Printer {
    /// As JSON or text, with everything or only what was asked for; `aside` where stdout carries an output.
    pub(crate) fn new(verb: String, json: bool, quiet: bool, aside: bool) -> Self {
        Self {
            verb,
            json,
            quiet,
            aside,
        }
    }

    /// One object in one line, with the verb that it is of.
    fn json_line(&self, mut object: Value) -> String {
        if let Value::Object(object) = &mut object {
            object.insert("verb".to_owned(), json!(self.verb));
        }
        one_line(&object)
    }

    fn write(&self, text: &str) -> io::Result<()> {
        match self.aside {
            true => io::stderr().write_all(text.as_bytes()),
            false => to_stdout(text),
        }
    }
}

/// Writes to stdout. A reader that has seen enough (`| head`) is not an error.
fn to_stdout(text: &str) -> io::Result<()> {
    shown_on(io::stdout().lock(), text)
}

fn shown_on(mut out: impl Write, text: &str) -> io::Result<()> {
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    match written {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

/// `kvcap: error[KVC-402]: …` and `hint: …` on stderr; with `--json` also an object, where the report
/// would have been.
pub(crate) fn print_error(error: &Error, place: &Printer) -> ExitCode {
    if error.io_side() == Some(IoSide::Sink) && error.io_kind() == Some(io::ErrorKind::BrokenPipe) {
        // whoever reads has seen enough, and knows: as if the signal had ended the process
        return ExitCode::from(CLOSED);
    }
    say(error.code(), &error.to_string(), hint_for(error));
    if place.json {
        let _closed = place.write(&place.json_line(error_json(error)));
    }
    exit(error.code())
}

/// Help and version on stdout; anything else is an error of use in the same form as others.
pub(crate) fn print_usage(error: &clap::Error) -> ExitCode {
    let text = error.render().to_string();
    let help = || {
        let help = error.render().ansi().to_string();
        match of_stdout() {
            Some(columns) => usage_wrapped(&help, columns),
            None => help,
        }
    };
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            return match shown_on(anstream::stdout(), &help()) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => {
                    let error = Error::sink(&error, "stdout");
                    say(error.code(), &error.to_string(), hint_for(&error));
                    exit(error.code())
                }
            };
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let _closed = shown_on(anstream::stderr(), &help());
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
        (tip, _) => printable(tip).into_owned(),
    };
    say(Code::LocalUsage, error_kept.what(), &help);
    if std::env::args_os().any(|arg| arg == "--json") {
        let _closed = to_stdout(&one_line(&error_json(&error_kept)));
    }
    exit(Code::LocalUsage)
}

/// Says that a file is held by another process, and that it is waited for.
pub(crate) fn waiting(path: &Path) {
    let path = path.display().to_string();
    let path = printable(&path);
    let _closed = writeln!(
        io::stderr(),
        "kvcap: note: waiting for {path}, which another process holds"
    );
}

/// Says where somebody is listened to, once that is so.
#[cfg(feature = "server")]
pub(crate) fn listening(address: std::net::SocketAddr) {
    let _closed = writeln!(io::stderr(), "kvcap: note: listening at {address}");
}

/// Says on stderr how a client reaches a gateway of one's own.
#[cfg(feature = "server")]
pub(crate) fn serving(address: std::net::SocketAddr, token: &Path) {
    let token = token.display();
    let _closed = writeln!(
        io::stderr(),
        "kvcap: note: an OpenAI-compatible model with a memory\n  base_url  http://{address}/v1\n  api_key   $(cat \
         {token})"
    );
}

/// Says where a capsule is shown.
#[cfg(feature = "server")]
pub(crate) fn viewing(url: &str) {
    let _closed = writeln!(
        io::stderr(),
        "kvcap: note: shown until you end this (ctrl-c) at\n  {url}"
    );
}

/// Says what became of a configuration that was read again.
#[cfg(feature = "server")]
pub(crate) fn reloaded(reloaded: Result<()>) {
    let _closed = match reloaded {
        Ok(()) => writeln!(
            io::stderr(),
            "kvcap: note: the configuration was read again"
        ),
        Err(error) => writeln!(
            io::stderr(),
            "kvcap: note: the configuration of before stays: {error}"
        ),
    };
}

fn say(code: Code, message: &str, hint: &str) {
    let (red, bold) = (AnsiColor::Red.on_default().bold(), Style::new().bold());
    let _closed = writeln!(
        anstream::stderr(),
        "kvcap: {red}error[{code}]{red:#}: {message}\n{bold}hint{bold:#}: {hint}"
    );
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
            "message": error.to_string(),
            "what": error.what(),
            "place": error.place(),
            "expected": error.expected(),
            "found": error.found(),
            "side": error.io_side().map(|side| match side {
                IoSide::Source => "input",
                IoSide::Sink => "output",
                IoSide::Peer => "peer",
            }),
            "hint": hint_for(error),
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

/// JSON in one line, with what is not seen as an escape of JSON's own.
fn one_line(value: &Value) -> String {
    let mut line = String::new();
    for c in value.to_string().chars() {
        match is_unseen(c) {
            true => {
                let units = c.encode_utf16(&mut [0; 2]).to_vec();
                line.extend(units.iter().map(|unit| format!("\\u{unit:04x}")));
            }
            false => line.push(c),
        }
    }
    line.push('\n');
    line
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
    fn json_hides_nothing() {
        let value = json!({"a\u{9b}": "\u{e0041}\u{200b}é\n"});
        let line = one_line(&value);
        assert_eq!(line, "{\"a\\u009b\":\"\\udb40\\udc41\\u200bé\\n\"}\n");
        assert_eq!(serde_json::from_str::<Value>(&line).unwrap(), value);
    }

    #[test]
    fn long_values_continue_below_themselves() {
        let mut report = Report::new();
        report.row("issuer", "one that has a name of many words, all told");
        report.row("key", "a");
        report.line("  a line that is longer than the terminal");
        let wide = "issuer  one that has a name of many words, all told\nkey     a\n  \
                    a line that is longer than the terminal\n";
        assert_eq!(report.to_text(false, None), wide);
        let narrow = "issuer  one that has a name of\n        many words, all told\nkey     a\n  \
                      a line that is longer than\n      the terminal\n";
        assert_eq!(report.to_text(false, Some(34)), narrow);
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
        let error = Error::new(Code::LocalIo, "no such file")
            .at("a\nb")
            .sides(1, 2);
        assert_eq!(
            &error.to_string(),
            "a\\u{a}b: no such file (expected 1, found 2)"
        );
    }
}
