//! The ladder: what can be resumed, planned from headers alone (session-v1 §7).

use kvcap::{Code, Error, Result};
use serde::{Deserialize, Serialize};

/// Most states and base images of a plan.
pub const MAX_STATES: usize = 256;

/// Ways to resume, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rung {
    /// The newest state, whole.
    Exact,
    /// The first part of a state.
    Shorter,
    /// No state; summary, recent turns and agent state.
    HistoryOnly,
    /// Nothing.
    Fresh,
}

impl Rung {
    /// All rungs, best first.
    pub const ALL: [Self; 4] = [Self::Exact, Self::Shorter, Self::HistoryOnly, Self::Fresh];

    /// Returns the rung's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Shorter => "shorter",
            Self::HistoryOnly => "history-only",
            Self::Fresh => "fresh",
        }
    }

    /// Returns the sentence that the user is told.
    #[must_use]
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::Exact => "The conversation goes on where it stopped.",
            Self::Shorter => {
                "Part of the model's memory was restored; the rest of the conversation is read again."
            }
            Self::HistoryOnly => {
                "The model's memory could not be restored; it reads a summary and the latest turns again, and may \
                 miss details of earlier ones."
            }
            Self::Fresh => "Nothing of the earlier conversation could be used; this is a new one.",
        }
    }
}

/// Sentence beside [`Rung::Exact`] where no controller was sealed.
pub const GREEDY_ONLY: &str =
    "It goes on word for word only where the most likely word is always taken.";

impl Rung {
    /// Returns the sentences for the user, who is told too what a state promises that has no `controller`.
    #[must_use]
    pub fn said(self, controller: bool) -> String {
        match self {
            Self::Exact if !controller => format!("{} {GREEDY_ONLY}", self.sentence()),
            _ => self.sentence().to_owned(),
        }
    }
}

/// A state that might be restored, as its header tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateFacts {
    /// The caller's name for it.
    pub name: String,
    /// Position at which it ends.
    pub positions: u64,
    /// Tokens that it and the request have in common from the first on, where that is known.
    pub common: Option<u64>,
    /// It cannot be cut.
    pub whole: bool,
    /// Code with which its header was refused.
    pub refused: Option<Code>,
}

/// Facts that a plan is made of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Positions that the runtime has room for, 0 where unknown.
    pub context: u64,
    /// Positions that the answer needs.
    pub reserve: u64,
    /// States of the session, of the newest checkpoint first.
    pub states: Vec<StateFacts>,
    /// Base images.
    pub bases: Vec<StateFacts>,
    /// Code with which history was refused.
    pub history_refused: Option<Code>,
    /// Messages of history.
    pub messages: u64,
}

/// One step of the ladder, and what refuses it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The rung.
    pub rung: Rung,
    /// Name of the state that it restores.
    pub state: Option<String>,
    /// Positions that it restores.
    pub positions: u64,
    /// Reason for which it cannot be taken.
    pub refused: Option<Code>,
}

/// A plan: every step with its reason, and the one that is taken. It claims nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Steps, in order.
    pub steps: Vec<Step>,
    taken: usize,
}

/// Steps of the ladder that a code leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LeadsTo {
    /// Another state may serve, or history.
    AnotherState,
    /// No state can be judged or used.
    HistoryOnly,
    /// There is nothing to resume.
    Fresh,
    /// Its user has to mend it: no rung is taken.
    Stop,
}

impl LeadsTo {
    /// Returns how far `code` leads down.
    #[must_use]
    pub const fn of(code: Code) -> Self {
        match code.number() {
            308..=311 | 313..=316 | 401 | 412 | 601..=604 | 608..=612 | 930..=933 => {
                Self::HistoryOnly
            }
            956 => Self::Fresh,
            907 | 940..=948 | 952..=955 => Self::Stop,
            _ => Self::AnotherState,
        }
    }
}

