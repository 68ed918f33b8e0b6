//! `kvcap completions`: completion scripts.

use clap::{Command, ValueEnum};
use clap_complete::Shell;
use kvcap::Result;

use crate::ui::Report;

/// Prints a completion script for a shell
///
/// For bash: kvcap completions bash > ~/.local/share/bash-completion/completions/kvcap
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

/// # Errors
/// None.
pub(crate) fn run(args: &Args, mut command: Command) -> Result<Report> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, "kvcap", &mut script);
    let script = String::from_utf8_lossy(&script).into_owned();
    let shell = args.shell.to_possible_value();
    let mut report = Report::data(script.clone());
    report.fact("shell", shell.map(|value| value.get_name().to_owned()));
    report.fact("script", script);
    Ok(report)
}
