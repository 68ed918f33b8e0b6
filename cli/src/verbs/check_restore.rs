//! `kvcap check-restore`: whether a restore had any effect.

use std::path::PathBuf;

use kvcap::{Limits, Result, Untrusted};
use kvcap_states::RestoreCheck;
use kvcap_store::input;

use crate::{
    flags::{Common, PolicyArgs},
    ui::{Report, grouped, verdict},
};

/// Compares what a runtime did after a restore with what the capsule claims
///
/// A runtime may report that a state is loaded and then evaluate the whole prompt again. Give the
/// length of the prompt that was run, restored tokens included, and how many tokens the runtime
/// evaluated before it gave the first new one: a restore that saved nothing is refused (KVC-926).
/// The claim is read from the signed header; no secret is needed.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The capsule that was restored; - for stdin
    capsule: PathBuf,
    #[command(flatten)]
    policy: PolicyArgs,
    /// Tokens of the prompt
    #[arg(long, value_name = "TOKENS")]
    prompt: u64,
    /// Tokens that the runtime evaluated before the first new one
    #[arg(long, value_name = "TOKENS")]
    evaluated: u64,
}

/// # Errors
/// What capsule-v1 §11.2 refuses; 926 where nothing was gained.
pub(crate) fn run(args: &Args, common: &Common) -> Result<Report> {
    let mut reader = input::stream(&args.capsule)?;
    let untrusted = Untrusted::read(&mut reader, &Limits::default())
        .map_err(|error| input::at(error, &args.capsule))?;
    let verifier = args.policy.verifier()?;
    let judge = verifier.judge()?;
    let model = args.policy.model(common)?;
    let judge = judge.expecting(args.policy.expected(model.as_ref()));
    let verdict = judge.verify(untrusted)?;
    let receipt = RestoreCheck::of(verdict.tip().manifest(), args.prompt, args.evaluated);
    receipt.check()?;
    let mut report = Report::new();
    verdict::describe(&verdict, &mut report);
    report.row(
        "claimed",
        format_args!("{} tokens", grouped(receipt.claimed)),
    );
    report.row(
        "reused",
        format_args!(
            "{} of {} tokens",
            grouped(receipt.reused()),
            grouped(receipt.prompt)
        ),
    );
    report.row("verdict", "the restore was effective");
    report.fact("claimed", receipt.claimed);
    report.fact("prompt", receipt.prompt);
    report.fact("evaluated", receipt.evaluated);
    report.fact("reused", receipt.reused());
    Ok(report)
}
