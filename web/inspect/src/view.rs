//! What a capsule says, as JSON for the page.

use kvcap::{Claims, Outline, OutlineRope, OutlineStream, OutlineValue, Verified};
use serde_json::{Value, json};

pub(crate) fn claims(claims: &Claims) -> Value {
    let terms = &claims.terms;
    json!({
        "id": claims.id.to_string(),
        "key": claims.key.to_string(),
        "issuer": terms.issuer,
        "subject": terms.subject,
        "audience": terms.audience,
        "tenant": terms.tenant,
        "scope": terms.scope,
        "issued": terms.issued_at,
        "not_before": terms.not_before,
        "expires": terms.expires,
        "renew_until": terms.renew_until,
        "sequence": terms.sequence,
        "single_use": terms.single_use,
        "session": terms.session.as_ref().map(|session| json!({
            "id": session.id,
            "version": session.version,
            "cursor": session.replay_cursor,
        })),
    })
}

/// A verified member of a chain.
pub(crate) fn member(member: &Verified) -> Value {
    let manifest = member.manifest();
    let positions = &manifest.context.positions;
    json!({
        "id": manifest.claims.id.to_string(),
        "lineage": member.lineage().to_string(),
        "positions": [positions.start, positions.end],
        "expires": manifest.claims.terms.expires,
        "length": member.file_len(),
    })
}

pub(crate) fn outline(outline: &Outline) -> Value {
    let [model, weights, config, label] = &outline.model;
    let [vocabulary, tokenizer, pre_tokenizer] = &outline.tokenizer;
    let [runtime, version, format] = &outline.runtime;
    json!({
        "suite": outline.suite,
        "model": { "id": model, "weights": weights, "config": config, "label": label },
        "adapters": outline.adapters.iter().map(|(digest, factor)| json!({
            "digest": digest,
            "factor": f64::from_bits(*factor),
        })).collect::<Value>(),
        "tokenizer": { "vocabulary": vocabulary, "version": tokenizer, "pre_tokenizer": pre_tokenizer },
        "runtime": { "name": runtime, "version": version, "format": format },
        "facts": outline.facts,
        "rope": outline.rope.iter().map(rope).collect::<Value>(),
        "prefix": outline.prefix,
        "prefix_tokens": outline.prefix_tokens,
        "positions": [outline.positions.start, outline.positions.end],
        "capture": outline.capture,
        "context_length": outline.context_length,
        "layers": outline.layers.0,
        "stateless": outline.layers.1,
        "recipients": outline.recipients,
        "parent": outline.parent,
        "base": outline.base,
        "streams": outline.streams.iter().map(stream).collect::<Value>(),
    })
}

fn stream(stream: &OutlineStream) -> Value {
    json!({
        "kind": stream.kind,
        "name": stream.name,
        "bank": stream.bank,
        "dtype": stream.dtype,
        "shape": stream.shape,
        "rows": stream.rows,
        "codec": stream.codec,
        "asked": stream.asked,
        "plain": stream.plain_len,
        "encoded": stream.encoded_len,
        "chunk": stream.chunk_len,
    })
}

fn rope(rope: &OutlineRope) -> Value {
    json!({
        "layers": rope.layers,
        "pairing": rope.pairing,
        "dims": rope.rotary_dims,
        "theta": f64::from_bits(rope.theta),
        "scaling": rope.scaling,
        "parameters": rope.parameters.iter().map(|(name, value)| json!([name, parameter(value)])).collect::<Value>(),
        "offset": rope.offset,
        "rotated": rope.rotated,
    })
}

fn parameter(value: &OutlineValue) -> Value {
    match value {
        OutlineValue::Float(bits) => f64::from_bits(*bits).into(),
        OutlineValue::Floats(all) => all.iter().map(|bits| f64::from_bits(*bits)).collect(),
        OutlineValue::Count(count) => (*count).into(),
        OutlineValue::Counts(counts) => counts.iter().copied().collect(),
        OutlineValue::Flag(flag) => (*flag).into(),
        _ => Value::Null,
    }
}
