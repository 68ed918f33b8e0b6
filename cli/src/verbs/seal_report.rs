//! What `kvcap seal` says of the capsule it made.

use std::time::Duration;

use kvcap::Terms;
use kvcap_models::ModelProfile;
use kvcap_states::{Fallback, SealReport, State};
use kvcap_store::{Continuation, time};
use serde_json::json;

use crate::ui::{Report, bytes, grouped, quality, quoted};

/// The report of a capsule.
pub(crate) fn of(
    state: &State,
    sealed: &SealReport,
    profile: &ModelProfile,
    terms: &Terms,
    chain: Option<&Continuation>,
    took: Duration,
) -> Report {
    let mut report = Report::new();
    let capsule = &sealed.sealed;
    let tokens = state.positions.end.saturating_sub(state.positions.start);
    report.row(
        "state",
        format_args!(
            "{} ({}), {} tokens, {} layers, {} banks, {}",
            state.runtime,
            state.format,
            grouped(tokens),
            state.layers,
            state.banks.len(),
            bytes(sealed.state_len),
        ),
    );
    report.row("capsule", capsule.id);
    report.row(
        "size",
        format_args!(
            "{}, of which header {}; {} chunks",
            bytes(capsule.file_len),
            bytes(capsule.header_len),
            grouped(capsule.chunks),
        ),
    );
    report.row(
        "model",
        format_args!("{} ({})", profile.model.id, quoted(&profile.model.name)),
    );
    report.row(
        "terms",
        format_args!(
            "issuer {:?}, audience {:?}, scope {:?}, until {}",
            terms.issuer,
            terms.audience,
            terms.scope,
            time::show_instant(terms.expires),
        ),
    );
    quality::describe(sealed.worst.as_ref(), &mut report);
    report.row("took", format_args!("{took:.1?}"));
    for note in notes(state, sealed) {
        report.note(note);
    }
    if let Some(chain) = chain {
        describe_chain(chain, terms, &mut report);
    }
    report.fact("capsule_id", capsule.id.to_string());
    report.fact("runtime", state.runtime);
    report.fact("format", state.format);
    report.fact("tokens", tokens);
    let (start, end) = (state.positions.start, state.positions.end);
    let own = chain.map_or(start, |chain| chain.parent_end);
    report.fact("positions", json!([own, end]));
    report.fact("parent", chain.map(|chain| chain.parent.to_string()));
    let (mut ids, mut depth, mut expires) = (vec![capsule.id.to_string()], 1, terms.expires);
    if let Some(chain) = chain {
        ids.extend(chain.capsules.iter().map(ToString::to_string));
        (depth, expires) = (chain.depth(), chain.expires);
    }
    report.fact(
        "chain",
        json!({
            "depth": depth,
            "complete": true,
            "expires": expires,
            "positions": [chain.map_or(start, |chain| chain.start), end],
            "capsule_ids": ids,
        }),
    );
    report.fact("layers", state.layers);
    report.fact("banks", state.banks.len());
    report.fact("state_bytes", sealed.state_len);
    report.fact("file_bytes", capsule.file_len);
    report.fact("header_bytes", capsule.header_len);
    report.fact("chunks", capsule.chunks);
    report.fact("model_id", profile.model.id.to_string());
    report.fact("expires", terms.expires);
    report.fact("seconds", took.as_secs_f64());
    report.fact("fallbacks", sealed.fallbacks.len());
    let padded = |tokens| {
        sealed
            .leftovers
            .iter()
            .filter(|left| left.tokens == tokens)
            .count()
    };
    report.fact(
        "padding_nonzero",
        json!({"tokens": padded(true), "scales": padded(false)}),
    );
    report
}

/// Says where the capsule stands in its chain, and warns where the chain will not last.
fn describe_chain(chain: &Continuation, terms: &Terms, report: &mut Report) {
    let (depth, most) = (chain.depth(), chain.most());
    let until = time::show_instant(chain.expires);
    report.row("parent", chain.parent);
    report.row(
        "chain",
        format_args!("{depth} capsules of at most {most}, valid until {until}"),
    );
    if chain.expires < terms.expires {
        report.warn(format_args!(
            "the chain ends at {until}, when an older capsule of it expires, before this one: \
             kvcap renew extends that one"
        ));
    }
    if chain.is_deep() {
        report.warn(format_args!(
            "the chain has {depth} capsules of at most {most}: kvcap compact makes them one"
        ));
    }
}

fn notes(state: &State, sealed: &SealReport) -> Vec<String> {
    let mut notes = state.notes.clone();
    let padded = |tokens| {
        sealed
            .leftovers
            .iter()
            .filter(|left| left.tokens == tokens)
            .count()
    };
    match padded(true) {
        0 => {}
        banks => notes.push(format!(
            "rows past the offset were not zero in {banks} banks (they may hold rolled-back \
             tokens): they are not sealed and come back as zeros"
        )),
    }
    match padded(false) {
        0 => {}
        banks => notes.push(format!(
            "empty rows of {banks} banks held a quantizer's constants: they come back as zeros"
        )),
    }
    notes.extend(fallbacks(sealed));
    notes
}

/// One sentence for each codec that was given up.
fn fallbacks(sealed: &SealReport) -> Vec<String> {
    let mut given_up: Vec<(&Fallback, usize, f64)> = Vec::new();
    for (_, fallback) in &sealed.fallbacks {
        let seen = fallback.seen;
        match given_up
            .iter_mut()
            .find(|known| known.0.from == fallback.from)
        {
            Some((_, banks, worst)) => {
                *banks += 1;
                *worst = worst.max(seen);
            }
            None => given_up.push((fallback, 1, seen)),
        }
    }
    let said = given_up.into_iter().map(|(fallback, banks, worst)| {
        format!(
            "{banks} banks took a finer codec than {}, whose error ({worst:.3}) is over the bound {:.3}",
            fallback.from.name(),
            fallback.limit,
        )
    });
    said.collect()
}
