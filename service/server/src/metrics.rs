//! Figures for Prometheus (http-v1 §10). No name of a tenant, subject or key is among them.

use std::{
    collections::BTreeMap,
    fmt::Write,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use kvcap_store::EdgeOutcomes;

/// Upper bounds of the histogram's buckets, in seconds.
const BOUNDS: [f64; 8] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.25, 1.0];

/// Counts since the relay began.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    /// By the code's number, 0 for acceptance.
    verdicts: Mutex<BTreeMap<u16, Histogram>>,
    /// Answers by their status.
    answers: Mutex<BTreeMap<u16, u64>>,
    received: AtomicU64,
    sent: AtomicU64,
    #[cfg(feature = "gateway")]
    resumes: resumes::Resumes,
}

#[derive(Clone, Debug, Default)]
struct Histogram {
    buckets: [u64; BOUNDS.len()],
    count: u64,
    sum: f64,
}

impl Histogram {
    fn add(&mut self, took: Duration) {
        let seconds = took.as_secs_f64();
        for (bucket, bound) in self.buckets.iter_mut().zip(BOUNDS) {
            *bucket += u64::from(seconds <= bound);
        }
        self.count += 1;
        self.sum += seconds;
    }

    /// Renders its lines, for labels without braces.
    fn render(&self, name: &str, labels: &str, text: &mut String) {
        for (count, bound) in self.buckets.iter().zip(BOUNDS) {
            let name = format!("{name}_bucket{{{labels},le=\"{bound}\"}}");
            line(text, &name, count);
        }
        let infinite = format!("{name}_bucket{{{labels},le=\"+Inf\"}}");
        line(text, &infinite, self.count);
        line(text, &format!("{name}_sum{{{labels}}}"), self.sum);
        line(text, &format!("{name}_count{{{labels}}}"), self.count);
    }
}

/// What is measured when it is asked for.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Gauges {
    pub(crate) capsules: u64,
    pub(crate) bytes: u64,
    pub(crate) uploads: usize,
    /// Seconds since the oldest registry was issued; none where no registry is trusted.
    pub(crate) revocation_age: Option<u64>,
    /// How often an edge was asked; none where there is no edge.
    pub(crate) edge: Option<EdgeOutcomes>,
}

impl Metrics {
    /// Counts a verdict on a header.
    pub(crate) fn verdict(&self, code: u16, took: Duration) {
        let mut verdicts = self.verdicts.lock().unwrap_or_else(PoisonError::into_inner);
        verdicts.entry(code).or_default().add(took);
    }

    /// Counts an answer.
    pub(crate) fn answered(&self, status: u16) {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        *answers.entry(status).or_default() += 1;
    }

    pub(crate) fn received(&self, bytes: usize) {
        add(&self.received, bytes);
    }

    pub(crate) fn sent(&self, bytes: usize) {
        add(&self.sent, bytes);
    }

    /// Renders all of it.
    pub(crate) fn render(&self, gauges: Gauges) -> String {
        let mut text = String::new();
        let verdicts = self.verdicts.lock().unwrap_or_else(PoisonError::into_inner);
        let verdicts = verdicts.clone();
        head(
            &mut text,
            "kvcap_verify_seconds",
            "histogram",
            "Time from a header to its verdict.",
        );
        for (code, histogram) in &verdicts {
            let outcome = match code {
                0 => "accepted",
                _ => "refused",
            };
            let labels = format!("outcome=\"{outcome}\",code=\"{code}\"");
            histogram.render("kvcap_verify_seconds", &labels, &mut text);
        }
        head(
            &mut text,
            "kvcap_bytes_total",
            "counter",
            "Bytes of bodies.",
        );
        for (direction, count) in [("in", &self.received), ("out", &self.sent)] {
            let name = format!("kvcap_bytes_total{{direction=\"{direction}\"}}");
            line(&mut text, &name, count.load(Ordering::Relaxed));
        }
        let what = "Answers by their status.";
        head(&mut text, "kvcap_answers_total", "counter", what);
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        for (status, count) in answers.iter() {
            let name = format!("kvcap_answers_total{{status=\"{status}\"}}");
            line(&mut text, &name, count);
        }
        drop(answers);
        if let Some(age) = gauges.revocation_age {
            let what = "Age of the oldest registry that is trusted.";
            head(&mut text, "kvcap_revocation_age_seconds", "gauge", what);
            line(&mut text, "kvcap_revocation_age_seconds", age);
        }
        head(
            &mut text,
            "kvcap_capsules",
            "gauge",
            "Capsules that are kept.",
        );
        line(&mut text, "kvcap_capsules", gauges.capsules);
        head(
            &mut text,
            "kvcap_capsule_bytes",
            "gauge",
            "Bytes that are kept.",
        );
        line(&mut text, "kvcap_capsule_bytes", gauges.bytes);
        head(&mut text, "kvcap_uploads", "gauge", "Uploads at once.");
        line(&mut text, "kvcap_uploads", gauges.uploads);
        if let Some(edge) = gauges.edge {
            let what = "Pieces and counts that an edge was asked for.";
            head(&mut text, "kvcap_edge_total", "counter", what);
            for (outcome, count) in [
                ("hit", edge.hits),
                ("miss", edge.misses),
                ("wrong", edge.wrong),
                ("failed", edge.failed),
                ("passed", edge.passed),
            ] {
                let name = format!("kvcap_edge_total{{outcome=\"{outcome}\"}}");
                line(&mut text, &name, count);
            }
        }
        #[cfg(feature = "gateway")]
        self.resumes.render(&mut text);
        text
    }
}

#[cfg(feature = "gateway")]
pub(crate) use resumes::Gauge;

/// Figures of a gateway.
#[cfg(feature = "gateway")]
mod resumes {
    use std::sync::OnceLock;

