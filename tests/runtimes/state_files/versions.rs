//! Prompt caches of the versions of mlx-lm that were executed (tests/fixtures/make), and of mlx-swift-lm as its
//! source writes them.

use std::{collections::BTreeMap, fs, path::PathBuf};

use kvcap::{Code, Role};
use kvcap_states::{Hints, RuntimeKind, State, detect, parse};
use serde_json::{Value, json};

use super::support::{file, rebuild, refused};

fn folder(version: &str) -> PathBuf {
    let fixtures = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures");
    fixtures.join(format!("mlx_lm_{version}"))
}

/// Reads a file that comes back byte for byte.
fn whole(name: &str, bytes: &[u8]) -> State {
    assert_eq!(detect(&bytes).unwrap(), RuntimeKind::MlxLm, "{name}");
    let rebuilt = rebuild(RuntimeKind::MlxLm, bytes, Hints::None);
    let rebuilt = rebuilt.map_err(|error| format!("{name}: {error}")).unwrap();
    assert!(rebuilt == bytes, "{name}");
    parse(RuntimeKind::MlxLm, &bytes, Hints::None).unwrap()
}

#[test]
fn every_version_comes_back_byte_for_byte() {
    let rings = "RotatingKVCache(keep=2,max_size=8)";
    let stepped = "RotatingKVCache(keep=2,max_size=8,step=256)";
    for (version, ring, quantized) in [
        (
            "0.26.4",
            stepped,
            "QuantizedKVCache(bits=8,group_size=32,step=256)",
        ),
        ("0.30.5", rings, "QuantizedKVCache(bits=8,group_size=32)"),
        ("0.31.3", rings, "QuantizedKVCache(bits=8,group_size=32)"),
    ] {
        let mut facts = BTreeMap::new();
        for entry in fs::read_dir(folder(version)).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            let bytes = fs::read(&path).unwrap();
            if name == "list" && version != "0.31.3" {
                // the version itself cannot load what it saved
                let error = parse(RuntimeKind::MlxLm, &bytes, Hints::None).unwrap_err();
                assert_eq!(error.code(), Code::StateUnsupported, "{error}");
                assert!(error.to_string().contains("CacheList"), "{error}");
                continue;
            }
            let state = whole(&format!("{version} {name}"), &bytes);
            assert_eq!(state.format, "mlx-lm-0.31");
            assert_eq!(state.positions.start, 0);
            let end = match name.as_str() {
                "rolled_back" => 6,
                "ring_full" => 11,
                "ring_long" => 14,
                _ => 9,
            };
            assert_eq!(state.positions.end, end, "{version} {name}");
            facts.insert(name, state.facts[0].1.clone());
        }
        assert!(facts.len() >= 10, "{version}");
        assert_eq!(
            (facts["ring_full"].as_str(), facts["quantized"].as_str()),
            (ring, quantized)
        );
        let arrays = facts.get("mamba").or(facts.get("arrays")).unwrap();
        assert!(arrays.ends_with("Cache,KVCache"), "{arrays}");
    }
}

/// Up to 0.27 a prefill into a wrapped ring trims less: more rows than the size, in order.
#[test]
fn a_ring_that_was_prefilled_after_it_wrapped_holds_its_newest_rows() {
    for version in ["0.26.4", "0.31.3"] {
        let bytes = fs::read(folder(version).join("ring_long.safetensors")).unwrap();
        let state = parse(RuntimeKind::MlxLm, &bytes, Hints::None).unwrap();
        let bank = &state.banks[0].bank;
        let rows = match bank.shape {
            kvcap_codecs::BankShape::Tokens { tokens, .. } => tokens,
            kvcap_codecs::BankShape::Whole { .. } => 0,
        };
        assert_eq!(bank.rows, kvcap::Rows::From(14 - rows), "{version}");
    }
}

/// Element types and shapes.
type Tensors<'a> = &'a [(&'a str, &'a [u64])];

