//! `kvcap gc`: sessions without the checkpoints that have served their time.

use kvcap::Result;
use kvcap_session::{Clearance, KEEP, Session, files::Artefact};
use serde_json::json;

use crate::{
    flags::{OwnerArgs, tier},
    ui::{Report, bytes, confirm, grouped},
};

/// Removes old checkpoints of sessions, and their capsules
///
/// The newest checkpoints stay, those that are pinned, and what their states need; the newest with a state always. Logs
/// stay. What would go is said first.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The session [default: all]
    #[arg(value_name = "SESSION")]
    name: Option<String>,
    #[command(flatten)]
    owner: OwnerArgs,
    /// Checkpoints that stay of each session
    #[arg(long, value_name = "N", default_value_t = KEEP)]
    keep: usize,
    /// List what would go, and remove nothing
    #[arg(long)]
    dry_run: bool,
    /// Remove without a question
    #[arg(long)]
    yes: bool,
}

/// # Errors
/// KVC-955 where there is no such session; 944 where nobody has said yes; 947, 950; 94x.
pub(crate) fn run(args: &Args) -> Result<Report> {
    let tier = tier()?;
    let names = match &args.name {
        Some(name) => vec![args.owner.names(name)],
        None => tier
            .changed()?
            .into_iter()
            .map(|(names, _)| names)
            .filter(|names| args.owner.own(names))
            .collect(),
    };
    let mut plans: Vec<(Session, Clearance)> = Vec::new();
    for names in names {
        let session = Session::load(&tier, &names)?;
        let plan = session.clearance(args.keep)?;
        if !plan.parts.is_empty() {
            plans.push((session, plan));
        }
    }
    let parts: usize = plans.iter().map(|(_, plan)| plan.parts.len()).sum();
    let total: u64 = plans.iter().map(|(_, plan)| plan.bytes).sum();
    let mut report = Report::new();
    let label = match args.dry_run {
        true => "to remove",
        false => "removed",
    };
    let mut files = Vec::new();
    for (session, plan) in &plans {
        for part in &plan.parts {
            let (name, file) = (session.names().session, part.file_name());
            report.row(label, format_args!("{name}: {file}"));
            files.push(json!({
                "session": name,
                "file": file,
                "version": match part {
                    Artefact::Checkpoint(version) | Artefact::Capsule(version, _) => *version,
                    Artefact::Session | Artefact::Event(_) => 0,
                },
            }));
        }
    }
    if !args.dry_run && parts > 0 {
        let what = format!(
            "remove {parts} files, {}, of {} sessions",
            bytes(total),
            plans.len()
        );
        confirm(args.yes, &what)?;
        for (session, plan) in &mut plans {
            session.clear(plan, args.keep)?;
        }
    }
    let count = grouped(u64::try_from(parts).unwrap_or(u64::MAX));
    report.row("files", format_args!("{count}, {}", bytes(total)));
    report.fact("files", files);
    report.fact("bytes", total);
    report.fact("dry_run", args.dry_run);
    Ok(report)
}
