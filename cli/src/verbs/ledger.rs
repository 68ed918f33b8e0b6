//! `kvcap ledger`: what a verifier remembers, and the repair of its clock (registry-v1 §5).

use std::path::PathBuf;

use clap::Subcommand;
use kvcap::Result;
use kvcap_store::time::{now, parse_instant, show_instant};
use serde_json::json;

use crate::{
    flags::WaitArgs,
    ui::{Report, confirm},
};

/// Shows what a verifier's ledger holds, and repairs its clock
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
    #[command(flatten)]
    wait: WaitArgs,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Shows the latest time seen, and how much is remembered
    Show {
        /// The ledger
        file: PathBuf,
    },
    /// Sets the latest time seen, after a clock that went wrong; uses, sessions and registries are kept
    ///
    /// What has expired between the two times is accepted again.
    SetClock {
        /// The ledger
        file: PathBuf,
        /// `now`, or a time that has come
        #[arg(long, value_name = "TIME", value_parser = time)]
        to: u64,
        /// Do it without a question
        #[arg(long)]
        yes: bool,
    },
}

fn time(text: &str) -> Result<u64, String> {
    match text {
        "now" => Ok(now()),
        _ => parse_instant(text)
            .ok_or_else(|| "a time is written now or 2026-11-21T00:32:13Z".to_owned()),
    }
}

/// # Errors
/// KVC-940, 943 for the file; 944.
pub(crate) fn run(args: &Args) -> Result<Report> {
    let file = match &args.verb {
        Verb::Show { file } => file,
        Verb::SetClock { file, to, yes } => {
            let ledger = args.wait.ledger(file.clone());
            let from = show_instant(ledger.remembered()?.latest);
            let what = format!(
                "set the ledger's clock from {from} to {}",
                show_instant(*to)
            );
            confirm(*yes, &what)?;
            ledger.danger_set_clock(*to)?;
            file
        }
    };
    let remembered = args.wait.ledger(file.clone()).remembered()?;
    let mut report = Report::new();
    report.row("latest time", show_instant(remembered.latest));
    report.row("uses", remembered.uses);
    report.row("sessions", remembered.sessions);
    for mark in &remembered.registries {
        let (root, version) = (mark.root, mark.version);
        report.row("registry", format_args!("version {version} of root {root}"));
    }
    let registries = remembered.registries.iter();
    let registries =
        registries.map(|mark| json!({"root_id": mark.root.to_string(), "version": mark.version}));
    report.fact("latest", remembered.latest);
    report.fact("uses", remembered.uses);
    report.fact("sessions", remembered.sessions);
    report.fact("registries", registries.collect::<Vec<_>>());
    Ok(report)
}
