//! `kvcap checkpoint`: a session as it is, with its state.

use std::path::{Path, PathBuf};

use kvcap::{Code, Result};
use kvcap_session::{Cause, Controller, NewState, Record, Session};
use kvcap_store::{input, time};
use serde_json::{Value, json};

use super::{
    continuing::StateFile,
    sealing::{How, Prepared},
};
use crate::{
    flags::{Common, SessionArgs, SourcesArgs, find, names, tier},
    ui::{self, Report, bytes, grouped},
};

/// Longest controller that is read, in bytes.
const LONGEST_CONTROLLER: u64 = 1 << 23;

/// Saves a session: its log so far, and the runtime's state
///
/// The session is made where there is none. What is saved is a version of its own, in files of yours alone below
/// $XDG_STATE_HOME/kvcap/sessions; when this returns, no crash loses it. Without STATE the latest state stays the
/// session's, and the events after it are read again on resuming. A state that goes on from the latest one is sealed as
/// an increment of it, where that one lives long enough; history and agent state are sealed beside it.
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
    /// The runtime's sampler, random generator and grammar as JSON, sealed beside the state: with them a resume goes on
    /// word for word
    #[arg(long, value_name = "FILE", requires = "state")]
    controller: Option<PathBuf>,
    #[command(flatten)]
    trust: SourcesArgs,
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
    let mut state = match &prepared {
        Some(prepared) => Some(StateFile {
            how: &args.how,
            prepared,
            controller: args.controller(prepared)?,
            trust: args.trust.sources(),
            passphrases: &passphrases,
            common,
            continued: None,
            refused: None,
            whole: args.beside.is_some(),
        }),
        None => None,
    };
    let new = state.as_mut().map(|state| -> &mut dyn NewState { state });
    let record = session.checkpoint(now, Cause::Asked, new)?;
    let refused = state.and_then(|state| state.refused);
    let mut report = Report::new();
    describe(&record, now, &mut report);
    let beside = args.beside.as_deref();
    let beside = beside.and_then(|path| session.put_beside(path).transpose());
    let beside = beside.transpose()?.map(|path| path.display().to_string());
    if let Some(path) = &beside {
        report.row("beside", path);
    }
    report.fact("beside", beside);
    report.fact("not_continued", refused.map(Code::number));
    Ok(report)
}

impl Args {
    /// The controller of a state's runtime.
    fn controller(&self, prepared: &Prepared) -> Result<Option<Controller>> {
        let Some(path) = &self.controller else {
            return Ok(None);
        };
        let text = input::small(path, LONGEST_CONTROLLER)?;
        let controller = Controller::from_json(&text, prepared.state.runtime);
        controller.map(Some).map_err(|error| input::at(error, path))
    }
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
                "{} tokens, {}{}, expires {}",
                grouped(state.positions),
                bytes(state.bytes),
                match state.ancestors.len() {
                    0 => String::new(),
                    1 => " and the capsule before it".to_owned(),
                    more => format!(" and {more} capsules before it"),
                },
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
            "ancestors": state.ancestors,
            "controller": state.controller,
        })),
    })
}
