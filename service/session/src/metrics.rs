//! Metrics of sessions and of resumes (session-v1 §12).

use std::collections::{BTreeMap, BTreeSet};

use kvcap::Result;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{ladder::Rung, names::Names, record::Record, value};

/// A checkpoint of fewer turns than these counts as covering.
const COVERING: u64 = 3;
/// Longest observation, in bytes of its CBOR.
const MAX_OBSERVATION: usize = 4096;

/// One resume, as it was measured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
    /// Name of the device that resumed, where it was told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
}

impl Observation {
    /// Reads an observation from one line of JSON.
    ///
    /// # Errors
    /// KVC-950, 951.
    pub fn from_json(line: &[u8]) -> Result<Self> {
        value::from_json(line, MAX_OBSERVATION)
    }

    /// Returns the observation as one line of JSON.
    ///
    /// # Errors
    /// KVC-950; 951 for one that would not be read again.
    pub fn to_json(&self) -> Result<String> {
        value::to_cbor(self, MAX_OBSERVATION)?;
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

/// Figures of one session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionFigures {
    /// Its names.
    pub names: Names,
    /// Its distance from its newest checkpoint.
    pub coverage: Coverage,
    /// Seconds from its first event to its last.
    pub seconds: u64,
    /// Messages of it.
    pub messages: u64,
    /// Positions of its newest state; 0 where it has none.
    pub positions: u64,
    /// Bytes of its capsules.
    pub capsule_bytes: u64,
    /// Resumes of it that a runtime has answered for.
    pub observations: Vec<Observation>,
}

impl SessionFigures {
    /// Returns the number of devices by whose names it was resumed; `None` where no name was told.
    #[must_use]
    pub fn devices(&self) -> Option<usize> {
        let named = self
            .observations
            .iter()
            .filter_map(|one| one.device.as_ref());
        let devices = named.collect::<BTreeSet<_>>().len();
        (devices > 0).then_some(devices)
    }

    fn to_json(&self, now: u64) -> Value {
        let of = std::slice::from_ref(&self.coverage).to_vec();
        let own = Metrics::of(self.observations.clone(), of);
        let mut all = json!({
            "session": self.names.session,
            "tenant": self.names.tenant,
            "subject": self.names.subject,
            "seconds": self.seconds,
            "turns": self.coverage.turns,
            "messages": self.messages,
            "positions": self.positions,
            "capsule_bytes": self.capsule_bytes,
            "resumes": self.observations.len(),
            "tokens_restored": own.sum(|one| one.restored),
            "tokens_evaluated": own.sum(|one| one.evaluated),
        });
        if let Some(devices) = self.devices() {
            all["devices"] = devices.into();
        }
        if let Some(age) = own.ages(now).first() {
            all["checkpoint_age_seconds"] = (*age).into();
        }
        all
    }
}

/// Figures of observations and sessions.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metrics {
    observations: Vec<Observation>,
    sessions: Vec<Coverage>,
    each: Vec<SessionFigures>,
    is_alone: bool,
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
            ..Self::default()
        }
    }

    /// Returns the figures of these sessions, and of each of them.
    #[must_use]
    pub fn over(each: Vec<SessionFigures>) -> Self {
        let observations = each.iter().flat_map(|one| one.observations.iter().cloned());
        Self {
            observations: observations.collect(),
            sessions: each.iter().map(|one| one.coverage).collect(),
            each,
            is_alone: false,
        }
    }

    /// Returns the figures of one session alone, which stand under its name.
    #[must_use]
    pub fn alone(figures: SessionFigures) -> Self {
        Self {
            is_alone: true,
            ..Self::over(vec![figures])
        }
    }

    /// Returns the one session that these are the figures of.
    pub(crate) fn only(&self) -> Option<&SessionFigures> {
        self.each.first().filter(|_| self.is_alone)
    }

    pub(crate) fn sum(&self, of: impl Fn(&Observation) -> u64) -> u64 {
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

    pub(crate) fn outcomes(&self) -> BTreeMap<(Rung, u64), u64> {
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
            "each": self.each.iter().map(|one| one.to_json(now)).collect::<Vec<_>>(),
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

    pub(crate) fn times(&self, rung: Rung) -> impl Iterator<Item = u64> {
        let of = self.observations.iter().filter(move |one| one.rung == rung);
        of.map(|one| one.milliseconds)
    }

    pub(crate) fn ages(&self, now: u64) -> Vec<u64> {
        let taken = self
            .sessions
            .iter()
            .filter_map(|session| session.checkpoint);
        taken.map(|(_, at)| now.saturating_sub(at)).collect()
    }
}
