//! Resuming: the most of a session that holds, in a slot (http-v1 HTTP-E-3).

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use kvcap::{Code, Error, ExpectedSession, Result, Workers};
use kvcap_engines::{Slot, StateFile};
use kvcap_session::{Candidate, Header, Names, Opener, Request, Restorer, Rung, Session};
use kvcap_store::{Passphrases, time};
use tokio::runtime::Handle;

use super::{Gateway, failed, keys::Expecting, slots::Held};
use crate::refusal::{Answer, Refusal};

/// Where what a slot holds has come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum From {
    /// It was there.
    Slot,
    /// A capsule of the session.
    Capsule,
    /// A base image.
    Base,
    /// Nowhere.
    Nothing,
}

impl From {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Slot => "slot",
            Self::Capsule => "capsule",
            Self::Base => "base",
            Self::Nothing => "none",
        }
    }
}

/// What a slot is said to hold of a request. The engine's count proves it, or does not.
#[derive(Clone, Debug)]
pub(super) struct Claim {
    pub(super) from: From,
    pub(super) rung: Rung,
    /// Tokens of the request that are not evaluated.
    pub(super) tokens: u64,
    pub(super) code: Option<Code>,
    /// Name of the state that was restored.
    pub(super) state: Option<String>,
    /// The session waits for the engine's count.
    pub(super) waits: bool,
}

impl Claim {
    const fn nothing(code: Option<Code>) -> Self {
        Self {
            from: From::Nothing,
            rung: Rung::Fresh,
            tokens: 0,
            code,
            state: None,
            waits: false,
        }
    }
}

/// A request as the ladder needs it.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub(super) tokens: Arc<Vec<u32>>,
    /// Positions that the answer needs.
    pub(super) reserve: u64,
    /// Names of states whose restore had no effect.
    pub(super) ineffective: Vec<String>,
}

impl Wanted {
    /// No request: the newest state as it is.
    pub(super) fn nothing() -> Self {
        Self {
            tokens: Arc::default(),
            reserve: 0,
            ineffective: Vec::new(),
        }
    }

    /// Of tokens in common, those that an engine does not evaluate: the last of a request it always does.
    fn reused(&self, common: u64) -> u64 {
        let most = u64::try_from(self.tokens.len()).unwrap_or(u64::MAX);
        common.min(most.saturating_sub(1))
    }

    /// What the slot holds of the request, where that may be of use: the engine's count says whether it is.
    pub(super) fn of_slot(&self, held: &Held, rewinds: bool) -> Option<Claim> {
        let same = held.tokens.iter().zip(self.tokens.iter());
        let common = same.take_while(|(one, other)| one == other).count();
        if common == 0 || !(rewinds || common == held.tokens.len()) {
            return None;
        }
        Some(Claim {
            from: match held.handed_in {
                true => From::Capsule,
                false => From::Slot,
            },
            rung: Rung::Exact,
            tokens: self.reused(u64::try_from(common).unwrap_or(u64::MAX)),
            code: None,
            state: None,
            waits: false,
        })
    }
}

/// Restores states of capsules into a slot: verified, opened, admitted.
struct Restoring<'a, 'o> {
    gateway: &'a Gateway,
    opener: Opener<'o>,
    slot: Slot,
    engine: Handle,
    /// Where each state ends.
    ends: BTreeMap<String, u64>,
}

impl Restorer for Restoring<'_, '_> {
    fn judge(&mut self, state: &Candidate) -> Result<Header> {
        let header = self.opener.header(state)?;
        self.ends.insert(state.name(), header.positions);
        Ok(header)
    }

    fn common(&mut self, state: &Candidate, request: &[u32]) -> Result<Option<u64>> {
        self.opener.common(state, request)
    }

    fn restore(&mut self, state: &Candidate, positions: u64) -> Result<()> {
        // an engine that rewinds cuts by itself, and faster
        let end = match self.gateway.engine.about().rewinds {
            true => self.ends.get(&state.name()).copied(),
            false => None,
        };
        let positions = end.unwrap_or(positions);
        let (file, _) = self.gateway.opened(&self.opener, state, positions)?;
        let admitted = self.gateway.engine.admit(self.slot, file);
        self.engine.block_on(admitted).map_err(of_engine)
    }
}

/// An engine's refusal of a state, as a ladder takes it.
pub(super) fn of_engine(error: kvcap_engines::EngineError) -> Error {
    use kvcap_engines::EngineError as E;
    match error {
        E::Unsuitable(error) | E::Io(error) => error,
        E::Lost => Error::new(Code::StateRestoreIneffective, "the engine has stopped"),
        E::Refused { .. } => Error::new(Code::StateRestoreIneffective, "the engine took no state"),
    }
}

