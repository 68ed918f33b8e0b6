//! What `kvcap seal` says of the capsule it made.

use std::time::Duration;

use kvcap::{Fallback, Terms};
use kvcap_models::ModelProfile;
use kvcap_states::{SealReport, State};
use kvcap_store::time;
use serde_json::json;

use crate::ui::{Report, bytes, grouped};

/// The report of a capsule.
pub(crate) fn of(
    state: &State,
    sealed: &SealReport,
    profile: &ModelProfile,
    terms: &Terms,
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
        format_args!("{} ({})", profile.model.id, profile.model.name),
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
    report.row("took", format_args!("{took:.1?}"));
    let notes = notes(state, sealed);
    for note in &notes {
        report.row("note", note);
    }
    report.fact("capsule", capsule.id.to_string());
    report.fact("runtime", state.runtime);
    report.fact("format", state.format);
    report.fact("tokens", tokens);
    report.fact(
        "positions",
        json!([state.positions.start, state.positions.end]),
    );
    report.fact("layers", state.layers);
    report.fact("banks", state.banks.len());
    report.fact("state_bytes", sealed.state_len);
    report.fact("file_bytes", capsule.file_len);
    report.fact("header_bytes", capsule.header_len);
    report.fact("chunks", capsule.chunks);
    report.fact("model", profile.model.id.to_string());
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
    report.fact("notes", notes);
    report
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
        let seen = f64::from_bits(fallback.seen.0);
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
            f64::from_bits(fallback.limit.0),
        )
    });
    said.collect()
}
