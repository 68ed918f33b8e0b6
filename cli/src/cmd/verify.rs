//! `kvcap verify`: every byte, without a secret.

use std::{fs::File, io::Read, path::PathBuf};

use kvcap::{Limits, Result, Untrusted};

use crate::{
    args::{Common, Threads},
    input,
    policy::PolicyArgs,
    progress,
    report::{Report, bytes, grouped},
};

/// Verifies a capsule with public keys alone
///
/// Checks the signature, times, audience and scope, the model if --model is given, and then every
/// byte of the body. Needs no secret and little memory; reads a pipe as well as a file. Nothing is
/// decrypted.
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
    let judged = args.policy.verify(untrusted, common)?;
    let verified = &judged.verified;
    let mut report = Report::new();
    let body = match args.header_only {
        true => None,
        false => {
            let bar = progress::bar(common, "verify", verified.file_len());
            let (workers, told) = (args.threads.workers(), &mut |read| bar.inc(read));
            let body = match &mut source {
                Source::File(file) => verified.check_body_at(file, workers, told),
                Source::Stream(reader) => verified.check_body(reader, workers, told),
            };
            bar.finish_and_clear();
            Some(body?)
        }
    };
    judged.describe(&mut report);
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
    report.fact("file_bytes", verified.file_len());
    Ok(report)
}
