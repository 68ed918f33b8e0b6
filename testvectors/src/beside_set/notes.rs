//! Notes of a registry's versions (registry-v1 §9): who signs them, their form, and two of one version.

use kvcap::{Registry, Result, RootKey, RootPublic, UntrustedRegistry};
use serde_json::{Value, json};

use super::Case;
use crate::{
    cases::{registry::listed_versions, roots::listed_by_several},
    hex::{hex, unhex, unhex_any},
    parts,
};

const STRANGER: [u8; 32] = [0x78; 32];

fn verified(bytes: &[u8], root: &RootPublic) -> Registry {
    let read = UntrustedRegistry::read(bytes).unwrap();
    read.verify_at_any_time(root).unwrap()
}

/// A registry, its root, and keys that sign its notes.
struct Signed {
    bytes: Vec<u8>,
    root: [u8; 32],
    registry: Registry,
}

impl Signed {
    fn new(bytes: Vec<u8>, root: [u8; 32]) -> Self {
        let public = RootKey::from_seed(&root).public();
        let registry = verified(&bytes, &public);
        Self {
            bytes,
            root,
            registry,
        }
    }

    fn note(&self, seed: &[u8; 32]) -> String {
        self.registry.note(&RootKey::from_seed(seed)).unwrap()
    }

    fn case(&self, name: &str, what: &'static str, notes: &[&str], code: u16) -> Case {
        let input = json!({
            "registry": hex(&self.bytes),
            "root": hex(&parts::public(&self.root)),
            "notes": notes,
        });
        let rules: &[&str] = match code {
            309 => &["REG-N-3"],
            313 => &["REG-N-1", "REG-N-2"],
            _ => &["REG-N-2"],
        };
        Case::new(name, what, rules, ("notes", input), code)
    }
}

pub(super) fn cases() -> Vec<Case> {
    let (versions, root) = listed_versions();
    let (several, stamps) = listed_by_several();
    let [before, own, twin] = versions.map(|bytes| Signed::new(bytes, root));
    let several = Signed::new(several, root);
    let (first, second) = (before.note(&root), own.note(&root));
    let other = twin.note(&root);
    let stranger = Registry::first(&RootKey::from_seed(&STRANGER), 1, 2).unwrap();
    let stranger = Signed::new(stranger, STRANGER).note(&STRANGER);
    let signature = stranger.split("\n\n").nth(1).unwrap();
    let both = format!("{second}{signature}");
    let (said, lines) = second.split_once("\n\n").unwrap();
    // the last digit but the padding: bits of the signature
    let at = second.trim_end().trim_end_matches('=').len() - 3;
    let mut flipped = second.clone().into_bytes();
    flipped[at] = if flipped[at] == b'A' { b'B' } else { b'A' };
    let flipped = String::from_utf8(flipped).unwrap();
    let wrong = |name, what, note: &str| own.case(name, what, &[note], 313);
    vec![
        own.case("note", "of the registry itself, by its root", &[&second], 0),
        own.case(
            "note_before",
            "of the version before",
            &[&first, &second],
            0,
        ),
        own.case(
            "note_stranger_too",
            "a stranger has signed it too",
            &[&both],
            0,
        ),
        several.case(
            "note_by_one_of_several",
            "by one of several roots",
            &[&several.note(&root)],
            0,
        ),
        several.case(
            "note_by_timestamp_key",
            "by a key for timestamps",
            &[&several.note(&stamps)],
            0,
        ),
        own.case(
            "note_unsigned",
            "nobody has signed it",
            &[&format!("{said}\n\n")],
            308,
        ),
        own.case(
            "note_by_stranger",
            "a stranger alone has signed it",
            &[&format!("{said}\n\n{signature}")],
            308,
        ),
        own.case("note_bitflip", "a digit of its signature", &[&flipped], 308),
        own.case(
            "note_other_version",
            "another version than was signed",
            &[&second.replacen("\n2\n", "\n3\n", 1)],
            308,
        ),
        own.case(
            "note_split_view",
            "another version 2 than the registry",
            &[&other],
            309,
        ),
        before.case(
            "note_two_differ",
            "two of version 2 that differ",
            &[&second, &other],
            309,
        ),
        wrong(
            "note_leading_zero",
            "the version with a zero before it",
            &second.replacen("\n2\n", "\n02\n", 1),
        ),
        wrong(
            "note_no_empty_line",
            "no empty line",
            &second.replacen("\n\n", "\n", 1),
        ),
        wrong(
            "note_four_lines",
            "four lines",
            &format!("{said}\nmore\n\n{lines}"),
        ),
        wrong(
            "note_other_dash",
            "a hyphen in the dash's place",
            &second.replace('\u{2014}', "-"),
        ),
        wrong(
            "note_upper_case",
            "an id in upper case",
            &second.replacen(
                &hex(&own.registry.mark().root.0),
                &hex(&own.registry.mark().root.0).to_uppercase(),
                1,
            ),
        ),
        wrong("note_too_long", "4,097 bytes", &"x".repeat(4097)),
    ]
}

/// Compares notes with a registry, and gives version and digest of each.
pub(super) fn notes(input: &Value) -> Result<Value> {
    let root = RootPublic::from_bytes(&unhex(input["root"].as_str().unwrap()))?;
    let file = unhex_any(input["registry"].as_str().unwrap());
    let registry = UntrustedRegistry::read(&file)?.verify_at_any_time(&root)?;
    let notes = input["notes"].as_array().unwrap().iter();
    let notes: Vec<&str> = notes.map(|note| note.as_str().unwrap()).collect();
    let marks = registry.check_notes(&notes)?;
    let shown = marks
        .iter()
        .map(|mark| json!([mark.version, hex(&mark.digest.0)]));
    Ok(json!({ "versions": shown.collect::<Vec<_>>() }))
}
