//! Sealing: a state, in a file or in memory, into a capsule.

use std::path::{Path, PathBuf};

use kvcap::{CaptureFlags, Code, Error, Result, SectionKind, Session, Suite, Workers, WriteAt};
use kvcap_codecs::{Padding, Preset};
use kvcap_models::ModelProfile;
use kvcap_session::open_to_continue;
use kvcap_states::{
    Capture, Continued, Encoding, Hints, Lineage, Prompt, SealReport, SealRequest, State, detect,
    parse, seal_state,
};
use kvcap_store::{
    Parties, Verifier,
    output::{Output, Readers},
    profile::Setting,
};

use crate::{
    progress::{Progress, Watched},
    source::Source,
    terms::Terms,
};

/// A capsule that was sealed.
#[derive(Clone, Debug)]
pub struct Sealed {
    /// The capsule's id.
    pub id: String,
    /// Its bytes.
    pub length: u64,
    /// Bytes of the state file that it stands for.
    pub state_length: u64,
    /// First position and the one after the last.
    pub positions: (u64, u64),
    /// Time of expiry, in seconds since 1970.
    pub expires: u64,
    /// Things that a user should know of the state, a sentence each.
    pub notes: Vec<String>,
}

/// Statements on a state beside what it says itself.
#[derive(Clone, Debug, Default)]
pub struct Said {
    /// Ids of the tokens that it has seen.
    pub tokens: Option<Vec<u32>>,
    /// Binds the capsule to no prompt.
    pub danger_no_prefix: bool,
    /// Name of the runtime; found in the state where there is none.
    pub runtime: Option<String>,
    /// Its version.
    pub runtime_version: Option<String>,
    /// Compresses what the codec leaves, padded by Padmé.
    pub compress: bool,
    /// The conversation, sealed beside the state.
    pub history: Option<Vec<u8>>,
    /// The agent's own state, sealed beside the state.
    pub agent_state: Option<Vec<u8>>,
    /// Session's id, version and replay cursor that it is a checkpoint of.
    pub session: Option<(String, u64, u64)>,
    /// Number within its session.
    pub sequence: Option<u64>,
    /// May be restored once only.
    pub single_use: bool,
    /// A capsule that the state goes on from: what is new is sealed.
    pub parent: Option<PathBuf>,
}

/// Seals a runtime's saved state into an output. Memory must not change until this returns.
///
/// # Errors
/// KVC-92x for the state, KVC-93x for the model, KVC-94x for keys and settings; KVC-944 where the caller has ended the
/// call.
pub fn seal(
    source: &Source,
    terms: &Terms,
    said: Said,
    out: &dyn WriteAt,
    progress: &Progress<'_>,
) -> Result<Sealed> {
    let sections = [
        (SectionKind::History, said.history.clone()),
        (SectionKind::AgentState, said.agent_state.clone()),
    ];
    let sections = sections
        .into_iter()
        .filter_map(|(kind, bytes)| Some((kind, bytes?)));
    let parent = said.parent.clone();
    let prepared = Prepared::new(source, terms, said)?;
    let continued = parent.map(|parent| prepared.continued(&parent));
    let continued = continued.transpose()?;
    let statements = prepared.parties.terms.clone();
    let expires = statements.expires;
    let report = prepared.seal(out, statements, sections.collect(), continued, progress)?;
    let state = prepared.state;
    Ok(Sealed {
        id: report.sealed.id.to_string(),
        length: report.sealed.file_len,
        state_length: report.state_len,
        positions: (state.positions.start, state.positions.end),
        expires,
        notes: state.notes,
    })
}

/// Seals a runtime's saved state into the file `to`, which appears whole or not at all.
///
/// # Errors
/// As [`seal`]; KVC-941 where the file exists and is not to be replaced.
pub fn seal_to_file(
    source: &Source,
    terms: &Terms,
    said: Said,
    to: (&Path, bool),
    progress: &Progress<'_>,
) -> Result<Sealed> {
    let output = Output::create(to.0, to.1, Readers::Umask)?;
    let sealed = seal(source, terms, said, &output, progress);
    let sealed = sealed.map_err(|error| output.at(error))?;
    output.commit()?;
    Ok(sealed)
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
    pub(crate) fn new(source: &'a Source, terms: &'a Terms, said: Said) -> Result<Self> {
        let prompt = match (said.tokens, said.danger_no_prefix) {
            (Some(_), true) => {
                let what =
                    "tokens bind the capsule to a prompt, and it is asked to be bound to none";
                return Err(Error::new(Code::LocalUsage, what));
            }
            (Some(tokens), false) => Prompt::Tokens(tokens),
            (None, true) => Prompt::DangerNone,
            (None, false) => Prompt::FromState,
        };
        let profile = terms.profile();
        let mut parties = profile.parties()?;
        let session = said.session;
        parties.terms.session = session.map(|(id, version, replay_cursor)| Session {
            id,
            version,
            replay_cursor,
        });
        parties.terms.sequence = said.sequence;
        parties.terms.single_use = said.single_use;
        let model = terms.model()?.ok_or_else(|| {
            let what = "sealing needs a setting that nobody has made";
            Error::new(Code::LocalUsage, what).at(Setting::Model.key())
        })?;
        let (set, version) = profile
            .runtime()?
            .map_or((None, None), |(kind, version)| (Some(kind), version));
        let bytes = &source.bytes;
        let named = said.runtime.map(|name| name.parse()).transpose()?;
        let kind = named.or(set).map_or_else(|| detect(bytes), Ok);
        let state = kind
            .and_then(|kind| parse(kind, bytes, Hints::Model(&model.geometry)))
            .map_err(|error| source.at(error))?;
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
    pub(crate) fn continued(&self, parent: &Path) -> Result<Continued> {
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
        progress: &Progress<'_>,
    ) -> Result<SealReport> {
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
        let (out, told) = (Watched { out, progress }, &mut |more| {
            progress.add(more, all);
        });
        let sealed = seal_state(out, request, told).map_err(|error| self.source.at(error));
        progress.check()?;
        sealed.map(|(_, report)| report)
    }
}
