//! The vectors as a relay meets them: who is trusted, by a vector's own context.

use std::{collections::BTreeSet, fs, path::Path};

use kvcap::binding::Digest;
use kvcap_store::{TrustSources, Verifier};
use kvcap_testvectors::{context::Context, generate::manifest, hex::unhex};
use serde_json::Value;

/// A vector, as the index has it, and its context.
pub(crate) type Vector = (Value, Context);

/// Returns all vectors, and the context that they differ from.
pub(crate) fn vectors() -> (Context, Vec<Vector>) {
    let index = manifest();
    let default: Context = serde_json::from_value(index["default_context"].clone()).unwrap();
    let all = index["vectors"].as_array().unwrap().iter();
    let all = all.map(|vector| {
        (
            vector.clone(),
            Context::merged(&default, &vector["context"]),
        )
    });
    let all = all.collect();
    (default, all)
}

/// The code with which who has no secret refuses it; 0 where he sees nothing wrong.
pub(crate) fn code(vector: &Value) -> u64 {
    let stage = vector["stage"].as_str().unwrap();
    match ["trust", "header", "verify", "chain", "body"].contains(&stage) {
        true => vector["public"].as_u64().unwrap(),
        false => 0,
    }
}

/// The text of a public key, weak ones too.
fn key_text(tag: &str, key: &str) -> String {
    let bytes: [u8; 32] = unhex(key);
    let check = Digest::labelled("kvcap v1 key file", &[tag.as_bytes(), &bytes]);
    format!("{tag}{key}{}", &check.to_string()[..8])
}

/// A verifier of a vector's context; or why the relay's settings cannot say it.
pub(crate) fn verifier(context: &Context, home: &Path) -> Result<Verifier, &'static str> {
    let default = Context::default();
    let mut expected = context.expected.clone();
    expected.capsule = None;
    let plain = |trusted: &&kvcap_testvectors::context::Trusted| {
        trusted.for_capsules
            && trusted.suites == [1, 2]
            && trusted.not_before == 0
            && trusted.sign_until.is_none()
            && trusted.verify_until.is_none()
            && !trusted.compromised
    };
    for (said, why) in [
        (context.later.is_none(), "the clock does not go on"),
        (
            context.memory.is_none(),
            "a ledger judges by the machine's clock",
        ),
        (context.limits.is_empty(), "limits are the specification's"),
        (
            context.skew == default.skew,
            "the skew is the specification's",
        ),
        (context.suites == default.suites, "all suites are allowed"),
        (
            expected == default.expected,
            "a relay expects no model and no prompt",
        ),
        (context.expected.capsule.is_none(), "another test has ids"),
        (
            context.trust.iter().all(|key| plain(&key)),
            "a key's limits stand in a registry",
        ),
    ] {
        if !said {
            return Err(why);
        }
    }
    let named: BTreeSet<&String> = context.trust.iter().map(|trusted| &trusted.key).collect();
    if named.len() != context.trust.len() {
        return Err("a key that is named twice is one key");
    }
    let mut sources = TrustSources::default();
    for (number, key) in context.trust.iter().enumerate() {
        let file = home.join(format!("{number}.pub"));
        let text = key_text("kvcap-pub-1", &key.key);
        fs::write(&file, format!("issuer: {}\n{text}\n", key.issuer)).unwrap();
        sources.keys.push(file.to_str().unwrap().to_owned());
    }
    if let Some(registry) = &context.registry {
        if !sources.keys.is_empty() {
            return Err("where a root is given, no key is trusted beside it");
        }
        if registry.seen.is_some() || registry.seen_roots.is_some() || registry.files.len() > 1 {
            return Err("without a ledger no version is remembered");
        }
        let file = home.join("registry");
        fs::write(&file, context.file(&registry.files[0])).unwrap();
        sources.registries.push(file);
        let root = match &registry.statement {
            Some(digest) => key_text("kvcap-roots-1", digest),
            None => key_text("kvcap-root-1", &registry.root),
        };
        let issuers = registry
            .issuers
            .iter()
            .map(|issuer| format!("issuer: {issuer}\n"));
        sources.roots.push(issuers.collect::<String>() + &root);
    }
    if sources.is_empty() {
        return Err("nobody is trusted");
    }
    Ok(Verifier {
        audiences: context.audiences.clone(),
        scope: context.scope.clone(),
        max_lifetime: context.max_lifetime,
        at: Some(context.now),
        ..Verifier::new(sources)
    })
}
