//! Sealed versions: a record, and the events that it has seen since the version before.

use kvcap::Result;
use kvcap_session::{Event, Names, Record, SealedVersion};
use serde_json::{Value, json};

use super::{Case, Log, digest, names, record, shown};
use crate::hex::{hex, unhex_any};

/// Reads the two sections of a sealed version.
pub(super) fn version(input: &Value) -> Result<Value> {
    let bytes = |name: &str| unhex_any(input[name].as_str().unwrap());
    let names: Names = serde_json::from_value(input["names"].clone()).unwrap();
    let version = SealedVersion::from_sections(&bytes("history"), &bytes("log"), &names)?;
    let events = version.events.iter();
    let events: Vec<Value> = events
        .map(|event| shown(&event.to_json().unwrap()))
        .collect();
    Ok(json!({
        "record": shown(&version.record.to_json()?),
        "origin": version.origin,
        "created": version.created,
        "after": version.after,
        "events": events,
    }))
}

fn item(bytes: &[u8]) -> Vec<u8> {
    let len = u32::try_from(bytes.len()).unwrap();
    [&len.to_le_bytes(), bytes].concat()
}

/// The items of events after a number.
fn items(events: &[Event]) -> Vec<u8> {
    let items = events.iter().map(|event| item(&event.to_cbor().unwrap()));
    items.collect::<Vec<_>>().concat()
}

fn piece(after: u64, changes: &[(&str, Value)]) -> Vec<u8> {
    let mut piece =
        json!({ "form": 1, "origin": names().session, "created": 1_800_000_000, "after": after });
    for (member, value) in changes {
        piece[*member] = value.clone();
    }
    let mut bytes = Vec::new();
    ciborium::into_writer(&in_order(&piece), &mut bytes).unwrap();
    bytes
}

/// With keys in the order of their encoded bytes.
fn in_order(value: &Value) -> ciborium::Value {
    match value {
        Value::Object(members) => {
            let mut pairs: Vec<(&String, &Value)> = members.iter().collect();
            pairs.sort_by_key(|(name, _)| (name.len(), (*name).clone()));
            let pairs = pairs.into_iter();
            let pairs = pairs.map(|(name, value)| (name.as_str().into(), in_order(value)));
            ciborium::Value::Map(pairs.collect())
        }
        Value::Array(items) => ciborium::Value::Array(items.iter().map(in_order).collect()),
        Value::String(text) => text.as_str().into(),
        Value::Bool(is) => (*is).into(),
        Value::Number(number) => number.as_u64().unwrap().into(),
        Value::Null => ciborium::Value::Null,
    }
}

fn capsule() -> Value {
    json!({
        "id": "00112233445566778899aabbccddeeff", "lineage": digest("lineage"), "version": 1, "cursor": 2,
        "positions": 700, "bytes": 123_456, "expires": 1_800_003_600, "model": digest("model"),
        "ancestors": [], "controller": false,
    })
}

pub(super) fn cases() -> Vec<Case> {
    const ITEMS: &[&str] = &["SES-V-2"];
    let log = Log::turns(3);
    let own: Record = record(&log.record(6)).unwrap();
    let (events, history) = (&log.events, hex(&own.to_cbor().unwrap()));
    let input =
        |log: &[u8]| json!({ "names": names(), "history": history.clone(), "log": hex(log) });
    let with = |piece: Vec<u8>, events: &[Event]| [item(&piece), items(events)].concat();
    let first = with(piece(0, &[]), events);
    let mut changed = events.clone();
    changed[2].body = "other words".into();
    let mut last = events.clone();
    last[5].body = "other words".into();
    let mut swapped = events.clone();
    swapped.swap(2, 3);
    let mut more = Log::turns(3);
    more.say("note", json!("more"));
    let case =
        |name, what, log: &[u8], code| Case::new(name, what, ITEMS, ("version", input(log)), code);
    let mut other = input(&first);
    other["names"]["subject"] = json!("bob");
    let cut = |log: &[u8], by: usize| log[..log.len() - by].to_vec();
    vec![
        case(
            "version_first",
            "the first version, with all events",
            &first,
            0,
        ),
        Case::new(
            "version_capsule",
            "a later version, whose record has a capsule",
            &["SES-V-1", "SES-V-2"],
            (
                "version",
                input(&with(piece(2, &[("capsule", capsule())]), &events[2..])),
            ),
            0,
        ),
        case(
            "version_no_events",
            "a version that has seen nothing new",
            &with(piece(6, &[]), &[]),
            0,
        ),
        Case::new(
            "version_names",
            "another subject's",
            &["SES-V-2"],
            ("version", other),
            950,
        ),
        case(
            "version_missing",
            "an event is missing",
            &with(piece(0, &[]), &[&events[..2], &events[3..]].concat()),
            952,
        ),
        case(
            "version_missing_first",
            "the first event is missing",
            &with(piece(0, &[]), &events[1..]),
            952,
        ),
        case(
            "version_missing_last",
            "the last event is missing",
            &with(piece(0, &[]), &events[..5]),
            952,
        ),
        case(
            "version_more",
            "an event after the cursor",
            &with(piece(0, &[]), &more.events),
            952,
        ),
        case(
            "version_none",
            "no events, and the cursor of another version before",
            &with(piece(5, &[]), &[]),
            952,
        ),
        case(
            "version_swapped",
            "two events change places",
            &with(piece(0, &[]), &swapped),
            952,
        ),
        case(
            "version_changed",
            "an event is another",
            &with(piece(0, &[]), &changed),
            953,
        ),
        case(
            "version_changed_last",
            "the last event is another",
            &with(piece(0, &[]), &last),
            953,
        ),
        case(
            "version_origin",
            "another session began the log",
            &with(piece(0, &[("origin", json!("build-41"))]), events),
            953,
        ),
        case(
            "version_form",
            "another form",
            &with(piece(0, &[("form", json!(2))]), events),
            950,
        ),
        case(
            "version_extra",
            "a member that no piece has",
            &with(piece(0, &[("pinned", json!([1]))]), events),
            950,
        ),
        case(
            "version_origin_empty",
            "an origin that is no claim",
            &with(piece(0, &[("origin", json!(""))]), events),
            950,
        ),
        Case::new(
            "version_capsule_later",
            "a capsule that has seen more than the record",
            &["SES-V-1", "SES-C-1"],
            (
                "version",
                input(&with(
                    piece(
                        0,
                        &[("capsule", {
                            let mut later = capsule();
                            later["cursor"] = json!(7);
                            later
                        })],
                    ),
                    events,
                )),
            ),
            950,
        ),
        case("version_no_items", "no items", &[], 950),
        case(
            "version_length_cut",
            "a length that is cut",
            &[&first[..], &[1, 0, 0]].concat(),
            950,
        ),
        case(
            "version_item_cut",
            "an item that is cut",
            &cut(&first, 1),
            950,
        ),
        case(
            "version_item_long",
            "an item that is longer than an event may be",
            &[&first[..], &[1, 0, 16, 0]].concat(),
            951,
        ),
        case(
            "version_trailing",
            "a byte after an item's CBOR",
            &[item(&[piece(0, &[]), vec![0]].concat()), items(events)].concat(),
            206,
        ),
    ]
}
