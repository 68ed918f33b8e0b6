//! `kvcap gc`: sessions without the checkpoints that have served their time.

use std::path::PathBuf;

use kvcap::{Code, Result, text::printable};
use kvcap_session::{Clearance, KEEP, Session, files::Artefact};
use serde_json::json;

use crate::{
    flags::{OwnerArgs, codec_profiles, tier},
    ui::{Report, bytes, confirm, grouped},
};

/// Removes old checkpoints of sessions, and their capsules
///
/// The newest checkpoints stay, those that are pinned, and what their states need; the newest with a state always. Logs
/// stay. What would go is said first.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The session's id, or as much of it as no other one begins with [default: all]
    #[arg(value_name = "SESSION")]
    name: Option<String>,
    /// The session that was last written to
    #[arg(long, conflicts_with = "name")]
    last: bool,
    #[command(flatten)]
    owner: OwnerArgs,
    /// Checkpoints that stay of each session
    #[arg(long, value_name = "N", default_value_t = KEEP)]
    keep: usize,
    /// Remove the profiles of codecs too that were added more than a day ago and that no capsule of a session names, nor one
    /// of --capsules. Capsules that are elsewhere may name them
    #[arg(long, conflicts_with_all = ["name", "last"])]
    codec_profiles: bool,
    /// A folder of capsules that need their profiles
    #[arg(long, value_name = "FOLDER", requires = "codec_profiles")]
    capsules: Vec<PathBuf>,
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
    let mut report = Report::new();
    let mut plans: Vec<(Session, Clearance)> = Vec::new();
    let mut unreadable = Vec::new();
    if args.name.is_some() || args.last {
        let session = args.owner.load(args.name.as_deref())?;
        let plan = session.clearance(args.keep)?;
        plans.push((session, plan));
    } else {
        let mut all = tier.changed()?;
        all.retain(|(names, _)| args.owner.own(names));
        for (names, _) in all {
            let planned = Session::load(&tier, &names)
                .and_then(|session| session.clearance(args.keep).map(|plan| (session, plan)));
            match planned {
                Ok(plan) => plans.push(plan),
                // left by a writer that was stopped before there was a session
                Err(error) if error.code() == Code::SessionMissing => {}
                // one that is damaged keeps all that it has, and holds up no other
                Err(error) => {
                    let name = printable(&names.session);
                    report.note(format_args!("{name} stays as it is: {error}"));
                    unreadable.push(json!({
                        "session": names.session,
                        "code": error.code().number(),
                    }));
                }
            }
        }
    }
    plans.retain(|(_, plan)| !plan.parts.is_empty());
    let profiles = match args.codec_profiles {
        true => codec_profiles()?.unneeded(&tier, &args.capsules)?,
        false => Vec::new(),
    };
    let parts: usize = plans.iter().map(|(_, plan)| plan.parts.len()).sum();
    let total: u64 = plans.iter().map(|(_, plan)| plan.bytes).sum();
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
    for profile in &profiles {
        report.row(label, profile.path.display());
    }
    if !args.dry_run && parts + profiles.len() > 0 {
        let mut what = format!(
            "remove {parts} files, {}, of {} sessions",
            bytes(total),
            plans.len()
        );
        if args.codec_profiles {
            what.push_str(&format!(", and {} profiles of codecs", profiles.len()));
        }
        confirm(args.yes, &what)?;
        for (session, plan) in &mut plans {
            session.clear(plan, args.keep)?;
        }
        for profile in &profiles {
            codec_profiles()?.remove(profile)?;
        }
    }
    let count = grouped(u64::try_from(parts).unwrap_or(u64::MAX));
    report.row("files", format_args!("{count}, {}", bytes(total)));
    report.fact("files", files);
    report.fact("bytes", total);
    if args.codec_profiles {
        let digests = profiles.iter().map(|file| file.digest.to_string());
        report.fact("codec_profiles", digests.collect::<Vec<_>>());
    }
    report.fact("dry_run", args.dry_run);
    report.fact("unreadable", unreadable);
    Ok(report)
}
