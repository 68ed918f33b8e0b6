//! `kvcap checkpoint`: a session as it is, with its state.

use std::path::{Path, PathBuf};

use kvcap::Result;
use kvcap_session::{Cause, Record, Seal, Session};
use kvcap_store::time;
use serde_json::{Value, json};

use super::sealing::How;
use crate::{
    flags::{Common, SessionArgs, find, names, tier},
    ui::{self, Report, bytes, grouped},
};

/// Saves a session: its log so far, and the runtime's state
///
/// The session is made where there is none. What is saved is a version of its own, in files of yours alone below
/// $XDG_STATE_HOME/kvcap/sessions; when this returns, no crash loses it. Without STATE the latest state stays the
/// session's, and the events after it are read again on resuming.
/// SESSION is a whole id here, and not the beginning of one.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    session: SessionArgs,
    /// The runtime's saved state; - for stdin
    state: Option<PathBuf>,
    /// Put the session's capsule beside this file too, as PATH.kvcap
    #[arg(long, value_name = "PATH")]
    beside: Option<PathBuf>,
    #[command(flatten)]
    how: How,
}

/// # Errors
/// As `kvcap seal`; KVC-947 where another process writes to the session; 95x.
pub(crate) fn run(args: &Args, common: &Common) -> Result<Report> {
    let passphrases = ui::passphrases();
    let prepare = |state| args.how.prepare(state, &passphrases, common);
    let (name, state) = args.session.with(args.state.as_ref())?;
    let prepared = state.map(Path::new).map(prepare).transpose()?;
    let (tenant, subject) = args.how.owner();
    let (tenant, subject) = (tenant.as_deref(), subject.as_deref());
    let names = match name {
        Some(name) => names(tenant, subject, name),
        None => find(None, tenant, subject)?,
    };
    let now = time::now();
    let mut session = Session::load_or_create(&tier()?, &names, now)?;
    if let Some(path) = &args.beside {
        session.check_beside(path)?;
    }
    let record = match &prepared {
        None => session.checkpoint(now, Cause::Asked, None)?,
        Some(prepared) => {
            let capture = prepared.capture(&args.how, Vec::new())?;
            let seal: Seal<'_> = &mut |output, claims| {
                let mut terms = prepared.terms.clone();
                terms.session = Some(claims);
                let sealed = prepared.seal(&args.how, capture.clone(), terms, output, common)?;
                Ok(sealed.sealed.id)
            };
            session.checkpoint(now, Cause::Asked, Some(seal))?
        }
    };
    let mut report = Report::new();
    describe(&record, now, &mut report);
    let beside = args.beside.as_deref();
    let beside = beside.and_then(|path| session.put_beside(path).transpose());
    let beside = beside.transpose()?.map(|path| path.display().to_string());
    if let Some(path) = &beside {
        report.row("beside", path);
    }
    report.fact("beside", beside);
    Ok(report)
}

/// What is said of a checkpoint.
pub(super) fn describe(record: &Record, now: u64, report: &mut Report) {
    report.row("session", &record.session);
    report.row(
        "checkpoint",
        format_args!(
            "version {}, {}",
            record.version,
            ui::time::show_distance(now, record.at)
        ),
    );
    report.row(
        "log",
        format_args!(
            "{} events, {} turns, {} messages",
            grouped(record.replay_cursor),
            grouped(record.turns),
            grouped(record.messages)
        ),
    );
    match &record.capsule {
        Some(state) => report.row(
            "state",
            format_args!(
                "{} tokens, {}, expires {}",
                grouped(state.positions),
                bytes(state.bytes),
                ui::time::show_distance(now, state.expires)
            ),
        ),
        None => report.row("state", "none"),
    }
    report.fact("session", record.session.clone());
    report.fact("checkpoint", entry(record));
}

/// A checkpoint in JSON.
pub(super) fn entry(record: &Record) -> Value {
    json!({
        "version": record.version,
        "parent_version": record.parent_version,
        "at": record.at,
        "cause": record.cause,
        "replay_cursor": record.replay_cursor,
        "turns": record.turns,
        "messages": record.messages,
        "state": record.capsule.as_ref().map(|state| json!({
            "id": state.id,
            "version": state.version,
            "replay_cursor": state.cursor,
            "positions": state.positions,
            "capsule_bytes": state.bytes,
            "expires": state.expires,
            "model_id": state.model.to_string(),
        })),
    })
}
