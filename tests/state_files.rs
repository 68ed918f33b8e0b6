//! Saved states of real runtimes, taken apart and put together again, and files that lie.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::{io, sync::Mutex};

use kvcap::{Bank, Code, Role, Rows};
use kvcap_codecs::{AffineParams, BankShape, Dtype, ParamDtype};
use kvcap_runtimes::{
    Geometry, Hints, LayerGeometry, Leftover, ReadAt, RuntimeKind, Skeleton, State, WriteAt,
    detect, parse, residue,
};
use proptest::prelude::*;

const FIXTURES: [(&str, RuntimeKind, &str); 11] = [
    ("hf_f16", RuntimeKind::HuggingFace, "dynamic-cache"),
    ("mlx031_f16", RuntimeKind::MlxLm, "mlx-lm-0.31"),
    ("mlx031_q8", RuntimeKind::MlxLm, "mlx-lm-0.31"),
    ("mlx031_list", RuntimeKind::MlxLm, "mlx-lm-0.31"),
    ("mlx031_tiny", RuntimeKind::MlxLm, "mlx-lm-0.31"),
    ("mlx032_f16", RuntimeKind::MlxLm, "mlx-lm-0.32"),
    ("mlx032_q4", RuntimeKind::MlxLm, "mlx-lm-0.32"),
    ("mlx032_rotating", RuntimeKind::MlxLm, "mlx-lm-0.32"),
    ("mlx032_hybrid", RuntimeKind::MlxLm, "mlx-lm-0.32"),
    ("mlx032_list", RuntimeKind::MlxLm, "mlx-lm-0.32"),
    ("mlx032_tiny", RuntimeKind::MlxLm, "mlx-lm-0.32"),
];

fn fixture(name: &str) -> Vec<u8> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures");
    std::fs::read(format!("{folder}/{name}.safetensors")).unwrap()
}

struct Memory(Mutex<Vec<u8>>);

impl WriteAt for Memory {
    fn write_all_at(&self, offset: u64, buf: &[u8]) -> io::Result<()> {
        let start = usize::try_from(offset).unwrap();
        self.0.lock().unwrap()[start..start + buf.len()].copy_from_slice(buf);
        Ok(())
    }
}

fn banks(state: &State) -> Vec<Bank> {
    state
        .banks
        .iter()
        .map(|placed| placed.bank.clone())
        .collect()
}

/// Takes the file apart into frames and residue, and builds it again from these alone.
fn rebuild(kind: RuntimeKind, file: &[u8], hints: Hints<'_>) -> Result<Vec<u8>, kvcap::Error> {
    let state = parse(kind, &file, hints)?;
    let rest = residue(&state, &file)?;
    let skeleton = Skeleton::parse(&rest)?;
    let again = skeleton.state(kind, &banks(&state))?;
    assert_eq!(again.positions, state.positions);
    assert_eq!((again.format, &again.facts), (state.format, &state.facts));
    let out = Memory(Mutex::new(vec![0; file.len()]));
    skeleton.write(&out)?;
    let mut frame = Vec::new();
    for (from, to) in state.banks.iter().zip(&again.banks) {
        for index in 0..from.bank.shape.frames(from.bank.dtype).unwrap() {
            from.read_frame(&file, index, &mut frame)?;
            to.write_frame(&out, index, &frame)?;
        }
    }
    Ok(out.0.into_inner().unwrap())
}

fn refused(kind: RuntimeKind, file: &[u8]) -> Code {
    let error = parse(kind, &file, Hints::None).unwrap_err();
    let text = error.to_string();
    assert!(!text.contains('\n') && !text.ends_with('.'), "{text}");
    error.code()
}

