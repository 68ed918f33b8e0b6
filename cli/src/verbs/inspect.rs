//! `kvcap inspect`: what a capsule says of itself.

use std::path::PathBuf;

use kvcap::{Claims, Outline, Policy, Result, Trust, Untrusted};
use kvcap_store::{TrustSources, input::Capsule, time};
use serde_json::{Value, json};

use crate::{
    flags::instant,
    ui::{Report, bytes, time::show_distance},
    verbs::inspect_banks::Banks,
};

/// Shows what a capsule says of itself
///
/// Reads the header alone, and no secret. Without --trust nobody has vouched for any of it: the
/// statements are shown as unverified claims. With --trust the signature is checked, and they are the
/// issuer's; whether the capsule is valid now, for you and for your model is what `kvcap verify` tells.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The capsule; - for stdin
    capsule: PathBuf,
    /// Who may have signed it: a KEY.pub file, the key's text, or a key registry (with
    /// --registry-root)
    #[arg(long, value_name = "PUB|REGISTRY")]
    trust: Vec<String>,
    /// The root whose signature a registry must have: a ROOT.pub file, or its text
    #[arg(long, value_name = "PUB", requires = "trust")]
    registry_root: Vec<String>,
    /// Tell the remaining validity as of this time instead of now
    #[arg(long, value_name = "TIME", value_parser = instant)]
    at: Option<u64>,
    /// One line a bank, instead of one a kind of bank
    #[arg(long)]
    all: bool,
}

/// # Errors
/// 1xx, 2xx, 5xx for a malformed header; with `--trust` 3xx as well.
pub(crate) fn run(args: &Args) -> Result<Report> {
    let (untrusted, _) = Capsule::read(&args.capsule)?.split();
    let claims = untrusted.claims().clone();
    let file_len = untrusted.file_len();
    let signed = !args.trust.is_empty();
    let outline = match signed {
        true => {
            let now = args.at.unwrap_or_else(time::now);
            let sources = TrustSources {
                items: args.trust.clone(),
                roots: args.registry_root.clone(),
            };
            let trust = sources.load(None, now)?;
            signed_outline(untrusted, &trust)?
        }
        false => untrusted.outline()?,
    };
    let banks = Banks::of(&outline, args.all);
    let mut report = Report::new();
    report.line(match signed {
        true => "signature good: what follows is the issuer's statement (header only; kvcap verify checks the rest)",
        false => "UNVERIFIED claims: the file says this of itself, and nobody has vouched for it (see --trust)",
    });
    describe(
        &mut report,
        &claims,
        &outline,
        args.at.unwrap_or_else(time::now),
    );
    report.row("size", bytes(file_len));
    banks.describe(&mut report);
    let mut said = statements(&claims, &outline);
    if let Value::Object(said) = &mut said {
        said.insert("file_bytes".to_owned(), json!(file_len));
        said.extend(banks.facts());
    }
    report.fact("verified", if signed { "signature" } else { "nothing" });
    report.fact(if signed { "signed" } else { "unverified" }, said);
    Ok(report)
}

/// The statements under a good signature. Terms are shown, not judged: each is compared with itself.
fn signed_outline(untrusted: Untrusted, trust: &Trust) -> Result<Outline> {
    let terms = untrusted.claims().terms.clone();
    let since = terms.issued_at.max(terms.not_before);
    let mut policy = Policy::danger_as_stated(trust, since, &terms);
    policy.max_lifetime = u64::MAX;
    Ok(Outline::of(untrusted.verify(&policy)?.manifest()))
}

fn describe(report: &mut Report, claims: &Claims, outline: &Outline, now: u64) {
    let terms = &claims.terms;
    report.row("capsule", claims.id);
    report.row("signed by", format_args!("key {}", claims.key));
    report.row(
        "issuer",
        format_args!("{:?}, for audience {:?}", terms.issuer, terms.audience),
    );
    let named = [("subject", &terms.subject), ("tenant", &terms.tenant)];
    for (label, value) in named {
        if let Some(value) = value {
            report.row(label, format_args!("{value:?}"));
        }
    }
    let once = if terms.single_use { ", single use" } else { "" };
    report.row("scope", format_args!("{:?}{once}", terms.scope));
    if let Some(sequence) = terms.sequence {
        report.row("sequence", sequence);
    }
    report.row("sealed", time::show_instant(terms.issued_at));
    if terms.not_before != terms.issued_at {
        report.row("not before", time::show_instant(terms.not_before));
    }
    let until = time::show_instant(terms.expires);
    report.row(
        "expires",
        format_args!("{until} ({})", show_distance(now, terms.expires)),
    );
    if let Some(until) = terms.renew_until {
        report.row(
            "renewable",
            format_args!("until {}", time::show_instant(until)),
        );
    }
    let [id, _, _, name] = &outline.model;
    report.row("model", format_args!("{id} ({name})"));
    for (digest, scale) in &outline.adapters {
        report.row(
            "adapter",
            format_args!("{digest} × {}", f64::from_bits(*scale)),
        );
    }
    report.row("tokenizer", &outline.tokenizer[0]);
    let [runtime, version, format] = &outline.runtime;
    report.row(
        "runtime",
        format!("{runtime} {version}").trim_end().to_owned() + ", format " + format,
    );
    if !outline.facts.is_empty() {
        let facts: Vec<String> = outline
            .facts
            .iter()
            .map(|(k, v)| format!("{k}={v}"))
            .collect();
        report.row("facts", facts.join(" "));
    }
    for rope in &outline.rope {
        report.row("rope", numbers(rope));
    }
    report.row(
        "prompt",
        match outline.prefix {
            "none" => "not bound".to_owned(),
            how => format!("{} tokens, {how} commitment", outline.prefix_tokens),
        },
    );
    let positions = &outline.positions;
    report.row(
        "positions",
        format_args!("{}..{}", positions.start, positions.end),
    );
    if let Some(parent) = &outline.parent {
        report.row("parent", parent);
    }
    report.row("suite", outline.suite);
    report.row("wrapped for", keys_and_kinds(&outline.recipients));
}

