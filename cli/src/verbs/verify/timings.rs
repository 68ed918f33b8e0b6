//! `kvcap verify --timings`: verification split into its timed steps.

use std::time::{Duration, Instant};

use kvcap::{Limits, Result, Step, Untrusted};
use serde_json::json;

use super::Args;
use kvcap_store::{input, key_file};

use crate::{
    flags::Common,
    ui::{Report, bytes, grouped, passphrases, progress, table, verdict},
};

/// A step and what it took.
type Timed = (&'static str, Duration);

/// Measures from one step to the next.
struct Watch {
    last: Instant,
    steps: Vec<Timed>,
}

impl Watch {
    fn start() -> Self {
        Self {
            last: Instant::now(),
            steps: Vec::new(),
        }
    }

    fn passed(&mut self, name: &'static str) {
        let now = Instant::now();
        self.steps.push((name, now - self.last));
        self.last = now;
    }

    /// Leaves out what was done since the last step.
    fn skip(&mut self) -> Duration {
        let now = Instant::now();
        let skipped = now - self.last;
        self.last = now;
        skipped
    }
}

/// Parse, signature, manifest, claims, binding, tables, body; and with a key the unwrapping of the content key.
/// The model is read and hashed before, and stands by itself.
///
/// # Errors
/// What capsule-v1 §3.2 refuses, and §3.3 of the key.
pub(super) fn run(args: &Args, common: &Common) -> Result<Report> {
    let key = args
        .wrap_key
        .as_deref()
        .map(|path| key_file::wrapping_key(path, &passphrases()))
        .transpose()?;
    let file = input::file(&args.capsule)?;
    let mut watch = Watch::start();
    let untrusted = Untrusted::read_at(&file, &Limits::default())
        .map_err(|error| input::at(error, &args.capsule))?;
    watch.passed("parse");
    let verifier = args.policy.verifier()?;
    let model = args.policy.model(common)?;
    let mut judge = args
        .policy
        .judge(&verifier, model.as_ref(), args.checkpoint.expected())?;
    let profile = watch.skip();
    let mut told = |step: Step| watch.passed(step.name());
    let mut verdict = judge.verify_in_steps(untrusted, &mut told)?;
    let header: Duration = watch.steps.iter().map(|step| step.1).sum();
    let mut report = Report::new();
    verdict::describe(&verdict, &mut report);
    let length = verdict.tip().file_len();
    let mut checked = None;
    if !args.header_only {
        let bar = progress::bar(common.shows_progress(), "verify", length);
        watch.skip();
        let body = verdict.tip().check_body_in_steps(
            &file,
            args.threads.workers(),
            &mut |read| bar.inc(read),
            &mut |step| watch.passed(step.name()),
        )?;
        bar.finish();
        verdict.body_checked(&body);
        checked = Some(body);
    }
    let accepted = judge.conclude(verdict)?;
    verdict::describe_unchecked(&judge, accepted.unchecked(), &mut report);
    if let Some(key) = &key {
        watch.skip();
        // nothing is read: the content key alone is timed
        let _ = accepted.into_tip().open(file, key)?;
        watch.passed("unwrap");
    }
    tell(&mut report, &watch.steps, profile, header);
    let said = match checked {
        Some(body) => format!(
            "accepted: every byte checked, {} chunks, {}",
            grouped(body.chunks),
            bytes(length)
        ),
        None => format!("header accepted; {} in all", bytes(length)),
    };
    report.row("verdict", said);
    report.fact("body_checked", checked.is_some());
    report.fact("unwrapped", key.is_some());
    report.fact("file_bytes", length);
    Ok(report)
}

fn tell(report: &mut Report, steps: &[Timed], profile: Duration, header: Duration) {
    let milliseconds = |time: Duration| format!("{:.3} ms", time.as_secs_f64() * 1e3);
    let total: Duration = steps.iter().map(|step| step.1).sum();
    let rows: Vec<Vec<String>> = steps
        .iter()
        .map(|(name, time)| vec![(*name).to_owned(), milliseconds(*time)])
        .collect();
    report.line("");
    for line in table::lines(&[("step", '<'), ("time", '>')], &rows) {
        report.line(line);
    }
    report.line("");
    report.row("header", milliseconds(header));
    report.row("in all", milliseconds(total));
    report.row(
        "profile",
        format_args!("{}, not in it", milliseconds(profile)),
    );
    let steps: Vec<_> = steps
        .iter()
        .map(|(name, time)| json!({"step": name, "seconds": time.as_secs_f64()}))
        .collect();
    report.fact("steps", steps);
    report.fact("header_seconds", header.as_secs_f64());
    report.fact("seconds", total.as_secs_f64());
    report.fact("profile_seconds", profile.as_secs_f64());
}