impl StateFacts {
    /// Judges it for a use: the code that refuses it, and what would be restored.
    fn judge(&self, use_whole: bool, facts: &Facts) -> (u64, Option<Code>) {
        let common = self.common.unwrap_or(self.positions);
        let restored = self.positions.min(common);
        let code = match self.refused {
            Some(code) => Some(code),
            None if common >= self.positions => None,
            None if use_whole || common == 0 => Some(Code::SessionDiverged),
            None if self.whole => Some(Code::SessionWhole),
            None => None,
        };
        let room = facts.context == 0 || restored.saturating_add(facts.reserve) <= facts.context;
        (restored, code.or((!room).then_some(Code::SessionContext)))
    }
}

impl Plan {
    /// Plans how to resume.
    ///
    /// # Errors
    /// KVC-951 for too many states.
    pub fn of(facts: &Facts) -> Result<Self> {
        if facts.states.len().saturating_add(facts.bases.len()) > MAX_STATES {
            let what = "too many states to plan with";
            return Err(Error::new(Code::SessionLimit, what));
        }
        let step = |rung, state: Option<&StateFacts>, (positions, refused)| Step {
            rung,
            state: state.map(|state| state.name.clone()),
            positions,
            refused,
        };
        let newest = facts.states.first();
        let exact = newest.map_or((0, Some(Code::SessionNoState)), |state| {
            state.judge(true, facts)
        });
        let mut steps = vec![step(Rung::Exact, newest, exact)];
        for state in facts.states.iter().chain(&facts.bases) {
            steps.push(step(Rung::Shorter, Some(state), state.judge(false, facts)));
        }
        let empty = (facts.messages == 0).then_some(Code::SessionEmpty);
        steps.push(step(
            Rung::HistoryOnly,
            None,
            (0, facts.history_refused.or(empty)),
        ));
        steps.push(step(Rung::Fresh, None, (0, None)));
        let free = |step: &Step| step.refused.is_none();
        let longest = |steps: &[Step]| {
            let shorter = steps
                .iter()
                .enumerate()
                .filter(|(_, step)| step.rung == Rung::Shorter);
            // of equal ones the first: `max_by_key` would give the last
            let most = shorter
                .filter(|(_, step)| free(step))
                .rev()
                .max_by_key(|(_, step)| step.positions);
            most.map(|(at, _)| at)
        };
        let taken = match exact.1 {
            None => 0,
            Some(_) => {
                let rest = || {
                    steps
                        .iter()
                        .position(|step| free(step) && step.rung > Rung::Shorter)
                };
                longest(&steps).or_else(rest).unwrap_or_default()
            }
        };
        Ok(Self { steps, taken })
    }

    /// Returns the step that is taken.
    #[must_use]
    pub fn taken(&self) -> Option<&Step> {
        self.steps.get(self.taken)
    }

    /// Returns why it is not exact.
    #[must_use]
    pub fn reason(&self) -> Option<Code> {
        self.steps.first()?.refused
    }
}

impl Facts {
    /// Notes what the verified header of the state `name` tells.
    pub fn describe(&mut self, name: &str, positions: u64, whole: bool) {
        for state in self.named(name) {
            (state.positions, state.whole) = (positions, whole);
        }
    }

    /// Notes how many of the request's tokens are the first of the state `name`.
    pub fn learn(&mut self, name: &str, common: Option<u64>) {
        for state in self.named(name) {
            state.common = common;
        }
    }

    fn named(&mut self, name: &str) -> impl Iterator<Item = &mut StateFacts> {
        let all = self.states.iter_mut().chain(&mut self.bases);
        all.filter(move |state| state.name == name)
    }

    /// Notes that the state `name` failed with `code` when it was opened or restored, so that the next plan
    /// goes without it.
    ///
    /// # Errors
    /// `code` itself, where it is for its user to mend.
    pub fn failed(&mut self, name: &str, error: Error) -> Result<()> {
        let code = error.code();
        let all = match LeadsTo::of(code) {
            LeadsTo::Stop => return Err(error),
            LeadsTo::AnotherState => false,
            LeadsTo::HistoryOnly | LeadsTo::Fresh => true,
        };
        for state in self.states.iter_mut().chain(&mut self.bases) {
            if all || state.name == name {
                state.refused.get_or_insert(code);
            }
        }
        if LeadsTo::of(code) == LeadsTo::Fresh {
            self.history_refused.get_or_insert(code);
        }
        Ok(())
    }
}
