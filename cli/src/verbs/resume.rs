//! `kvcap resume`: the best that is left of a session.

use std::path::{Path, PathBuf};

use kvcap::{Code, Error, ExpectedSession, Result, text::printable};
use kvcap_session::{
    Candidate, Confirmed, Header, Names, Observation, Opener, Restorer, Resumed, Rung, Session,
    Written,
};
use kvcap_store::{
    output::{self, Output, Readers, check_absent},
    time,
};
use serde_json::{Value, json};

#[cfg(feature = "sync")]
use kvcap_session::sync::{Keys, Relay, Sync};

use super::checkpoint::entry;
#[cfg(feature = "sync")]
use crate::flags::names;
use crate::{
    flags::{
        Budget, Common, PolicyArgs, RelayArgs, RequestArgs, ReuseArgs, SessionArgs, Threads, tier,
    },
    ui::{Report, bytes, grouped, passphrases, progress, usage, verdict},
};

/// Resumes a session: restores the most of it that is accepted
///
/// Every state of the session is judged by its header, newest first; the best that holds is verified, opened and
/// written: whole, cut to what it has in common with the request, or a base image. What was left and why is said.
/// Without -o nothing is written, and the plan is told. What was really reused only the runtime knows: tell its
/// count with --reused and --evaluated.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    session: SessionArgs,
    /// Look for the session's capsule beside this file too, as PATH.kvcap
    #[arg(long, value_name = "PATH")]
    beside: Option<PathBuf>,
    #[command(flatten)]
    relay: RelayArgs,
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
    /// Write sampler, random generator and grammar here, as JSON, where they were sealed beside the state
    #[arg(long, value_name = "FILE", requires = "output")]
    controller_out: Option<PathBuf>,
    /// Say of each step why, or why not
    #[arg(long)]
    explain: bool,
    #[command(flatten)]
    request: RequestArgs,
    #[command(flatten)]
    reuse: ReuseArgs,
    #[command(flatten)]
    budget: Budget,
    #[command(flatten)]
    threads: Threads,
}

/// # Errors
/// KVC-955 where there is no such session, or no resume of it waits for a count; with -o, the reason that no state can
/// be restored; 94x.
pub(crate) fn run(args: &Args, common: &Common) -> Result<Report> {
    let asked = time::now_in_milliseconds();
    let (tenant, subject) = (
        args.policy.reader.tenant.as_deref(),
        args.policy.reader.subject.as_deref(),
    );
    let names = match args.session.find(tenant, subject) {
        Err(error) if error.code() == Code::SessionMissing => args.taken(tenant, subject, error),
        found => found,
    }?;
    let mut session = Session::load(&tier()?, &names)?;
    if let Some(path) = &args.beside {
        session = session.with_beside(path);
    }
    if args.output.is_some() && args.wrap_key.is_empty() {
        return usage("nothing is named that could open the state", "--wrap-key");
    }
    for out in args.output.iter().chain(&args.controller_out) {
        check_absent(out, args.force)?;
    }
    let mut request = args.request.read(&args.policy.model_args)?;
    let mut report = Report::new();
    if args.reuse.read().is_none() {
        args.recover(&session, &mut report);
    }
    if let Some(reuse) = args.reuse.read() {
        match session.confirm(&reuse, asked)? {
            Confirmed::Effective(observation) => {
                report.row("session", printable(&names.session));
                report.fact("session", names.session);
                describe_reuse(&observation, &mut report);
                return Ok(report);
            }
            Confirmed::Ineffective { states, refusal } => {
                report.warn(refusal);
                request.ineffective = states;
            }
        }
    }
    let verifier = args.budget.of(args.policy.verifier()?);
    let model = args.policy.model(common)?;
    let passphrases = passphrases();
    let judge =
        |expected: Option<ExpectedSession>| args.policy.judge(&verifier, model.as_ref(), expected);
    let mut reader = Reader {
        opener: Opener {
            judge: &judge,
            keys: &args.wrap_key,
            passphrases: &passphrases,
            workers: args.threads.workers(),
        },
        args,
        common,
        request: request.tokens.as_deref(),
        refused: None,
        written: None,
    };
    let resumed = match &args.output {
        Some(_) => session.resume(&request, &mut reader, asked),
        None => session.plan(&request, &mut reader),
    }?;
    let Reader {
        refused, written, ..
    } = reader;
    if args.output.is_some() && resumed.state.is_none() {
        let code = resumed.plan.reason().unwrap_or(Code::SessionNoState);
        let none = || Error::new(code, "no state of the session can be restored");
        return Err(refused
            .filter(|error| error.code() == code)
            .unwrap_or_else(none));
    }
    report.row("session", printable(&names.session));
    let state = resumed.state.as_ref();
    let controller = state.map(|state| match &written {
        Some(written) => written.controller.is_some(),
        None => state.has_controller(),
    });
    describe(&resumed, controller, &mut report);
    if let (Some(out), Some(written)) = (&args.output, written) {
        report.row(
            "written",
            format_args!("{}, {}", out.display(), bytes(written.bytes)),
        );
        report.row(
            "reused",
            "not known before the runtime has counted: --reused and --evaluated tell it",
        );
        report.fact("output_bytes", written.bytes);
        verdict::describe_unchecked(&written.judge, &written.unchecked, &mut report);
    }
    if let Some(error) = &resumed.unkept {
        report.note(format_args!("this resume cannot be confirmed: {error}"));
    }
    explain(&resumed, args.explain, &mut report);
    report.fact("session", names.session);
    let output = args.output.as_ref().map(|out| out.display().to_string());
    report.fact("output", output);
    report.fact("resumed_at", asked / 1000);
    Ok(report)
}

