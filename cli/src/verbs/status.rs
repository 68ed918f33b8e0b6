//! `kvcap status`: what is known of a session, and `kvcap sessions`: which there are.

use std::time::UNIX_EPOCH;

use kvcap::{Code, Result, text::printable};
use kvcap_session::Session;
use kvcap_store::time;
use serde_json::{Value, json};

use super::{
    checkpoint::{describe, entry},
    metrics,
};
use crate::{
    flags::{OwnerArgs, tier},
    ui::{Report, bytes, grouped, table, time::show_distance},
};

/// Sessions that are listed where nobody says how many.
const LISTED: usize = 20;

/// Shows what is known of a session, without opening anything
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The session's id, or as much of it as no other one begins with [default: the one last written to]
    #[arg(value_name = "SESSION")]
    name: Option<String>,
    /// The session that was last written to
    #[arg(long, conflicts_with = "name")]
    last: bool,
    #[command(flatten)]
    owner: OwnerArgs,
    /// Show figures instead, in Prometheus' text format: of resumes, by rung, and of checkpoints; of SESSION,
    /// or of all sessions
    #[arg(long)]
    metrics: bool,
}

/// # Errors
/// KVC-955 where there is no such session; 950; 94x.
pub(crate) fn run(args: &Args) -> Result<Report> {
    if args.metrics {
        let all = args.name.is_none() && !args.last;
        return metrics::run(all, args.name.as_deref(), &args.owner);
    }
    let session = args.owner.load(args.name.as_deref())?;
    let (status, now) = (session.status()?, time::now());
    let mut report = Report::new();
    match &status.checkpoint {
        Some(record) => describe(record, now, &mut report),
        None => {
            report.row("session", printable(&session.names().session));
            report.row("checkpoint", "none yet");
            report.fact("session", session.names().session);
            report.fact("checkpoint", Value::Null);
        }
    }
    let cursor = status
        .checkpoint
        .as_ref()
        .map_or(0, |record| record.replay_cursor);
    let after = status.events.saturating_sub(cursor);
    report.row("since then", format_args!("{} events", grouped(after)));
    let (capsules, size) = status.capsules;
    report.row(
        "kept",
        format_args!(
            "{} checkpoints, {capsules} capsules, {}",
            status.checkpoints,
            bytes(size)
        ),
    );
    if !status.pinned.is_empty() {
        let pinned: Vec<String> = status.pinned.iter().map(u64::to_string).collect();
        report.row("pinned", format_args!("versions {}", pinned.join(", ")));
    }
    if status.torn > 0 {
        let torn = status.torn;
        report.note(format_args!(
            "a writer was stopped within its last event: {torn} bytes of the log count for nothing"
        ));
    }
    report.fact("events", status.events);
    report.fact("events_after", after);
    report.fact("torn_bytes", status.torn);
    report.fact("checkpoints", status.checkpoints);
    report.fact("capsules", capsules);
    report.fact("capsule_bytes", size);
    report.fact("pinned", json!(status.pinned));
    report.fact("current", entry(&status.current));
    Ok(report)
}

/// Lists sessions, the one last written to first
#[derive(Debug, clap::Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    owner: OwnerArgs,
    /// List so many [default: 20]
    #[arg(long, value_name = "N", conflicts_with_all = ["last", "all"])]
    limit: Option<usize>,
    /// List the last one alone
    #[arg(long)]
    last: bool,
    /// List all, and those of other tenants and subjects too
    #[arg(long, conflicts_with = "last")]
    all: bool,
}

/// # Errors
/// KVC-940 for the folder of sessions.
pub(crate) fn list(args: &ListArgs) -> Result<Report> {
    let (tier, now) = (tier()?, time::now());
    let most = match (args.all, args.last) {
        (true, _) => usize::MAX,
        (_, true) => 1,
        _ => args.limit.unwrap_or(LISTED),
    };
    let mut found = tier.changed()?;
    found.retain(|(names, _)| args.all || args.owner.own(names));
    let (mut rows, mut entries) = (Vec::new(), Vec::new());
    let mut rest = found.iter();
    while rows.len() < most
        && let Some((names, changed)) = rest.next()
    {
        // one that is damaged hides no other
        let status = Session::load(&tier, names).and_then(|session| session.status());
        if matches!(&status, Err(error) if error.code() == Code::SessionMissing) {
            // left by a writer that was stopped before there was a session
            continue;
        }
        let changed = changed
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs());
        let record = status
            .as_ref()
            .ok()
            .and_then(|status| status.checkpoint.as_ref());
        let state = record.and_then(|record| record.capsule.as_ref());
        let text = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
        rows.push(vec![
            printable(&names.session).into_owned(),
            match &status {
                Ok(_) => text(record.map(|record| record.version.to_string())),
                Err(error) => error.code().to_string(),
            },
            text(
                status
                    .as_ref()
                    .ok()
                    .map(|status| grouped(status.current.turns)),
            ),
            text(state.map(|state| grouped(state.positions))),
            text(status.as_ref().ok().map(|status| bytes(status.capsules.1))),
            show_distance(now, changed),
        ]);
        entries.push(json!({
            "session": names.session,
            "tenant": names.tenant,
            "subject": names.subject,
            "changed": changed,
            "version": record.map(|record| record.version),
            "turns": status.as_ref().ok().map(|status| status.current.turns),
            "positions": state.map(|state| state.positions),
            "capsule_bytes": status.as_ref().ok().map(|status| status.capsules.1),
            "code": status.as_ref().err().map(|error| error.code().number()),
        }));
    }
    let mut report = Report::new();
    let head = [
        ("session", '<'),
        ("version", '>'),
        ("turns", '>'),
        ("tokens", '>'),
        ("size", '>'),
        ("changed", '<'),
    ];
    for line in table::lines(&head, &rows) {
        report.line(line);
    }
    let left = rest.len();
    if left > 0 {
        report.note(format_args!("{left} more: --limit, or --all"));
    }
    report.fact("sessions", Value::Array(entries));
    report.fact("left", left);
    Ok(report)
}
