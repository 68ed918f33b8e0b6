//! Opening: a verified capsule's state into a file or into memory.

use std::path::PathBuf;

use kvcap::{Members, OpenedChain, SectionKind, Workers, WriteAt};
use kvcap_states::{Buffer, Selection, check_rotation, extract, open_state, state_len};
use kvcap_store::{
    Admitted, Judge, WrapKeys,
    output::{Output, Readers},
};
use pyo3::{prelude::*, types::PyByteArray};

use crate::{
    call::{Checkpoint, Source, Terms},
    error::{OrRaise, raised},
    memory::Bytes,
    profile::Profile,
    progress::Progress,
    verdict::Verdict,
};

/// What was opened.
#[pyclass(frozen, get_all, module = "kvcap")]
pub(crate) struct Opened {
    /// Judgement of the capsule.
    verdict: Verdict,
    /// The state, or the part that was asked for; None where it went to a file.
    state: Option<Py<PyByteArray>>,
    /// Its bytes.
    length: u64,
    /// Token ids that were sealed beside it, or None.
    tokens: Option<Vec<u32>>,
}

#[pymethods]
impl Opened {
    fn __repr__(&self) -> String {
        format!("<kvcap.Opened {} bytes>", self.length)
    }
}

/// Verifies a capsule and opens it: the runtime's state file into the file `to` or into memory, or layers or positions
/// alone as plain tensors (safetensors).
#[pyfunction]
#[pyo3(signature = (source, to = None, *, profile = None, tokens = None, layers = None, positions = None,
    accept_unchecked = vec![], chain = vec![], session = None, dtypes = None, replace = false, progress = None))]
#[expect(clippy::too_many_arguments, reason = "keyword arguments")]
pub(crate) fn open(
    py: Python<'_>,
    source: &Bound<'_, PyAny>,
    to: Option<PathBuf>,
    profile: Option<Py<Profile>>,
    tokens: Option<Vec<u32>>,
    layers: Option<(u32, u32)>,
    positions: Option<(u64, u64)>,
    accept_unchecked: Vec<String>,
    chain: Vec<PathBuf>,
    session: Option<Checkpoint>,
    dtypes: Option<(String, String)>,
    replace: bool,
    progress: Option<Py<PyAny>>,
) -> PyResult<Opened> {
    let source = Source::of(source)?;
    let terms = Terms::new(py, profile, &accept_unchecked, chain, session)?.of_types(dtypes);
    let progress = Progress::new(progress);
    let part = (layers.is_some() || positions.is_some()).then(|| Selection {
        layers: layers.map(|(from, to)| from..to),
        positions: positions.map(|(from, to)| from..to),
    });
    let model = py.detach(|| terms.model()).or_raise()?;
    let admitted = py.detach(|| -> kvcap::Result<_> {
        // before the capsule is recorded as used: an output that cannot be made is known early
        let output = to
            .as_deref()
            .map(|to| Output::create(to, replace, Readers::Owner));
        let output = output.transpose()?;
        let mut judge = terms.judge(model.as_ref())?;
        let (opened, verdict) = admit(source, &terms, &mut judge, tokens.as_deref())?;
        Ok((judge, output, opened, verdict))
    });
    let (judge, output, opened, verdict) = admitted.or_raise()?;
    let written = match &output {
        Some(output) => py
            .detach(|| write(&opened, part.as_ref(), output, &progress))
            .map_err(|error| raised(&output.at(error)))
            .map(|length| (length, None)),
        None => in_memory(py, &opened, &judge, part.as_ref(), &progress),
    };
    progress.finish()?;
    let (length, state) = written?;
    let tokens = py.detach(|| sealed_tokens(&opened)).or_raise()?;
    if let Some(output) = output {
        py.detach(|| output.commit()).or_raise()?;
    }
    Ok(Opened {
        verdict,
        state,
        length,
        tokens,
    })
}

fn admit(
    source: Source,
    terms: &Terms,
    judge: &mut Judge<'_>,
    tokens: Option<&[u32]>,
) -> kvcap::Result<(OpenedChain<Bytes>, Verdict)> {
    let paths = terms.profile().keys_to_open();
    let keys = terms
        .profile()
        .with_passphrase(|known| WrapKeys::read(&paths, known))?;
    let verdict = judge.verify(source.header()?)?;
    check_rotation(
        &verdict.tip().manifest().context,
        terms.profile().options()?.hadamard,
    )?;
    let (path, bytes) = (source.path, source.bytes);
    let ancestors = terms.ancestors(&path);
    let verdict = judge.with_ancestors(verdict.with_source(bytes), &ancestors, Bytes::File)?;
    let accepted = judge.conclude(verdict)?;
    let said = Verdict::of(accepted.chain(), accepted.unchecked(), judge, None);
    let Admitted {
        opened, unchecked, ..
    } = judge.open(accepted, keys, tokens, Workers::all())?;
    Ok((opened, said.now_unchecked(&unchecked, judge)))
}

/// Writes a state, or a part of it, and gives its length.
fn write(
    opened: &OpenedChain<Bytes>,
    part: Option<&Selection>,
    out: &dyn WriteAt,
    progress: &Progress,
) -> kvcap::Result<u64> {
    let members = opened.ancestors().iter().chain([opened.tip()]);
    let banks = members.flat_map(|member| member.manifest().context.banks());
    let all = banks
        .filter_map(|(_, bank)| bank.shape.plain_len(bank.dtype))
        .sum();
    let (workers, told) = (Workers::all(), &mut |more| progress.add(more, all));
    match part {
        Some(part) => extract(opened, part, out, workers, told).map(|taken| taken.len),
        None => open_state(opened, out, workers, told).map(|state| state.state_len),
    }
}

fn in_memory(
    py: Python<'_>,
    opened: &OpenedChain<Bytes>,
    judge: &Judge<'_>,
    part: Option<&Selection>,
    progress: &Progress,
) -> PyResult<(u64, Option<Py<PyByteArray>>)> {
    if part.is_some() {
        // its length is known once it is there
        let out = std::sync::Mutex::new(Vec::new());
        let length = py
            .detach(|| write(opened, part, &out, progress))
            .or_raise()?;
        let bytes = out.into_inner().unwrap_or_default();
        return Ok((length, Some(PyByteArray::new(py, &bytes).unbind())));
    }
    let length = py
        .detach(|| state_len(opened).and_then(|len| judge.check_state(len).map(|()| len)))
        .or_raise()?;
    let state = PyByteArray::new_with(py, usize::try_from(length)?, |bytes| {
        py.detach(|| write(opened, None, &Buffer::new(bytes), progress))
            .or_raise()?;
        Ok(())
    })?;
    Ok((length, Some(state.unbind())))
}

/// The token ids that were sealed with the state.
fn sealed_tokens(opened: &OpenedChain<Bytes>) -> kvcap::Result<Option<Vec<u32>>> {
    let bytes = opened.tip().section(&SectionKind::Tokens)?;
    Ok(bytes.map(|bytes| {
        let (ids, _) = bytes.as_chunks::<4>();
        ids.iter().map(|id| u32::from_le_bytes(*id)).collect()
    }))
}