/// Class, numbers and tensors of a cache.
type Saved<'a> = (&'a str, &'a [&'a str], Tensors<'a>);

/// A file as mlx-swift-lm writes it: for each cache its class, numbers and tensors.
fn swift(caches: &[Saved<'_>]) -> Vec<u8> {
    let mut metadata = serde_json::Map::new();
    let mut header = serde_json::Map::new();
    let mut at = 0;
    for (layer, (class, numbers, tensors)) in caches.iter().enumerate() {
        metadata.insert(format!("2.{layer}"), json!(class));
        for (place, number) in numbers.iter().enumerate() {
            metadata.insert(format!("0.{layer}.{place}"), json!(number));
        }
        for (place, (dtype, shape)) in tensors.iter().enumerate() {
            let size = if dtype.ends_with("32") { 4 } else { 2 };
            let end = at + size * shape.iter().product::<u64>();
            let entry = json!({"dtype": dtype, "shape": shape, "data_offsets": [at, end]});
            header.insert(format!("{layer}.{place}"), entry);
            at = end;
        }
    }
    metadata.insert("1.model".to_owned(), json!("some.model"));
    header.insert("__metadata__".to_owned(), Value::Object(metadata));
    file(
        &Value::Object(header).to_string(),
        usize::try_from(at).unwrap(),
    )
}

const ROWS: Tensors<'_> = &[("F16", &[1, 2, 9, 32]), ("F16", &[1, 2, 9, 32])];
const CODES: Tensors<'_> = &[
    ("U32", &[1, 2, 9, 8]),
    ("F16", &[1, 2, 9, 1]),
    ("F16", &[1, 2, 9, 1]),
    ("U32", &[1, 2, 9, 8]),
    ("F16", &[1, 2, 9, 1]),
    ("F16", &[1, 2, 9, 1]),
];
const STATES: Tensors<'_> = &[("F16", &[1, 3, 16]), ("F32", &[1, 2, 8, 8])];

