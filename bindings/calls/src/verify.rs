//! Verification: of a whole capsule, and of bytes as they come.

use kvcap::{Code, Error, Fed, Limits, PausedBody, PushHeader, Result, Workers};
use kvcap_models::ModelProfile;
use kvcap_states::check_rotation;
use kvcap_store::Verdict as Judged;

use crate::{
    progress::Progress,
    source::{Bytes, Source},
    terms::Terms,
    verdict::Verdict,
};

/// Verifies a capsule with public keys alone: header, then every byte of the body and of its ancestors, unless it is the
/// header alone that is asked for.
///
/// # Errors
/// As the verifier; KVC-944 where the caller has ended the call.
pub fn verify(
    source: Source,
    terms: &Terms,
    header_only: bool,
    progress: &Progress<'_>,
) -> Result<Verdict> {
    let untrusted = source.header()?;
    let model = terms.model()?;
    let mut judge = terms.judge(model.as_ref())?;
    let verdict = judge.verify(untrusted)?;
    check_rotation(
        &verdict.tip().manifest().context,
        terms.profile().options()?.hadamard,
    )?;
    let (path, bytes) = (source.path, source.bytes);
    let ancestors = terms.ancestors(&path);
    let mut verdict = judge.with_ancestors(verdict.with_source(bytes), &ancestors, Bytes::File)?;
    let all = verdict
        .chain()
        .members()
        .map(|(member, _)| member.file_len())
        .sum();
    let (mut checked, mut counted) = (None, (0, 0));
    if !header_only {
        for (member, bytes) in verdict.chain().members() {
            let told = &mut |more| progress.add(more, all);
            let body = member.check_body_at(bytes, Workers::all(), told)?;
            progress.check()?;
            counted = (counted.0 + body.chunks, counted.1 + body.bytes);
            checked = Some(body);
        }
    }
    if let Some(body) = &checked {
        verdict.body_checked(body);
    }
    let body = checked.map(|_| counted);
    let accepted = judge.conclude(verdict)?;
    let (chain, unchecked) = (accepted.chain(), accepted.unchecked());
    Ok(Verdict::of(chain, unchecked, &judge, body))
}

/// A capsule verified as its bytes come: `feed` pieces of any length, then `finish`.
///
/// The header is judged with its last byte. A refusal is the result of the call that has seen it, and of every one after.
pub struct Verifying {
    terms: Terms,
    model: Option<ModelProfile>,
    state: State,
}

enum State {
    Header(PushHeader),
    Body(Box<(Judged, PausedBody)>),
    Over,
}

impl Verifying {
    /// Begins, and reads the model.
    ///
    /// # Errors
    /// KVC-93x for the model.
    pub fn new(terms: Terms) -> Result<Self> {
        let model = terms.model()?;
        let state = State::Header(PushHeader::new(&Limits::default()));
        Ok(Self {
            terms,
            model,
            state,
        })
    }

    /// Takes the next bytes, and gives the header's verdict once it is judged.
    ///
    /// # Errors
    /// As the verifier; KVC-944 after a refusal.
    pub fn feed(&mut self, mut piece: &[u8]) -> Result<Option<Verdict>> {
        let judge = self.terms.judge(self.model.as_ref())?;
        let mut state = std::mem::replace(&mut self.state, State::Over);
        if let State::Header(header) = state {
            state = match header.feed(&mut piece)? {
                Fed::More(header) => {
                    self.state = State::Header(header);
                    return Ok(None);
                }
                Fed::Header(untrusted) => {
                    let verdict = judge.verify(*untrusted)?;
                    let options = self.terms.profile().options()?;
                    check_rotation(&verdict.tip().manifest().context, options.hadamard)?;
                    let body = verdict.tip().push_body().pause();
                    State::Body(Box::new((verdict, body)))
                }
            };
        }
        let State::Body(judged) = state else {
            return Err(over());
        };
        let (verdict, body) = *judged;
        let body = verdict.tip().resume_body(body)?.feed(piece)?.pause();
        let said = Verdict::of(verdict.chain(), verdict.unchecked(), &judge, None);
        self.state = State::Body(Box::new((verdict, body)));
        Ok(Some(said))
    }

    /// Says that no more bytes come, and accepts the capsule, if it still may be.
    ///
    /// # Errors
    /// As the verifier; KVC-807 for bytes that end early, KVC-944 after a refusal and after the end.
    pub fn finish(&mut self) -> Result<Verdict> {
        let (mut verdict, body) = match std::mem::replace(&mut self.state, State::Over) {
            State::Header(header) => return Err(header.end()),
            State::Body(judged) => *judged,
            State::Over => return Err(over()),
        };
        let checked = verdict.tip().resume_body(body)?.finish()?.checked();
        verdict.body_checked(&checked);
        let mut judge = self.terms.judge(self.model.as_ref())?;
        let accepted = judge.conclude(verdict)?;
        let body = Some((checked.chunks, checked.bytes));
        let (chain, unchecked) = (accepted.chain(), accepted.unchecked());
        Ok(Verdict::of(chain, unchecked, &judge, body))
    }
}

fn over() -> Error {
    Error::new(
        Code::LocalUsage,
        "this capsule was refused or is finished: verify another with a new one",
    )
}
