//! What a resume claims, and what the runtime's own count says of it (session-v1 §§7, 12).

use kvcap::{Code, Error, Result};
use kvcap_states::RestoreCheck;
use serde::{Deserialize, Serialize};

use super::Session;
use crate::{
    files::measures,
    ladder::{Plan, Rung},
    metrics::Observation,
    value,
};

/// Longest text of a claim, in bytes.
const MAX_CLAIM: usize = 1 << 20;

/// A resume that the runtime has not answered for yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claim {
    /// Time at which it was asked for, in milliseconds since 1970.
    pub milliseconds: u64,
    /// Rung that was taken.
    pub rung: Rung,
    /// Reason for which it is not exact.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<u64>,
    /// Name of the state that was restored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// Positions that were restored.
    pub positions: u64,
    /// Names of states whose restore had no effect before.
    pub ineffective: Vec<String>,
}

impl Claim {
    /// Returns what a plan that was carried out claims.
    pub(super) fn of(plan: &Plan, ineffective: &[String], milliseconds: u64) -> Self {
        let taken = plan.taken();
        Self {
            milliseconds,
            rung: taken.map_or(Rung::Fresh, |step| step.rung),
            code: plan.reason().map(|code| code.number().into()),
            state: taken.and_then(|step| step.state.clone()),
            positions: taken.map_or(0, |step| step.positions),
            ineffective: ineffective.to_vec(),
        }
    }
}

/// The runtime's own count of a request after a resume.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reuse {
    /// Tokens of the request that it did not evaluate.
    pub restored: u64,
    /// Tokens that it evaluated before the first new one.
    pub evaluated: u64,
    /// From the request to the first token, where that was measured.
    pub milliseconds: Option<u64>,
    /// Name of the device that resumed, where the caller has one for it.
    pub device: Option<String>,
}

/// Answer to a runtime's count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Confirmed {
    /// As many tokens were reused as were claimed: the resume is kept as this.
    Effective(Observation),
    /// Fewer were: with these states refused, the ladder is to be planned again.
    Ineffective {
        /// Names of the states whose restore had no effect.
        states: Vec<String>,
        /// The refusal, KVC-926 with both counts.
        refusal: Error,
    },
}

impl Session {
    /// Judges the latest resume by the runtime's own count, and keeps the observation where it holds.
    ///
    /// # Errors
    /// KVC-955 where no resume waits for a count; 944 for a request without tokens; 947, 950, 94x.
    pub fn confirm(&self, reuse: &Reuse, milliseconds: u64) -> Result<Confirmed> {
        let folder = self.tier.folder(&self.names())?;
        let Some(text) = measures::claim(&folder)? else {
            let what = "no resume of the session waits for the runtime's count";
            return Err(Error::new(Code::SessionMissing, what));
        };
        let claim: Claim = value::from_json(&text, MAX_CLAIM)?;
        let asked = reuse.restored.saturating_add(reuse.evaluated);
        let check = RestoreCheck {
            common: claim.positions.min(asked),
            prompt: asked,
            evaluated: reuse.evaluated,
        };
        match (check.check(), claim.state) {
            (Ok(()), _) => {}
            (Err(refusal), Some(state)) if refusal.code() == Code::StateRestoreIneffective => {
                let mut states = claim.ineffective;
                states.push(state);
                return Ok(Confirmed::Ineffective { states, refusal });
            }
            (Err(refusal), _) => return Err(refusal),
        }
        let passed = milliseconds.saturating_sub(claim.milliseconds);
        let observation = Observation {
            at: claim.milliseconds / 1000,
            rung: claim.rung,
            code: claim.code,
            milliseconds: reuse.milliseconds.unwrap_or(passed),
            asked,
            restored: reuse.restored,
            evaluated: reuse.evaluated,
            device: reuse.device.clone(),
        };
        let line = observation.to_json()?;
        let writer = self.tier.writer(&self.names())?;
        measures::append(&writer, line.as_bytes())?;
        measures::settle(&writer)?;
        Ok(Confirmed::Effective(observation))
    }

    /// Returns the observations of the session's resumes, oldest first; those of long ago are dropped.
    ///
    /// # Errors
    /// KVC-950 for a line that is none; 94x.
    pub fn observations(&self) -> Result<Vec<Observation>> {
        let log = measures::read(&self.tier.folder(&self.names())?)?;
        log.lines().map(Observation::from_json).collect()
    }

    /// Keeps what a resume claims, in the place of what the one before claimed.
    pub(super) fn claim(&self, claim: &Claim) -> Result<()> {
        let text = value::to_json(claim)?;
        let writer = self.tier.writer(&self.names())?;
        measures::put_claim(&writer, text.as_bytes())
    }
}
