//! `kvcap`: seal, verify and open KV capsules.
//!
//! A thin reader of the libraries: a verb parses its flags, calls them, and gives a [`ui::Report`]. Only this
//! file and `ui` write to the standard streams, save where an output is asked for on stdout.

#![forbid(unsafe_code)]

mod cli;
mod flags;
mod ui;
mod verbs;

use std::{env, process::ExitCode};

use flags::Unparsed;

#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

fn main() -> ExitCode {
    kvcap_store::core_dumps::allow_none();
    // what is written beside outputs, a digest that is kept, may meet the limit of a file as well
    kvcap_store::output::watch_signals();
    match flags::parse::<cli::Cli>(env::args_os()) {
        Ok((cli, verb)) => {
            let place = cli.place(verb);
            match cli.run() {
                Ok(report) => report.print(&place),
                Err(error) => ui::print_error(&error, &place),
            }
        }
        Err(Unparsed::Usage(error)) => ui::print_usage(&error),
        Err(Unparsed::Settings { error, verb, json }) => {
            ui::print_error(&error, &ui::Printer::new(verb, json, false, false))
        }
    }
}
