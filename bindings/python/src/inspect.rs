//! What a capsule says of itself, and what a model is.

use std::path::PathBuf;

use pyo3::{prelude::*, types::PyDict};

use crate::{call::Source, error::OrRaise, profile::Profile};

/// Statements of a capsule about itself: UNVERIFIED, nobody has vouched for any of them.
#[pyclass(frozen, get_all, module = "kvcap")]
pub(crate) struct Claims {
    /// The capsule's id.
    id: String,
    /// Id of the key that is said to have signed it.
    key: String,
    /// Who is said to have sealed it.
    issuer: String,
    /// Who may restore it.
    audience: String,
    /// The tenant, or None.
    tenant: Option<String>,
    /// Whose state it is, or None.
    subject: Option<String>,
    /// What it may be used for.
    scope: String,
    /// When it was sealed, in seconds since 1970.
    issued_at: u64,
    /// When it expires.
    expires: u64,
    /// Until when it may be renewed.
    renew_until: u64,
    /// Whether it may be restored once only.
    single_use: bool,
    /// Session's id, version and replay cursor, or None.
    session: Option<(String, u64, u64)>,
    /// Model id, in hexadecimal, and name.
    model: (String, String),
    /// Runtime's name, version and state format.
    runtime: (String, String, String),
    /// First position held and the one after the last.
    positions: (u64, u64),
    /// Tokens of the prompt, and how it is named: none, keyed, public.
    prompt: (u64, &'static str),
    /// Layers of the model.
    layers: u32,
    /// Ids and kinds of the keys that can open it.
    recipients: Vec<(String, &'static str)>,
    /// Lineage digest of the capsule that it continues, or None.
    parent: Option<String>,
    /// Bytes of the whole capsule.
    length: u64,
}

#[pymethods]
impl Claims {
    fn __repr__(&self) -> String {
        format!("<kvcap.Claims {}: unverified>", self.id)
    }
}

/// Reads what a capsule says of itself: its header alone, no key. Nobody has vouched for any of it.
#[pyfunction]
pub(crate) fn inspect(py: Python<'_>, source: &Bound<'_, PyAny>) -> PyResult<Claims> {
    let source = Source::of(source)?;
    py.detach(|| -> kvcap::Result<Claims> {
        let untrusted = source.header()?;
        let (claims, outline) = (untrusted.claims().clone(), untrusted.outline()?);
        let terms = claims.terms;
        let [model, _, _, name] = outline.model;
        let [runtime, version, format] = outline.runtime;
        Ok(Claims {
            id: claims.id.to_string(),
            key: claims.key.to_string(),
            issuer: terms.issuer,
            audience: terms.audience,
            tenant: terms.tenant,
            subject: terms.subject,
            scope: terms.scope,
            issued_at: terms.issued_at,
            expires: terms.expires,
            renew_until: terms.renew_until,
            single_use: terms.single_use,
            session: terms.session.map(|s| (s.id, s.version, s.replay_cursor)),
            model: (model, name),
            runtime: (runtime, version, format),
            positions: (outline.positions.start, outline.positions.end),
            prompt: (outline.prefix_tokens, outline.prefix),
            layers: outline.layers.0,
            recipients: outline.recipients,
            parent: outline.parent,
            length: untrusted.file_len(),
        })
    })
    .or_raise()
}

/// Identity of a model (model-id-v1).
#[pyclass(frozen, get_all, module = "kvcap")]
pub(crate) struct Model {
    /// Model id, in hexadecimal.
    id: String,
    /// Digest of the weights.
    weights: String,
    /// Digest of the configuration.
    config: String,
    /// Name, which no check compares.
    name: String,
    /// Digest of the tokenizer's vocabulary.
    vocabulary: String,
}

#[pymethods]
impl Model {
    fn __repr__(&self) -> String {
        format!("<kvcap.Model {} {:?}>", self.id, self.name)
    }
}

/// Reads a model's identity: a folder, a GGUF file or a .kvid file; its weights are hashed once and then remembered.
#[pyfunction]
#[pyo3(signature = (model, **settings))]
pub(crate) fn model_id(
    py: Python<'_>,
    model: PathBuf,
    settings: Option<Bound<'_, PyDict>>,
) -> PyResult<Model> {
    let settings = settings.unwrap_or_else(|| PyDict::new(py));
    settings.set_item("model", model)?;
    let profile = py.get_type::<Profile>().call((), Some(&settings))?;
    let profile: Py<Profile> = profile.extract()?;
    let read = py.detach(|| profile.get().model(&|_, _| {})).or_raise()?;
    let read = read.ok_or_else(|| pyo3::exceptions::PyValueError::new_err("no model"))?;
    Ok(Model {
        id: read.model.id.to_string(),
        weights: read.model.weights.to_string(),
        config: read.model.config.to_string(),
        name: read.model.name,
        vocabulary: read.tokenizer.vocab.to_string(),
    })
}
