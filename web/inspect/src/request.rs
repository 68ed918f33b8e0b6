//! What the page asks for: whom to trust, for whom and when.

use kvcap::{
    Error, Expected, Policy, PublicKey, Result, RootPublic, Terms, Trust, TrustedKey,
    UntrustedRegistry,
};
use serde_json::Value;

/// Whom to trust, and what the viewer states.
#[derive(Debug, Default)]
pub struct Request {
    /// Seconds since 1970.
    pub now: u64,
    /// Texts of public key files; an empty line ends one.
    pub keys: String,
    /// The registry's root, as its key file has it.
    pub root: String,
    /// A registry; empty for none.
    pub registry: Vec<u8>,
    /// The viewer's own audience, subject and tenant, where they are stated.
    pub audience: Option<String>,
    /// The caller.
    pub subject: Option<String>,
    /// The caller's tenant.
    pub tenant: Option<String>,
}

impl Request {
    /// Reads what the page says; what is missing is not stated.
    #[must_use]
    pub fn of(json: &Value, registry: Vec<u8>) -> Self {
        let text = |name: &str| json.get(name).and_then(Value::as_str).unwrap_or_default();
        let stated = |name: &str| Some(text(name).to_owned()).filter(|text| !text.is_empty());
        Self {
            now: json.get("now").and_then(Value::as_u64).unwrap_or_default(),
            keys: text("keys").to_owned(),
            root: text("root").to_owned(),
            registry,
            audience: stated("audience"),
            subject: stated("subject"),
            tenant: stated("tenant"),
        }
    }

    /// Loads whom to trust.
    ///
    /// # Errors
    /// KVC-305, 311, 942 for keys; as [`UntrustedRegistry::verify`] for a registry; 942 where it has no root.
    pub(crate) fn trust(&self) -> Result<Trust> {
        let mut trust = Trust::none();
        for text in key_texts(&self.keys) {
            trust.add(key(&text)?)?;
        }
        if !self.registry.is_empty() {
            let root = RootPublic::from_text(&self.root)?;
            let registry = UntrustedRegistry::read(&self.registry)?;
            trust.merge(registry.verify(&root, self.now)?.trust())?;
        }
        Ok(trust)
    }

    /// The policy for a capsule that says this of itself.
    pub(crate) fn policy<'a>(&self, trust: &'a Trust, terms: &Terms) -> Policy<'a> {
        let Some(audience) = &self.audience else {
            return Policy::danger_as_stated(trust, self.now, terms);
        };
        let any = Expected::danger_any_model();
        let mut policy = Policy::new(trust, self.now, audience, any);
        policy.subject.clone_from(&self.subject);
        policy.tenant.clone_from(&self.tenant);
        policy
    }
}

/// A key file's text, or 64 digits of a bare key.
fn key(text: &str) -> Result<TrustedKey> {
    match bare(text.trim()) {
        Some(bytes) => {
            let key = PublicKey::from_bytes(&bytes)?;
            let issuer = key.own_issuer();
            Ok(TrustedKey::new(key, &issuer))
        }
        None => TrustedKey::from_text(text),
    }
}

fn bare(text: &str) -> Option<[u8; 32]> {
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    let mut bytes = [0; 32];
    for (byte, at) in bytes.iter_mut().zip((0..64).step_by(2)) {
        *byte = u8::from_str_radix(text.get(at..at + 2)?, 16).ok()?;
    }
    Some(bytes)
}

/// Several key files, one after the other: each ends with the line that holds its key.
fn key_texts(texts: &str) -> Vec<String> {
    let mut found = vec![String::new()];
    for line in texts.lines() {
        if let Some(last) = found.last_mut() {
            last.push_str(line);
            last.push('\n');
        }
        let comment =
            line.trim().is_empty() || line.starts_with('#') || line.starts_with("issuer: ");
        if !comment {
            found.push(String::new());
        }
    }
    found.retain(|text| !text.trim().is_empty());
    found
}

/// What an error says, for the page.
pub(crate) fn refusal(error: &Error) -> Value {
    serde_json::json!({
        "code": error.code().number(),
        "name": error.code().slug(),
        "what": error.what(),
        "place": error.place(),
        "expected": error.expected(),
        "found": error.found(),
    })
}
