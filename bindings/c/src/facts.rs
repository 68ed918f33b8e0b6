//! What a call tells: named facts, each with any number of values.

use std::ffi::{CString, c_char};

use kvcap_calls::{Checkpoint, Claims, Key, Model, Registry, Sealed, Verdict};

use crate::{
    given::some_text,
    status::{Out, lent, text},
};

/// Named facts, each with any number of values: what the result of a call holds (bindings/c/README.md).
pub struct kvcap_facts(Vec<(String, Vec<Value>)>);

struct Value {
    text: CString,
    number: u64,
}

/// Facts that are gathered.
#[derive(Default)]
pub(crate) struct Facts(Vec<(String, Vec<Value>)>);

impl Facts {
    pub(crate) fn put(self, out: Out<'_, kvcap_facts>) {
        if let Some(out) = out {
            out.write(Some(Box::new(kvcap_facts(self.0))));
        }
    }

    pub(crate) fn texts<T: AsRef<str>>(&mut self, name: &str, values: impl IntoIterator<Item = T>) {
        let value = |value: T| Value {
            number: value.as_ref().parse().unwrap_or(0),
            text: text(value.as_ref()),
        };
        let values = values.into_iter().map(value).collect();
        self.0.push((name.to_owned(), values));
    }

    pub(crate) fn text(&mut self, name: &str, value: Option<impl AsRef<str>>) {
        self.texts(name, value);
    }

    pub(crate) fn numbers(&mut self, name: &str, values: impl IntoIterator<Item = u64>) {
        self.texts(name, values.into_iter().map(|value| value.to_string()));
    }

    fn session(&mut self, session: Option<(String, u64, u64)>) {
        let (id, numbers) = session.map_or((None, None), |(id, version, cursor)| {
            (Some(id), Some((version, cursor)))
        });
        self.text("session", id);
        self.numbers("session_version", numbers.map(|(version, _)| version));
        self.numbers("replay_cursor", numbers.map(|(_, cursor)| cursor));
    }
}

impl From<Verdict> for Facts {
    fn from(verdict: Verdict) -> Self {
        let mut facts = Self::default();
        facts.texts("id", [verdict.id]);
        facts.texts("key", [verdict.key]);
        facts.texts("issuer", [verdict.issuer]);
        facts.texts("audience", [verdict.audience]);
        facts.text("tenant", verdict.tenant);
        facts.text("subject", verdict.subject);
        facts.numbers("expires", [verdict.expires]);
        facts.numbers("judged_at", [verdict.judged_at]);
        facts.texts("model_id", [verdict.model_id]);
        facts.texts("model_name", [verdict.model_name]);
        facts.texts("runtime", [verdict.runtime.0]);
        facts.texts("runtime_version", [verdict.runtime.1]);
        facts.numbers("positions", [verdict.positions.0, verdict.positions.1]);
        facts.texts("chain", verdict.chain);
        facts.session(verdict.session);
        facts.texts("unchecked", verdict.unchecked);
        facts.texts("unaccepted", verdict.unaccepted);
        let body = verdict.body.into_iter();
        facts.numbers("body", body.flat_map(|(chunks, bytes)| [chunks, bytes]));
        facts
    }
}

impl From<Sealed> for Facts {
    fn from(sealed: Sealed) -> Self {
        let mut facts = Self::default();
        facts.texts("id", [sealed.id]);
        facts.numbers("length", [sealed.length]);
        facts.numbers("state_length", [sealed.state_length]);
        facts.numbers("positions", [sealed.positions.0, sealed.positions.1]);
        facts.numbers("expires", [sealed.expires]);
        facts.texts("notes", sealed.notes);
        facts
    }
}

