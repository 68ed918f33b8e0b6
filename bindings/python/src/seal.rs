//! Sealing: a state, in a file or in memory, into a capsule.

use std::{
    path::{Path, PathBuf},
    sync::Mutex,
};

use kvcap::{CaptureFlags, Code, Error, SectionKind, Session, Suite, Workers, WriteAt};
use kvcap_codecs::{Padding, Preset};
use kvcap_models::ModelProfile;
use kvcap_session::open_to_continue;
use kvcap_states::{
    Capture, Continued, Encoding, Hints, Lineage, Prompt, RuntimeKind, SealReport, SealRequest,
    State, detect, parse, seal_state,
};
use kvcap_store::{
    Verifier,
    output::{Output, Readers},
    profile::{Parties, Setting},
};
use pyo3::{exceptions::PyValueError, prelude::*, types::PyBytes};

use crate::{
    call::{Source, Terms},
    error::OrRaise,
    profile::Profile,
    progress::Progress,
};

/// What was sealed.
#[pyclass(frozen, get_all, module = "kvcap")]
pub(crate) struct Sealed {
    /// The capsule's id.
    id: String,
    /// The capsule; None where it went to a file.
    capsule: Option<Py<PyBytes>>,
    /// Its bytes.
    length: u64,
    /// Bytes of the state file that it stands for.
    state_length: u64,
    /// First position and the one after the last.
    positions: (u64, u64),
    /// When it expires, in seconds since 1970.
    expires: u64,
    /// Things that a user should know of the state, a sentence each.
    notes: Vec<String>,
}

#[pymethods]
impl Sealed {
    fn __repr__(&self) -> String {
        format!("<kvcap.Sealed {}, {} bytes>", self.id, self.length)
    }
}

/// What is said of a state beside what it says itself.
#[derive(Default)]
pub(crate) struct Said {
    pub(crate) tokens: Option<Vec<u32>>,
    pub(crate) danger_no_prefix: bool,
    pub(crate) runtime: Option<RuntimeKind>,
    pub(crate) runtime_version: Option<String>,
    pub(crate) compress: bool,
    pub(crate) sections: Vec<(SectionKind, Vec<u8>)>,
    pub(crate) session: Option<Session>,
    pub(crate) sequence: Option<u64>,
    pub(crate) single_use: bool,
    pub(crate) parent: Option<PathBuf>,
}

/// Seals a runtime's saved state, a file or an object in memory, into the file `to` or into memory.
#[pyfunction]
#[pyo3(signature = (state, to = None, *, profile = None, tokens = None, danger_no_prefix = false, runtime = None,
    runtime_version = None, compress = false, history = None, agent_state = None, session = None, sequence = None,
    single_use = false, parent = None, chain = vec![], replace = false, progress = None))]
#[expect(clippy::too_many_arguments, reason = "keyword arguments")]
pub(crate) fn seal(
    py: Python<'_>,
    state: &Bound<'_, PyAny>,
    to: Option<PathBuf>,
    profile: Option<Py<Profile>>,
    tokens: Option<Vec<u32>>,
    danger_no_prefix: bool,
    runtime: Option<&str>,
    runtime_version: Option<String>,
    compress: bool,
    history: Option<Vec<u8>>,
    agent_state: Option<Vec<u8>>,
    session: Option<(String, u64, u64)>,
    sequence: Option<u64>,
    single_use: bool,
    parent: Option<PathBuf>,
    chain: Vec<PathBuf>,
    replace: bool,
    progress: Option<Py<PyAny>>,
) -> PyResult<Sealed> {
    if tokens.is_some() && danger_no_prefix {
        return Err(PyValueError::new_err(
            "tokens bind the capsule to a prompt, danger_no_prefix to none",
        ));
    }
    let source = Source::of(state)?;
    let terms = Terms::new(py, profile, &[], chain, None)?;
    let sections = [
        (SectionKind::History, history),
        (SectionKind::AgentState, agent_state),
    ];
    let said = Said {
        tokens,
        danger_no_prefix,
        runtime: runtime.map(str::parse).transpose().or_raise()?,
        runtime_version,
        compress,
        sections: sections
            .into_iter()
            .filter_map(|(kind, bytes)| Some((kind, bytes?)))
            .collect(),
        session: session.map(|(id, version, replay_cursor)| Session {
            id,
            version,
            replay_cursor,
        }),
        sequence,
        single_use,
        parent,
    };
    let progress = Progress::new(progress);
    let sealed = py.detach(|| to_place(&source, to, replace, &terms, said, &progress));
    progress.finish()?;
    let (place, made) = sealed.or_raise()?;
    let capsule = match place {
        Place::File(output) => {
            py.detach(|| output.commit()).or_raise()?;
            None
        }
        Place::Memory(bytes) => {
            let bytes = bytes.into_inner().unwrap_or_default();
            Some(PyBytes::new(py, &bytes).unbind())
        }
    };
    let Made {
        report,
        state,
        expires,
    } = made;
    Ok(Sealed {
        id: report.sealed.id.to_string(),
        capsule,
        length: report.sealed.file_len,
        state_length: report.state_len,
        positions: (state.positions.start, state.positions.end),
        expires,
        notes: state.notes,
    })
}

/// Where a capsule goes.
enum Place {
    File(Output),
    Memory(Mutex<Vec<u8>>),
}

struct Made {
    report: SealReport,
    state: State,
    expires: u64,
}