impl Args {
    /// The session, taken from the relay that is named.
    #[cfg(feature = "sync")]
    fn taken(&self, tenant: Option<&str>, subject: Option<&str>, missing: Error) -> Result<Names> {
        let (Some(relay), Some(id)) = (self.relay.read()?, self.session.id()) else {
            return Err(missing);
        };
        let names = names(tenant, subject, id);
        self.with(&relay, |sync| sync.bring(&names, None))?;
        Ok(names)
    }

    /// Fetches what this device has lost of the newest state. Where that fails the ladder goes on without it, and it is said.
    #[cfg(feature = "sync")]
    fn recover(&self, session: &Session, report: &mut Report) {
        let recovered = self.relay.read().and_then(|relay| match relay {
            Some(relay) => self.with(&relay, |sync| sync.recover(session)),
            None => Ok(0),
        });
        if let Err(error) = recovered {
            report.note(format_args!("the relay gives no state: {error}"));
        }
    }

    #[cfg(not(feature = "sync"))]
    #[allow(clippy::unused_self, reason = "as with relays")]
    fn recover(&self, _: &Session, _: &mut Report) {}

    /// Does something with a relay, as who takes from it and puts nothing.
    #[cfg(feature = "sync")]
    fn with<T>(&self, relay: &Relay, act: impl FnOnce(&Sync<'_>) -> Result<T>) -> Result<T> {
        let passphrases = passphrases();
        let keys = Keys {
            parties: None,
            suite: kvcap::Suite::ChaCha20Poly1305,
            verifier: self.budget.of(self.policy.verifier()?),
            open_with: self.wrap_key.clone(),
            passphrases: &passphrases,
        };
        act(&Sync {
            tier: &tier()?,
            relay,
            keys: &keys,
            keep: kvcap_session::KEEP,
        })
    }

    /// # Errors
    /// KVC-944 where a relay is named: this program was built without them.
    #[cfg(not(feature = "sync"))]
    fn taken(&self, _: Option<&str>, _: Option<&str>, missing: Error) -> Result<Names> {
        match self.relay.is_named() {
            true => crate::flags::without_relays(),
            false => Err(missing),
        }
    }
}

/// Reads states for the ladder, into the file that is to be written.
struct Reader<'a> {
    opener: Opener<'a>,
    args: &'a Args,
    common: &'a Common,
    request: Option<&'a [u32]>,
    /// The first refusal.
    refused: Option<Error>,
    written: Option<Written<'a>>,
}

impl Reader<'_> {
    fn write(&mut self, state: &Candidate, positions: u64, out: &Path) -> Result<()> {
        let output = Output::create(out, self.args.force, Readers::Owner)?;
        let len = match state {
            Candidate::Saved(state) => state.capsule.bytes,
            Candidate::Base(_) | Candidate::Handed { .. } => 0,
        };
        let bar = progress::bar(self.common.shows_progress(), "resume", len);
        let written = self
            .opener
            .write(state, positions, self.request, &output, &mut |done| {
                bar.inc(done);
            });
        bar.finish();
        let written = written.map_err(|error| output.at(error))?;
        if let (Some(path), Some(controller)) = (&self.args.controller_out, &written.controller) {
            let text = controller.to_json()?;
            output::write(path, self.args.force, Readers::Owner, text.as_bytes())?;
        }
        output.commit()?;
        self.written = Some(written);
        Ok(())
    }

    fn noted<T>(&mut self, result: Result<T>) -> Result<T> {
        result.inspect_err(|error| _ = self.refused.get_or_insert(error.clone()))
    }
}

