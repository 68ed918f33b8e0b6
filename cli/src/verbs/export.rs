//! `kvcap export` and `kvcap import`: a session's history to another model or device.

use std::path::{Path, PathBuf};

use kvcap::{Members, Result, Session as Claims, Workers};
use kvcap_session::{Session, opened_history, seal_history};
use kvcap_store::{
    Admitted, Ancestors, Unchecked, WrapKeys,
    input::Capsule,
    output::{self, Output, Readers},
    time,
};

use super::checkpoint::describe;
use crate::{
    flags::{Budget, ReaderArgs, SealedFor, names, tier},
    ui::{Report, bytes, passphrases, verdict},
};

/// Seals a session's history alone
///
/// Summary, latest turns and agent state, as they are now, in a capsule without a state of any model: kvcap import
/// makes a session of it, on another device too, which any model goes on with.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The session
    #[arg(value_name = "SESSION")]
    name: String,
    /// The capsule to write; - for stdout
    #[arg(short, long, value_name = "OUT")]
    output: PathBuf,
    /// Replace OUT if it exists
    #[arg(short, long)]
    force: bool,
    #[command(flatten)]
    sealed_for: SealedFor,
}

impl Args {
    pub(crate) fn output(&self) -> &Path {
        &self.output
    }
}

/// # Errors
/// KVC-955 where there is no such session, 956 where it holds nothing yet; 94x.
pub(crate) fn run(args: &Args) -> Result<Report> {
    output::check_absent(&args.output, args.force)?;
    let (tenant, subject) = (&args.sealed_for.org, &args.sealed_for.subject);
    let names = names(tenant.as_deref(), subject.as_deref(), &args.name);
    let record = Session::load(&tier()?, &names)?.portable(time::now())?;
    let parties = args.sealed_for.read(&passphrases())?;
    let mut terms = parties.terms.clone();
    terms.session = Some(Claims {
        id: record.session.clone(),
        version: record.version,
        replay_cursor: record.replay_cursor,
    });
    let expires = terms.expires;
    let output = Output::create(&args.output, args.force, Readers::Umask)?;
    let (suite, to) = (args.sealed_for.suite(), parties.recipients());
    let sealed = seal_history(&output, &record, suite, terms, &parties.signer, &to);
    let (_, sealed) = sealed.map_err(|error| output.at(error))?;
    output.commit()?;
    let mut report = Report::new();
    report.row("capsule", sealed.id);
    describe(&record, time::now(), &mut report);
    report.row(
        "written",
        format_args!("{}, {}", args.output.display(), bytes(sealed.file_len)),
    );
    report.fact("capsule_id", sealed.id.to_string());
    report.fact("expires", expires);
    report.fact("output", args.output.display().to_string());
    report.fact("file_bytes", sealed.file_len);
    Ok(report)
}

/// Begins a session with another one's history
///
/// CAPSULE is one of kvcap export, or of any checkpoint: its history opens under any model. The new session has its
/// summary, latest turns and agent state, and no state of a model yet.
#[derive(Debug, clap::Args)]
pub(crate) struct ImportArgs {
    /// The session to begin
    #[arg(value_name = "SESSION")]
    name: String,
    /// The capsule; - for stdin
    capsule: PathBuf,
    #[command(flatten)]
    reader: ReaderArgs,
    /// A secret wrapping key's file, or a key folder. Several may be given
    #[arg(long, value_name = "KEY", required = true)]
    wrap_key: Vec<PathBuf>,
    #[command(flatten)]
    budget: Budget,
}

/// # Errors
/// What capsule-v1 §3.2 and §3.3 refuse; KVC-956 where the capsule holds no history; 954 where the session is
/// there already; 947, 95x, 94x.
pub(crate) fn import(args: &ImportArgs) -> Result<Report> {
    let reader = &args.reader;
    let names = names(
        reader.tenant.as_deref(),
        reader.subject.as_deref(),
        &args.name,
    );
    let tier = tier()?;
    Session::check_absent(&tier, &names)?;
    let verifier = args.budget.of(reader.verifier()?);
    // history is of no model
    let mut judge = verifier.judge()?.danger_without(&[Unchecked::Model]);
    let (untrusted, body) = Capsule::read(&args.capsule)?.split();
    let verdict = judge.verify(untrusted)?;
    let source = body.fetch(verdict.tip().file_len())?;
    let ancestors = Ancestors {
        tip: &args.capsule,
        given: &[],
    };
    let verdict = judge.with_ancestors(verdict.with_source(source), &ancestors, |file| file)?;
    let accepted = judge.conclude(verdict)?;
    let keys = WrapKeys::read(&args.wrap_key, &passphrases())?;
    let Admitted {
        opened, unchecked, ..
    } = judge.open(accepted, keys, None, Workers::ONE)?;
    let history = opened_history(opened.tip())?;
    let session = Session::import(&tier, &names, &history)?;
    let mut report = Report::new();
    verdict::describe_unchecked(&judge, &unchecked, &mut report);
    let record = session.newest()?.unwrap_or(history);
    describe(&record, time::now(), &mut report);
    Ok(report)
}
