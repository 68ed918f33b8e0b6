//! `kvcap diff`: two headers, field by field.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use kvcap::Result;
use kvcap_store::input::Capsule;
use serde_json::{Map, Value, json};

use crate::{
    ui::{Report, quoted},
    verbs::inspect,
};

/// Compares what two capsules say of themselves
///
/// Reads headers alone, and no secret: what is compared are unverified claims.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A capsule
    a: PathBuf,
    /// Another
    b: PathBuf,
}

/// # Errors
/// 1xx, 2xx, 5xx for a malformed header; 940.
pub(crate) fn run(args: &Args) -> Result<Report> {
    let (a, b) = (fields(&args.a)?, fields(&args.b)?);
    let mut report = Report::new();
    report.line("UNVERIFIED claims: the files say this of themselves (kvcap verify checks them)");
    let mut differing = Map::new();
    let names = a
        .keys()
        .chain(b.keys().filter(|name| !a.contains_key(*name)));
    let mut names: Vec<&String> = names.collect();
    names.sort();
    for name in &names {
        let (left, right) = (a.get(*name), b.get(*name));
        if left == right {
            continue;
        }
        let shown = |value: Option<&Value>| match value {
            None | Some(Value::Null) => "none".to_owned(),
            Some(Value::String(text)) => quoted(text),
            Some(value) => value.to_string(),
        };
        report.line(format_args!(
            "{}: {} | {}",
            quoted(name),
            shown(left),
            shown(right)
        ));
        differing.insert((*name).clone(), json!([left, right]));
    }
    let same = names.len() - differing.len();
    report.line(format_args!(
        "{} fields differ, {same} are equal",
        differing.len()
    ));
    report.fact("verified", "nothing");
    report.fact("same", same);
    report.fact("unverified_differing", differing);
    Ok(report)
}

/// Every statement by its dotted name.
fn fields(path: &Path) -> Result<BTreeMap<String, Value>> {
    let (untrusted, _) = Capsule::read(path)?.split();
    let outline = untrusted.outline()?;
    let mut fields = BTreeMap::new();
    let mut left = vec![(
        String::new(),
        inspect::statements(untrusted.claims(), &outline),
    )];
    while let Some((name, value)) = left.pop() {
        let below = |part: String| match name.is_empty() {
            true => part,
            false => format!("{name}.{part}"),
        };
        match value {
            Value::Object(map) => left.extend(map.into_iter().map(|(key, v)| (below(key), v))),
            value => {
                fields.insert(name, value);
            }
        }
    }
    fields.insert("file_bytes".to_owned(), json!(untrusted.file_len()));
    fields.insert(
        "lineage".to_owned(),
        json!(untrusted.lineage()?.to_string()),
    );
    for stream in &outline.streams {
        let name = match stream.bank {
            Some((layer, index)) => format!("bank.{layer}.{}.{index}", stream.kind),
            None => format!("section.{}", stream.name),
        };
        for (part, value) in [
            ("dtype", json!(stream.dtype)),
            ("shape", json!(stream.shape)),
            ("rows", json!(stream.rows)),
            ("codec", json!(stream.codec)),
            ("plain_bytes", json!(stream.plain_len)),
            ("encoded_bytes", json!(stream.encoded_len)),
            ("chunk_bytes", json!(stream.chunk_len)),
        ] {
            fields.insert(format!("{name}.{part}"), value);
        }
    }
    Ok(fields)
}