    use super::{
        AtomicU64, BTreeMap, Duration, Histogram, Metrics, Mutex, Ordering, PoisonError, head, line,
    };

    #[derive(Debug, Default)]
    pub(super) struct Resumes {
        /// By rung, and the code's number, 0 for none.
        outcomes: Mutex<BTreeMap<(&'static str, u16), Histogram>>,
        restored: AtomicU64,
        evaluated: AtomicU64,
        saved: AtomicU64,
        unsaved: AtomicU64,
        unrecorded: AtomicU64,
        /// Probes of restores by their outcome.
        probes: Mutex<BTreeMap<&'static str, u64>>,
        sessions: OnceLock<Sessions>,
    }

    /// Gauges of sessions: name, what it says, value.
    pub(crate) type Gauge = (&'static str, &'static str, f64);

    /// What tells the gauges of sessions when it is asked.
    struct Sessions(Box<dyn Fn() -> Vec<Gauge> + Send + Sync>);

    impl std::fmt::Debug for Sessions {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("Sessions")
        }
    }

    impl Metrics {
        /// Takes gauges of sessions from where they are known, from now on.
        pub(crate) fn tell_sessions(&self, told: impl Fn() -> Vec<Gauge> + Send + Sync + 'static) {
            let _already = self.resumes.sessions.set(Sessions(Box::new(told)));
        }

        /// Counts a probe of a restore.
        pub(crate) fn probed(&self, outcome: &'static str) {
            let probes = self.resumes.probes.lock();
            let mut probes = probes.unwrap_or_else(PoisonError::into_inner);
            *probes.entry(outcome).or_default() += 1;
        }

        /// Counts a turn that could not be recorded.
        pub(crate) fn unrecorded(&self) {
            self.resumes.unrecorded.fetch_add(1, Ordering::Relaxed);
        }

        /// Counts a request by the rung that its session was resumed at, and the time to its first token.
        pub(crate) fn resumed(&self, rung: &'static str, code: u16, took: Duration) {
            let outcomes = self.resumes.outcomes.lock();
            let mut outcomes = outcomes.unwrap_or_else(PoisonError::into_inner);
            outcomes.entry((rung, code)).or_default().add(took);
        }

        /// Counts tokens of requests, by the engine's own count.
        pub(crate) fn evaluated(&self, restored: u64, evaluated: u64) {
            self.resumes.restored.fetch_add(restored, Ordering::Relaxed);
            self.resumes
                .evaluated
                .fetch_add(evaluated, Ordering::Relaxed);
        }

        /// Counts a checkpoint, or one that failed.
        pub(crate) fn saved(&self, done: bool) {
            let count = match done {
                true => &self.resumes.saved,
                false => &self.resumes.unsaved,
            };
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    impl Resumes {
        pub(super) fn render(&self, text: &mut String) {
            let outcomes = self.outcomes.lock().unwrap_or_else(PoisonError::into_inner);
            let outcomes = outcomes.clone();
            let name = "kvcap_recovery_seconds";
            head(
                text,
                name,
                "histogram",
                "Time from a request to its first token.",
            );
            let mut rungs: BTreeMap<&str, Histogram> = BTreeMap::new();
            for ((rung, _), one) in &outcomes {
                let all = rungs.entry(rung).or_default();
                for (sum, count) in all.buckets.iter_mut().zip(one.buckets) {
                    *sum += count;
                }
                all.count += one.count;
                all.sum += one.sum;
            }
            for (rung, histogram) in &rungs {
                histogram.render(name, &format!("rung=\"{rung}\""), text);
            }
            let name = "kvcap_open_outcome_total";
            head(text, name, "counter", "Requests by rung and code.");
            for ((rung, code), histogram) in &outcomes {
                let name = format!("{name}{{rung=\"{rung}\",code=\"{code}\"}}");
                line(text, &name, histogram.count);
            }
            let counters = [
                (
                    "kvcap_tokens_restored_total",
                    "Tokens of requests that were not evaluated.",
                    &self.restored,
                ),
                (
                    "kvcap_tokens_evaluated_total",
                    "Tokens of requests that were evaluated.",
                    &self.evaluated,
                ),
                (
                    "kvcap_checkpoints_total",
                    "Checkpoints that were saved.",
                    &self.saved,
                ),
                (
                    "kvcap_checkpoints_failed_total",
                    "Checkpoints that could not be saved.",
                    &self.unsaved,
                ),
                (
                    "kvcap_turns_failed_total",
                    "Turns that could not be recorded.",
                    &self.unrecorded,
                ),
            ];
            for (name, what, count) in counters {
                head(text, name, "counter", what);
                line(text, name, count.load(Ordering::Relaxed));
            }
            let name = "kvcap_probes_total";
            head(text, name, "counter", "Probes of restores by outcome.");
            let probes = self.probes.lock().unwrap_or_else(PoisonError::into_inner);
            for (outcome, count) in probes.iter() {
                line(text, &format!("{name}{{outcome=\"{outcome}\"}}"), count);
            }
            drop(probes);
            let told = self.sessions.get().map(|sessions| (sessions.0)());
            for (name, what, value) in told.into_iter().flatten() {
                head(text, name, "gauge", what);
                line(text, name, value);
            }
        }
    }
}

fn add(count: &AtomicU64, bytes: usize) {
    let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
    count.fetch_add(bytes, Ordering::Relaxed);
}

fn head(text: &mut String, name: &str, kind: &str, what: &str) {
    // writing to a text does not fail
    let _written = writeln!(text, "# HELP {name} {what}\n# TYPE {name} {kind}");
}

fn line(text: &mut String, name: &str, value: impl std::fmt::Display) {
    let _written = writeln!(text, "{name} {value}");
}
