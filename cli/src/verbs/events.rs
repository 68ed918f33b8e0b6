//! `kvcap events`: the log of a session.

use std::path::PathBuf;

use clap::ValueEnum;
use kvcap::{Code, Error, Result};
use kvcap_session::{Body, Event, Kind, Session};
use kvcap_store::{input, time};
use serde_json::{Value, json};

use crate::{
    flags::{OwnerArgs, tier},
    ui::{Report, table, usage},
};

/// Longest body that is read from a file.
const LONGEST: u64 = 1 << 20;

/// Appends to the log of a session, or lists it
///
/// An event is what was said, what a tool answered, what was reached. The session is made with the first; when `append`
/// returns, no crash loses the event.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What to do with the log
    #[arg(value_enum)]
    action: Action,
    /// The session
    #[arg(value_name = "SESSION")]
    name: String,
    /// append: what was said
    #[arg(conflicts_with = "body")]
    text: Option<String>,
    /// append: a JSON object with the members of a message but its role, or of a milestone; - for stdin
    #[arg(long, value_name = "FILE")]
    body: Option<PathBuf>,
    /// append: what happened
    #[arg(long, value_name = "KIND", value_parser = ["user", "assistant", "tool", "milestone", "note"])]
    kind: Option<String>,
    /// list: the events after this number alone
    #[arg(long, value_name = "N")]
    after: Option<u64>,
    #[command(flatten)]
    owner: OwnerArgs,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Action {
    Append,
    List,
}

/// # Errors
/// KVC-955 where there is no such session; 947, 95x; 94x.
pub(crate) fn run(args: &Args) -> Result<Report> {
    let other = match args.action {
        Action::Append => args.after.is_some(),
        Action::List => args.text.is_some() || args.body.is_some() || args.kind.is_some(),
    };
    match args.action {
        _ if other => usage("what is said belongs to the other action", "append, list"),
        Action::Append => append(args),
        Action::List => list(args),
    }
}

fn append(args: &Args) -> Result<Report> {
    let Some(kind) = args.kind.as_deref().and_then(Kind::named) else {
        return usage("say which kind of event it is", "--kind");
    };
    let body = match (&args.text, &args.body) {
        (Some(text), None) => Body::Text(text.clone()),
        (None, Some(path)) => {
            let bytes = input::small(path, LONGEST)?;
            let object = serde_json::from_slice(&bytes).map_err(|_| {
                let what = "an event's body is a JSON object";
                Error::new(Code::SessionMalformed, what).at(path.display())
            })?;
            Body::Members(object)
        }
        _ => return usage("say what happened", "TEXT, --body"),
    };
    let now = time::now();
    let mut session = Session::load_or_create(&tier()?, &args.owner.names(&args.name), now)?;
    let event = session.append(now, kind, body)?;
    let mut report = Report::new();
    report.row("session", &args.name);
    report.row("event", event.seq);
    report.fact("session", args.name.clone());
    report.fact("events", Value::Array(vec![entry(&event)]));
    Ok(report)
}

fn list(args: &Args) -> Result<Report> {
    let mut events = args.owner.load(&args.name)?.events()?;
    events.retain(|event| args.after.is_none_or(|after| event.seq > after));
    let mut report = Report::new();
    let head = [("event", '>'), ("at", '<'), ("kind", '<'), ("text", '<')];
    let row = |event: &Event| {
        vec![
            event.seq.to_string(),
            time::show_instant(event.at),
            event.kind.name().to_owned(),
            kvcap::text::printable(event.text()).into_owned(),
        ]
    };
    let rows: Vec<Vec<String>> = events.iter().map(row).collect();
    for line in table::lines(&head, &rows) {
        report.line(line);
    }
    report.fact("session", args.name.clone());
    report.fact("events", events.iter().map(entry).collect::<Vec<Value>>());
    Ok(report)
}

fn entry(event: &Event) -> Value {
    json!({
        "seq": event.seq,
        "at": event.at,
        "kind": event.kind.name(),
        "body": event.body,
        "previous": event.previous.to_string(),
    })
}
