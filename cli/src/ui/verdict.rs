//! Verdicts and chains for people.

use std::collections::BTreeSet;

use kvcap::{Chain, Claims, Manifest, binding::Model};
use kvcap_store::{Judge, Unchecked, Verdict, time::show_instant};
use serde_json::json;

use super::{Report, grouped, quoted, time::show_distance};

/// Rows that say who vouched for what.
pub(crate) fn describe<S>(verdict: &Verdict<S>, report: &mut Report) {
    let Manifest {
        claims, context, ..
    } = verdict.tip().manifest();
    let Claims { id, key, terms, .. } = claims;
    let compared = verdict.has_checked(Unchecked::Model);
    let now = verdict.judged_at();
    report.row("capsule", id);
    report.row(
        "signed by",
        format_args!("key {key}, issuer {:?}", terms.issuer),
    );
    report.row(
        "valid",
        format_args!(
            "until {} ({})",
            show_instant(terms.expires),
            show_distance(now, terms.expires)
        ),
    );
    report.row("model", model(&context.model, compared));
    let captured: Vec<&str> = context.flags.names().collect();
    if !captured.is_empty() {
        report.row("captured", format_args!("with {}", captured.join(", ")));
    }
    report.fact("captured_with", captured);
    report.fact("capsule_id", id.to_string());
    report.fact("key_id", key.to_string());
    report.fact("issuer", terms.issuer.as_str());
    report.fact("expires", terms.expires);
    report.fact("judged_at", now);
    report.fact("model_id", context.model.id.to_string());
    report.fact("model_compared", compared);
}

/// The checks that were left out: those that nobody accepted are named on stderr too.
pub(crate) fn describe_unchecked(
    judge: &Judge<'_>,
    unchecked: &BTreeSet<Unchecked>,
    report: &mut Report,
) {
    let names: Vec<&str> = unchecked.iter().map(|check| check.name()).collect();
    report.fact("unchecked", names);
    let left = judge.unaccepted(unchecked);
    report.unchecked(left.into_iter().map(Unchecked::name));
}

fn model(model: &Model, compared: bool) -> String {
    let id: String = model.id.to_string().chars().take(16).collect();
    match compared {
        true => format!("{id} ({}): the expected one", quoted(&model.name)),
        false => format!(
            "not compared (no --model); the capsule says {id} ({})",
            quoted(&model.name)
        ),
    }
}

/// Rows that say what a verified chain is.
pub(crate) fn describe_chain<S>(chain: &Chain<S>, report: &mut Report) {
    let members: Vec<_> = chain.members().map(|(member, _)| member).collect();
    let end = members
        .first()
        .map_or(0, |m| m.manifest().context.positions.end);
    let start = members
        .last()
        .map_or(0, |m| m.manifest().context.positions.start);
    let own = &chain.tip().manifest().context.positions;
    let ids = members.iter().map(|m| m.manifest().claims.id.to_string());
    report.fact("positions", json!([own.start, own.end]));
    report.fact(
        "chain",
        json!({
            "depth": members.len(),
            "complete": chain.wanted().is_none(),
            "expires": chain.expires(),
            "positions": [start, end],
            "capsule_ids": ids.collect::<Vec<_>>(),
        }),
    );
    if members.len() == 1 && chain.wanted().is_none() {
        return;
    }
    let range = format!("positions {}..{}", grouped(start), grouped(end));
    report.row(
        "chain",
        match chain.wanted() {
            None => format!(
                "{} capsules, {range}, valid until {}",
                members.len(),
                show_instant(chain.expires()),
            ),
            Some(parent) => format!(
                "{} capsules, {range}; parent {} is not at hand",
                members.len(),
                parent.digest
            ),
        },
    );
}
