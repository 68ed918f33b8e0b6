//! Questions whose answers have defaults: asked on a terminal alone.

use std::io::{self, BufRead, IsTerminal, Write};

use kvcap::{Error, Result, text::printable};

/// Asks, or takes the defaults.
pub(crate) struct Asker {
    asks: bool,
}

impl Asker {
    /// Asks where stdin and stderr are a terminal, unless nothing is to be asked.
    pub(crate) fn new(silent: bool) -> Self {
        let terminal = io::stdin().is_terminal() && io::stderr().is_terminal();
        Self {
            asks: terminal && !silent,
        }
    }

    /// The answer, or `default` for none.
    ///
    /// # Errors
    /// KVC-940.
    pub(crate) fn ask(&self, what: &str, default: &str) -> Result<String> {
        if !self.asks {
            return Ok(default.to_owned());
        }
        let mut err = io::stderr();
        let shown = match default {
            "" => format!("{what}: "),
            _ => format!("{what} [{}]: ", printable(default)),
        };
        let mut answer = String::new();
        err.write_all(shown.as_bytes())
            .and_then(|()| err.flush())
            .and_then(|()| io::stdin().lock().read_line(&mut answer))
            .map_err(|error| Error::io(&error, "terminal"))?;
        Ok(match answer.trim() {
            "" => default.to_owned(),
            answer => answer.to_owned(),
        })
    }

    /// Whether the answer is yes; no where nobody is asked.
    ///
    /// # Errors
    /// KVC-940.
    pub(crate) fn agrees(&self, what: &str) -> Result<bool> {
        let answer = self.ask(&format!("{what} (y or n)"), "n")?;
        Ok(["y", "yes"].contains(&answer.to_lowercase().as_str()))
    }
}
