//! Metrics of sessions and of resumes (session-v1 §12).

use std::{collections::BTreeMap, fmt::Write as _};

use kvcap::Result;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{ladder::Rung, record::Record, value};

/// Upper bounds of the histogram of recovery, in milliseconds.
const BUCKETS: [u64; 10] = [
    10, 30, 100, 300, 1000, 3000, 10_000, 30_000, 100_000, 300_000,
];
/// A checkpoint of fewer turns than these counts as covering.
const COVERING: u64 = 3;
/// Longest line of an observation, in bytes.
const MAX_LINE: usize = 4096;

/// One resume, as it was measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Observation {
    /// Time at which it was asked for, in seconds since 1970.
    pub at: u64,
    /// Rung that it came to.
    pub rung: Rung,
    /// Reason for which it is not exact.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<u64>,
    /// From the request to the first token.
    pub milliseconds: u64,
    /// Tokens of the request.
    pub asked: u64,
    /// Tokens that the runtime reused, by its own count.
    pub restored: u64,
    /// Tokens that it evaluated.
    pub evaluated: u64,
}

impl Observation {
    /// Reads an observation from one line of JSON.
    ///
    /// # Errors
    /// KVC-950, 951.
    pub fn from_json(line: &[u8]) -> Result<Self> {
        value::from_json(line, MAX_LINE)
    }

    /// Returns the observation as one line of JSON.
    ///
    /// # Errors
    /// KVC-950.
    pub fn to_json(&self) -> Result<String> {
        value::to_json(self)
    }
}

/// Distance of a session from its newest checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Coverage {
    /// Turns of the session.
    pub turns: u64,
    /// Turns of its newest checkpoint, if it has one, and when it was taken.
    pub checkpoint: Option<(u64, u64)>,
}

impl Coverage {
    /// Returns the coverage of a session that has come to `now`, by its newest record.
    #[must_use]
    pub fn of(now: &Record, newest: Option<&Record>) -> Self {
        Self {
            turns: now.turns,
            checkpoint: newest.map(|record| (record.turns, record.at)),
        }
    }

    fn covers(&self) -> bool {
        let behind = |(turns, _): (u64, u64)| self.turns.saturating_sub(turns) < COVERING;
        self.checkpoint.is_some_and(behind)
    }
}

/// Figures of observations and sessions.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metrics {
    observations: Vec<Observation>,
    sessions: Vec<Coverage>,
}

fn ratio(part: u64, whole: u64) -> Option<f64> {
    // exact below 2^53, which no count of ours reaches
    #[expect(clippy::cast_precision_loss, reason = "counts below 2^53")]
    (whole > 0).then(|| part as f64 / whole as f64)
}

impl Metrics {
    /// Returns the figures of these.
    #[must_use]
    pub fn of(observations: Vec<Observation>, sessions: Vec<Coverage>) -> Self {
        Self {
            observations,
            sessions,
        }
    }

    fn sum(&self, of: impl Fn(&Observation) -> u64) -> u64 {
        self.observations
            .iter()
            .map(of)
            .fold(0, u64::saturating_add)
    }

    fn count(&self, of: impl Fn(&Observation) -> bool) -> u64 {
        self.sum(|observation| u64::from(of(observation)))
    }

    /// Returns tokens evaluated for each token asked.
    #[must_use]
    pub fn replay_overhead(&self) -> Option<f64> {
        ratio(self.sum(|one| one.evaluated), self.sum(|one| one.asked))
    }

    /// Returns the share of resumes that came to `rung`.
    #[must_use]
    pub fn share(&self, rung: Rung) -> Option<f64> {
        ratio(self.count(|one| one.rung == rung), self.count(|_| true))
    }

    /// Returns the share of sessions whose newest checkpoint is fewer than three turns old.
    #[must_use]
    pub fn coverage(&self) -> Option<f64> {
        let begun = || self.sessions.iter().filter(|session| session.turns > 0);
        let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
        ratio(
            count(begun().filter(|session| session.covers()).count()),
            count(begun().count()),
        )
    }

    fn outcomes(&self) -> BTreeMap<(Rung, u64), u64> {
        let mut outcomes = BTreeMap::new();
        for one in &self.observations {
            let count: &mut u64 = outcomes
                .entry((one.rung, one.code.unwrap_or(0)))
                .or_default();
            *count = count.saturating_add(1);
        }
        outcomes
    }

