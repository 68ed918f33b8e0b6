//! Questions before what cannot be undone.

use std::io::{self, BufRead, IsTerminal, Write};

use kvcap::{Result, text::printable};

use super::usage;

/// Asks on a terminal whether to do `what`; elsewhere, `--yes` is the answer.
///
/// # Errors
/// KVC-944 where the answer is not yes.
pub(crate) fn confirm(yes: bool, what: &str) -> Result<()> {
    if yes {
        return Ok(());
    }
    let no = "this cannot be undone: say --yes";
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return usage(no, what);
    }
    let mut err = io::stderr();
    let asked = write!(err, "{}? This cannot be undone [y/N] ", printable(what));
    let mut answer = String::new();
    let answered = asked
        .and_then(|()| err.flush())
        .and_then(|()| io::stdin().lock().read_line(&mut answer));
    match answered {
        Ok(_) if ["y", "yes"].contains(&answer.trim().to_lowercase().as_str()) => Ok(()),
        _ => usage(no, what),
    }
}
