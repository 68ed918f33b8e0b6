//! `kvcap prune`: a folder without what has served its time.

use std::path::PathBuf;

use kvcap::{Result, Trust};
use kvcap_store::{
    prune::{self, Dead, Plan, Prunable},
    time,
};
use serde_json::{Value, json};

use crate::{
    flags::{SourcesArgs, instant},
    ui::{Report, bytes, confirm, grouped},
};

/// Removes expired capsules from a folder, and what killed runs have left
///
/// An expired capsule stays as long as one that has not expired continues it, or claims to. What a trusted key has
/// not signed stays as well: its times are claims, which anybody can write. Links, folders and files that are no
/// capsules are not touched; files in the making (.NAME.XXXXXXXX.kvcap.tmp) go once their writer is gone.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The folder
    folder: PathBuf,
    #[command(flatten)]
    trust: SourcesArgs,
    /// Take capsules that nobody trusted has signed at their word, and remove them too where they say that they have
    /// expired
    #[arg(long)]
    unverified: bool,
    /// Judge as of this time instead of now
    #[arg(long, value_name = "TIME", value_parser = instant)]
    at: Option<u64>,
    /// List what would go, and remove nothing
    #[arg(long)]
    dry_run: bool,
    /// Remove without a question
    #[arg(long)]
    yes: bool,
}

/// # Errors
/// KVC-940 for the folder, 3xx for keys, 944 where nobody has said yes.
pub(crate) fn run(args: &Args) -> Result<Report> {
    let now = args.at.unwrap_or_else(time::now);
    let sources = args.trust.sources();
    let trust = match sources.is_empty() {
        true => Trust::none(),
        false => sources.load(None, now)?,
    };
    let plan = prune::plan(&args.folder, &trust, now, args.unverified)?;
    let (files, total) = (plan.prunable.len(), plan.bytes());
    if !args.dry_run && files > 0 {
        let folder = args.folder.display();
        let what = format!("remove {files} files, {}, from {folder}", bytes(total));
        confirm(args.yes, &what)?;
        plan.carry_out()?;
    }
    Ok(report(args, &plan))
}

fn report(args: &Args, plan: &Plan) -> Report {
    let mut report = Report::new();
    for file in &plan.prunable {
        let label = match args.dry_run {
            true => "to remove",
            false => "removed",
        };
        let (path, len) = (file.path.display(), bytes(file.bytes));
        let why = match (file.dead, file.expires) {
            (Dead::Unfinished, _) => "its writer is gone".to_owned(),
            (Dead::Expired, expires) => {
                format!("expired {}", time::show_instant(expires.unwrap_or(0)))
            }
        };
        let claimed = match file.verified || file.dead == Dead::Unfinished {
            true => "",
            false => ", as it says itself",
        };
        report.row(label, format_args!("{path}: {why}{claimed}, {len}"));
    }
    for path in &plan.needed {
        report.row("kept", format_args!("{}: continued", path.display()));
    }
    for path in &plan.unverified {
        let path = path.display();
        report.row(
            "kept",
            format_args!("{path}: not verified (--trust, or --unverified)"),
        );
    }
    let files = grouped(u64::try_from(plan.prunable.len()).unwrap_or(u64::MAX));
    report.row("files", format_args!("{files}, {}", bytes(plan.bytes())));
    report.fact("files", plan.prunable.iter().map(entry).collect::<Vec<_>>());
    let paths = |paths: &[PathBuf]| -> Vec<String> {
        let shown = paths.iter().map(|path| path.display().to_string());
        shown.collect()
    };
    report.fact("kept_needed", paths(&plan.needed));
    report.fact("kept_unverified", paths(&plan.unverified));
    report.fact("dry_run", args.dry_run);
    report
}

fn entry(file: &Prunable) -> Value {
    json!({
        "path": file.path.display().to_string(),
        "why": match file.dead {
            Dead::Expired => "expired",
            Dead::Unfinished => "unfinished",
        },
        "verified": file.verified,
        "expires": file.expires,
        "file_bytes": file.bytes,
    })
}