#[test]
fn caches_of_mlx_swift_lm_come_back() {
    let list = [STATES, ROWS].concat();
    let ring: Tensors<'_> = &[("F16", &[1, 2, 8, 32]), ("F16", &[1, 2, 8, 32])];
    let cases: &[(&[Saved<'_>], &str)] = &[
        (
            &[("KVCache", &[""], ROWS), ("KVCache", &[""], ROWS)],
            "KVCache*2",
        ),
        // early versions had no numbers at all
        (&[("KVCache", &[], ROWS)], "KVCache"),
        (
            &[
                ("KVCache", &[""], ROWS),
                ("RotatingKVCache", &["2", "8", "256", "9", "3"], ring),
            ],
            "KVCache,RotatingKVCache(keep=2,max_size=8,step=256)",
        ),
        (
            &[("QuantizedKVCache", &["256", "9", "32", "8"], CODES)],
            "QuantizedKVCache(bits=8,group_size=32,step=256)",
        ),
        (
            &[("ChunkedKVCache", &["None", "0"], ROWS)],
            "ChunkedKVCache(chunk_size=0)",
        ),
        (
            &[
                ("MambaCache", &["2", "0,1"], STATES),
                ("KVCache", &[""], ROWS),
            ],
            "MambaCache,KVCache",
        ),
        (&[("ArraysCache", &["4", "1,3", ""], STATES)], "ArraysCache"),
        (&[("ArraysCache", &[""], STATES)], "ArraysCache"),
        // a layer that was never filled has no tensors, and leaves a hole
        (
            &[
                ("KVCache", &[""], &[]),
                ("MambaCache", &["2", ""], &[]),
                ("KVCache", &[""], ROWS),
            ],
            "KVCache,MambaCache,KVCache",
        ),
        (
            &[(
                "CacheList",
                &[
                    "2",
                    "MambaCache",
                    "2",
                    "2",
                    "2",
                    "0,1",
                    "KVCache",
                    "2",
                    "1",
                    "",
                ],
                &list,
            )],
            "CacheList(MambaCache+KVCache)",
        ),
    ];
    for (caches, facts) in cases {
        let state = whole(facts, &swift(caches));
        assert_eq!(
            (state.format, state.facts[0].1.as_str()),
            ("mlx-swift-lm", *facts)
        );
    }
    let state = whole(
        "slots",
        &swift(&[("ArraysCache", &["4", "1,3", ""], STATES)]),
    );
    assert!(
        state
            .banks
            .iter()
            .all(|placed| placed.bank.role == Role::Recurrent)
    );
}

#[test]
fn what_mlx_swift_lm_may_write_and_nobody_knows_is_named_and_what_is_broken_is_damage() {
    let four: Tensors<'_> = &[("U32", &[1, 2, 9, 8]), ("F16", &[1, 2, 9, 1])];
    let four = [four, four].concat();
    for (cache, code) in [
        // quantization without biases
        (
            ("QuantizedKVCache", &["256", "9", "32", "8"][..], &four[..]),
            Code::StateUnsupported,
        ),
        (
            ("TurboQuantKVCache", &["256"], ROWS),
            Code::StateUnsupported,
        ),
        (
            ("RotatingKVCache", &["2", "8", "256", "9", "3", "7"], ROWS),
            Code::StateUnsupported,
        ),
        (("KVCache", &["9"], ROWS), Code::StateUnsupported),
        (
            ("MambaCache", &["2", "0,1", "0,0"], STATES),
            Code::StateUnsupported,
        ),
        (
            ("MambaCache", &["9999999", "0,1"], STATES),
            Code::StateUnsupported,
        ),
        (("MambaCache", &["2", "0"], STATES), Code::StateMalformed),
        (("MambaCache", &["2", "0,0"], STATES), Code::StateMalformed),
        (
            ("RotatingKVCache", &["2", "None", "256", "9", "3"], ROWS),
            Code::StateMalformed,
        ),
        (("MambaCache", &["2", "0,,1"], STATES), Code::StateMalformed),
        (
            ("CacheList", &["1", "KVCache", "3", "1", ""], ROWS),
            Code::StateMalformed,
        ),
        (
            ("CacheList", &["2", "KVCache", "2", "1", ""], ROWS),
            Code::StateMalformed,
        ),
        (
            ("CacheList", &["1", "KVCache", "2", "9", ""], ROWS),
            Code::StateMalformed,
        ),
    ] {
        let bytes = swift(&[("KVCache", &[""], ROWS), cache]);
        assert_eq!(
            refused(RuntimeKind::MlxLm, &bytes),
            code,
            "{:?}",
            (cache.0, cache.1)
        );
    }
    // early versions left out what a ring cannot be read without
    let bytes = swift(&[("RotatingKVCache", &[], ROWS)]);
    assert_eq!(refused(RuntimeKind::MlxLm, &bytes), Code::StateUnsupported);
}

#[test]
fn paths_of_mlx_swift_lm_are_plain_numbers() {
    let bytes = swift(&[("KVCache", &[""], ROWS), ("KVCache", &[""], ROWS)]);
    let text = String::from_utf8_lossy(&bytes[8..]).into_owned();
    let header = text.split_inclusive("}}").next().unwrap();
    let rest = bytes.len() - 8 - header.len();
    for (from, to, code) in [
        ("\"1.1\"", "\"+1.1\"", Code::StateUnsupported),
        ("\"1.1\"", "\"01.1\"", Code::StateUnsupported),
        ("\"1.1\"", "\"1.01\"", Code::StateUnsupported),
        ("\"0.1.0\"", "\"0.+1.0\"", Code::StateUnsupported),
        ("\"1.1\"", "\"2.1\"", Code::StateMalformed),
        ("\"0.1\"", "\"0\"", Code::StateMalformed),
    ] {
        let wrong = header.replacen(from, to, 1);
        assert_ne!(wrong, header);
        assert_eq!(
            refused(RuntimeKind::MlxLm, &file(&wrong, rest)),
            code,
            "{to}"
        );
    }
}