/// `KEY (KIND), …`
pub(super) fn keys_and_kinds(recipients: &[(String, &str)]) -> String {
    let shown = recipients
        .iter()
        .map(|(key, kind)| format!("{key} ({kind})"));
    shown.collect::<Vec<_>>().join(", ")
}

pub(super) fn recipients(recipients: &[(String, &str)]) -> Value {
    let entry = |(key, kind): &(String, &str)| json!({"key": key, "type": kind});
    recipients.iter().map(entry).collect()
}

pub(super) fn statements(claims: &Claims, outline: &Outline) -> Value {
    let terms = &claims.terms;
    let [model, weights, config, name] = &outline.model;
    let [vocab, version, pre_tokenizer] = &outline.tokenizer;
    let [runtime, runtime_version, format] = &outline.runtime;
    let adapters: Vec<Value> = outline
        .adapters
        .iter()
        .map(|(digest, scale)| json!({"digest": digest, "scale": f64::from_bits(*scale)}))
        .collect();
    let facts: serde_json::Map<String, Value> = outline
        .facts
        .iter()
        .map(|(name, value)| (name.clone(), json!(value)))
        .collect();
    json!({
        "capsule": claims.id.to_string(),
        "key": claims.key.to_string(),
        "claims": {
            "issuer": terms.issuer,
            "subject": terms.subject,
            "audience": terms.audience,
            "tenant": terms.tenant,
            "organisation": terms.tenant,
            "scope": terms.scope,
            "expires": terms.expires,
            "not_before": terms.not_before,
            "issued_at": terms.issued_at,
            "sequence": terms.sequence,
            "single_use": terms.single_use,
            "renew_until": terms.renew_until,
        },
        "model": {"id": model, "weights": weights, "config": config, "name": name, "adapters": adapters},
        "tokenizer": {"vocabulary": vocab, "version": version, "pre_tokenizer": pre_tokenizer},
        "runtime": {"name": runtime, "version": runtime_version, "format": format, "facts": facts},
        "rope": outline.rope.iter().map(|rope| numbers(rope)).collect::<Vec<_>>(),
        "prefix": {"scheme": outline.prefix, "tokens": outline.prefix_tokens},
        "positions": [outline.positions.start, outline.positions.end],
        "context_length": outline.context_length,
        "layers": outline.layers.0,
        "stateless_layers": outline.layers.1,
        "suite": outline.suite,
        "recipients": recipients(&outline.recipients),
        "parent": outline.parent,
        "base": outline.base,
    })
}

/// A rope's description with its floats as numbers: the library, which knows no floats, shows their
/// bits, as `bits 40c3880000000000` and `F64Bits(0x40c3880000000000)`.
fn numbers(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    loop {
        let marks = [("bits ", ""), ("F64Bits(0x", ")")];
        let found = marks.iter().filter_map(|(mark, end)| {
            let (before, after) = rest.split_once(mark)?;
            let (digits, after) = after.split_at_checked(16)?;
            let bits = u64::from_str_radix(digits, 16).ok()?;
            Some((before, f64::from_bits(bits), after.strip_prefix(end)?))
        });
        let Some((before, number, after)) = found.min_by_key(|(before, ..)| before.len()) else {
            return out + rest;
        };
        out.push_str(&format!("{before}{number}"));
        rest = after;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_shown_as_numbers() {
        let text = "theta bits 40c3880000000000, Linear { factor: F64Bits(0x4000000000000000) }";
        assert_eq!(numbers(text), "theta 10000, Linear { factor: 2 }");
        assert_eq!(numbers("bits 12"), "bits 12");
    }
}
