//! `kvcap verify`: every byte, without a secret.

mod timings;

use std::{io::Read, path::PathBuf};

use kvcap::{Limits, Result, SourceFile, Untrusted};

use kvcap_store::input;

use crate::{
    flags::{ChainArgs, CheckpointArgs, Common, PolicyArgs, Threads},
    ui::{Report, bytes, grouped, progress, usage, verdict},
};

/// Verifies a capsule with public keys alone
///
/// Checks the signature, times, audience and scope, the model if --model is given, and then every
/// byte of the body. Needs no secret and little memory; reads a pipe as well as a file. Nothing is
/// decrypted. Of an increment, the capsules that it continues are verified as well. What was not checked is
/// named on stderr, even with --quiet.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The capsule; - for stdin
    pub(super) capsule: PathBuf,
    #[command(flatten)]
    pub(super) policy: PolicyArgs,
    #[command(flatten)]
    pub(super) checkpoint: CheckpointArgs,
    /// Verify the header only: is it worth sending the body?
    #[arg(long)]
    pub(super) header_only: bool,
    /// Say how long each step takes: parse, signature, manifest, claims, binding, tables, body; of one
    /// capsule, a file
    #[arg(long)]
    pub(crate) timings: bool,
    /// With --timings, unwrap the content key as well: the secret wrapping key's file. Nothing is decrypted
    /// but the prompt's value
    #[arg(long, value_name = "KEY")]
    pub(super) wrap_key: Option<PathBuf>,
    #[command(flatten)]
    chain: ChainArgs,
    #[command(flatten)]
    pub(super) threads: Threads,
}

/// A file is read by all threads, a stream by one at a time.
enum Source {
    File(SourceFile),
    Stream(Box<dyn Read + Send>),
}

/// # Errors
/// What capsule-v1 §3.2 refuses.
pub(crate) fn run(args: &Args, common: &Common, timed: bool) -> Result<Report> {
    if timed {
        return match args.chain.given().is_empty() {
            true => timings::run(args, common),
            false => usage(
                "the steps that are timed are those of one capsule",
                "--timings",
            ),
        };
    }
    if args.wrap_key.is_some() {
        return usage("verifying takes no secret but to time it", "--wrap-key");
    }
    let limits = Limits::default();
    let mut source = match input::regular(&args.capsule)? {
        Some(file) => Source::File(file),
        None => Source::Stream(input::stream(&args.capsule)?),
    };
    let untrusted = match &mut source {
        Source::File(file) => Untrusted::read_at(file, &limits),
        Source::Stream(reader) => Untrusted::read(reader, &limits),
    };
    let untrusted = untrusted.map_err(|error| input::at(error, &args.capsule))?;
    let verifier = args.policy.verifier()?;
    let model = args.policy.model(common)?;
    let mut judge = args
        .policy
        .judge(&verifier, model.as_ref(), args.checkpoint.expected())?;
    let verdict = judge.verify(untrusted)?;
    args.policy.check_rotation(verdict.tip().manifest())?;
    let mut report = Report::new();
    verdict::describe(&verdict, &mut report);
    let verdict = verdict.with_source(None);
    let mut verdict = judge.with_ancestors(verdict, &args.chain.of(&args.capsule), Some)?;
    let chain = verdict.chain();
    let total: u64 = chain.members().map(|(member, _)| member.file_len()).sum();
    let mut checked = None;
    let body = match args.header_only {
        true => None,
        false => {
            let bar = progress::bar(common.shows_progress(), "verify", total);
            let (workers, told) = (args.threads.workers(), &mut |read| bar.inc(read));
            let (mut chunks, mut bytes) = (0, 0);
            for (member, ancestor) in chain.members() {
                let body = match (ancestor, &mut source) {
                    (Some(file), _) => member.check_body_at(file, workers, told),
                    (None, Source::File(file)) => member.check_body_at(file, workers, told),
                    (None, Source::Stream(reader)) => member.check_body(reader, workers, told),
                }?;
                chunks += body.chunks;
                bytes += body.bytes;
                checked = Some(body);
            }
            bar.finish();
            Some((chunks, bytes))
        }
    };
    if let Some(checked) = &checked {
        verdict.body_checked(checked);
    }
    let accepted = judge.conclude(verdict)?;
    verdict::describe_chain(accepted.chain(), &mut report);
    verdict::describe_unchecked(&judge, accepted.unchecked(), &mut report);
    match body {
        Some((chunks, total)) => report.row(
            "body",
            format_args!(
                "every byte checked: {} chunks, {}",
                grouped(chunks),
                bytes(total)
            ),
        ),
        None => report.row("body", "not read (--header-only)"),
    }
    report.row(
        "verdict",
        match body {
            Some(_) => "accepted",
            None => "header accepted",
        },
    );
    report.fact("body_checked", body.is_some());
    report.fact("chunks", body.map(|(chunks, _)| chunks));
    report.fact("file_bytes", total);
    Ok(report)
}