#[test]
fn every_fixture_is_recognised_and_comes_back_byte_for_byte() {
    for (name, kind, format) in FIXTURES {
        let file = fixture(name);
        assert_eq!(detect(&file).unwrap(), kind, "{name}");
        let state = parse(kind, &file, Hints::None).unwrap();
        assert_eq!(state.format, format);
        assert_eq!(RuntimeKind::from_runtime(state.runtime), Some(kind));
        // A quantizer leaves scales in rows that it never filled; the rest has no such bytes.
        let leftovers = state.padding_nonzero(&file).unwrap();
        assert!(leftovers.iter().all(|leftover| !leftover.tokens), "{name}");
        let rebuilt = rebuild(kind, &file, Hints::None).unwrap();
        assert_eq!(leftovers.is_empty(), name != "mlx032_q4");
        assert_eq!(rebuilt == file, leftovers.is_empty(), "{name}");
        assert!(
            rebuild(RuntimeKind::Raw, &file, Hints::None).unwrap() == file,
            "{name}"
        );
    }
}

#[test]
fn attention_banks_say_their_positions_types_and_heads() {
    let state = parse(RuntimeKind::MlxLm, &fixture("mlx032_f16"), Hints::None).unwrap();
    assert_eq!(
        (state.layers, state.positions.clone(), state.banks.len()),
        (6, 0..16, 12)
    );
    assert_eq!(state.facts, [("caches".to_owned(), "KVCache*6".to_owned())]);
    let shape = BankShape::Tokens {
        heads: 2,
        tokens: 16,
        dim: 64,
    };
    for (index, placed) in state.banks.iter().enumerate() {
        let role = if index % 2 == 0 {
            Role::Key
        } else {
            Role::Value
        };
        assert_eq!(placed.bank.role, role);
        assert_eq!(placed.bank.shape, shape);
        assert_eq!(placed.bank.dtype, Dtype::F16);
        assert_eq!(placed.bank.rows, Rows::From(0));
    }
    let older = parse(RuntimeKind::MlxLm, &fixture("mlx031_f16"), Hints::None).unwrap();
    assert_eq!(banks(&older), banks(&state));
    let hf = parse(RuntimeKind::HuggingFace, &fixture("hf_f16"), Hints::None).unwrap();
    assert_eq!(banks(&hf), banks(&state));

    let q4 = parse(RuntimeKind::MlxLm, &fixture("mlx032_q4"), Hints::None).unwrap();
    let affine = AffineParams::new(4, 64, ParamDtype::F16).unwrap();
    assert_eq!(q4.banks[0].bank.dtype, Dtype::MlxAffine(affine));
    assert_eq!(q4.banks[0].bank.shape, shape);
    assert_eq!(q4.facts[0].1, "QuantizedKVCache(bits=4,group_size=64)*6");
}

#[test]
fn the_same_values_come_out_of_both_mlx_layouts_and_hugging_face() {
    let frames = |name: &str, kind| {
        let file = fixture(name);
        let state = parse(kind, &file, Hints::None).unwrap();
        let mut frame = Vec::new();
        state.banks[0].read_frame(&file, 0, &mut frame).unwrap();
        frame
    };
    let new = frames("mlx032_f16", RuntimeKind::MlxLm);
    assert_eq!(new, frames("mlx031_f16", RuntimeKind::MlxLm));
    // Another runtime's arithmetic, the same values but for rounding: most exponents agree.
    let hf = frames("hf_f16", RuntimeKind::HuggingFace);
    let alike = new
        .iter()
        .zip(&hf)
        .skip(1)
        .step_by(2)
        .filter(|(a, b)| a == b)
        .count();
    assert!(alike * 10 > hf.len() / 2 * 9, "{alike} of {}", hf.len() / 2);
}