impl Gateway {
    /// Restores the most of a session that holds, else empties the slot.
    pub(super) async fn resume(
        self: &Arc<Self>,
        slot: Slot,
        names: Option<&Names>,
        wanted: &Wanted,
    ) -> Answer<Claim> {
        self.engine.erase(slot).await.map_err(failed)?;
        let Some(names) = names.cloned() else {
            return Ok(Claim::nothing(None));
        };
        let (gateway, wanted) = (Arc::clone(self), wanted.clone());
        let engine = Handle::current();
        let asked = time::now_in_milliseconds();
        let resuming = move || gateway.climb(slot, &names, &wanted, engine, asked);
        let claim = self.aside(resuming).await?;
        if claim.from == From::Nothing {
            // a state that failed may have left something
            self.engine.erase(slot).await.map_err(failed)?;
        }
        Ok(claim)
    }

    fn climb(
        &self,
        slot: Slot,
        names: &Names,
        wanted: &Wanted,
        engine: Handle,
        asked: u64,
    ) -> Result<Claim> {
        let session = Session::load_or_create(&self.sessions, names, asked / 1000)?;
        let request = Request {
            tokens: Some(wanted.tokens.to_vec()).filter(|tokens| !tokens.is_empty()),
            context: self.engine.about().context,
            reserve: wanted.reserve,
            bases: self.bases(),
            ineffective: wanted.ineffective.clone(),
        };
        let is_new = session.versions()?.is_empty();
        if is_new && request.bases.is_empty() {
            return Ok(Claim::nothing(None));
        }
        let resumed = self.with_opener(names, |opener| {
            let mut restoring = Restoring {
                gateway: self,
                opener,
                slot,
                engine,
                ends: BTreeMap::new(),
            };
            session.resume(&request, &mut restoring, asked)
        })?;
        let code = resumed.plan.reason();
        let (Some(step), Some(state)) = (resumed.plan.taken(), &resumed.state) else {
            // nothing is missing where nothing was
            return Ok(Claim {
                waits: true,
                ..Claim::nothing(code.filter(|_| !is_new))
            });
        };
        Ok(Claim {
            from: match state {
                Candidate::Saved(_) | Candidate::Handed { .. } => From::Capsule,
                Candidate::Base(_) => From::Base,
            },
            rung: step.rung,
            tokens: wanted.reused(step.positions),
            code: code.filter(|_| !is_new),
            state: step.state.clone(),
            waits: true,
        })
    }

    /// Opens a capsule that was handed in for a session: no slot is touched by one that is refused. Returns the state,
    /// its token ids, and where it ends.
    pub(super) async fn open(
        self: &Arc<Self>,
        names: &Names,
        path: PathBuf,
    ) -> Answer<(StateFile, Vec<u32>, u64)> {
        let (gateway, names) = (Arc::clone(self), names.clone());
        self.aside(move || {
            let state = Candidate::Handed {
                path,
                expected: ExpectedSession {
                    id: names.session.clone(),
                    version: None,
                    replay_cursor: None,
                },
            };
            gateway.with_opener(&names, |opener| {
                let positions = opener.header(&state)?.positions;
                let (file, tokens) = gateway.opened(&opener, &state, positions)?;
                Ok((file, tokens.unwrap_or_default(), positions))
            })
        })
        .await
    }

    /// Opens the first positions of a state into a file of the engine's.
    pub(super) fn opened(
        &self,
        opener: &Opener<'_>,
        state: &Candidate,
        positions: u64,
    ) -> Result<(StateFile, Option<Vec<u32>>)> {
        let file = self.engine.new_state().map_err(of_engine)?;
        let written = opener.write(state, positions, None, file.file(), &mut |_| {})?;
        let end = usize::try_from(positions).unwrap_or(usize::MAX);
        let tokens = written.tokens.map(|mut tokens| {
            tokens.truncate(end);
            tokens
        });
        // some runtimes' files do not say which tokens they are of
        let file = match &tokens {
            Some(tokens) => file.with_tokens(tokens.clone()),
            None => file,
        };
        Ok((file, tokens))
    }

    /// Opens what is of these names, by the gateway's keys and the one verifier.
    pub(super) fn with_opener<T>(
        &self,
        names: &Names,
        opening: impl FnOnce(Opener<'_>) -> Result<T>,
    ) -> Result<T> {
        let verifier = self.verifier_of(names);
        let expecting = Expecting {
            verifier: &verifier,
            about: self.engine.about(),
        };
        let judge = |session: Option<ExpectedSession>| expecting.judge(session);
        let passphrases = Passphrases::none();
        opening(Opener {
            judge: &judge,
            keys: &self.keys.to_open,
            passphrases: &passphrases,
            workers: Workers::all(),
        })
    }

    /// Base images that requests may begin with.
    pub(super) fn bases(&self) -> Vec<PathBuf> {
        let Some(folder) = &self.setup.bases else {
            return Vec::new();
        };
        kvcap_store::capsules_in(folder).unwrap_or_default()
    }
}

/// Refuses a request that the slot has no room for.
pub(super) fn check_room(tokens: usize, reserve: u64, context: u64) -> Answer<()> {
    let needed = u64::try_from(tokens).unwrap_or(u64::MAX);
    let needed = needed.saturating_add(reserve);
    if context > 0 && needed > context {
        let what = "the request and its answer are longer than the engine's context";
        let error = Error::new(Code::SessionContext, what).sides(context, needed);
        return Err(Refusal::Code(error));
    }
    Ok(())
}
