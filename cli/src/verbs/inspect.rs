//! `kvcap inspect`: what a capsule says of itself.

use std::path::{Path, PathBuf};

use kvcap::{Claims, Outline, Policy, Result, Trust, Untrusted};
use kvcap_store::{input::Capsule, time};
use serde_json::{Value, json};

use crate::{
    flags::{SourcesArgs, instant},
    ui::{Report, bytes, quoted, time::show_distance},
    verbs::{inspect_banks::Banks, inspect_rope},
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
    #[command(flatten)]
    trust: SourcesArgs,
    /// Tell the remaining validity as of this time instead of now
    #[arg(long, value_name = "TIME", value_parser = instant)]
    at: Option<u64>,
    /// One line a bank, instead of one a kind of bank
    #[arg(long)]
    all: bool,
    /// Verify the whole of it in a browser of this machine, in a page that this program serves until it is told to end;
    /// =PAGE for one of your own build
    #[arg(long, num_args = 0..=1, require_equals = true, value_name = "PAGE", conflicts_with_all = ["at", "all"])]
    web: Option<Option<PathBuf>>,
    /// With --web: the capsules that it continues, in any order
    #[arg(long, value_name = "FILE", num_args = 1.., requires = "web")]
    chain: Vec<PathBuf>,
}

/// # Errors
/// KVC-944: this program was built without the server.
#[cfg(not(feature = "server"))]
fn in_browser(_args: &Args, _page: Option<&Path>) -> Result<Report> {
    let what =
        "this program was built without the server: cargo build -p kvcap-cli --features server";
    Err(kvcap::Error::new(kvcap::Code::LocalUsage, what))
}

#[cfg(feature = "server")]
fn in_browser(args: &Args, page: Option<&Path>) -> Result<Report> {
    super::inspect_web::run(&args.capsule, &args.chain, page, &args.trust.sources())
}

/// # Errors
/// 1xx, 2xx, 5xx for a malformed header; with `--trust` 3xx as well; with `--web` 94x.
pub(crate) fn run(args: &Args) -> Result<Report> {
    if let Some(page) = &args.web {
        return in_browser(args, page.as_deref());
    }
    let (untrusted, _) = Capsule::read(&args.capsule)?.split();
    let claims = untrusted.claims().clone();
    let file_len = untrusted.file_len();
    let sources = args.trust.sources();
    let signed = !sources.is_empty();
    let outline = match signed {
        true => {
            let now = args.at.unwrap_or_else(time::now);
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
    if let Some(session) = &terms.session {
        report.row(
            "session",
            format_args!(
                "{:?}, version {}, replay from event {}",
                session.id, session.version, session.replay_cursor
            ),
        );
    }
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
    if terms.renew_until > terms.expires {
        report.row(
            "renewable",
            format_args!("until {}", time::show_instant(terms.renew_until)),
        );
    }
    let [id, _, _, name] = &outline.model;
    report.row("model", format_args!("{id} ({})", quoted(name)));
    for (digest, scale) in &outline.adapters {
        report.row(
            "adapter",
            format_args!("{digest} × {}", f64::from_bits(*scale)),
        );
    }
    report.row("tokenizer", &outline.tokenizer[0]);
    let [runtime, version, format] = &outline.runtime;
    let named: Vec<String> = [runtime, version]
        .into_iter()
        .filter(|name| !name.is_empty())
        .map(|name| quoted(name))
        .collect();
    report.row(
        "runtime",
        format!("{}, format {}", named.join(" "), quoted(format)),
    );
    if !outline.facts.is_empty() {
        let facts: Vec<String> = outline
            .facts
            .iter()
            .map(|(k, v)| format!("{}={}", quoted(k), quoted(v)))
            .collect();
        report.row("facts", facts.join(" "));
    }
    for rope in &outline.rope {
        report.row("rope", inspect_rope::line(rope));
    }
    report.row(
        "prompt",
        match outline.prefix {
            "none" => "not bound".to_owned(),
            how => format!("{} tokens, {how} commitment", outline.prefix_tokens),
        },
    );
    if !outline.capture.is_empty() {
        report.row(
            "captured",
            format_args!("with {}", outline.capture.join(", ")),
        );
    }
    let positions = &outline.positions;
    report.row(
        "positions",
        format_args!("{}..{}", positions.start, positions.end),
    );
    if let Some(parent) = &outline.parent {
        report.row("parent", parent);
    }
    if let Some(profile) = &outline.codec_profile {
        report.row("codec profile", profile);
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
    let entry = |(key, kind): &(String, &str)| json!({"key_id": key, "kind": kind});
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
        "capsule_id": claims.id.to_string(),
        "key_id": claims.key.to_string(),
        "claims": {
            "issuer": terms.issuer,
            "subject": terms.subject,
            "audience": terms.audience,
            "tenant": terms.tenant,
            "scope": terms.scope,
            "expires": terms.expires,
            "not_before": terms.not_before,
            "issued_at": terms.issued_at,
            "sequence": terms.sequence,
            "single_use": terms.single_use,
            "renew_until": terms.renew_until,
            "session": terms.session.as_ref().map(|session| json!({
                "id": session.id,
                "version": session.version,
                "replay_cursor": session.replay_cursor,
            })),
        },
        "model": {"id": model, "weights": weights, "config": config, "name": name, "adapters": adapters},
        "tokenizer": {"vocabulary": vocab, "version": version, "pre_tokenizer": pre_tokenizer},
        "runtime": {"name": runtime, "version": runtime_version, "format": format, "facts": facts},
        "rope": outline.rope.iter().map(inspect_rope::object).collect::<Vec<_>>(),
        "prefix": {"scheme": outline.prefix, "tokens": outline.prefix_tokens},
        "positions": [outline.positions.start, outline.positions.end],
        "captured_with": outline.capture,
        "context_length": outline.context_length,
        "layers": outline.layers.0,
        "stateless_layers": outline.layers.1,
        "suite": outline.suite,
        "recipients": recipients(&outline.recipients),
        "parent": outline.parent,
        "base": outline.base,
        "codec_profile": outline.codec_profile,
    })
}
