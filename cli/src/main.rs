//! `kvcap`: seal, verify and open KV capsules.
//!
//! A thin reader of the libraries: a verb parses its arguments, calls them, and gives a
//! [`report::Report`]. Only this file and `report` write to the standard streams, save where an
//! output is asked for on stdout.

#![forbid(unsafe_code)]

mod args;
mod chain;
mod cmd;
mod hint;
mod input;
mod key_folder;
mod keys;
mod memory;
mod output;
mod policy;
mod progress;
mod report;
mod table;
mod time;
mod trust;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    match args::Cli::try_parse() {
        Ok(cli) => {
            let place = report::Place::of(&cli);
            match cmd::run(&cli) {
                Ok(report) => report.print(place),
                Err(error) => report::print_error(&error, place),
            }
        }
        Err(error) => report::print_usage(&error),
    }
}
