//! `kvcap resume`: the best that is left of a session.

use std::path::PathBuf;

use kvcap::{Code, Error, Result, text::printable};
use kvcap_session::{OfState, Rung, SavedState};
use kvcap_states::open_state;
use kvcap_store::{
    Ancestors, WrapKeys,
    input::Capsule,
    output::{Output, Readers},
    time,
};
use serde_json::{Value, json};

use super::checkpoint::entry;
use crate::{
    flags::{Budget, Common, PolicyArgs, SessionArgs, Threads, TokensArgs, tier},
    ui::{Report, grouped, passphrases, progress, usage, verdict},
};

/// Resumes a session: restores the newest state that is accepted
///
/// Every state of the session is judged by its header, newest first; the best that holds is verified, opened and
/// written. What was left and why is said. Without -o nothing is written, and the plan is told.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    session: SessionArgs,
    /// Look for the session's capsule beside this file too, as PATH.kvcap
    #[arg(long, value_name = "PATH")]
    beside: Option<PathBuf>,
    #[command(flatten)]
    policy: PolicyArgs,
    /// A secret wrapping key's file, or a key folder. Several may be given
    #[arg(long, value_name = "KEY")]
    wrap_key: Vec<PathBuf>,
    /// The state file to write
    #[arg(short, long, value_name = "STATE")]
    pub(crate) output: Option<PathBuf>,
    /// Replace STATE if it exists
    #[arg(short, long, requires = "output")]
    force: bool,
    /// Say of each step why, or why not
    #[arg(long)]
    explain: bool,
    #[command(flatten)]
    tokens: TokensArgs,
    #[command(flatten)]
    budget: Budget,
    #[command(flatten)]
    threads: Threads,
}

/// # Errors
/// KVC-955 where there is no such session; with -o, the reason that no state can be restored; 94x.
pub(crate) fn run(args: &Args, common: &Common) -> Result<Report> {
    let (tenant, subject) = (
        args.policy.tenant.as_deref(),
        args.policy.subject.as_deref(),
    );
    let names = args.session.find(tenant, subject)?;
    let mut session = kvcap_session::Session::load(&tier()?, &names)?;
    if let Some(path) = &args.beside {
        session = session.with_beside(path);
    }
    let tokens = args.tokens.read()?;
    let verifier = args.budget.of(args.policy.verifier()?);
    let model = args.policy.model(common)?;
    let judge_of = |state: &SavedState| {
        let expected = Some(state.expected.clone());
        args.policy.judge(&verifier, model.as_ref(), expected)
    };
    let mut report = Report::new();
    let mut refused = None;
    let mut by_header = |state: &SavedState| {
        let (untrusted, _) = Capsule::read(&state.path)?.split();
        let judge = judge_of(state)?;
        let judged = judge
            .verify(untrusted)
            .and_then(|verdict| judge.with_ancestors(verdict, &ancestors(state), |_| ()));
        let judged = judged.map(|_| ());
        judged.inspect_err(|error| _ = refused.get_or_insert(error.clone()))
    };
    let mut written = None;
    let mut restore = |state: &SavedState| {
        let Some(out) = &args.output else {
            return Ok(());
        };
        let mut judge = judge_of(state)?;
        let (untrusted, body) = Capsule::read(&state.path)?.split();
        let verdict = judge.verify(untrusted)?;
        let output = Output::create(out, args.force, Readers::Owner)?;
        let source = body.fetch(verdict.tip().file_len())?;
        let verdict = verdict.with_source(source);
        let verdict = judge.with_ancestors(verdict, &ancestors(state), |file| file)?;
        let accepted = judge.conclude(verdict)?;
        let keys = WrapKeys::read(&args.wrap_key, &passphrases())?;
        let workers = args.threads.workers();
        let admitted = judge.open(accepted, keys, tokens.as_deref(), workers)?;
        let bar = progress::bar(common.shows_progress(), "resume", state.capsule.bytes);
        let opened = open_state(&admitted.opened, &output, workers, &mut |done| {
            bar.inc(done)
        });
        bar.finish();
        let opened = opened.map_err(|error| output.at(error))?;
        output.commit()?;
        verdict::describe_unchecked(&judge, &admitted.unchecked, &mut report);
        written = Some((out, opened.state_len));
        Ok(())
    };
    if args.output.is_some() && args.wrap_key.is_empty() {
        return usage("nothing is named that could open the state", "--wrap-key");
    }
    let wanted: Option<OfState<'_>> = match &args.output {
        Some(_) => Some(&mut restore),
        None => None,
    };
    let resumed = session.resume(&mut by_header, wanted)?;
    let rung = resumed.plan.taken().map_or(Rung::Fresh, |step| step.rung);
    let reason = resumed.plan.reason();
    if args.output.is_some() && resumed.state.is_none() {
        let code = reason.unwrap_or(Code::SessionNoState);
        let none = || Error::new(code, "no state of the session can be restored");
        return Err(refused
            .filter(|error| error.code() == code)
            .unwrap_or_else(none));
    }
    report.row("session", printable(&names.session));
    report.row("rung", rung.name());
    report.row("means", rung.sentence());
    if let Some(code) = reason {
        report.row("because", format_args!("{code}: {}", code.meaning()));
    }
    if let Some(state) = &resumed.state {
        let tokens = grouped(state.capsule.positions);
        report.row(
            "state",
            format_args!("version {}, {tokens} tokens", state.version),
        );
    }
    let behind = resumed
        .state
        .as_ref()
        .map_or(0, |state| state.capsule.cursor);
    let events = resumed.current.replay_cursor.saturating_sub(behind);
    report.row("to read again", format_args!("{} events", grouped(events)));
    if let Some((out, len)) = written {
        report.row(
            "written",
            format_args!("{}, {}", out.display(), crate::ui::bytes(len)),
        );
        report.fact("output_bytes", len);
    }
    let mut steps = Vec::new();
    for step in &resumed.plan.steps {
        if args.explain {
            let why = step.refused.map_or("can be taken".to_owned(), |code| {
                format!("{code}: {}", code.meaning())
            });
            let of = step
                .state
                .as_deref()
                .map_or(String::new(), |id| format!(" {id}"));
            report.line(format_args!("  {}{of}: {why}", step.rung.name()));
        }
        steps.push(json!({
            "rung": step.rung.name(),
            "capsule": step.state,
            "positions": step.positions,
            "code": step.refused.map(Code::number),
        }));
    }
    report.fact("session", names.session.clone());
    report.fact("rung", rung.name());
    report.fact("sentence", rung.sentence());
    report.fact("reason", reason.map(Code::number));
    report.fact("version", resumed.state.as_ref().map(|state| state.version));
    report.fact(
        "positions",
        resumed.state.as_ref().map(|state| state.capsule.positions),
    );
    report.fact("events_after", events);
    report.fact(
        "output",
        args.output.as_ref().map(|out| out.display().to_string()),
    );
    report.fact("steps", Value::Array(steps));
    report.fact("current", entry(&resumed.current));
    report.fact("resumed_at", time::now());
    Ok(report)
}

/// The capsules that a state continues lie beside its own.
fn ancestors(state: &SavedState) -> Ancestors<'_> {
    Ancestors {
        tip: &state.path,
        given: &[],
    }
}