fn to_place(
    source: &Source,
    to: Option<PathBuf>,
    replace: bool,
    terms: &Terms,
    said: Said,
    progress: &Progress,
) -> kvcap::Result<(Place, Made)> {
    let place = match to {
        Some(to) => Place::File(Output::create(&to, replace, Readers::Umask)?),
        None => Place::Memory(Mutex::default()),
    };
    let (sections, parent) = (said.sections.clone(), said.parent.clone());
    let prepared = Prepared::new(source, terms, said)?;
    let continued = parent
        .map(|parent| prepared.continued(&parent))
        .transpose()?;
    let statements = prepared.parties.terms.clone();
    let report = match &place {
        Place::File(output) => prepared
            .seal(output, statements, sections, continued, progress)
            .map_err(|error| output.at(error)),
        Place::Memory(bytes) => prepared.seal(bytes, statements, sections, continued, progress),
    }?;
    let made = Made {
        report,
        expires: prepared.parties.terms.expires,
        state: prepared.state,
    };
    Ok((place, made))
}

/// A state that is read, and all that it takes to seal it.
pub(crate) struct Prepared<'a> {
    source: &'a Source,
    terms: &'a Terms,
    pub(crate) parties: Parties,
    model: ModelProfile,
    state: State,
    prompt: Prompt,
    runtime_version: String,
    encoding: Encoding,
}

impl<'a> Prepared<'a> {
    /// Reads the keys, the model and the state.
    pub(crate) fn new(source: &'a Source, terms: &'a Terms, said: Said) -> kvcap::Result<Self> {
        let profile = terms.profile();
        let mut parties = profile.parties()?;
        parties.terms.session = said.session;
        parties.terms.sequence = said.sequence;
        parties.terms.single_use = said.single_use;
        let model = terms.model()?.ok_or_else(|| {
            Error::new(
                Code::LocalUsage,
                "sealing needs a setting that nobody has made",
            )
            .at(Setting::Model.key())
        })?;
        let (set, version) = profile
            .runtime()?
            .map_or((None, None), |(kind, version)| (Some(kind), version));
        let bytes = &source.bytes;
        let kind = said.runtime.or(set).map_or_else(|| detect(bytes), Ok);
        let state = kind
            .and_then(|kind| parse(kind, bytes, Hints::Model(&model.geometry)))
            .map_err(|error| source.at(error))?;
        let prompt = match said.tokens {
            _ if said.danger_no_prefix => Prompt::DangerNone,
            Some(tokens) => Prompt::Tokens(tokens),
            None => Prompt::FromState,
        };
        let name = profile.text(Setting::Encoding).unwrap_or("exact");
        let preset = Preset::from_name(name).ok_or_else(|| {
            Error::new(Code::LocalUsage, "no such encoding").at(Setting::Encoding.key())
        })?;
        Ok(Self {
            source,
            terms,
            parties,
            model,
            state,
            prompt,
            runtime_version: said.runtime_version.or(version).unwrap_or_default(),
            encoding: Encoding {
                compress: said.compress.then_some(Padding::Padme),
                ..Encoding::of(preset)
            },
        })
    }

    /// Checks that the state goes on from the capsule `parent`, which the signer's own key may have signed.
    pub(crate) fn continued(&self, parent: &Path) -> kvcap::Result<Continued> {
        let (profile, verifier) = (self.terms.profile(), &self.terms.verifier);
        // as its issuer, who is asked for nothing but his own key
        let verifier = Verifier {
            budget: verifier.budget,
            ..Verifier::new(verifier.trust.clone())
        };
        let opened = profile.with_passphrase(|passphrases| {
            open_to_continue(
                &verifier,
                &self.terms.ancestors(parent),
                &self.parties.terms,
                &self.parties.signer,
                &profile.keys_to_open(),
                passphrases,
                Workers::all(),
            )
        })?;
        let (state, bytes) = (&self.state, &self.source.bytes);
        Continued::check(state, bytes, &opened, Workers::all(), &mut |_| {})
    }

    /// Seals the state into an output.
    pub(crate) fn seal(
        &self,
        out: &dyn WriteAt,
        statements: kvcap::Terms,
        sections: Vec<(SectionKind, Vec<u8>)>,
        continued: Option<Continued>,
        progress: &Progress,
    ) -> kvcap::Result<SealReport> {
        let options = self.terms.profile().options()?;
        let capture = Capture {
            suite: Suite::ChaCha20Poly1305,
            prompt: self.prompt.clone(),
            public_prefix: false,
            sections,
            runtime_version: self.runtime_version.clone(),
            facts: Vec::new(),
            hadamard: options.hadamard,
            flags: CaptureFlags::default(),
            context_length: options.ctx_size.unwrap_or(0),
            lineage: Lineage {
                base: false,
                continued,
            },
        };
        let plain = self.state.banks.iter().filter_map(|placed| {
            let bank = &placed.bank;
            bank.shape.plain_len(bank.dtype)
        });
        let all = plain.sum();
        let (state, bytes, signer) = (&self.state, &self.source.bytes, &self.parties.signer);
        let request = SealRequest::new(state, bytes, &self.model, capture, statements, signer)
            .to(&self.parties.recipients())
            .encoding(self.encoding);
        let told = &mut |more| progress.add(more, all);
        let sealed = seal_state(out, request, told).map_err(|error| self.source.at(error));
        sealed.map(|(_, report)| report)
    }
}