impl From<Claims> for Facts {
    fn from(claims: Claims) -> Self {
        let mut facts = Self::default();
        facts.texts("id", [claims.id]);
        facts.texts("key", [claims.key]);
        facts.texts("issuer", [claims.issuer]);
        facts.texts("audience", [claims.audience]);
        facts.text("tenant", claims.tenant);
        facts.text("subject", claims.subject);
        facts.texts("scope", [claims.scope]);
        facts.numbers("issued_at", [claims.issued_at]);
        facts.numbers("expires", [claims.expires]);
        facts.numbers("renew_until", [claims.renew_until]);
        facts.numbers("single_use", [u64::from(claims.single_use)]);
        facts.session(claims.session);
        facts.texts("model_id", [claims.model.0]);
        facts.texts("model_name", [claims.model.1]);
        facts.texts("runtime", [claims.runtime.0]);
        facts.texts("runtime_version", [claims.runtime.1]);
        facts.texts("format", [claims.runtime.2]);
        facts.numbers("positions", [claims.positions.0, claims.positions.1]);
        facts.numbers("prompt_tokens", [claims.prompt.0]);
        facts.texts("prompt", [claims.prompt.1]);
        facts.numbers("layers", [u64::from(claims.layers)]);
        let recipients = claims.recipients.iter();
        facts.texts("recipients", recipients.clone().map(|(id, _)| id));
        facts.texts("recipient_kinds", recipients.map(|(_, kind)| kind));
        facts.text("parent", claims.parent);
        facts.numbers("length", [claims.length]);
        facts
    }
}

impl From<Model> for Facts {
    fn from(model: Model) -> Self {
        let mut facts = Self::default();
        facts.texts("id", [model.id]);
        facts.texts("weights", [model.weights]);
        facts.texts("config", [model.config]);
        facts.texts("name", [model.name]);
        facts.texts("vocabulary", [model.vocabulary]);
        facts
    }
}

impl From<Key> for Facts {
    fn from(key: Key) -> Self {
        let mut facts = Self::default();
        facts.texts("id", [key.id]);
        facts.text("public", key.public);
        facts.text("issuer", key.issuer);
        let path = key.public_path.map(|path| path.display().to_string());
        facts.text("public_path", path);
        facts
    }
}

impl From<Checkpoint> for Facts {
    fn from(made: Checkpoint) -> Self {
        let mut facts = Self::default();
        facts.numbers("version", [made.version]);
        facts.numbers("at", [made.at]);
        facts.numbers("replay_cursor", [made.replay_cursor]);
        facts.numbers("turns", [made.turns]);
        facts.numbers("messages", [made.messages]);
        facts.text("capsule", made.capsule);
        facts.numbers("token_count", [made.token_count]);
        facts
    }
}

impl From<Registry> for Facts {
    fn from(registry: Registry) -> Self {
        let mut facts = Self::default();
        facts.numbers("version", [registry.version]);
        facts.texts("root", [registry.root]);
        facts.numbers("issued_at", [registry.issued_at]);
        facts.numbers("expires", [registry.expires]);
        facts.texts("keys", registry.keys);
        facts.texts("revoked", registry.revoked);
        facts
    }
}

impl kvcap_facts {
    fn values(&self, name: *const c_char) -> &[Value] {
        let name = some_text(name, "name").ok().flatten().unwrap_or_default();
        let named = self.0.iter().find(|(known, _)| *known == name);
        named.map_or(&[], |(_, values)| values)
    }
}

/// Returns how many values a fact has: 0 where it is not known.
#[unsafe(no_mangle)]
pub extern "C" fn kvcap_facts_count(facts: Option<&kvcap_facts>, name: *const c_char) -> usize {
    facts.map_or(0, |facts| facts.values(name).len())
}

/// Returns a value as text, or NULL where there is none. It belongs to the facts.
#[unsafe(no_mangle)]
pub extern "C" fn kvcap_facts_text(
    facts: Option<&kvcap_facts>,
    name: *const c_char,
    index: usize,
) -> *const c_char {
    let value = facts.and_then(|facts| facts.values(name).get(index));
    lent(value.map(|value| &value.text))
}

/// Returns a value as a number, or 0 where there is none.
#[unsafe(no_mangle)]
pub extern "C" fn kvcap_facts_number(
    facts: Option<&kvcap_facts>,
    name: *const c_char,
    index: usize,
) -> u64 {
    let value = facts.and_then(|facts| facts.values(name).get(index));
    value.map_or(0, |value| value.number)
}

/// Frees facts.
#[unsafe(no_mangle)]
pub extern "C" fn kvcap_facts_free(facts: Option<Box<kvcap_facts>>) {
    drop(facts);
}
