//! `kvcap checkpoint`: a session as it is, with its state.

use std::path::{Path, PathBuf};

use clap::ValueEnum;
use kvcap::{Code, Result, text::printable};
use kvcap_session::{
    Cause, Controller, Moment, Names, NewState, Record, Renewer, SavePolicy, Session, Signs,
};
use kvcap_store::{input, time};
use serde_json::{Value, json};

use super::{
    continuing::StateFile,
    renewing::Resigned,
    sealing::{How, Prepared},
};
use crate::{
    flags::{Common, SessionArgs, SourcesArgs, find, names, tier},
    ui::{self, Report, bytes, grouped, usage},
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
    #[arg(long, value_name = "FILE")]
    controller: Option<PathBuf>,
    /// Save only if it is due: three turns have ended since the last checkpoint, a milestone was appended, five minutes
    /// have passed, or the state expires within 15 minutes; it is then renewed where nothing is new. With exit or signal,
    /// which say that the tool ends, whenever something is new
    #[arg(long, value_enum, value_name = "WHEN", num_args = 0..=1, require_equals = true, default_missing_value = "now")]
    if_due: Option<When>,
    #[command(flatten)]
    trust: SourcesArgs,
    #[command(flatten)]
    how: How,
}

/// Circumstances in which a policy is asked.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum When {
    /// While the tool goes on
    Now,
    /// The tool ends
    Exit,
    /// The tool was told to end
    Signal,
}

/// # Errors
/// As `kvcap seal`; KVC-947 where another process writes to the session; 95x.
pub(crate) fn run(args: &Args, common: &Common) -> Result<Report> {
    let passphrases = ui::passphrases();
    let (name, state) = args.session.with(args.state.as_ref())?;
    let (tenant, subject) = args.how.owner();
    let (tenant, subject) = (tenant.as_deref(), subject.as_deref());
    let names = match name {
        Some(name) => names(tenant, subject, name),
        None => find(None, tenant, subject)?,
    };
    let now = time::now();
    let policy = SavePolicy::default();
    let mut due = None;
    if let Some(when) = args.if_due {
        let (newest, moment) = moment(&names, when, now)?;
        if policy.due(&moment).is_none() {
            return Ok(not_saved(&names, newest.as_ref(), now));
        }
        due = Some((newest, moment));
    }
    let prepare = |state| args.how.prepare(state, &passphrases, common);
    let prepared = state.map(Path::new).map(prepare).transpose()?;
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
        None if args.controller.is_some() => {
            return usage(
                "a controller is sealed beside a state: name one",
                "--controller",
            );
        }
        None => None,
    };
    let mut session = Session::load_or_create(&tier()?, &names, now)?;
    if let Some(path) = &args.beside {
        session.check_beside(path)?;
    }
    let new = state.as_mut().map(|state| -> &mut dyn NewState { state });
    let record = match &due {
        None => Some(session.checkpoint(now, Cause::Asked, new)?),
        Some((_, moment)) => {
            let read = || args.how.sealed_for.read(&passphrases);
            let own = prepared.is_none().then(read).transpose()?;
            let parties = own
                .as_ref()
                .or(prepared.as_ref().map(|state| &state.parties));
            let trust = args.trust.sources();
            let mut by = parties.map(|parties| Resigned { parties, trust });
            let by = by.as_mut().map(|by| -> &mut dyn Renewer { by });
            session.save_if_due(&policy, moment, now, new, by)?
        }
    };
    let refused = state.and_then(|state| state.refused);
    let Some(record) = record else {
        let newest = due.and_then(|(newest, _)| newest);
        return Ok(not_saved(&names, newest.as_ref(), now));
    };
    let mut report = Report::new();
    describe(&record, now, &mut report);
    let beside = args.beside.as_deref();
    let beside = beside.and_then(|path| session.put_beside(path).transpose());
    let beside = beside.transpose()?.map(|path| path.display().to_string());
    if let Some(path) = &beside {
        report.row("beside", path);
    }
    report.fact("saved", true);
    report.fact("beside", beside);
    report.fact("not_continued", refused.map(Code::number));
    Ok(report)
}

/// The newest checkpoint of a session, and what the policy has to know; of one that is not there, nothing.
fn moment(names: &Names, when: When, now: u64) -> Result<(Option<Record>, Moment)> {
    let session = match Session::load(&tier()?, names) {
        Err(error) if error.code() == Code::SessionMissing => return Ok((None, Moment::default())),
        session => session?,
    };
    let signs = Signs {
        exiting: matches!(when, When::Exit),
        signalled: matches!(when, When::Signal),
        cache_expires: None,
    };
    Ok((session.newest()?, session.moment(now, signs)?))
}

/// What is said where it is not time to save, with the checkpoint that there is.
fn not_saved(names: &Names, newest: Option<&Record>, now: u64) -> Report {
    let mut report = Report::new();
    match newest {
        Some(record) => describe(record, now, &mut report),
        None => report.row("session", printable(&names.session)),
    }
    report.row("saved", "nothing: it is not due");
    report.fact("session", names.session.clone());
    report.fact("checkpoint", newest.map(entry));
    report.fact("saved", false);
    report.fact("beside", Value::Null);
    report.fact("not_continued", Value::Null);
    report
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
