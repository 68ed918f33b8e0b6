//! `kvcap events`: the log of a session.

use std::{ffi::OsStr, path::PathBuf};

use clap::ValueEnum;
use kvcap::{Code, Error, Result, text::printable};
use kvcap_session::{Body, Event, Kind, Session};
use kvcap_store::{input, time};
use serde_json::{Value, json};

use crate::{
    flags::{OwnerArgs, SessionArgs, tier},
    ui::{Report, table, usage},
};

/// Longest body that is read from a file.
const LONGEST: u64 = 1 << 20;

/// Appends to the log of a session, or lists it
///
/// An event is what was said, what a tool answered, what was reached. The session is made with the first; when `append`
/// returns, no crash loses the event. SESSION is a whole id to `append`, and may be the beginning of one to `list`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What to do with the log
    #[arg(value_enum)]
    action: Action,
    #[command(flatten)]
    session: SessionArgs,
    /// append: what was said
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
    let (name, text) = args.session.with(args.text.as_ref())?;
    let body = match (text.and_then(OsStr::to_str), &args.body) {
        (Some(text), None) => Body::from(text),
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
    let mut session = match name {
        // one that is made has its whole name
        Some(name) => Session::load_or_create(&tier()?, &args.owner.names(name), now)?,
        None => args.owner.load(None)?,
    };
    let event = session.append(now, kind, body)?;
    let mut report = Report::new();
    let name = session.names().session;
    report.row("session", printable(&name));
    report.row("event", event.seq);
    report.fact("session", name);
    report.fact("events", Value::Array(vec![entry(&event)]));
    Ok(report)
}

fn list(args: &Args) -> Result<Report> {
    let session = args.owner.load_meant(&args.session)?;
    let mut events = session.events()?;
    events.retain(|event| args.after.is_none_or(|after| event.seq > after));
    let mut report = Report::new();
    let head = [("event", '>'), ("at", '<'), ("kind", '<'), ("text", '<')];
    let row = |event: &Event| {
        vec![
            event.seq.to_string(),
            time::show_instant(event.at),
            event.kind.name().to_owned(),
            printable(event.text()).into_owned(),
        ]
    };
    let rows: Vec<Vec<String>> = events.iter().map(row).collect();
    for line in table::lines(&head, &rows) {
        report.line(line);
    }
    report.fact("session", session.names().session);
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
