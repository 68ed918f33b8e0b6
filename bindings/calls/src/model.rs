//! What a capsule says of itself, and what a model is.

use std::path::Path;

use kvcap::{Code, Error, Result};

use crate::{
    profile::{Given, Profile},
    source::Source,
};

/// Statements of a capsule about itself: UNVERIFIED, nobody has vouched for any of them.
#[derive(Clone, Debug)]
pub struct Claims {
    /// The capsule's id.
    pub id: String,
    /// Id of the key that is said to have signed it.
    pub key: String,
    /// Issuer who is said to have sealed it.
    pub issuer: String,
    /// Audience that may restore it.
    pub audience: String,
    /// The tenant.
    pub tenant: Option<String>,
    /// Subject whose state it is.
    pub subject: Option<String>,
    /// Use that it may be put to.
    pub scope: String,
    /// Time of sealing, in seconds since 1970.
    pub issued_at: u64,
    /// Time of expiry.
    pub expires: u64,
    /// Time until which it may be renewed.
    pub renew_until: u64,
    /// True if it may be restored once only.
    pub single_use: bool,
    /// Session's id, version and replay cursor.
    pub session: Option<(String, u64, u64)>,
    /// Model id, in hexadecimal, and name.
    pub model: (String, String),
    /// Runtime's name, version and state format.
    pub runtime: (String, String, String),
    /// First position held and the one after the last.
    pub positions: (u64, u64),
    /// Tokens of the prompt, and how it is named: none, keyed, public.
    pub prompt: (u64, &'static str),
    /// Layers of the model.
    pub layers: u32,
    /// Ids and kinds of the keys that can open it.
    pub recipients: Vec<(String, &'static str)>,
    /// Lineage digest of the capsule that it continues.
    pub parent: Option<String>,
    /// Bytes of the whole capsule.
    pub length: u64,
}

/// Reads what a capsule says of itself: its header alone, no key. Nobody has vouched for any of it.
///
/// # Errors
/// KVC-1xx and KVC-2xx for a malformed header.
pub fn inspect(source: &Source) -> Result<Claims> {
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
}

/// Identity of a model (model-id-v1).
#[derive(Clone, Debug)]
pub struct Model {
    /// Model id, in hexadecimal.
    pub id: String,
    /// Digest of the weights.
    pub weights: String,
    /// Digest of the configuration.
    pub config: String,
    /// Name, which no check compares.
    pub name: String,
    /// Digest of the tokenizer's vocabulary.
    pub vocabulary: String,
}

/// Reads a model's identity: a folder, a GGUF file or a .kvid file; its weights are hashed once and then remembered.
///
/// # Errors
/// KVC-93x for the model, KVC-944 for settings.
pub fn model_id(model: &Path, mut settings: Given) -> Result<Model> {
    let path = model.to_str();
    let path = path.ok_or_else(|| Error::new(Code::LocalUsage, "the path is not text in UTF-8"))?;
    settings.set("model", vec![path.to_owned()])?;
    let read = Profile::new(settings, None)?.model()?;
    let read = read.ok_or_else(|| Error::new(Code::LocalUsage, "no model"))?;
    Ok(Model {
        id: read.model.id.to_string(),
        weights: read.model.weights.to_string(),
        config: read.model.config.to_string(),
        name: read.model.name,
        vocabulary: read.tokenizer.vocab.to_string(),
    })
}
