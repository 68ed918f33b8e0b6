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

/// Upper bounds of the histogram's buckets, in seconds.
const BOUNDS: [f64; 8] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.25, 1.0];

/// Counts since the relay began.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    /// By the code's number, 0 for acceptance.
    verdicts: Mutex<BTreeMap<u16, Histogram>>,
    received: AtomicU64,
    sent: AtomicU64,
}

#[derive(Clone, Debug, Default)]
struct Histogram {
    buckets: [u64; BOUNDS.len()],
    count: u64,
    sum: f64,
}

/// What is measured when it is asked for.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Gauges {
    pub(crate) capsules: u64,
    pub(crate) bytes: u64,
    pub(crate) uploads: usize,
    /// Seconds since the oldest registry was issued; none where no registry is trusted.
    pub(crate) revocation_age: Option<u64>,
}

impl Metrics {
    /// Counts a verdict on a header.
    pub(crate) fn verdict(&self, code: u16, took: Duration) {
        let mut verdicts = self.verdicts.lock().unwrap_or_else(PoisonError::into_inner);
        let histogram = verdicts.entry(code).or_default();
        let seconds = took.as_secs_f64();
        for (bucket, bound) in histogram.buckets.iter_mut().zip(BOUNDS) {
            *bucket += u64::from(seconds <= bound);
        }
        histogram.count += 1;
        histogram.sum += seconds;
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
            for (count, bound) in histogram.buckets.iter().zip(BOUNDS) {
                line(
                    &mut text,
                    &format!("kvcap_verify_seconds_bucket{{{labels},le=\"{bound}\"}}"),
                    count,
                );
            }
            let count = histogram.count;
            line(
                &mut text,
                &format!("kvcap_verify_seconds_bucket{{{labels},le=\"+Inf\"}}"),
                count,
            );
            line(
                &mut text,
                &format!("kvcap_verify_seconds_sum{{{labels}}}"),
                histogram.sum,
            );
            line(
                &mut text,
                &format!("kvcap_verify_seconds_count{{{labels}}}"),
                count,
            );
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
        text
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
