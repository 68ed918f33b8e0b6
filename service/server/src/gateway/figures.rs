//! Figures of all sessions for `/metrics` (session-v1 §12), counted once a minute at most.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use kvcap_session::{Metrics, Session, files::DeviceTier};
use kvcap_store::time;

use crate::metrics::Gauge;

/// Time for which figures are told again: they are read from every session's files.
const FRESH: Duration = Duration::from_secs(60);

/// Figures of sessions, and the last count.
pub(super) struct Figures {
    sessions: DeviceTier,
    counted: Mutex<Option<(Instant, Vec<Gauge>)>>,
}

impl Figures {
    pub(super) const fn of(sessions: DeviceTier) -> Self {
        Self {
            sessions,
            counted: Mutex::new(None),
        }
    }

    pub(super) fn gauges(&self) -> Vec<Gauge> {
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, gauges)) = counted.as_ref()
            && at.elapsed() < FRESH
        {
            return gauges.clone();
        }
        let gauges = self.count();
        *counted = Some((Instant::now(), gauges.clone()));
        gauges
    }

    fn count(&self) -> Vec<Gauge> {
        let Ok(all) = self.sessions.changed() else {
            return Vec::new();
        };
        // one that is damaged hides no other
        let figures = all.iter().filter_map(|(names, _)| {
            let session = Session::load(&self.sessions, names).ok()?;
            session.figures().ok()
        });
        let figures: Vec<_> = figures.collect();
        let sessions = figures.len();
        let bytes: u64 = figures.iter().map(|one| one.capsule_bytes).sum();
        let told = Metrics::over(figures).to_json(time::now());
        let ages = told["checkpoint_age_seconds"].as_array();
        let oldest =
            ages.and_then(|ages| ages.iter().filter_map(|age| age.as_f64()).reduce(f64::max));
        let gauges = [
            (
                "kvcap_sessions",
                "Sessions that are kept.",
                Some(number(sessions)),
            ),
            (
                "kvcap_session_bytes",
                "Bytes of their capsules.",
                Some(number(usize::try_from(bytes).unwrap_or(usize::MAX))),
            ),
            (
                "kvcap_replay_overhead_ratio",
                "Tokens evaluated for each one asked.",
                told["replay_overhead_ratio"].as_f64(),
            ),
            (
                "kvcap_checkpoint_coverage_ratio",
                "Sessions with a checkpoint of fewer than 3 turns ago.",
                told["checkpoint_coverage_ratio"].as_f64(),
            ),
            (
                "kvcap_checkpoint_age_seconds",
                "Age of the oldest newest checkpoint.",
                oldest,
            ),
        ];
        let known = gauges
            .into_iter()
            .filter_map(|(name, what, value)| Some((name, what, value?)));
        known.collect()
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts below 2^53")]
const fn number(count: usize) -> f64 {
    count as f64
}
