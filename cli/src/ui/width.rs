//! Lines that fit the terminal. What goes to a file or to another program is never wrapped.

use std::io::{IsTerminal, stdout};

/// Columns of the terminal that stdout is, as help finds them; `None` away from a terminal.
pub(crate) fn of_stdout() -> Option<usize> {
    if !stdout().is_terminal() {
        return None;
    }
    let stated = || std::env::var("COLUMNS").ok()?.parse().ok();
    let known = terminal_size::terminal_size().map(|(width, _)| usize::from(width.0));
    known.or_else(stated).filter(|columns| *columns > 0)
}

/// Cuts a text at spaces into lines of at most `columns`; a word that is longer stays whole.
pub(crate) fn wrapped(text: &str, columns: usize) -> Vec<&str> {
    let (mut lines, mut rest) = (Vec::new(), text);
    loop {
        // spaces that a line begins with are its own
        let start = rest.len() - rest.trim_start().len();
        let end = rest.char_indices().nth(columns);
        let end = end.map(|(end, first)| end + first.len_utf8());
        let Some((within, end)) = end.and_then(|end| Some((rest.get(start..end)?, end))) else {
            lines.push(rest);
            return lines;
        };
        let space = within.rfind(' ').map(|at| start + at);
        let after = || rest.get(end..)?.find(' ').map(|at| end + at);
        match space.or_else(after).map(|at| rest.split_at(at)) {
            Some((line, more)) => {
                lines.push(line.trim_end());
                rest = more.trim_start();
            }
            None => {
                lines.push(rest);
                return lines;
            }
        }
    }
}

/// Wraps the line `Usage:` of a help text, which clap leaves as long as it is; an option keeps its value beside it.
pub(crate) fn usage_wrapped(help: &str, columns: usize) -> String {
    const NAME: &str = "Usage: ";
    let mut out = String::new();
    for line in help.split_inclusive('\n') {
        if !plain(line).starts_with(NAME) {
            out.push_str(line);
            continue;
        }
        let mut parts: Vec<String> = Vec::new();
        for word in line.split(' ') {
            let is_value = |before: &str| before.starts_with('-') && !before.contains(' ');
            match parts.last_mut() {
                Some(before) if is_value(&plain(before)) && plain(word).starts_with('<') => {
                    *before = format!("{before} {word}");
                }
                _ => parts.push(word.to_owned()),
            }
        }
        let mut at = 0;
        for part in parts {
            let len = plain(&part).trim_end().chars().count();
            if at > 0 && at + 1 + len > columns {
                out.push('\n');
                out.push_str(&" ".repeat(NAME.len()));
                at = NAME.len();
            } else if at > 0 {
                out.push(' ');
                at += 1;
            }
            out.push_str(&part);
            at += len;
        }
    }
    out
}

/// A text without the escapes that style it.
fn plain(text: &str) -> String {
    let mut styled = false;
    let shown = |char: &char| {
        let is_text = !styled && *char != '\u{1b}';
        styled = !is_text && *char != 'm';
        is_text
    };
    text.chars().filter(shown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_usage_is_wrapped_and_no_other() {
        let help =
            "About what it does\n\nUsage: kvcap cut [OPTIONS] --out <OUT> <FILE>\n\nOptions: all\n";
        let narrow = "About what it does\n\nUsage: kvcap cut\n       [OPTIONS]\n       --out <OUT>\n       <FILE>\n\nOptions: all\n";
        assert_eq!(usage_wrapped(help, 16), narrow);
        assert_eq!(usage_wrapped(help, 80), help);
        // an option that fits alone goes with its value
        let apart = usage_wrapped("Usage: kvcap --out <OUT> <FILE>\n", 20);
        assert_eq!(apart, "Usage: kvcap\n       --out <OUT>\n       <FILE>\n");
        let styled = "\u{1b}[1mUsage:\u{1b}[0m \u{1b}[1mkvcap\u{1b}[0m [OPTIONS] <A>\n";
        assert_eq!(usage_wrapped(styled, 26), styled);
        assert_eq!(
            plain(&usage_wrapped(styled, 25)),
            "Usage: kvcap [OPTIONS]\n       <A>\n"
        );
    }

    #[test]
    fn lines_end_at_spaces() {
        assert_eq!(wrapped("one two", 7), ["one two"]);
        assert_eq!(wrapped("one two", 6), ["one", "two"]);
        assert_eq!(wrapped("one  two three", 9), ["one  two", "three"]);
        assert_eq!(wrapped("longer two", 3), ["longer", "two"]);
        assert_eq!(wrapped("  äöü b", 5), ["  äöü", "b"]);
        assert_eq!(wrapped("  äöü", 2), ["  äöü"]);
        assert_eq!(wrapped("", 2), [""]);
    }
}
