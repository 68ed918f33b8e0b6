//! What this crate reads out of a `config.json`, against what transformers' own configuration classes make of it:
//! the table that `oracle/run` writes (model-id-v1 §9).

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

#[allow(dead_code, reason = "shared with the tests of profiles")]
#[path = "profile/support.rs"]
mod support;

use std::{collections::BTreeMap, fmt::Write};

use kvcap::{
    Result,
    binding::{Pairing, Rope},
};
use kvcap_models::{LayerGeometry, ModelProfile, attention_factor, inverse_frequencies};
use support::{folder, read};

const CASES: &str = include_str!("oracle/cases.tsv");
/// Cases in which this crate says something else on purpose: case, `refused` or `differs`, why.
const DIFFERENCES: &str = include_str!("oracle/differences.tsv");

/// Layers as `0-2,4`.
fn runs(layers: &[u32]) -> String {
    let mut out = String::new();
    let mut rest = layers;
    while let [first, ..] = rest {
        let run = (*first..).zip(rest).take_while(|(a, b)| a == *b).count();
        let last = rest[run - 1];
        let comma = if out.is_empty() { "" } else { "," };
        match run {
            1 => write!(out, "{comma}{first}"),
            _ => write!(out, "{comma}{first}-{last}"),
        }
        .unwrap();
        rest = &rest[run..];
    }
    out
}

/// What is kept, grouped as the oracle groups it: by value, in the order of first layers.
fn kept(profile: &ModelProfile) -> String {
    let mut groups: Vec<(String, Vec<u32>)> = Vec::new();
    for (number, layer) in (0..).zip(&profile.geometry.layers) {
        let text = match layer {
            LayerGeometry::Attention {
                kv_heads,
                key_dim,
                window,
                ..
            } => format!("{kv_heads}x{key_dim} window {window}"),
            LayerGeometry::Latent { rank, rope_dim } => format!("latent {rank}+{rope_dim}"),
            LayerGeometry::Recurrent => "recurrent".to_owned(),
            LayerGeometry::Shared => "shared".to_owned(),
            LayerGeometry::Unknown => "unknown".to_owned(),
        };
        match groups.iter_mut().find(|(known, _)| *known == text) {
            Some((_, layers)) => layers.push(number),
            None => groups.push((text, vec![number])),
        }
    }
    let parts: Vec<_> = groups
        .iter()
        .map(|(text, layers)| format!("{} {text}", runs(layers)))
        .collect();
    parts.join("; ")
}

fn head_dim(profile: &ModelProfile, layer: u32) -> u64 {
    match &profile.geometry.layers[usize::try_from(layer).unwrap()] {
        LayerGeometry::Attention { key_dim, .. } => *key_dim,
        LayerGeometry::Latent { rope_dim, .. } => *rope_dim,
        // a layer that shares another's rotates heads of the same size
        _ => profile
            .geometry
            .layers
            .iter()
            .find_map(|layer| match layer {
                LayerGeometry::Attention { key_dim, .. } => Some(*key_dim),
                _ => None,
            })
            .unwrap_or(0),
    }
}

/// One layer's rope as words and numbers.
fn rope(profile: &ModelProfile, rope: &Rope, layer: u32) -> Vec<String> {
    let dim = match head_dim(profile, layer) {
        0 => u64::from(rope.rotary_dims),
        dim => dim,
    };
    let frequencies = inverse_frequencies(rope, dim).unwrap();
    let count = frequencies.len();
    let mut out = vec![
        match rope.pairing {
            Pairing::Half => "half".to_owned(),
            Pairing::Interleaved => "interleaved".to_owned(),
        },
        count.to_string(),
        "pairs".to_owned(),
    ];
    let mut places = vec![0, 1, count / 2, count - 1];
    places.retain(|place| *place < count);
    places.sort_unstable();
    places.dedup();
    for place in places {
        out.push(format!("{place}:{:e}", frequencies[place]));
    }
    let factor = attention_factor(rope, profile.geometry.context_length);
    out.extend(["times".to_owned(), factor.to_string()]);
    out
}

