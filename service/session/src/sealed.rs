//! Sections in which history, agent state and controller leave the device (session-v1 §9).

use kvcap::{
    Code, Context, Draft, Error, Manifest, Opened, ReadAt, Recipient, Result, Sealed, Sealer,
    Section, SectionKind, SigningKey, Suite, Terms, WriteAt,
    binding::{Digest, Model, Runtime, Tokenizer},
    text::printable,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    agent_state::AgentState,
    record::{Form, Record},
    value,
};

/// Name of the runtime of the history-only form.
pub const HISTORY_RUNTIME: &str = "kvcap";
/// State format of the history-only form.
pub const HISTORY_FORMAT: &str = "history";
/// Name of a controller's section.
pub const CONTROLLER: &str = "controller";
/// Longest CBOR of a controller, in bytes.
const MAX_CONTROLLER: usize = 1 << 20;

/// Sampler, generator and grammar of a runtime: with them a resume may promise the same tokens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Controller {
    form: Form,
    /// Name of the runtime.
    pub runtime: String,
    /// The runtime's settings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sampler: Option<Value>,
    /// State of its generator, in hexadecimal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub random: Option<String>,
    /// Place of its grammar.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grammar: Option<Value>,
}

impl Controller {
    /// Returns a controller of this runtime that holds nothing yet.
    #[must_use]
    pub fn of(runtime: &str) -> Self {
        Self {
            form: Form,
            runtime: runtime.to_owned(),
            sampler: None,
            random: None,
            grammar: None,
        }
    }

    /// Reads a controller from JSON, to be sealed beside a state of this runtime.
    ///
    /// # Errors
    /// KVC-950, for one of another runtime too; 951; 204.
    pub fn from_json(text: &[u8], runtime: &str) -> Result<Self> {
        let controller: Self = value::from_json(text, MAX_CONTROLLER)?;
        controller.check()?;
        if controller.runtime != runtime {
            let what = "the controller is of another runtime than the state";
            let error = Error::new(Code::SessionMalformed, what);
            return Err(error.sides(runtime, printable(&controller.runtime)));
        }
        Ok(controller)
    }

    /// Returns the controller as one line of JSON.
    ///
    /// # Errors
    /// KVC-950, 951; 204.
    pub fn to_json(&self) -> Result<String> {
        self.to_cbor()?;
        value::to_json(self)
    }

    /// Reads a controller from deterministic CBOR. One of another runtime than `runtime` is not used: `None`.
    ///
    /// # Errors
    /// KVC-950, 951; 201 to 206.
    pub fn from_cbor(bytes: &[u8], runtime: &str) -> Result<Option<Self>> {
        let controller: Self = value::from_cbor(bytes, MAX_CONTROLLER)?;
        controller.check()?;
        Ok((controller.runtime == runtime).then_some(controller))
    }

    /// Returns the deterministic CBOR of the controller.
    ///
    /// # Errors
    /// KVC-950, 951; 204.
    pub fn to_cbor(&self) -> Result<Vec<u8>> {
        self.check()?;
        value::to_cbor(self, MAX_CONTROLLER)
    }

    fn check(&self) -> Result<()> {
        let is_hex = |text: &String| text.bytes().all(|byte| byte.is_ascii_hexdigit());
        match self.random.as_ref().is_none_or(is_hex) {
            true => Ok(()),
            false => {
                let what = "a generator's state is not in hexadecimal digits";
                Err(Error::new(Code::SessionMalformed, what).at("controller"))
            }
        }
    }
}

impl Record {
    /// Returns the sections that a record goes into, to be sealed beside a state or alone: without its capsule, which is
    /// this one or stays behind.
    ///
    /// # Errors
    /// KVC-950, 951; 204.
    pub fn sections(&self) -> Result<Vec<(SectionKind, Vec<u8>)>> {
        let mut history = self.clone();
        history.capsule = None;
        Ok(vec![
            (SectionKind::History, history.to_cbor()?),
            (SectionKind::AgentState, self.agent_state.to_cbor()?),
        ])
    }
}

