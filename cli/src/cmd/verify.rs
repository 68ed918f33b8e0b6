//! `kvcap verify`: every byte, without a secret.

use std::{fs::File, io::Read, path::PathBuf};

use kvcap::{BodyChecked, Chain, Code, Error, Limits, Result, Untrusted};

use crate::{
    args::{Common, Threads},
    chain::{self, ChainArgs},
    input,
    policy::PolicyArgs,
    progress,
    report::{Report, bytes, grouped},
};

/// Verifies a capsule with public keys alone
///
/// Checks the signature, times, audience and scope, the model if --model is given, and then every
/// byte of the body. Needs no secret and little memory; reads a pipe as well as a file. Nothing is
/// decrypted. Of an increment, the capsules that it continues are verified as well, as far as they are
/// at hand.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The capsule; - for stdin
    capsule: PathBuf,
    #[command(flatten)]
    policy: PolicyArgs,
    /// Verify the header only: is it worth sending the body?
    #[arg(long)]
    header_only: bool,
    #[command(flatten)]
    chain: ChainArgs,
    #[command(flatten)]
    threads: Threads,
}

/// A file is read by all threads, a stream by one at a time.
enum Source {
    File(File),
    Stream(Box<dyn Read + Send>),
}

/// # Errors
/// What capsule-v1 §11.2 refuses.
pub(crate) fn run(args: &Args, common: &Common) -> Result<Report> {
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
    let judge = args.policy.judge(common)?;
    let judged = judge.verify(untrusted)?;
    let mut report = Report::new();
    judged.describe(&mut report);
    let chain = Chain::new(judged.verified, None);
    let chain = args
        .chain
        .complete(&args.capsule, chain, &judge.policy(), Some)?;
    if args.chain.given()
        && let Some(parent) = chain.wanted()
    {
        let what = "the chain lacks the parent of its oldest capsule";
        return Err(Error::new(Code::LineageParentAbsent, what).at(parent.digest));
    }
    let total: u64 = chain.members().map(|(member, _)| member.file_len()).sum();
    let body = match args.header_only {
        true => None,
        false => {
            let bar = progress::bar(common, "verify", total);
            let (workers, told) = (args.threads.workers(), &mut |read| bar.inc(read));
            let mut sum = BodyChecked {
                chunks: 0,
                bytes: 0,
            };
            for (member, ancestor) in chain.members() {
                let body = match (ancestor, &mut source) {
                    (Some(file), _) => member.check_body_at(file, workers, told),
                    (None, Source::File(file)) => member.check_body_at(file, workers, told),
                    (None, Source::Stream(reader)) => member.check_body(reader, workers, told),
                }?;
                sum.chunks += body.chunks;
                sum.bytes += body.bytes;
            }
            bar.finish_and_clear();
            Some(sum)
        }
    };
    chain::describe(&chain, &mut report);
    match body {
        Some(body) => report.row(
            "body",
            format_args!(
                "every byte checked: {} chunks, {}",
                grouped(body.chunks),
                bytes(body.bytes)
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
    report.fact("chunks", body.map(|body| body.chunks));
    report.fact("file_bytes", total);
    Ok(report)
}