#[test]
fn rings_hybrids_and_lists_are_described() {
    let ring = parse(RuntimeKind::MlxLm, &fixture("mlx032_rotating"), Hints::None).unwrap();
    assert_eq!(ring.positions, 0..31);
    assert_eq!(ring.facts[0].1, "RotatingKVCache(keep=4,max_size=16)*2");
    // 31 tokens through 16 rows, of which the first four stay: the write head stands at row 7.
    let want = (0..4).chain(28..31).chain(19..28).collect();
    assert_eq!(ring.banks[0].bank.rows, Rows::Listed(want));
    assert_eq!(ring.banks[0].bank.window, 16);

    let hybrid = parse(RuntimeKind::MlxLm, &fixture("mlx032_hybrid"), Hints::None).unwrap();
    let roles: Vec<_> = hybrid
        .banks
        .iter()
        .map(|p| (p.bank.layer, p.bank.role))
        .collect();
    let (conv, state) = (Role::Convolution, Role::Recurrent);
    assert_eq!(
        roles,
        [
            (0, conv),
            (0, state),
            (1, conv),
            (1, state),
            (2, Role::Key),
            (2, Role::Value)
        ]
    );
    assert_eq!(hybrid.facts[0].1, "ArraysCache*2,KVCache");

    for name in ["mlx031_list", "mlx032_list"] {
        let list = parse(RuntimeKind::MlxLm, &fixture(name), Hints::None).unwrap();
        assert_eq!(
            list.facts[0].1,
            "CacheList(ArraysCache+KVCache),CacheList(KVCache+KVCache)"
        );
        let last = &list.banks.last().unwrap().bank;
        assert_eq!((last.layer, last.role, last.index), (1, Role::Value, 1));
    }
}

#[test]
fn a_latent_layer_is_named_by_the_model_and_found_again_from_its_banks() {
    let file = fixture("mlx032_list");
    let geometry = |rank| Geometry {
        layers: vec![
            LayerGeometry::Unknown,
            LayerGeometry::Latent { rank, rope_dim: 8 },
        ],
        context_length: 0,
    };
    let right = geometry(16);
    let state = parse(RuntimeKind::MlxLm, &file, Hints::Model(&right)).unwrap();
    let roles: Vec<_> = state.banks[4..].iter().map(|p| p.bank.role).collect();
    let index = Role::IndexKey;
    assert_eq!(roles, [Role::Latent, Role::RopeKey, index, index]);
    assert!(rebuild(RuntimeKind::MlxLm, &file, Hints::Model(&right)).unwrap() == file);
    let error = parse(RuntimeKind::MlxLm, &file, Hints::Model(&geometry(24))).unwrap_err();
    assert_eq!(error.code(), Code::StateContradiction);
}

#[test]
fn another_models_geometry_is_a_contradiction_that_names_both_sides() {
    let attention = LayerGeometry::Attention {
        kv_heads: 2,
        key_dim: 64,
        value_dim: 64,
        window: 0,
    };
    let model = |layer: &LayerGeometry, count| Geometry {
        layers: vec![layer.clone(); count],
        context_length: 0,
    };
    for (name, kind) in [
        ("mlx032_q4", RuntimeKind::MlxLm),
        ("hf_f16", RuntimeKind::HuggingFace),
    ] {
        let file = fixture(name);
        let check = |geometry: Geometry| parse(kind, &file, Hints::Model(&geometry));
        assert!(check(model(&attention, 6)).is_ok());
        assert!(check(model(&LayerGeometry::Unknown, 6)).is_ok());
        let heads = LayerGeometry::Attention {
            kv_heads: 4,
            key_dim: 64,
            value_dim: 64,
            window: 0,
        };
        let wide = LayerGeometry::Attention {
            kv_heads: 2,
            key_dim: 64,
            value_dim: 32,
            window: 0,
        };
        for wrong in [
            model(&attention, 5),
            model(&attention, 7),
            model(&heads, 6),
            model(&wide, 6),
            model(&LayerGeometry::Recurrent, 6),
            model(&LayerGeometry::Shared, 6),
        ] {
            let error = check(wrong).unwrap_err();
            assert_eq!(error.code(), Code::StateContradiction);
            assert!(
                error.expected().is_some() && error.found().is_some(),
                "{error}"
            );
        }
    }
}

