//! Which version of a runtime is installed.

use std::process::{Command, Stdio};

use crate::RuntimeKind;

/// Asks Python's own list of packages. What lies in the current folder is not looked at.
const ASK: &str = "import sys; sys.path = [p for p in sys.path if p]; import importlib.metadata as m; print(m.version(sys.argv[1]))";

/// Longest version that is believed.
const LONGEST: usize = 64;

/// Returns the version of the runtime that programs on the path would use, if one is installed: `llama-server`'s own
/// word, or that of the Python package (`mlx-lm`, `transformers`, `llama-cpp-python`) of `python3`.
#[must_use]
pub fn installed_version(kind: RuntimeKind) -> Option<String> {
    match kind {
        RuntimeKind::LlamaCpp => llama_server().or_else(|| {
            let version = package("llama-cpp-python")?;
            Some(format!("llama-cpp-python {version}"))
        }),
        RuntimeKind::MlxLm => package("mlx-lm"),
        RuntimeKind::HuggingFace => package("transformers"),
        RuntimeKind::Raw => None,
    }
}

/// `version: 9870 (0c1e57098)`, on either stream.
fn llama_server() -> Option<String> {
    let said = said(Command::new("llama-server").arg("--version"))?;
    let mut lines = said.lines();
    let version = lines.find_map(|line| line.trim().strip_prefix("version:"))?;
    believed(version)
}

fn package(name: &str) -> Option<String> {
    believed(&said(Command::new("python3").args(["-c", ASK, name]))?)
}

fn said(command: &mut Command) -> Option<String> {
    let output = command.stdin(Stdio::null()).output().ok()?;
    let said = [output.stdout, output.stderr].concat();
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&said).into_owned())
}

/// One short line of plain characters.
fn believed(text: &str) -> Option<String> {
    let text = text.trim();
    let plain = text.chars().all(|c| c.is_ascii_graphic() || c == ' ');
    (plain && (1..=LONGEST).contains(&text.len())).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_one_short_line() {
        assert_eq!(
            believed(" 9870 (0c1e57098)\n"),
            Some("9870 (0c1e57098)".to_owned())
        );
        for text in ["", "\n", "1.0\n2.0", "1\u{1b}[0m", &"1".repeat(65)] {
            assert_eq!(believed(text), None, "{text:?}");
        }
    }
}