    /// Returns the figures as JSON; a ratio of nothing is left out.
    #[must_use]
    pub fn to_json(&self, now: u64) -> Value {
        let mut all = json!({
            "resumes": self.observations.len(),
            "sessions": self.sessions.len(),
            "tokens_restored": self.sum(|one| one.restored),
            "tokens_evaluated": self.sum(|one| one.evaluated),
            "recovery_milliseconds": {},
            "degradation_ratio": {},
            "outcomes": self.outcomes().into_iter().map(|((rung, code), count)| {
                json!({ "rung": rung.name(), "code": code, "count": count })
            }).collect::<Vec<_>>(),
            "checkpoint_age_seconds": self.ages(now),
        });
        for rung in Rung::ALL {
            let mut times: Vec<u64> = self.times(rung).collect();
            times.sort_unstable();
            if let Some(median) = times.get(times.len() / 2) {
                all["recovery_milliseconds"][rung.name()] = json!({
                    "median": median, "most": times.last(), "count": times.len(),
                });
            }
            if let (true, Some(share)) = (rung != Rung::Exact, self.share(rung)) {
                all["degradation_ratio"][rung.name()] = share.into();
            }
        }
        if let Some(overhead) = self.replay_overhead() {
            all["replay_overhead_ratio"] = overhead.into();
        }
        if let Some(coverage) = self.coverage() {
            all["checkpoint_coverage_ratio"] = coverage.into();
        }
        all
    }

    fn times(&self, rung: Rung) -> impl Iterator<Item = u64> {
        let of = self.observations.iter().filter(move |one| one.rung == rung);
        of.map(|one| one.milliseconds)
    }

    fn ages(&self, now: u64) -> Vec<u64> {
        let taken = self
            .sessions
            .iter()
            .filter_map(|session| session.checkpoint);
        taken.map(|(_, at)| now.saturating_sub(at)).collect()
    }

    /// Returns the figures in Prometheus' text format.
    #[must_use]
    pub fn to_prometheus(&self, now: u64) -> String {
        let mut text = Text(String::new());
        text.head(
            "kvcap_recovery_seconds",
            "histogram",
            "From a resume to its first token.",
        );
        for rung in Rung::ALL {
            let name = rung.name();
            let times: Vec<u64> = self.times(rung).collect();
            if times.is_empty() {
                continue;
            }
            for bound in BUCKETS {
                let within = times.iter().filter(|time| **time <= bound).count();
                let label = format!("_bucket{{rung=\"{name}\",le=\"{}\"}}", Seconds(bound));
                text.line("kvcap_recovery_seconds", &label, within);
            }
            let sum = times.iter().copied().fold(0, u64::saturating_add);
            for (label, value) in [
                (
                    format!("_bucket{{rung=\"{name}\",le=\"+Inf\"}}"),
                    times.len().to_string(),
                ),
                (format!("_sum{{rung=\"{name}\"}}"), Seconds(sum).to_string()),
                (
                    format!("_count{{rung=\"{name}\"}}"),
                    times.len().to_string(),
                ),
            ] {
                text.line("kvcap_recovery_seconds", &label, value);
            }
        }
        text.head(
            "kvcap_tokens_restored_total",
            "counter",
            "Tokens that runtimes reused.",
        );
        text.line(
            "kvcap_tokens_restored_total",
            "",
            self.sum(|one| one.restored),
        );
        text.head(
            "kvcap_tokens_evaluated_total",
            "counter",
            "Tokens that runtimes evaluated.",
        );
        text.line(
            "kvcap_tokens_evaluated_total",
            "",
            self.sum(|one| one.evaluated),
        );
        text.head(
            "kvcap_open_outcome_total",
            "counter",
            "Resumes by rung and code.",
        );
        for ((rung, code), count) in self.outcomes() {
            let label = format!("{{rung=\"{}\",code=\"{code}\"}}", rung.name());
            text.line("kvcap_open_outcome_total", &label, count);
        }
        if let Some(overhead) = self.replay_overhead() {
            text.head(
                "kvcap_replay_overhead_ratio",
                "gauge",
                "Tokens evaluated for each one asked.",
            );
            text.line("kvcap_replay_overhead_ratio", "", overhead);
        }
        let shares = Rung::ALL
            .into_iter()
            .skip(1)
            .filter_map(|rung| Some((rung, self.share(rung)?)));
        text.head(
            "kvcap_degradation_ratio",
            "gauge",
            "Share of resumes at each rung below exact.",
        );
        for (rung, share) in shares {
            text.line(
                "kvcap_degradation_ratio",
                &format!("{{rung=\"{}\"}}", rung.name()),
                share,
            );
        }
        if let Some(age) = self.ages(now).into_iter().max() {
            text.head(
                "kvcap_checkpoint_age_seconds",
                "gauge",
                "Age of the oldest newest checkpoint.",
            );
            text.line("kvcap_checkpoint_age_seconds", "", age);
        }
        if let Some(coverage) = self.coverage() {
            text.head(
                "kvcap_checkpoint_coverage_ratio",
                "gauge",
                "Sessions with a checkpoint of fewer than 3 turns ago.",
            );
            text.line("kvcap_checkpoint_coverage_ratio", "", coverage);
        }
        text.0
    }
}

/// Milliseconds, shown in seconds.
struct Seconds(u64);

impl std::fmt::Display for Seconds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{:03}", self.0 / 1000, self.0 % 1000)
    }
}

/// Prometheus' text; writing to a string cannot fail.
struct Text(String);

impl Text {
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        let _ = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    fn line(&mut self, name: &str, label: &str, value: impl std::fmt::Display) {
        let _ = writeln!(self.0, "{name}{label} {value}");
    }
}