#[test]
fn rows_past_the_offset_are_told_and_come_back_as_zeros() {
    let mut file = fixture("mlx032_tiny");
    let clean = file.clone();
    let state = parse(RuntimeKind::MlxLm, &file, Hints::None).unwrap();
    let part = state.banks[1].parts[0];
    let last = usize::try_from(part.offset + part.len - 1).unwrap();
    file[last] = 0x3c;
    let state = parse(RuntimeKind::MlxLm, &file, Hints::None).unwrap();
    let want = Leftover {
        bank: 1,
        tokens: true,
    };
    assert_eq!(state.padding_nonzero(&file).unwrap(), [want]);
    assert!(rebuild(RuntimeKind::MlxLm, &file, Hints::None).unwrap() == clean);
}

#[test]
fn a_file_cut_or_extended_at_any_byte_is_refused() {
    for name in ["mlx032_tiny", "mlx031_tiny", "mlx031_list"] {
        let file = fixture(name);
        for kind in [
            RuntimeKind::MlxLm,
            RuntimeKind::HuggingFace,
            RuntimeKind::Raw,
        ] {
            for len in 0..file.len() {
                assert_eq!(
                    refused(kind, &file[..len]),
                    Code::StateMalformed,
                    "{name} {len}"
                );
            }
            let mut longer = file.clone();
            longer.push(0);
            assert_eq!(refused(kind, &longer), Code::StateMalformed);
        }
    }
    assert_eq!(
        detect(&b"not a state"[..].to_vec()).unwrap_err().code(),
        Code::StateUnrecognised
    );
}

/// A safetensors file of this header and that many bytes of data.
fn file(header: &str, data: usize) -> Vec<u8> {
    let mut file = u64::try_from(header.len()).unwrap().to_le_bytes().to_vec();
    file.extend_from_slice(header.as_bytes());
    file.resize(file.len() + data, 0);
    file
}