/// Seals a record without a state: the history-only form, which opens under any model.
///
/// # Errors
/// Those of [`Sealer`]; KVC-950, 951.
pub fn seal_history<'a, W: WriteAt>(
    out: W,
    record: &Record,
    suite: Suite,
    terms: Terms,
    signer: &'a SigningKey,
    recipients: &[impl Into<Recipient<'a>> + Copy],
) -> Result<(W, Sealed)> {
    let sections = record.sections()?;
    seal_sections(out, &sections, suite, terms, signer, recipients)
}

/// Seals sections as a capsule of the history-only form.
pub(crate) fn seal_sections<'a, W: WriteAt>(
    out: W,
    sections: &[(SectionKind, Vec<u8>)],
    suite: Suite,
    terms: Terms,
    signer: &'a SigningKey,
    recipients: &[impl Into<Recipient<'a>> + Copy],
) -> Result<(W, Sealed)> {
    let streams = sections.iter().map(|(kind, bytes)| {
        let len = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        Section::new(kind.clone(), len).into()
    });
    let none = Digest::labelled("kvcap v1 no model", &[]);
    let mut context = Context::new(
        Model::new(none, none, none),
        Tokenizer::new(none, 1),
        Runtime::new(HISTORY_RUNTIME, HISTORY_FORMAT),
        0..1,
        1,
        streams.collect(),
    );
    context.suite = suite;
    let sealer = Sealer::new(out, Draft::new(terms, context), signer, recipients)?;
    for (_, bytes) in sections {
        sealer.write(bytes)?;
        sealer.end_stream()?;
    }
    sealer.finish()
}

/// Returns true for a capsule of the history-only form.
#[must_use]
pub fn is_history_only(manifest: &Manifest) -> bool {
    let context = &manifest.context;
    let runtime = &context.runtime;
    let banks = context
        .streams
        .iter()
        .any(|stream| matches!(stream, kvcap::Stream::Bank(_)));
    runtime.name == HISTORY_RUNTIME && runtime.format == HISTORY_FORMAT && !banks
}

/// Checks that a capsule holds a state of a model.
///
/// # Errors
/// KVC-957 for one of the history-only form.
pub fn check_state(manifest: &Manifest) -> Result<()> {
    match is_history_only(manifest) {
        false => Ok(()),
        true => {
            let what = "the capsule holds a session's history and no state";
            Err(Error::new(Code::SessionNoState, what))
        }
    }
}

/// Returns the record that a capsule holds, of the history-only form or beside a state. Its own agent state is
/// the one that holds.
///
/// # Errors
/// KVC-956 where the capsule holds no history; 950, 951; 201 to 206; those of opening.
pub fn opened_history<S: ReadAt>(opened: &Opened<S>) -> Result<Record> {
    let Some(bytes) = opened.section(&SectionKind::History)? else {
        let what = "the capsule holds no history";
        return Err(Error::new(Code::SessionEmpty, what));
    };
    let record = Record::from_cbor(&bytes)?;
    let (claims, cursor) = (
        &opened.manifest().claims.terms.session,
        record.replay_cursor,
    );
    let is_it = |claims: &kvcap::Session| {
        (&claims.id, claims.version, claims.replay_cursor)
            == (&record.session, record.version, cursor)
    };
    match claims.as_ref().is_none_or(is_it) {
        true => Ok(record),
        false => {
            let what = "the history is of another checkpoint than the capsule";
            Err(Error::new(Code::SessionMalformed, what).at("history"))
        }
    }
}

/// Returns the controller that a capsule holds, if it is of the capsule's own runtime.
///
/// # Errors
/// KVC-950, 951; 201 to 206; those of opening.
pub fn opened_controller<S: ReadAt>(opened: &Opened<S>) -> Result<Option<Controller>> {
    let kind = SectionKind::Other(CONTROLLER.to_owned());
    let runtime = &opened.manifest().context.runtime.name;
    match opened.section(&kind)? {
        Some(bytes) => Controller::from_cbor(&bytes, runtime),
        None => Ok(None),
    }
}

/// Returns the agent state that a capsule holds by itself.
///
/// # Errors
/// KVC-950, 951; 201 to 206; those of opening.
pub fn opened_agent_state<S: ReadAt>(opened: &Opened<S>) -> Result<Option<AgentState>> {
    let bytes = opened.section(&SectionKind::AgentState)?;
    bytes.map(|bytes| AgentState::from_cbor(&bytes)).transpose()
}
