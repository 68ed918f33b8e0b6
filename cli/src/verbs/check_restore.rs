//! `kvcap check-restore`: whether a restore had any effect.

use std::{collections::BTreeSet, path::PathBuf};

use kvcap::{Limits, Result, Untrusted};
use kvcap_states::RestoreCheck;
use kvcap_store::{Unchecked, input};

use crate::{
    flags::{CheckpointArgs, Common, PolicyArgs},
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
    #[command(flatten)]
    checkpoint: CheckpointArgs,
    /// Tokens of the prompt
    #[arg(long, value_name = "TOKENS")]
    prompt: u64,
    /// Tokens that the prompt and the capsule's have in common from the first on [default: all that the
    /// capsule holds]
    #[arg(long, value_name = "TOKENS")]
    common: Option<u64>,
    /// Tokens that the runtime evaluated before the first new one
    #[arg(long, value_name = "TOKENS")]
    evaluated: u64,
}

/// # Errors
/// What capsule-v1 §3.2 refuses; 926 where nothing was gained.
pub(crate) fn run(args: &Args, common: &Common) -> Result<Report> {
    let mut reader = input::stream(&args.capsule)?;
    let untrusted = Untrusted::read(&mut reader, &Limits::default())
        .map_err(|error| input::at(error, &args.capsule))?;
    let verifier = args.policy.verifier()?;
    let model = args.policy.model(common)?;
    let judge = args
        .policy
        .judge(&verifier, model.as_ref(), args.checkpoint.expected())?;
    let verdict = judge.verify(untrusted)?;
    let mut report = Report::new();
    verdict::describe(&verdict, &mut report);
    // of an increment, the claim is the tip's: its ancestors are not read, and that is said
    let ancestors = judge.unaccepted(&BTreeSet::from([Unchecked::Ancestors]));
    let mut judge = judge.danger_without(&[Unchecked::Ancestors]);
    let accepted = judge.conclude(verdict)?;
    verdict::describe_unchecked(&judge, accepted.unchecked(), &mut report);
    let left = ancestors.intersection(accepted.unchecked());
    report.unchecked(left.map(|check| check.name()));
    let receipt = RestoreCheck::of(
        accepted.chain().tip().manifest(),
        args.prompt,
        args.common,
        args.evaluated,
    );
    receipt.check()?;
    report.row(
        "in common",
        format_args!("{} tokens", grouped(receipt.common)),
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
    report.fact(
        "claimed",
        accepted.chain().tip().manifest().context.positions.end,
    );
    report.fact("common", receipt.common);
    report.fact("prompt", receipt.prompt);
    report.fact("evaluated", receipt.evaluated);
    report.fact("reused", receipt.reused());
    Ok(report)
}