/// The layers' ropes by layer, as the oracle wrote them.
fn listed(text: &str) -> BTreeMap<u32, Vec<String>> {
    let mut out = BTreeMap::new();
    for part in text.split("; ").filter(|part| *part != "none") {
        let (layers, rest) = part.split_once(' ').unwrap();
        let words: Vec<_> = rest.split(' ').map(str::to_owned).collect();
        for run in layers.split(',') {
            let (first, last) = run.split_once('-').unwrap_or((run, run));
            for layer in first.parse::<u32>().unwrap()..=last.parse().unwrap() {
                out.insert(layer, words.clone());
            }
        }
    }
    out
}

/// Whether two words are one, where numbers may differ in the last places that the table has.
fn same(a: &str, b: &str) -> bool {
    let number = |text: &str| {
        let text = text.split_once(':').map_or(text, |(_, value)| value);
        text.parse::<f64>().ok()
    };
    a == b
        || match (number(a), number(b)) {
            (Some(x), Some(y)) => (x - y).abs() <= 2e-7 * x.abs().max(y.abs()),
            _ => false,
        }
}

/// The first thing in which a profile is not as `facts` say.
fn difference(profile: &ModelProfile, facts: &str) -> Option<String> {
    let (layers, ropes) = facts.split_once(" | ").unwrap();
    let ours = kept(profile);
    if ours != layers {
        return Some(format!("keeps {ours}, not {layers}"));
    }
    let theirs = listed(ropes);
    let rotating: usize = profile.rope.iter().map(|rope| rope.layers.len()).sum();
    if rotating != theirs.len() {
        return Some(format!("rotates {rotating} layers, not {}", theirs.len()));
    }
    for group in &profile.rope {
        for layer in &group.layers {
            let Some(theirs) = theirs.get(layer) else {
                return Some(format!("rotates layer {layer}"));
            };
            let ours = rope(profile, group, *layer);
            if ours.len() != theirs.len() || !ours.iter().zip(theirs).all(|(a, b)| same(a, b)) {
                return Some(format!("layer {layer}: {ours:?}, not {theirs:?}"));
            }
        }
    }
    None
}

fn rows(text: &'static str) -> impl Iterator<Item = [&'static str; 3]> {
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| {
            let mut cells = line.splitn(3, '\t');
            [(); 3].map(|()| cells.next().unwrap())
        })
}

#[test]
fn the_classes_of_transformers_say_the_same() {
    let known: BTreeMap<_, _> = rows(DIFFERENCES)
        .map(|[case, what, why]| (case, (what, why)))
        .collect();
    let model = folder("{}");
    let (mut wrong, mut met) = (Vec::new(), Vec::new());
    let mut cases = 0;
    for [case, config, facts] in rows(CASES) {
        cases += 1;
        model.write("config.json", config);
        let found: Result<ModelProfile> = read(&model.0);
        let now = match &found {
            Ok(profile) => difference(profile, facts).map(|what| ("differs", what)),
            Err(error) => Some(("refused", error.to_string())),
        };
        let (family, variant) = case.split_once('/').unwrap();
        let every = format!("*/{variant}");
        let all = format!("{family}/*");
        let listed = [case, &*all, &*every]
            .into_iter()
            .find_map(|name| known.get_key_value(name));
        match (now, listed) {
            (None, None) => {}
            (Some((how, _)), Some((name, (what, _)))) if how == *what => met.push(*name),
            // a rule for many cases need not hold in each
            (None, Some((name, _))) if name.contains('*') => {}
            (now, listed) => wrong.push(format!("{case}: {now:?}, listed {listed:?}")),
        }
    }
    for name in known.keys().filter(|name| !met.contains(name)) {
        wrong.push(format!("{name}: listed, and not met"));
    }
    assert!(cases > 1000, "{cases}");
    assert!(
        wrong.is_empty(),
        "{} of {cases}\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}
