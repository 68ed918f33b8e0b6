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

#[cfg(test)]
mod tests {
    use super::*;

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
