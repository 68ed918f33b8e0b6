//! `kvcap demo --server`: a conversation with a model that goes on after its server has ended.

use std::{ffi::OsString, path::Path, time::Duration};

use kvcap::{Error, Result};
use kvcap_server::{EngineSetup, Evaluated, RoundTrip};
use serde_json::{Value, json};

use crate::{
    flags::EngineArgs,
    ui::{Report, grouped, table},
    verbs::serve::own_in,
};

/// Sentences of the text that the conversation is about.
const SENTENCES: usize = 60;

/// # Errors
/// KVC-944 where no model is named or no llama-server is there; those of engine and gateway.
pub(crate) fn run(args: &EngineArgs) -> Result<Report> {
    let Some(engine) = args.setup(1) else {
        return crate::ui::usage("no model is named: a GGUF file", "--model");
    };
    let folder = tempfile::tempdir().map_err(|error| Error::sink(&error, "temporary folder"))?;
    let trip = RoundTrip::over(&text(), &|| own(folder.path(), engine.clone()))?;
    Ok(report(&trip))
}

/// A gateway whose keys, sessions and capsules are in a folder: the user's own are none of the demo's.
fn own(folder: &Path, engine: EngineSetup) -> Result<kvcap_server::Own> {
    let env = |name: &str| match name {
        "HOME" | "XDG_CONFIG_HOME" | "XDG_STATE_HOME" => Some(OsString::from(folder)),
        _ => None,
    };
    let here = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
    own_in(&env, None, here, engine)
}

/// A text that a model has not seen: it has to evaluate all of it.
fn text() -> String {
    let line = |number: usize| {
        let (shelf, box_of, weight) = (number * 7 % 31, number * 13 % 17, number * 29 % 97);
        format!(
            "Entry {number}: on shelf {shelf} stands box {box_of}, which weighs {weight} kilograms. "
        )
    };
    let entries: String = (1..=SENTENCES).map(line).collect();
    format!("You keep this list and answer from it. {entries}")
}

fn report(trip: &RoundTrip) -> Report {
    let time = |took: Duration| format!("{:.2} s", took.as_secs_f64());
    let mut rows = Vec::new();
    let mut told = |what: &str, result: String, took: Duration| {
        rows.push(vec![what.to_owned(), result, time(took)]);
    };
    let saved = &trip.saved;
    let sealed = format!(
        "{} tokens, {} bytes, encrypted and signed",
        grouped(saved.positions),
        grouped(saved.bytes)
    );
    told("the server starts", String::new(), trip.starting);
    told("a first question", counted(&trip.first), trip.first.took);
    told("a checkpoint", sealed, saved.took);
    told("the server ends", String::new(), trip.ending);
    told("another one starts", String::new(), trip.starting_again);
    told(
        "the next question",
        counted(&trip.resumed),
        trip.resumed.took,
    );
    told(
        "the same from nothing",
        counted(&trip.from_nothing),
        trip.from_nothing.took,
    );
    let mut lines = vec![
        "A conversation with a model in llama-server, and its server ends in the middle:"
            .to_owned(),
        String::new(),
    ];
    lines.extend(table::lines(
        &[
            ("what happens", '<'),
            ("by the engine's own count", '<'),
            ("took", '>'),
        ],
        &rows,
    ));
    let same = match trip.is_same {
        true => "The words were the same.",
        false => {
            "The words were not the same: numbers that are computed in other batches round otherwise."
        }
    };
    lines.extend([String::new(), same.to_owned()]);
    if trip.resumed.restored == 0 {
        lines.push(
            "Nothing was restored: of a model with a sliding window, --engine-arg=--swa-full keeps what it needs.".to_owned(),
        );
    }
    lines.extend([
        String::new(),
        "Now yours:".to_owned(),
        "  kvcap serve --model MODEL    an OpenAI-compatible address; your client names a session"
            .to_owned(),
    ]);
    let mut report = Report::new();
    for line in lines {
        report.line(line);
    }
    let seconds = |took: Duration| took.as_secs_f64();
    report.fact("starting_seconds", seconds(trip.starting));
    report.fact("first", fact(&trip.first));
    report.fact(
        "saved",
        json!({"seconds": seconds(saved.took), "positions": saved.positions, "bytes": saved.bytes}),
    );
    report.fact("ending_seconds", seconds(trip.ending));
    report.fact("starting_again_seconds", seconds(trip.starting_again));
    report.fact("resumed", fact(&trip.resumed));
    report.fact("from_nothing", fact(&trip.from_nothing));
    report.fact("same_words", trip.is_same);
    report
}

fn counted(way: &Evaluated) -> String {
    let code = match way.code.as_str() {
        "" => String::new(),
        code => format!(" ({code})"),
    };
    format!(
        "{}{code}: {} restored, {} evaluated",
        way.rung,
        grouped(way.restored),
        grouped(way.evaluated)
    )
}

fn fact(way: &Evaluated) -> Value {
    json!({
        "seconds": way.took.as_secs_f64(), "rung": way.rung, "code": way.code, "restored": way.restored,
        "evaluated": way.evaluated,
    })
}
