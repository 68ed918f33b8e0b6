//! `kvcap-bench suites`: which suite is faster here.

use kvcap::{ChunkSteps, Code, Error, Result, Suite};
use serde_json::json;

use super::{Least, in_a_row, least_of_each, memcpy, number, speed, timed};
use crate::report::Report;

/// Times the ciphers of both suites on this machine, and recommends one
///
/// One core, chunks of 256 KiB as capsules have them, in cache. Both suites are as safe; which one a
/// capsule has is chosen by who seals it (`kvcap seal --suite`) and never negotiated.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Rounds; more are less noisy
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rounds: u32,
}

const CHUNK: usize = 256 << 10;

/// Seconds a byte of the steps of one suite.
pub(super) struct Cipher {
    pub(super) seal: f64,
    pub(super) open: f64,
}

least_of_each!(Cipher: seal, open);

/// # Errors
/// KVC-940 where the system gives no randomness.
pub(crate) fn run(args: &Args) -> Result<Report> {
    let mut chunk = vec![0x5A; CHUNK];
    let copy = memcpy(&chunk, &mut Vec::new(), args.rounds);
    let bytes = number(CHUNK);
    let rounds = u64::from(args.rounds);
    let leaf = in_a_row(rounds, || {
        let (_, time) = timed(|| Ok(ChunkSteps::digest(&chunk)))?;
        Ok(time.as_secs_f64() / bytes)
    })?;
    let mut report = Report::new();
    report.row("provider", Suite::provider());
    report.row(
        "memcpy",
        format!("{:.2} GB/s, in cache", speed(bytes, copy)),
    );
    report.row("leaf hash", format!("{:.2} GB/s", speed(1.0, leaf)));
    report.line("");
    let (mut rows, mut facts) = (Vec::new(), Vec::new());
    let mut fastest: Option<(Suite, f64)> = None;
    let mut slowest = 0_f64;
    for suite in Suite::ALL {
        let cipher = in_a_row(rounds, || cipher(suite, &mut chunk, 1))?;
        let both = cipher.seal + cipher.open;
        slowest = slowest.max(both);
        if fastest.is_none_or(|(_, time)| both < time) {
            fastest = Some((suite, both));
        }
        let [seal, open] = [cipher.seal, cipher.open].map(|time| speed(1.0, time));
        // a chunk that is opened is hashed too
        let hashed = speed(1.0, cipher.open + leaf);
        rows.push(vec![
            suite.name().to_owned(),
            format!("{seal:.2}"),
            format!("{open:.2}"),
            format!("{hashed:.2}"),
        ]);
        facts.push(json!({
            "suite": suite.name(),
            "seal_gb_s": seal,
            "open_gb_s": open,
            "hash_and_open_gb_s": hashed,
        }));
    }
    let head = [
        ("suite", '<'),
        ("seal GB/s", '>'),
        ("open GB/s", '>'),
        ("hash and open GB/s", '>'),
    ];
    report.table(&head, &rows);
    let (suite, time) =
        fastest.ok_or_else(|| Error::new(Code::LocalUsage, "there are no suites"))?;
    report.line("");
    report.row(
        "recommended",
        format!("--suite {}, {:.1} × as fast", suite.name(), slowest / time),
    );
    report.fact("provider", Suite::provider());
    report.fact("memcpy_gb_s", speed(bytes, copy));
    report.fact("leaf_gb_s", speed(1.0, leaf));
    report.fact("suites", facts);
    report.fact("recommended", suite.name());
    Ok(report)
}

/// Seconds a byte of sealing a chunk and of opening it, `times` each; leaves ciphertext in `chunk`.
///
/// # Errors
/// As [`ChunkSteps`].
pub(super) fn cipher(suite: Suite, chunk: &mut [u8], times: usize) -> Result<Cipher> {
    let steps = ChunkSteps::new(suite)?;
    let mut plain = chunk.to_vec();
    let (tag, sealed) = timed(|| (0..times).try_fold([0; 16], |_, _| steps.seal(0, chunk)))?;
    let ((), opened) =
        timed(|| (0..times).try_for_each(|_| steps.open(0, chunk, &tag, &mut plain)))?;
    let [seal, open] = [sealed, opened].map(|all| all.as_secs_f64() / number(times * chunk.len()));
    Ok(Cipher { seal, open })
}