impl Restorer for Reader<'_> {
    fn judge(&mut self, state: &Candidate) -> Result<Header> {
        let header = self.opener.header(state);
        self.noted(header)
    }

    fn common(&mut self, state: &Candidate, request: &[u32]) -> Result<Option<u64>> {
        let common = self.opener.common(state, request);
        self.noted(common)
    }

    fn restore(&mut self, state: &Candidate, positions: u64) -> Result<()> {
        let Some(out) = &self.args.output else {
            return Ok(());
        };
        let written = self.write(state, positions, out);
        self.noted(written)
    }
}

fn describe(resumed: &Resumed, controller: Option<bool>, report: &mut Report) {
    let taken = resumed.plan.taken();
    let rung = taken.map_or(Rung::Fresh, |step| step.rung);
    let reason = resumed.plan.reason();
    let positions = taken.filter(|step| step.state.is_some());
    let positions = positions.map(|step| step.positions);
    report.row("rung", rung.name());
    let sentence = rung.said(controller == Some(true));
    report.row("means", &sentence);
    if let Some(code) = reason {
        report.row("because", format_args!("{code}: {}", code.meaning()));
    }
    if let (Some(state), Some(positions)) = (&resumed.state, positions) {
        let tokens = grouped(positions);
        match state {
            Candidate::Saved(state) => report.row(
                "state",
                format_args!("version {}, {tokens} tokens", state.version),
            ),
            Candidate::Base(path) | Candidate::Handed { path, .. } => report.row(
                "state",
                format_args!("base image {}, {tokens} tokens", path.display()),
            ),
        }
    }
    let state = resumed.state.as_ref();
    let events = resumed.events_after();
    report.row(
        "to read again",
        match events {
            Some(events) => format!("{} events", grouped(events)),
            None => format!(
                "the request after its first {} tokens",
                grouped(positions.unwrap_or(0))
            ),
        },
    );
    report.fact("rung", rung.name());
    report.fact("sentence", sentence);
    report.fact("controller", controller);
    report.fact("reason", reason.map(Code::number));
    report.fact("version", state.and_then(Candidate::version));
    report.fact("positions", positions);
    report.fact("events_after", events);
    report.fact("current", entry(&resumed.current));
}

/// Every step with its reason.
fn explain(resumed: &Resumed, told: bool, report: &mut Report) {
    let mut steps = Vec::new();
    let taken = resumed.plan.taken();
    for step in &resumed.plan.steps {
        if told {
            let why = match step.refused {
                Some(code) => format!("{code}: {}", code.meaning()),
                None if Some(step) == taken => "taken".to_owned(),
                None => "can be taken".to_owned(),
            };
            let of = step.state.as_deref().map_or(String::new(), |name| {
                format!(" {name}, {} tokens", grouped(step.positions))
            });
            report.line(format_args!("  {}{of}: {why}", step.rung.name()));
            let first = step.rung == Rung::Exact;
            if first && !resumed.plan.steps.iter().any(|s| s.rung == Rung::Shorter) {
                let none = Code::SessionNoState;
                report.line(format_args!(
                    "  {}: {none}: {}",
                    Rung::Shorter.name(),
                    none.meaning()
                ));
            }
        }
        steps.push(json!({
            "rung": step.rung.name(),
            "capsule": step.state,
            "positions": step.positions,
            "code": step.refused.map(Code::number),
        }));
    }
    report.fact("steps", Value::Array(steps));
}

/// What the runtime's count has shown.
fn describe_reuse(observation: &Observation, report: &mut Report) {
    let rung = observation.rung;
    report.row("rung", rung.name());
    report.row("means", rung.sentence());
    report.row(
        "reused",
        format_args!(
            "{} of {} tokens, {} evaluated",
            grouped(observation.restored),
            grouped(observation.asked),
            grouped(observation.evaluated)
        ),
    );
    report.row(
        "first token",
        format_args!("after {} ms", grouped(observation.milliseconds)),
    );
    report.fact("rung", rung.name());
    report.fact("sentence", rung.sentence());
    report.fact("reason", observation.code);
    report.fact("asked", observation.asked);
    report.fact("reused", observation.restored);
    report.fact("evaluated", observation.evaluated);
    report.fact("milliseconds", observation.milliseconds);
    report.fact("device", observation.device.clone());
}
