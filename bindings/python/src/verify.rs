//! Verification: of a whole capsule, and of bytes as they come.

use std::path::PathBuf;

use kvcap::{Code, Error, Fed, Limits, PausedBody, PushHeader, Workers};
use kvcap_models::ModelProfile;
use kvcap_states::check_rotation;
use kvcap_store::Verdict as Judged;
use pyo3::prelude::*;

use crate::{
    call::{Checkpoint, Source, Terms},
    error::OrRaise,
    memory::Bytes,
    profile::Profile,
    progress::Progress,
    verdict::Verdict,
};

/// Verifies a capsule with public keys alone: header, then every byte of the body and of its ancestors.
#[pyfunction]
#[pyo3(signature = (source, *, profile = None, header_only = false, accept_unchecked = vec![], chain = vec![],
    session = None, dtypes = None, progress = None))]
#[expect(clippy::too_many_arguments, reason = "keyword arguments")]
pub(crate) fn verify(
    py: Python<'_>,
    source: &Bound<'_, PyAny>,
    profile: Option<Py<Profile>>,
    header_only: bool,
    accept_unchecked: Vec<String>,
    chain: Vec<PathBuf>,
    session: Option<Checkpoint>,
    dtypes: Option<(String, String)>,
    progress: Option<Py<PyAny>>,
) -> PyResult<Verdict> {
    let source = Source::of(source)?;
    let terms = Terms::new(py, profile, &accept_unchecked, chain, session)?.of_types(dtypes);
    let progress = Progress::new(progress);
    let verdict = py
        .detach(|| whole(source, &terms, header_only, &progress))
        .or_raise();
    progress.finish()?;
    verdict
}

fn whole(
    source: Source,
    terms: &Terms,
    header_only: bool,
    progress: &Progress,
) -> kvcap::Result<Verdict> {
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
            counted = (counted.0 + body.chunks, counted.1 + body.bytes);
            checked = Some(body);
        }
    }
    if let Some(body) = &checked {
        verdict.body_checked(body);
    }
    let body = checked.map(|_| counted);
    let accepted = judge.conclude(verdict)?;
    Ok(Verdict::of(
        accepted.chain(),
        accepted.unchecked(),
        &judge,
        body,
    ))
}

/// A capsule verified as its bytes come: `feed` pieces of any length, then `finish`.
///
/// The header is judged with its last byte. A refusal is raised by the call that has seen it, and by every one after.
#[pyclass(module = "kvcap")]
pub(crate) struct Verifying {
    terms: Terms,
    model: Option<ModelProfile>,
    state: State,
}

enum State {
    Header(PushHeader),
    Body(Box<(Judged, PausedBody)>),
    Over,
}

#[pymethods]
impl Verifying {
    #[new]
    #[pyo3(signature = (*, profile = None, accept_unchecked = vec![], session = None))]
    fn new(
        py: Python<'_>,
        profile: Option<Py<Profile>>,
        accept_unchecked: Vec<String>,
        session: Option<Checkpoint>,
    ) -> PyResult<Self> {
        let terms = Terms::new(py, profile, &accept_unchecked, Vec::new(), session)?;
        let model = py.detach(|| terms.model()).or_raise()?;
        let state = State::Header(PushHeader::new(&Limits::default()));
        Ok(Self {
            terms,
            model,
            state,
        })
    }

    /// Takes the next bytes, and gives the header's verdict once it is judged, None before.
    fn feed(&mut self, py: Python<'_>, piece: &Bound<'_, PyAny>) -> PyResult<Option<Verdict>> {
        // a piece is copied: whoever verifies must read the bytes that were verified
        let piece = piece
            .py()
            .import("builtins")?
            .getattr("bytes")?
            .call1((piece,))?;
        let piece: pyo3::pybacked::PyBackedBytes = piece.extract()?;
        py.detach(|| self.take(&piece)).or_raise()
    }

    /// Says that no more bytes come, and accepts the capsule, if it still may be.
    fn finish(&mut self, py: Python<'_>) -> PyResult<Verdict> {
        py.detach(|| self.accept()).or_raise()
    }
}

impl Verifying {
    fn take(&mut self, mut piece: &[u8]) -> kvcap::Result<Option<Verdict>> {
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

    fn accept(&mut self) -> kvcap::Result<Verdict> {
        let (mut verdict, body) = match std::mem::replace(&mut self.state, State::Over) {
            State::Header(header) => return Err(header.end()),
            State::Body(judged) => *judged,
            State::Over => return Err(over()),
        };
        let checked = verdict.tip().resume_body(body)?.finish()?.checked();
        verdict.body_checked(&checked);
        let mut judge = self.terms.judge(self.model.as_ref())?;
        let accepted = judge.conclude(verdict)?;
        Ok(Verdict::of(
            accepted.chain(),
            accepted.unchecked(),
            &judge,
            Some((checked.chunks, checked.bytes)),
        ))
    }
}

fn over() -> Error {
    Error::new(
        Code::LocalUsage,
        "this capsule was refused or is finished: verify another with a new one",
    )
}