#[test]
fn headers_that_a_loader_would_accept_and_we_do_not() {
    let t = |name: &str, start: u64, end: u64| {
        let rows = end.saturating_sub(start) / 2;
        format!(r#""{name}":{{"dtype":"F16","shape":[{rows}],"data_offsets":[{start},{end}]}}"#)
    };
    let (a, b) = (t("a", 0, 8), t("b", 8, 16));
    let good = file(&format!("{{{a},{b}}}   "), 16);
    assert!(rebuild(RuntimeKind::Raw, &good, Hints::None).unwrap() == good);
    assert_eq!(
        refused(RuntimeKind::Raw, &file("{}", 0)),
        Code::StateUnsupported
    );
    let object = |fields: &str| format!(r#"{{"a":{{{fields}}}}}"#);
    let malformed = [
        (format!("{{{a},{}}}", t("b", 6, 14)), 14),  // overlap
        (format!("{{{a},{}}}", t("b", 10, 18)), 18), // hole
        (format!("{{{}}}", t("a", 2, 10)), 10),      // hole at the start
        (format!("{{{a},{a}}}"), 8),                 // the same name twice
        (format!("{{{a},{}}}", t("a", 8, 16)), 16),  // the same name, apart
        (format!("{{{a}}}"), 9),                     // a byte too many
        (format!("{{{a}}}"), 7),                     // a byte too few
        (format!("{{{}}}", t("a", 8, 0)), 8),        // backwards
        (format!(" {{{a}}}"), 8),                    // space before the object
        (format!("{{{a}}}\n"), 8),                   // other white space behind it
        (format!("[{{{a}}}]"), 8),
        (format!("{{{a}}}{{}}"), 8),
        (String::new(), 8),
        (object(r#""dtype":"F16","shape":[4]"#), 8),
        (
            object(r#""dtype":"F16","shape":[4],"data_offsets":[0,8],"x":1"#),
            8,
        ),
        (
            object(r#""dtype":"F16","shape":[4],"shape":[4],"data_offsets":[0,8]"#),
            8,
        ),
        (
            object(r#""dtype":"F16","shape":[4],"data_offsets":[0,8,8]"#),
            8,
        ),
        (
            object(r#""dtype":"F16","shape":[4.0],"data_offsets":[0,8]"#),
            8,
        ),
        (
            object(r#""dtype":"F16","shape":[-4],"data_offsets":[0,8]"#),
            8,
        ),
        (
            object(r#""dtype":"F16","shape":[5],"data_offsets":[0,8]"#),
            8,
        ),
        (
            object(r#""dtype":"F32","shape":[4],"data_offsets":[0,8]"#),
            8,
        ),
        (
            object(r#""dtype":"F16","shape":[1,1,1,1,1,1,1,1,4],"data_offsets":[0,8]"#),
            8,
        ),
        (
            object(r#""dtype":"F16","shape":[4294967296,4294967296,2],"data_offsets":[0,8]"#),
            8,
        ),
        (r#"{"a":["F16",[4],[0,8]]}"#.to_owned(), 8),
        (format!(r#"{{"__metadata__":{{"k":1}},{a}}}"#), 8),
        (format!(r#"{{"__metadata__":{{"k":"1","k":"1"}},{a}}}"#), 8),
        (
            format!(r#"{{"__metadata__":{{}},"__metadata__":{{}},{a}}}"#),
            8,
        ),
    ];
    for (header, data) in malformed {
        assert_eq!(
            refused(RuntimeKind::Raw, &file(&header, data)),
            Code::StateMalformed,
            "{header}"
        );
    }
    for dtype in ["C64", "F4", "F8_E8M0", "f16", ""] {
        let header = object(&format!(
            r#""dtype":"{dtype}","shape":[4],"data_offsets":[0,8]"#
        ));
        assert_eq!(
            refused(RuntimeKind::Raw, &file(&header, 8)),
            Code::StateUnsupported
        );
    }
    // A header longer than the limit is refused before memory is set aside for it.
    struct Huge;
    impl ReadAt for Huge {
        fn len(&self) -> u64 {
            u64::MAX
        }
        fn read_exact_at(&self, _: u64, buf: &mut [u8]) -> io::Result<()> {
            assert!(buf.len() == 8);
            buf.copy_from_slice(&(1u64 << 40).to_le_bytes());
            Ok(())
        }
    }
    let error = parse(RuntimeKind::Raw, &Huge, Hints::None).unwrap_err();
    assert_eq!(error.code(), Code::StateLimit);
    let many: Vec<_> = (0..70_000).map(|i| t(&i.to_string(), 0, 0)).collect();
    let header = format!("{{{}}}", many.join(","));
    assert_eq!(
        refused(RuntimeKind::Raw, &file(&header, 0)),
        Code::StateLimit
    );
    let banks: Vec<_> = (0..4065)
        .map(|i| t(&i.to_string(), 2 * i, 2 * i + 2))
        .collect();
    let header = format!("{{{}}}", banks.join(","));
    assert_eq!(
        refused(RuntimeKind::Raw, &file(&header, 2 * 4065)),
        Code::StateLimit
    );
}

/// The fixture with the 0-d tensor `name` set to `value`.
fn with_scalar(fixture: &[u8], name: &str, value: i32) -> Vec<u8> {
    let len = usize::try_from(u64::from_le_bytes(fixture[..8].try_into().unwrap())).unwrap();
    let header: serde_json::Value = serde_json::from_slice(&fixture[8..8 + len]).unwrap();
    let tensor = &header[name];
    assert_eq!(
        (tensor["dtype"].as_str(), &tensor["shape"]),
        (Some("I32"), &serde_json::json!([]))
    );
    let start = usize::try_from(tensor["data_offsets"][0].as_u64().unwrap()).unwrap();
    let mut file = fixture.to_vec();
    file[8 + len + start..][..4].copy_from_slice(&value.to_le_bytes());
    file
}

/// The fixture with `from` replaced in its header by `to`.
fn with_text(fixture: &[u8], from: &str, to: &str) -> Vec<u8> {
    let len = usize::try_from(u64::from_le_bytes(fixture[..8].try_into().unwrap())).unwrap();
    let header = String::from_utf8(fixture[8..8 + len].to_vec()).unwrap();
    assert!(header.contains(from), "{from} in {header}");
    let mut file = file(&header.replacen(from, to, 1), 0);
    file.extend_from_slice(&fixture[8 + len..]);
    file
}

#[test]
fn numbers_of_a_prompt_cache_that_contradict_its_tensors_are_refused() {
    let q4 = fixture("mlx032_q4");
    let ring = fixture("mlx032_rotating");
    let plain = fixture("mlx032_f16");
    let (malformed, unsupported, contradiction) = (
        Code::StateMalformed,
        Code::StateUnsupported,
        Code::StateContradiction,
    );
    for (file, name, value, code) in [
        (&q4, "0.3", 0, unsupported), // ends mlx with a division by zero
        (&q4, "0.3", -64, unsupported),
        (&q4, "0.3", 16, unsupported),
        (&q4, "0.3", 32, contradiction),
        (&q4, "0.4", 0, unsupported),
        (&q4, "0.4", 2, unsupported),
        (&q4, "0.4", 8, contradiction),
        (&q4, "0.4", 260, unsupported),
        (&q4, "0.2", 257, contradiction),
        (&q4, "0.2", -1, malformed),
        (&q4, "3.2", 15, contradiction), // one layer covers less
        (&plain, "0.2", 257, contradiction),
        (&plain, "0.2", -1, malformed),
        (&plain, "0.2", 0, unsupported), // all tokens rolled back
        (&plain, "5.2", 17, contradiction),
        (&ring, "0.5", 17, contradiction), // _idx past the ring
        (&ring, "0.5", 4, contradiction),
        (&ring, "0.5", -1, malformed),
        (&ring, "0.4", 15, contradiction), // max_size
        (&ring, "0.4", 0, contradiction),
        (&ring, "0.3", 16, contradiction), // keep
        (&ring, "0.2", 16, contradiction), // offset
        (&ring, "1.2", 32, contradiction),
    ] {
        assert_eq!(
            refused(RuntimeKind::MlxLm, &with_scalar(file, name, value)),
            code,
            "{name} = {value}"
        );
    }
}

#[test]
fn what_no_adapter_carries_is_refused_by_name() {
    let (tiny, older) = (fixture("mlx032_tiny"), fixture("mlx031_tiny"));
    let q8 = fixture("mlx031_q8");
    for (file, from, to, code) in [
        (
            &tiny,
            "\"KVCache\"",
            "\"BatchKVCache\"",
            Code::StateUnsupported,
        ),
        (
            &tiny,
            "\"KVCache\"",
            "\"PagedCache\"",
            Code::StateUnsupported,
        ),
        (
            &tiny,
            "\"KVCache\"",
            "\"RotatingKVCache\"",
            Code::StateMalformed,
        ),
        (
            &tiny,
            "\"2.1.1\":\"scalar\"",
            "\"2.1.1\":\"object\"",
            Code::StateUnsupported,
        ),
        (
            &tiny,
            "\"2.1.1\":\"scalar\"",
            "\"2.1.1\":\"none\"",
            Code::StateMalformed,
        ),
        (
            &tiny,
            "\"2.1.0\":\"0.2\"",
            "\"2.1.0\":\"0.7\"",
            Code::StateMalformed,
        ),
        (&tiny, "\"2.1.0\"", "\"3.1.0\"", Code::StateUnsupported),
        (&tiny, "\"0.1\"", "\"0.9\"", Code::StateMalformed),
        (&tiny, "\"0.1\"", "\"0.x\"", Code::StateUnsupported),
        (&tiny, "\"F16\"", "\"I16\"", Code::StateUnsupported),
        (&tiny, "[1,1,256,2]", "[2,1,128,2]", Code::StateUnsupported),
        (
            &tiny,
            "[1,1,256,2]",
            "[1,2,128,2]",
            Code::StateContradiction,
        ),
        (&tiny, "[1,1,256,2]", "[1,256,2]", Code::StateMalformed),
        (
            &older,
            "\"KVCache\"",
            "\"MambaCache\"",
            Code::StateUnsupported,
        ),
        (
            &older,
            "\"0.0\":\"\"",
            "\"0.0\":\"7\"",
            Code::StateMalformed,
        ),
        (
            &q8,
            "\"0.0.2\":\"8\"",
            "\"0.0.2\":\"x\"",
            Code::StateMalformed,
        ),
        (
            &q8,
            "\"0.0.1\":\"64\"",
            "\"0.0.1\":\"0\"",
            Code::StateUnsupported,
        ),
        (
            &q8,
            "\"0.0.0\":\"16\"",
            "\"0.0.0\":\"17\"",
            Code::StateContradiction,
        ),
    ] {
        let file = with_text(file, from, to);
        assert_eq!(refused(RuntimeKind::MlxLm, &file), code, "{from} → {to}");
    }
    let hf = fixture("hf_f16");
    for (from, to, code) in [
        ("layers.5.values", "layers.5.scales", Code::StateUnsupported),
        ("layers.5.values", "layers.6.values", Code::StateMalformed),
        (
            "layers.5.values",
            "layers.05.values",
            Code::StateUnsupported,
        ),
        (
            "layers.5.values",
            "layers.9999.values",
            Code::StateUnsupported,
        ),
        ("[1,2,16,64]", "[2,1,16,64]", Code::StateUnsupported),
        ("[1,2,16,64]", "[1,1,32,64]", Code::StateContradiction),
        (
            "{",
            "{\"__metadata__\":{\"seq_len\":\"9\"},",
            Code::StateContradiction,
        ),
        (
            "{",
            "{\"__metadata__\":{\"seq_len\":\"x\"},",
            Code::StateMalformed,
        ),
        (
            "{",
            "{\"__metadata__\":{\"layers.0.cumulative_length\":\"9\"},",
            Code::StateUnsupported,
        ),
    ] {
        let file = with_text(&hf, from, to);
        assert_eq!(
            refused(RuntimeKind::HuggingFace, &file),
            code,
            "{from} → {to}"
        );
    }
}

#[test]
fn hugging_face_sliding_and_recurrent_layers() {
    let tensors = r#""layers.0.keys":{"dtype":"F32","shape":[1,1,3,2],"data_offsets":[0,24]},
        "layers.0.values":{"dtype":"F32","shape":[1,1,3,2],"data_offsets":[24,48]},
        "layers.1.keys":{"dtype":"F32","shape":[1,1,5,2],"data_offsets":[48,88]},
        "layers.1.values":{"dtype":"F32","shape":[1,1,5,2],"data_offsets":[88,128]},
        "layers.3.conv_states":{"dtype":"F32","shape":[1,2,4],"data_offsets":[128,160]},
        "layers.3.recurrent_states":{"dtype":"F32","shape":[1,1,2,2],"data_offsets":[160,176]}"#;
    let kind = RuntimeKind::HuggingFace;
    // Rows differ: without the length nothing says which positions they hold.
    assert_eq!(
        refused(kind, &file(&format!("{{{tensors}}}"), 176)),
        Code::StateUnsupported
    );
    let known = file(
        &format!(r#"{{"__metadata__":{{"seq_len":"5"}},{tensors}}}"#),
        176,
    );
    let state = parse(kind, &known, Hints::None).unwrap();
    assert_eq!((state.layers, state.positions.clone()), (4, 0..5));
    assert_eq!(state.stateless, [2]);
    assert_eq!(state.facts[0].1, "sliding,full,none,recurrent");
    assert_eq!(state.banks[0].bank.rows, Rows::From(2));
    assert_eq!(state.banks[0].bank.window, 4);
    assert_eq!(state.banks[2].bank.rows, Rows::From(0));
    assert!(rebuild(kind, &known, Hints::None).unwrap() == known);

    // a layer that the model fills and the file does not: nothing says that it was never filled
    let attention = |window| LayerGeometry::Attention {
        kv_heads: 1,
        key_dim: 2,
        value_dim: 2,
        window,
    };
    let layers = |third| Geometry {
        layers: vec![attention(4), attention(0), third, LayerGeometry::Recurrent],
        context_length: 0,
    };
    let shared = layers(LayerGeometry::Shared);
    assert!(parse(kind, &known, Hints::Model(&shared)).is_ok());
    for third in [attention(0), LayerGeometry::Recurrent] {
        let error = parse(kind, &known, Hints::Model(&layers(third))).unwrap_err();
        assert_eq!(error.code(), Code::StateContradiction);
        assert_eq!(error.place(), Some("layer 2"));
    }
}

#[test]
fn a_residue_that_is_not_the_files_own_is_refused() {
    let file = fixture("mlx032_tiny");
    let state = parse(RuntimeKind::MlxLm, &file, Hints::None).unwrap();
    let rest = residue(&state, &file).unwrap();
    let all = banks(&state);
    for len in 0..rest.len() {
        assert!(Skeleton::parse(&rest[..len]).is_err(), "{len}");
    }
    let mut other = all.clone();
    other[0].layer = 1;
    for (kind, banks) in [
        (RuntimeKind::MlxLm, &other[..]),
        (RuntimeKind::MlxLm, &all[1..]),
        (RuntimeKind::HuggingFace, &all),
        (RuntimeKind::Raw, &all),
    ] {
        assert!(Skeleton::parse(&rest).unwrap().state(kind, banks).is_err());
    }
    let number = |file_len: u64, entries: &[(u64, u64)], bytes: usize| {
        let mut out = file_len.to_le_bytes().to_vec();
        out.extend_from_slice(&u32::try_from(entries.len()).unwrap().to_le_bytes());
        for (offset, len) in entries {
            out.extend_from_slice(&offset.to_le_bytes());
            out.extend_from_slice(&len.to_le_bytes());
        }
        out.resize(out.len() + bytes, 1);
        out
    };
    assert!(Skeleton::parse(&number(10, &[(0, 2), (5, 5)], 7)).is_ok());
    for (len, entries, bytes) in [
        (10, &[(0, 2), (2, 5)][..], 7), // adjacent
        (10, &[(5, 2), (0, 2)], 4),     // descending
        (10, &[(0, 2), (1, 2)], 4),     // overlapping
        (10, &[(0, 0)], 0),             // empty
        (10, &[(5, 6)], 6),             // past the end
        (10, &[(0, 2)], 3),             // a byte too many
        (10, &[(0, 2)], 1),
        (10, &[(2, u64::MAX)], 1),
        (u64::MAX, &[(0, u64::MAX)], 1),
    ] {
        assert!(
            Skeleton::parse(&number(len, entries, bytes)).is_err(),
            "{entries:?}"
        );
    }
    let mut huge = number(10, &[], 0);
    huge[8..12].copy_from_slice(&u32::MAX.to_le_bytes());
    assert_eq!(Skeleton::parse(&huge).unwrap_err().code(), Code::StateLimit);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn a_mutated_file_never_panics(
        which in 0..FIXTURES.len(),
        edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        in_header in any::<bool>(),
    ) {
        let (name, kind, _) = FIXTURES[which];
        let mut file = fixture(name);
        let header = 8 + usize::try_from(u64::from_le_bytes(file[..8].try_into().unwrap())).unwrap();
        let end = if in_header { header } else { file.len() };
        for (index, byte) in edits {
            let at = index.index(end);
            file[at] = byte;
        }
        for kind in [kind, RuntimeKind::Raw] {
            if let Ok(state) = parse(kind, &file, Hints::None) {
                state.padding_nonzero(&file).unwrap();
                rebuild(kind, &file, Hints::None).unwrap();
            }
        }
    }

    #[test]
    fn a_mutated_residue_never_panics(
        which in 0..FIXTURES.len(),
        edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let (name, kind, _) = FIXTURES[which];
        let file = fixture(name);
        let state = parse(kind, &file, Hints::None).unwrap();
        let mut rest = residue(&state, &file).unwrap();
        for (index, byte) in edits {
            let at = index.index(rest.len());
            rest[at] = byte;
        }
        if let Ok(skeleton) = Skeleton::parse(&rest)
            && let Ok(found) = skeleton.state(kind, &banks(&state))
        {
            prop_assert_eq!(banks(&found), banks(&state));
        }
    }
}
