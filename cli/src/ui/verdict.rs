//! Verdicts and chains for people.

use std::collections::BTreeSet;

use kvcap::{Chain, Claims, Manifest, binding::Model};
use kvcap_store::{Unchecked, Verdict, time::show_instant};
use serde_json::json;

use super::{Report, grouped, time::show_distance};

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
    report.fact("capsule", id.to_string());
    report.fact("key", key.to_string());
    report.fact("issuer", terms.issuer.as_str());
    report.fact("expires", terms.expires);
    report.fact("judged_at", now);
    report.fact("model", context.model.id.to_string());
    report.fact("model_compared", compared);
}

/// The fact that names the checks that were left out.
pub(crate) fn describe_unchecked(unchecked: &BTreeSet<Unchecked>, report: &mut Report) {
    let names: Vec<&str> = unchecked.iter().map(|check| check.name()).collect();
    report.fact("unchecked", names);
}

fn model(model: &Model, compared: bool) -> String {
    let id: String = model.id.to_string().chars().take(16).collect();
    match compared {
        true => format!("{id} ({}): the expected one", model.name),
        false => format!(
            "not compared (no --model); the capsule says {id} ({})",
            model.name
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
    report.fact("positions", json!([start, end]));
    report.fact("chain", members.len());
    report.fact("chain_whole", chain.wanted().is_none());
    report.fact("chain_expires", chain.expires());
    let ids = members.iter().map(|m| m.manifest().claims.id.to_string());
    report.fact("chain_capsules", ids.collect::<Vec<_>>());
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
