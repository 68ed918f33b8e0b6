//! Capsules of states, judged, compared with a request, opened and cut (session-v1 §7), or gone on from (§8).

use std::{collections::BTreeSet, path::PathBuf};

use kvcap::{
    Code, Error, ExpectedSession, Members, OpenedChain, Result, SigningKey, SourceFile, Terms,
    TrustedKey, Workers, WriteAt,
};
use kvcap_states::{RuntimeKind, can_be_cut, open_state, reopen, truncate_state};
use kvcap_store::{
    Admitted, Ancestors, Judge, Passphrases, Unchecked, Verdict, Verifier, WrapKeys,
    input::{self, Capsule},
};

use super::{resuming::Header, states::Candidate};
use crate::sealed::{Controller, check_state, opened_controller};

/// Opens states of a session: as one judge says, by keys that an operator names.
#[derive(Clone, Copy)]
pub struct Opener<'a> {
    /// Makes a judge of capsules of a session, or of base images.
    pub judge: &'a dyn Fn(Option<ExpectedSession>) -> Result<Judge<'a>>,
    /// Paths of wrapping keys and of key folders; where there are none, nothing is opened to be compared.
    pub keys: &'a [PathBuf],
    /// Passphrases of those keys.
    pub passphrases: &'a Passphrases<'a>,
    /// Threads that share the work.
    pub workers: Workers,
}

/// A state that was written.
pub struct Written<'a> {
    /// Bytes of the state file.
    pub bytes: u64,
    /// The checks that were left out.
    pub unchecked: BTreeSet<Unchecked>,
    /// The judge that accepted it.
    pub judge: Judge<'a>,
    /// The controller that was sealed beside it, where it is the whole state.
    pub controller: Option<Controller>,
    /// Ids of all tokens of the capsule's prompt, where it holds them.
    pub tokens: Option<Vec<u32>>,
}

impl<'a> Opener<'a> {
    /// Verifies the header of a state, and those of the capsules that it continues and that are there.
    ///
    /// # Errors
    /// As [`Judge::verify`] and [`Judge::with_ancestors`]; KVC-957 for a base image that is none, and for
    /// history alone.
    pub fn header(&self, state: &Candidate) -> Result<Header> {
        let judge = (self.judge)(state.expected())?;
        let (untrusted, _) = Capsule::read(state.path())?.split();
        let verdict = verified(&judge, judge.verify(untrusted)?, state, |_| ())?;
        check_state(verdict.tip().manifest())?;
        let context = &verdict.tip().manifest().context;
        Ok(Header {
            positions: context.positions.end,
            whole: !can_be_cut(context),
        })
    }

    /// Returns how many of a request's tokens are the state's first: by the header where it names the whole prompt, else
    /// by the token ids that the capsule holds. `None` without keys, where the header alone does not tell.
    ///
    /// # Errors
    /// As [`Self::header`] and [`Judge::open`]; KVC-605 where the capsule names no prompt, is for one use and of another
    /// prompt, or does not hold the ids that would say how much is the same.
    pub fn common(&self, state: &Candidate, request: &[u32]) -> Result<Option<u64>> {
        let judge = (self.judge)(state.expected())?;
        let (untrusted, body) = Capsule::read(state.path())?.split();
        let verdict = judge.verify(untrusted)?;
        let manifest = verdict.tip().manifest();
        let positions = manifest.context.positions.end;
        let Some(prompt) = manifest.context.prefix.tokens() else {
            return Err(another("the capsule does not name its prompt"));
        };
        let single_use = manifest.claims.terms.single_use;
        let begins = usize::try_from(prompt).ok().and_then(|n| request.get(..n));
        let keys = || WrapKeys::read(self.keys, self.passphrases)?.opening([verdict.tip()]);
        let told = match begins {
            None => Some(false),
            Some(begins) => verdict.tip().names_prompt(begins, &keys()?)?,
        };
        match told {
            Some(true) => return Ok(Some(positions)),
            _ if self.keys.is_empty() => return Ok(None),
            _ if single_use => {
                let what = "the capsule is for one use, and its header does not name this prompt";
                return Err(another(what));
            }
            _ => {}
        }
        let source = body.fetch(verdict.tip().file_len())?;
        let admitted = self.open(judge, verdict.with_source(source), state)?.0;
        Ok(Some(shared(&admitted.opened, request)?.min(positions)))
    }

