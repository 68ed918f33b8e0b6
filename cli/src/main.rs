//! `kvcap`: seal, verify and open KV capsules.
//!
//! A thin reader of the libraries: a verb parses its flags, calls them, and gives a [`ui::Report`]. Only this
//! file and `ui` write to the standard streams, save where an output is asked for on stdout.

#![forbid(unsafe_code)]

mod cli;
mod flags;
mod ui;
mod verbs;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    match cli::Cli::try_parse() {
        Ok(cli) => {
            let place = cli.place();
            match cli.run() {
                Ok(report) => report.print(place),
                Err(error) => ui::print_error(&error, place),
            }
        }
        Err(error) => ui::print_usage(&error),
    }
}
