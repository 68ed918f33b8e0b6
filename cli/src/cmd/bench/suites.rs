//! `kvcap bench suites`: which suite is faster here.

use std::time::Duration;

use kvcap::{ChunkSteps, Code, Error, Result, Suite};
use serde_json::json;

use super::{memcpy, number, speed, timed};
use crate::{report::Report, table};

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

/// Seconds of the steps of one suite on a chunk.
pub(super) struct Cipher {
    pub(super) seal: f64,
    pub(super) open: f64,
}

/// # Errors
/// KVC-940 where the system gives no randomness.
pub(crate) fn run(args: &Args) -> Result<Report> {
    let mut chunk = vec![0x5A; CHUNK];
    let copy = memcpy(&chunk, &mut Vec::new(), args.rounds);
    let leaf = leaf(&chunk, args.rounds);
    let bytes = number(CHUNK);
    let mut report = Report::new();
    report.row("provider", Suite::provider());
    report.row(
        "memcpy",
        format!("{:.2} GB/s, in cache", speed(bytes, copy)),
    );
    report.row("leaf hash", format!("{:.2} GB/s", speed(bytes, leaf)));
    report.line("");
    let (mut rows, mut facts) = (Vec::new(), Vec::new());
    let mut fastest: Option<(Suite, f64)> = None;
    let mut slowest = 0_f64;
    for suite in Suite::ALL {
        let cipher = cipher(suite, &mut chunk, args.rounds)?;
        let both = cipher.seal + cipher.open;
        slowest = slowest.max(both);
        if fastest.is_none_or(|(_, time)| both < time) {
            fastest = Some((suite, both));
        }
        let [seal, open] = [cipher.seal, cipher.open].map(|time| speed(bytes, time));
        // a chunk that is opened is hashed too
        let hashed = speed(bytes, cipher.open + leaf);
        rows.push(vec![
            name(suite).to_owned(),
            format!("{seal:.2}"),
            format!("{open:.2}"),
            format!("{hashed:.2}"),
        ]);
        facts.push(json!({
            "suite": name(suite),
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
    for line in table::lines(&head, &rows) {
        report.line(line);
    }
    let (suite, time) =
        fastest.ok_or_else(|| Error::new(Code::LocalUsage, "there are no suites"))?;
    report.line("");
    report.row(
        "recommended",
        format!("--suite {}, {:.1} × as fast", name(suite), slowest / time),
    );
    report.fact("provider", Suite::provider());
    report.fact("memcpy_gb_s", speed(bytes, copy));
    report.fact("leaf_gb_s", speed(bytes, leaf));
    report.fact("suites", facts);
    report.fact("recommended", name(suite));
    Ok(report)
}

/// A suite as `--suite` has it.
pub(super) fn name(suite: Suite) -> &'static str {
    match suite {
        Suite::ChaCha20Poly1305 => "chacha20-poly1305",
        Suite::Aes256Gcm => "aes-256-gcm",
    }
}

/// Seconds that hashing a chunk takes at least.
pub(super) fn leaf(chunk: &[u8], rounds: u32) -> f64 {
    let times = (0..rounds).filter_map(|_| timed(|| Ok(ChunkSteps::leaf(chunk))).ok());
    times
        .map(|(_, time)| time)
        .min()
        .unwrap_or_default()
        .as_secs_f64()
}

/// Least times of a suite's cipher; `chunk` is as before.
///
/// # Errors
/// As [`ChunkSteps`].
pub(super) fn cipher(suite: Suite, chunk: &mut [u8], rounds: u32) -> Result<Cipher> {
    let steps = ChunkSteps::new(suite)?;
    let mut least = [Duration::MAX; 2];
    let mut plain = chunk.to_vec();
    for index in 0..u64::from(rounds) {
        let (tag, sealed) = timed(|| steps.seal(index, chunk))?;
        let ((), opened) = timed(|| steps.open(index, chunk, &tag, &mut plain))?;
        chunk.copy_from_slice(&plain);
        least = [least[0].min(sealed), least[1].min(opened)];
    }
    let [seal, open] = least.map(|time| time.as_secs_f64());
    Ok(Cipher { seal, open })
}