    /// Opens a state and writes its first `positions` as a state file into `out`, which is empty. The request, where it
    /// is known, has to begin with the tokens that are restored.
    ///
    /// # Errors
    /// As [`Self::common`], [`open_state`] and [`truncate_state`]; KVC-960 where the request leaves the tokens that would
    /// be restored.
    pub fn write(
        &self,
        state: &Candidate,
        positions: u64,
        request: Option<&[u32]>,
        out: &dyn WriteAt,
        progress: &mut (dyn FnMut(u64) + Send),
    ) -> Result<Written<'a>> {
        let judge = (self.judge)(state.expected())?;
        let (untrusted, body) = Capsule::read(state.path())?.split();
        let verdict = judge.verify(untrusted)?;
        let source = body.fetch(verdict.tip().file_len())?;
        let (mut admitted, judge) = self.open(judge, verdict.with_source(source), state)?;
        if let Some(request) = request {
            if shared(&admitted.opened, request)? < positions {
                let what = "the request leaves the tokens that would be restored";
                return Err(Error::new(Code::SessionDiverged, what));
            }
            admitted.unchecked.remove(&Unchecked::Prompt);
        }
        let end = admitted.opened.tip().manifest().context.positions.end;
        let tokens = admitted.opened.tip().tokens()?;
        let (bytes, controller) = match positions < end {
            false => {
                let controller = opened_controller(admitted.opened.tip())?;
                let opened = open_state(&admitted.opened, out, self.workers, progress)?;
                (opened.state_len, controller)
            }
            true => (self.cut(&admitted.opened, positions, out, progress)?, None),
        };
        Ok(Written {
            bytes,
            unchecked: admitted.unchecked,
            judge,
            controller,
            tokens,
        })
    }

    fn open(
        &self,
        mut judge: Judge<'a>,
        verdict: Verdict<SourceFile>,
        state: &Candidate,
    ) -> Result<(Admitted<SourceFile>, Judge<'a>)> {
        let verdict = verified(&judge, verdict, state, |file| file)?;
        let accepted = judge.conclude(verdict)?;
        let keys = WrapKeys::read(self.keys, self.passphrases)?;
        let admitted = judge.open(accepted, keys, None, self.workers)?;
        Ok((admitted, judge))
    }

    fn cut(
        &self,
        opened: &OpenedChain<SourceFile>,
        positions: u64,
        out: &dyn WriteAt,
        progress: &mut (dyn FnMut(u64) + Send),
    ) -> Result<u64> {
        let runtime = &opened.tip().manifest().context.runtime.name;
        let Some(kind) = RuntimeKind::from_runtime(runtime) else {
            let what = "states of an unknown runtime cannot be cut";
            return Err(Error::new(Code::SessionWhole, what));
        };
        let whole = input::spool()?;
        let state = reopen(opened, &whole, self.workers, progress).map_err(input::of_spool)?;
        let whole = input::spooled(whole)?;
        let cut = truncate_state(kind, &state, &whole, positions, out, self.workers)?;
        Ok(cut.file_len)
    }
}

/// Opens the chain whose tip a new state goes on from, for who seals the new one with `signer` under `terms`: of his
/// own capsules nothing is missing, and none is used up.
///
/// # Errors
/// Those of a capsule that is verified and opened.
pub fn open_to_continue(
    verifier: &Verifier,
    ancestors: &Ancestors<'_>,
    terms: &Terms,
    signer: &SigningKey,
    keys: &[PathBuf],
    passphrases: &Passphrases<'_>,
    workers: Workers,
) -> Result<OpenedChain<SourceFile>> {
    let (untrusted, body) = Capsule::read(ancestors.tip)?.split();
    let verifier = Verifier {
        at: Some(terms.issued_at),
        ..verifier.clone()
    };
    let judge = verifier.judge()?.trusting(TrustedKey {
        issuer: terms.issuer.clone(),
        ..TrustedKey::from(signer)
    })?;
    let mut judge = judge.danger_as_stated(terms);
    let of = |error| input::at(error, ancestors.tip);
    let verdict = judge.verify(untrusted).map_err(of)?;
    let source = body.fetch(verdict.tip().file_len())?;
    let verdict = verdict.with_source(source);
    let verdict = judge.with_ancestors(verdict, ancestors, |file| file)?;
    let keys = WrapKeys::read(keys, passphrases)?;
    let accepted = judge.conclude(verdict).map_err(of)?;
    let admitted = judge.open(accepted, keys, None, workers);
    Ok(admitted.map_err(of)?.opened)
}

/// With the ancestors of a state, which lie beside it.
fn verified<S>(
    judge: &Judge<'_>,
    verdict: Verdict<S>,
    state: &Candidate,
    source: impl Fn(SourceFile) -> S,
) -> Result<Verdict<S>> {
    let ancestors = Ancestors {
        tip: state.path(),
        given: &[],
    };
    let verdict = judge.with_ancestors(verdict, &ancestors, source)?;
    match state {
        Candidate::Base(path) if !verdict.tip().manifest().context.base => {
            let what = "the capsule is no base image";
            Err(Error::new(Code::SessionNoState, what).at(path.display()))
        }
        _ => Ok(verdict),
    }
}

/// Tokens that a request and an opened state have in common from the first on: all of the state's positions where they
/// have its whole prompt.
fn shared(opened: &OpenedChain<SourceFile>, request: &[u32]) -> Result<u64> {
    let end = opened.tip().manifest().context.positions.end;
    let Some(prompt) = opened.tip().prompt()? else {
        return Err(another("the capsule does not name its prompt"));
    };
    if prompt.check_continued(request).is_ok() {
        return Ok(end);
    }
    let Some(own) = opened.tip().tokens()? else {
        return Err(another("the capsule is of another prompt"));
    };
    let same = own
        .iter()
        .zip(request)
        .take_while(|(one, other)| one == other);
    Ok(u64::try_from(same.count()).unwrap_or(u64::MAX).min(end))
}

fn another(what: &'static str) -> Error {
    Error::new(Code::BindingPrefix, what)
}
