//! `kvcap bench`: the choice of a suite for this machine.

use clap::Subcommand;
use kvcap::{Code, Error, Result, Suite, Workers};
use kvcap_states::Encoding;
use serde_json::json;

use super::calibrate::{Calibration, LEAST};
use crate::ui::{Report, table};

/// Measures this machine: which suite to seal with
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    Suites(SuitesArgs),
}

/// Times both suites on this machine, and recommends one
///
/// Seals and opens an exact state in memory on one core. Both suites are as safe; which one a capsule
/// has is chosen by who seals it (`kvcap seal --suite`) and never negotiated.
#[derive(Debug, clap::Args)]
struct SuitesArgs {
    /// Bytes of the made state
    #[arg(long, value_name = "N", default_value_t = 32 << 20, value_parser = clap::value_parser!(u64).range(LEAST..=1 << 34))]
    bytes: u64,
    /// Rounds; more are less noisy
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
}

/// # Errors
/// KVC-940 where the system gives no randomness.
pub(crate) fn run(args: &Args) -> Result<Report> {
    let What::Suites(args) = &args.what;
    let mut calibration = Calibration::new(args.bytes)?;
    let mut measured = Vec::new();
    for suite in Suite::ALL {
        let rate = calibration.rate(suite, Encoding::EXACT, Workers::ONE, args.rounds)?;
        measured.push((suite, rate));
    }
    // the fastest first
    measured.sort_by(|(_, one), (_, other)| {
        (one.seal + one.open).total_cmp(&(other.seal + other.open))
    });
    let (Some((suite, best)), Some((_, worst))) = (measured.first(), measured.last()) else {
        return Err(Error::new(Code::LocalUsage, "there are no suites"));
    };
    let speed = |seconds: f64| 1e-9 / seconds;
    let rows = measured.iter().map(|(suite, rate)| {
        let [seal, open] = [rate.seal, rate.open].map(|time| format!("{:.2}", speed(time)));
        vec![suite.name().to_owned(), seal, open]
    });
    let head = [("suite", '<'), ("seal GB/s", '>'), ("open GB/s", '>')];
    let mut report = Report::new();
    for line in table::lines(&head, &rows.collect::<Vec<_>>()) {
        report.line(line);
    }
    report.line("");
    report.row("provider", Suite::provider());
    let times = (worst.seal + worst.open) / (best.seal + best.open);
    report.row(
        "recommended",
        format_args!("--suite {}, {times:.1} × as fast", suite.name()),
    );
    let facts = measured.iter().map(|(suite, rate)| {
        json!({
            "suite": suite.name(),
            "seal_bytes_per_second": 1.0 / rate.seal,
            "open_bytes_per_second": 1.0 / rate.open,
        })
    });
    report.fact("provider", Suite::provider());
    report.fact("suites", facts.collect::<Vec<_>>());
    report.fact("recommended", suite.name());
    Ok(report)
}
