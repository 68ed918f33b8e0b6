//! Saved states that come back.

use kvcap::{Code, Role, Rows};
use kvcap_codecs::{AffineParams, BankShape, Dtype, ParamDtype};
use kvcap_models::{Geometry, LayerGeometry};
use kvcap_states::{Hints, RuntimeKind, detect, parse};

use super::support::{FIXTURES, banks, file, fixture, rebuild, refused};

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
        architecture: None,
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
fn rows_past_the_offset_are_told_and_come_back_as_zeros() {
    let mut file = fixture("mlx032_tiny");
    let clean = file.clone();
    let state = parse(RuntimeKind::MlxLm, &file, Hints::None).unwrap();
    let part = state.banks[1].parts[0];
    let last = usize::try_from(part.offset + part.len - 1).unwrap();
    file[last] = 0x3c;
    let state = parse(RuntimeKind::MlxLm, &file, Hints::None).unwrap();
    let left = state.padding_nonzero(&file).unwrap();
    assert_eq!(left.len(), 1);
    assert!((left[0].bank, left[0].tokens) == (1, true));
    assert!(rebuild(RuntimeKind::MlxLm, &file, Hints::None).unwrap() == clean);
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
        architecture: None,
    };
    let shared = layers(LayerGeometry::Shared);
    assert!(parse(kind, &known, Hints::Model(&shared)).is_ok());
    for third in [attention(0), LayerGeometry::Recurrent] {
        let error = parse(kind, &known, Hints::Model(&layers(third))).unwrap_err();
        assert_eq!(error.code(), Code::StateContradiction);
        assert_eq!(error.place(), Some("layer 2"));
    }
}
