//! Files that lie.

use std::io;

use kvcap::{Code, Rows};
use kvcap_codecs::BankShape;
use kvcap_models::{Geometry, LayerGeometry};
use kvcap_states::{Hints, ReadAt, RuntimeKind, Skeleton, State, detect, parse, residue};
use proptest::prelude::*;

use super::support::{FIXTURES, banks, file, fixture, rebuild, refused, with_scalar, with_text};

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
        architecture: None,
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
            Code::StateUnsupported,
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
            "\"PagedCache\"",
            Code::StateUnsupported,
        ),
        (
            &older,
            "\"0.0\":\"\"",
            "\"0.0\":\"7\"",
            Code::StateUnsupported,
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

#[test]
fn a_cache_without_tensors_was_never_filled() {
    let tensor = |name: &str, dtype: &str, shape: &str, start: usize, end: usize| {
        format!(r#""{name}":{{"dtype":"{dtype}","shape":{shape},"data_offsets":[{start},{end}]}}"#)
    };
    let tensors = [
        tensor("0.0", "F16", "[1,1,2,2]", 0, 8),
        tensor("0.1", "F16", "[1,1,2,2]", 8, 16),
        tensor("0.2", "I32", "[]", 16, 20),
        tensor("1.2", "I32", "[]", 20, 24),
        tensor("1.0", "I32", "[0]", 24, 24),
        tensor("1.1", "I32", "[0]", 24, 24),
    ];
    let metadata = r#""__metadata__":{"1.0":"KVCache","1.1":"KVCache","2.0":"","2.1.0":"0.2","2.1.1":"scalar",
        "2.2.0":"1.0","2.2.1":"none","2.3.0":"1.1","2.3.1":"none","2.4.0":"1.2","2.4.1":"scalar"}"#;
    let mut state = file(&format!("{{{},{metadata}}}", tensors.join(",")), 24);
    let end = state.len();
    state[end - 8] = 2;
    let found = parse(RuntimeKind::MlxLm, &state, Hints::None).unwrap();
    assert_eq!((found.layers, found.banks.len()), (2, 2));
    assert_eq!(found.stateless, [1]);
    // without tensors, and yet with a token
    state[end - 4] = 1;
    assert_eq!(refused(RuntimeKind::MlxLm, &state), Code::StateMalformed);
}

#[test]
fn a_chunked_cache_past_its_first_chunk_says_too_little() {
    let chunked = |start: &str| {
        let file = with_text(&fixture("mlx031_tiny"), "\"KVCache\"", "\"ChunkedKVCache\"");
        let info = format!("\"0.0.0\":\"8\",\"0.0.1\":\"{start}\"");
        with_text(&file, "\"0.0\":\"\"", &info)
    };
    let first = chunked("0");
    let state = parse(RuntimeKind::MlxLm, &first, Hints::None).unwrap();
    assert_eq!((state.positions, state.banks[0].bank.window), (0..3, 8));
    assert_eq!(
        refused(RuntimeKind::MlxLm, &chunked("1")),
        Code::StateUnsupported
    );
}

#[test]
fn a_state_that_contradicts_itself_is_refused() {
    type Change = fn(&mut State);
    let file = fixture("mlx032_tiny");
    let check = |change: Change| {
        let mut state = parse(RuntimeKind::MlxLm, &file, Hints::None).unwrap();
        change(&mut state);
        state.check().map_err(|error| error.code())
    };
    assert_eq!(check(|_| {}), Ok(()));
    let cases: [(Change, Code); 8] = [
        // one region for two banks, and one that ends after the file
        (
            |state| state.banks[0].parts = state.banks[1].parts.clone(),
            Code::StateMalformed,
        ),
        (|state| state.file_len -= 1, Code::StateMalformed),
        // nothing; a name twice; a layer that is not there
        (|state| state.banks.clear(), Code::StateUnsupported),
        (
            |state| state.banks[0].bank.role = state.banks[1].bank.role,
            Code::StateContradiction,
        ),
        (|state| state.layers = 0, Code::StateContradiction),
        // no row; not one position a row; no position
        (
            |state| state.banks[0].bank.shape = tokens(0),
            Code::StateContradiction,
        ),
        (
            |state| state.banks[0].bank.rows = Rows::Listed(vec![0].into()),
            Code::StateContradiction,
        ),
        (
            |state| state.banks[0].bank.rows = Rows::None,
            Code::StateContradiction,
        ),
    ];
    for (at, (change, code)) in cases.into_iter().enumerate() {
        assert_eq!(check(change), Err(code), "{at}");
    }
}

fn tokens(tokens: u64) -> BankShape {
    let (heads, dim) = (1, 2);
    BankShape::Tokens { heads, tokens, dim }
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
