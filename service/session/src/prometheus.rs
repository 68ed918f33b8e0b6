//! Metrics in Prometheus' text format (session-v1 §12).

use std::fmt::Write as _;

use crate::{
    ladder::Rung,
    metrics::{Metrics, SessionFigures},
};

/// Upper bounds of the histogram of recovery, in milliseconds.
const BUCKETS: [u64; 10] = [
    10, 30, 100, 300, 1000, 3000, 10_000, 30_000, 100_000, 300_000,
];

impl Metrics {
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
        if let Some(session) = self.only() {
            text.session(session);
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
    /// The figures of one session, under its name.
    fn session(&mut self, figures: &SessionFigures) {
        let label = format!("{{session=\"{}\"}}", escaped(&figures.names.session));
        let devices = figures
            .devices()
            .and_then(|count| u64::try_from(count).ok());
        for (name, help, value) in [
            (
                "kvcap_session_duration_seconds",
                "From the session's first event to its last.",
                Some(figures.seconds),
            ),
            (
                "kvcap_session_turns",
                "Turns of the session.",
                Some(figures.coverage.turns),
            ),
            (
                "kvcap_session_tokens",
                "Positions of the session's newest state.",
                Some(figures.positions),
            ),
            (
                "kvcap_session_capsule_bytes",
                "Bytes of the session's capsules.",
                Some(figures.capsule_bytes),
            ),
            (
                "kvcap_session_devices",
                "Devices by whose names the session was resumed.",
                devices,
            ),
        ] {
            if let Some(value) = value {
                self.head(name, "gauge", help);
                self.line(name, &label, value);
            }
        }
    }

    fn head(&mut self, name: &str, kind: &str, help: &str) {
        let _ = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    fn line(&mut self, name: &str, label: &str, value: impl std::fmt::Display) {
        let _ = writeln!(self.0, "{name}{label} {value}");
    }
}

/// A value of a label.
fn escaped(text: &str) -> String {
    let text = text.replace('\\', "\\\\").replace('"', "\\\"");
    text.replace('\n', "\\n")
}
