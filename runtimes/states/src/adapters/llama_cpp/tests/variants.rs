use kvcap::{Code, Role, Rows};
use kvcap_codecs::{BankShape, Dtype};

use super::*;

const FOUR: &[(i32, &[u32])] = &[(0, &[0]), (1, &[0]), (2, &[0]), (3, &[0])];

fn positions(state: &State) -> Vec<Rows> {
    state
        .banks
        .iter()
        .map(|placed| placed.bank.rows.clone())
        .collect()
}

#[test]
fn every_type_of_cache_and_mixed_types() {
    for (kind, row, name) in [
        (0, 256, "f32"),
        (1, 128, "f16"),
        (30, 128, "bf16"),
        (2, 36, "ggml_q4_0"),
        (3, 40, "ggml_q4_1"),
        (6, 44, "ggml_q5_0"),
        (7, 48, "ggml_q5_1"),
        (8, 68, "ggml_q8_0"),
        (20, 36, "ggml_iq4_nl"),
    ] {
        let cache = Cache {
            keys: vec![(kind, row); 2],
            values: vec![(1, 128); 2],
            ..Cache::default()
        };
        let bytes = File::sequence(3, &[1, 2, 3, 4]).cache(&cache, &[FOUR]).0;
        let model = geometry(vec![attention(2, 32, 0); 2]);
        let state = round_trip(&bytes, Hints::Model(&model));
        assert_eq!(
            (fact(&state, "type_k"), fact(&state, "type_v")),
            (name, "f16")
        );
        let (heads, tokens, dim) = (2, 4, 32);
        assert_eq!(
            state.banks[0].bank.shape,
            BankShape::Tokens { heads, tokens, dim }
        );
        // a head that is not whole blocks stays inside its row
        let model = geometry(vec![attention(4, 16, 0); 2]);
        let state = round_trip(&bytes, Hints::Model(&model));
        let whole = state.banks[0].bank.shape
            == BankShape::Tokens {
                heads: 1,
                tokens,
                dim: 64,
            };
        assert_eq!(whole, name.starts_with("ggml"));
    }
    let unknown = Cache {
        keys: vec![(10, 84)],
        values: vec![(10, 84)],
        ..Cache::default()
    };
    let bytes = File::sequence(3, &[1, 2, 3, 4]).cache(&unknown, &[FOUR]).0;
    let error = read(&bytes, Hints::None).unwrap_err();
    assert!(error.to_string().contains("ggml type 10"), "{error}");
}

#[test]
fn transposed_values_of_every_plain_type() {
    for (kind, row, dtype) in [
        (0, 32, Dtype::F32),
        (1, 16, Dtype::F16),
        (30, 16, Dtype::Bf16),
    ] {
        let cache = Cache {
            values: vec![(kind, row); 2],
            v_trans: true,
            ..Cache::default()
        };
        let bytes = File::sequence(3, &[1, 2, 3, 4]).cache(&cache, &[FOUR]).0;
        let model = geometry(vec![attention(2, 4, 0); 2]);
        let state = round_trip(&bytes, Hints::Model(&model));
        let placed = state.of_role(Role::Value).next().unwrap();
        assert_eq!(placed.bank.dtype, dtype);
        assert!(matches!(placed.parts[0].order, Order::Transposed { .. }));
        let mut frame = Vec::new();
        placed.read_frame(&bytes, 0, &mut frame).unwrap();
        // head 1, token 2, dim 3 is channel 7 of 8
        let element = usize::try_from(dtype.row_bytes(1).unwrap()).unwrap();
        let at = usize::try_from(placed.parts[0].offset).unwrap() + (7 * 4 + 2) * element;
        let from = ((4 + 2) * 4 + 3) * element;
        assert_eq!(frame[from..from + element], bytes[at..at + element]);
    }
}

#[test]
fn streams_and_sequences() {
    let a: &[(i32, &[u32])] = &[(0, &[0]), (1, &[0])];
    let b: &[(i32, &[u32])] = &[(0, &[3]), (1, &[3]), (2, &[3])];
    // a session, one stream a sequence, two of them without cells
    let cache = Cache::default();
    let bytes = File::session(10, &[1, 2, 3], "llama")
        .cache(&cache, &[a, &[], &[], b])
        .0;
    let state = round_trip(&bytes, Hints::None);
    assert_eq!(
        (fact(&state, "n_stream"), fact(&state, "sequences")),
        ("4", "2")
    );
    assert_eq!((state.banks.len(), state.layers), (8, 2));
    let names: Vec<_> = state
        .banks
        .iter()
        .map(|p| (p.bank.layer, p.bank.index))
        .collect();
    assert_eq!(
        names,
        [
            (0, 0),
            (1, 0),
            (0, 0),
            (1, 0),
            (0, 1),
            (1, 1),
            (0, 1),
            (1, 1)
        ]
    );
    assert_eq!(state.notes, ["the session holds 2 sequences"]);

    // unified: both in one stream, sharing the first cell
    let both: &[(i32, &[u32])] = &[(0, &[0, 3]), (1, &[0]), (1, &[3]), (2, &[3])];
    let bytes = File::session(10, &[1, 2, 3], "llama")
        .cache(&cache, &[both])
        .0;
    let state = round_trip(&bytes, Hints::None);
    assert_eq!(
        (fact(&state, "n_stream"), fact(&state, "sequences")),
        ("1", "2")
    );
    assert_eq!(state.banks[0].bank.rows, Rows::Listed([0, 1, 1, 2].into()));
    assert_eq!(state.positions, 0..3);

    // a sequence file of a context with streams: only its own has cells
    let bytes = File::sequence(3, &[1, 2, 3]).cache(&cache, &[&[], b]).0;
    let state = round_trip(&bytes, Hints::None);
    assert_eq!((fact(&state, "n_stream"), state.banks.len()), ("2", 4));

    // two sequences where there may be one
    let bytes = File::sequence(3, &[1, 2])
        .cache(&cache, &[&[(0, &[0]), (1, &[1])]])
        .0;
    let error = read(&bytes, Hints::None).unwrap_err();
    assert_eq!(error.code(), Code::StateContradiction);
    assert!(error.to_string().contains("sequences {0, 1}"), "{error}");
}

#[test]
fn cells_out_of_order_gaps_and_single_cells() {
    let cache = Cache::default();
    let recycled: &[(i32, &[u32])] = &[(8, &[0]), (9, &[0]), (6, &[0]), (7, &[0])];
    let state = round_trip(
        &File::sequence(3, &[]).cache(&cache, &[recycled]).0,
        Hints::None,
    );
    assert!(
        positions(&state)
            .iter()
            .all(|rows| *rows == Rows::Listed([8, 9, 6, 7].into()))
    );
    assert_eq!((state.positions, state.tokens), (6..10, None));

    let gap: &[(i32, &[u32])] = &[(0, &[0]), (5, &[0])];
    let state = round_trip(
        &File::sequence(3, &[4, 4]).cache(&cache, &[gap]).0,
        Hints::None,
    );
    assert_eq!((state.positions, state.notes.len()), (0..6, 1));

    let one: &[(i32, &[u32])] = &[(0, &[0])];
    let state = round_trip(
        &File::sequence(3, &[4]).cache(&cache, &[one]).0,
        Hints::None,
    );
    assert_eq!((state.positions, state.tokens), (0..1, Some(vec![4])));

    for empty in [
        File::sequence(3, &[]).cache(&cache, &[&[]]),
        File::sequence(3, &[]).cache(&cache, &[&[], &[]]),
        File::session(10, &[], "llama").cache(&cache, &[&[]]),
    ] {
        let error = read(&empty.0, Hints::None).unwrap_err();
        assert_eq!(
            (error.code(), error.what()),
            (Code::StateUnsupported, "the state holds no cells")
        );
    }
}

#[test]
fn unsound_positions_are_refused() {
    let repeated: &[(i32, &[u32])] = &[(0, &[0]), (1, &[0]), (0, &[0])];
    let negative: &[(i32, &[u32])] = &[(-3, &[0]), (-2, &[0])];
    for (cells, says) in [
        (repeated, "two cells of one sequence have position 0"),
        (negative, "negative position -3"),
    ] {
        let bytes = File::sequence(3, &[1, 2])
            .cache(&Cache::default(), &[cells])
            .0;
        let error = read(&bytes, Hints::None).unwrap_err();
        assert_eq!(error.code(), Code::StateContradiction);
        assert!(error.to_string().contains(says), "{error}");
    }
    let bytes = File::sequence(3, &[-5]).cache(&Cache::default(), &[FOUR]).0;
    let error = read(&bytes, Hints::None).unwrap_err();
    assert_eq!(
        (error.code(), error.what()),
        (Code::StateContradiction, "token id -5 is negative")
    );
}

#[test]
fn sliding_window_layers_go_to_the_second_cache() {
    let full = Cache {
        keys: vec![(1, 16)],
        values: vec![(1, 16)],
        ..Cache::default()
    };
    let windowed = Cache {
        keys: vec![(1, 16); 3],
        values: vec![(1, 16); 3],
        ..Cache::default()
    };
    let bytes = File::sequence(3, &[1, 2, 3, 4])
        .cache(&full, &[FOUR])
        .cache(&windowed, &[&FOUR[2..]])
        .0;
    let mut layers = vec![attention(2, 4, 2); 4];
    layers[3] = attention(2, 4, 0);
    layers.push(LayerGeometry::Shared);
    let model = geometry(layers);
    let state = round_trip(&bytes, Hints::Model(&model));
    assert_eq!(fact(&state, "sections"), "attention+window");
    assert_eq!(
        (state.layers, state.stateless.as_slice()),
        (5, [4].as_slice())
    );
    let keys: Vec<_> = state
        .of_role(Role::Key)
        .map(|p| (p.bank.layer, p.bank.window, p.bank.rows.clone()))
        .collect();
    let late = Rows::From(2);
    assert_eq!(
        keys,
        [
            (3, 0, Rows::From(0)),
            (0, 2, late.clone()),
            (1, 2, late.clone()),
            (2, 2, late)
        ]
    );
    // without the second cache the file is whole in itself, but not for the model
    let cut = File::sequence(3, &[1, 2, 3, 4]).cache(&full, &[FOUR]).0;
    let error = read(&cut, Hints::Model(&model)).unwrap_err();
    assert_eq!(error.code(), Code::StateContradiction);
}

#[test]
fn hybrid_and_recurrent_states() {
    let one = Cache {
        keys: vec![(1, 16)],
        values: vec![(1, 16)],
        ext: 12,
        ..Cache::default()
    };
    let bytes = File::sequence(3, &[1, 2, 3, 4])
        .cache(&one, &[FOUR])
        .recurrent(&[(3, &[])], 3, 2, (24, 64))
        .0;
    let recurrent = LayerGeometry::Recurrent;
    let model = geometry([recurrent.clone(), attention(2, 4, 0), recurrent.clone()]);
    let state = round_trip(&bytes, Hints::Model(&model));
    assert_eq!(fact(&state, "sections"), "attention+recurrent");
    assert_eq!(
        (fact(&state, "cell_ext"), fact(&state, "type_s")),
        ("12", "f32")
    );
    let names: Vec<_> = state
        .banks
        .iter()
        .map(|p| (p.bank.role, p.bank.layer))
        .collect();
    assert_eq!(
        names,
        [
            (Role::Key, 1),
            (Role::Value, 1),
            (Role::Convolution, 0),
            (Role::Convolution, 2),
            (Role::Recurrent, 0),
            (Role::Recurrent, 2)
        ]
    );
    assert_eq!(
        state.banks[5].bank.shape,
        BankShape::Whole { dims: vec![1, 16] }
    );
    assert_eq!(state.notes, Vec::<String>::new());

    // two sequences of a session, and a convolution without a state beside it
    let both: &[(i32, &[u32])] = &[(0, &[0]), (0, &[1])];
    let bytes = File::session(10, &[1], "lfm2")
        .cache(&Cache { ext: 0, ..one }, &[both])
        .recurrent(both, 2, 1, (24, 0))
        .0;
    let state = round_trip(&bytes, Hints::None);
    assert_eq!((state.layers, state.banks.len()), (2, 3));
    assert_eq!(
        state.banks[2].bank.shape,
        BankShape::Whole { dims: vec![2, 6] }
    );

    let bytes = File::sequence(3, &[1, 2])
        .recurrent(&[(1, &[])], 4, 3, (24, 64))
        .0;
    let state = round_trip(&bytes, Hints::None);
    assert_eq!(
        (fact(&state, "sections"), fact(&state, "type_k")),
        ("recurrent", "none")
    );
    assert_eq!(
        (state.layers, state.stateless.as_slice()),
        (4, [3].as_slice())
    );
    assert_eq!(state.positions, 1..2);
}

#[test]
fn latent_attention_keeps_keys_alone() {
    let latent = Cache {
        keys: vec![(1, 24); 2],
        values: Vec::new(),
        ..Cache::default()
    };
    let layer = LayerGeometry::Latent {
        rank: 8,
        rope_dim: 4,
    };
    let model = geometry(vec![layer.clone(); 2]);
    let bytes = File::sequence(3, &[1, 2, 3, 4]).cache(&latent, &[FOUR]).0;
    let state = round_trip(&bytes, Hints::Model(&model));
    assert!(
        state
            .banks
            .iter()
            .all(|placed| placed.bank.role == Role::Latent)
    );
    assert_eq!(fact(&state, "type_v"), "none");

    for (model, code) in [
        (
            geometry(vec![attention(3, 4, 0); 2]),
            Code::StateContradiction,
        ),
        (
            geometry(vec![LayerGeometry::Unknown; 2]),
            Code::StateUnsupported,
        ),
        (geometry([layer]), Code::StateContradiction),
    ] {
        assert_eq!(read(&bytes, Hints::Model(&model)).unwrap_err().code(), code);
    }
    assert_eq!(
        read(&bytes, Hints::None).unwrap_err().code(),
        Code::StateUnsupported
    );

    let indexer = File(bytes).cache(&latent, &[FOUR]).0;
    let error = read(&indexer, Hints::Model(&model)).unwrap_err();
    assert!(error.to_string().contains("an indexer's keys"), "{error}");
}

#[test]
fn layouts_of_one_version_are_told_apart() {
    for (ext, n_stream, facts) in [
        (0, true, ("0", "1")),
        (8, true, ("8", "1")),
        (12, true, ("12", "1")),
        (0, false, ("0", "none")),
    ] {
        let cache = Cache {
            ext,
            n_stream,
            ..Cache::default()
        };
        // before streams, the cells of a sequence file left their sequence out
        let bare: Vec<(i32, &[u32])> = FOUR.iter().map(|cell| (cell.0, &[][..])).collect();
        let cells = if n_stream { FOUR } else { &bare };
        let bytes = File::sequence(2, &[1, 2, 3, 4]).cache(&cache, &[cells]).0;
        let state = round_trip(&bytes, Hints::None);
        assert_eq!(state.format, "ggsq-2");
        assert_eq!((fact(&state, "cell_ext"), fact(&state, "n_stream")), facts);

        let outputs: &[&[u32]] = match (ext, n_stream) {
            (0, true) => &[&[], &[1, 3, 2, 0, 7, 8, 0, 0], &[0, 0, 0, 0, 0]],
            (_, true) => &[&[]],
            (_, false) => &[&[0, 0, 0, 0, 0]],
        };
        for outputs in outputs {
            let file = File::session(9, &[1, 2, 3, 4], "llama").words(outputs);
            let state = round_trip(&file.cache(&cache, &[FOUR]).0, Hints::None);
            assert_eq!(state.format, "ggsn-9");
            let expected = if outputs.is_empty() { "(absent)" } else { "1" };
            assert_eq!(fact(&state, "outputs"), expected);
            assert_eq!((fact(&state, "cell_ext"), fact(&state, "n_stream")), facts);
        }
    }
    // what follows is whole, and not what this version of llama.cpp writes: of another program, and not damaged
    let bare: Vec<(i32, &[u32])> = FOUR.iter().map(|cell| (cell.0, &[][..])).collect();
    for (version, ext, n_stream, rotation, says) in [
        (3, 8, true, false, "streams and 8 bytes more a cell"),
        (3, 0, true, true, "streams with rotation"),
        (3, 0, false, false, "no streams"),
        (4, 0, true, false, "streams"),
        (4, 0, false, false, "no streams"),
    ] {
        let cache = Cache {
            ext,
            n_stream,
            rotation: rotation.then_some([0, 0]),
            ..Cache::default()
        };
        let cells = if n_stream { FOUR } else { &bare };
        let whole = File::sequence(version, &[1, 2, 3, 4])
            .cache(&cache, &[cells])
            .0;
        let error = read(&whole, Hints::None).unwrap_err();
        assert_eq!(error.code(), Code::StateUnsupported, "{error}");
        assert!(
            error.to_string().contains(&format!("found {says})")),
            "{error}"
        );
        assert_eq!(
            error.to_string().contains("ik_llama.cpp"),
            !n_stream,
            "{error}"
        );
        let cut = &whole[..whole.len() - 1];
        let error = read(cut, Hints::None).unwrap_err();
        assert_eq!(error.code(), Code::StateMalformed, "{error}");
    }
}

/// One cell of an old sequence file reads as a recurrent state as well: only a model can tell.
#[test]
fn an_ambiguous_file_needs_its_model() {
    let cache = Cache {
        values: vec![(1, 32); 2],
        n_stream: false,
        ..Cache::default()
    };
    let bytes = File::sequence(2, &[1]).cache(&cache, &[&[(0, &[])]]).0;
    let error = read(&bytes, Hints::None).unwrap_err();
    assert_eq!(error.code(), Code::StateUnsupported);
    assert!(
        error.to_string().contains("more than one layout"),
        "{error}"
    );
    let layer = LayerGeometry::Attention {
        kv_heads: 2,
        key_dim: 4,
        value_dim: 8,
        window: 0,
    };
    for (layer, sections) in [
        (layer, "attention"),
        (LayerGeometry::Recurrent, "recurrent"),
    ] {
        let model = geometry(vec![layer; 2]);
        let state = round_trip(&bytes, Hints::Model(&model));
        assert_eq!(fact(&state, "sections"), sections);
    }
}

#[test]
fn blobs_carry_a_sequence_and_no_tokens() {
    let blob = |id| {
        File::default()
            .words(&[0xaf14_3cd8, id])
            .cache(&Cache::default(), &[FOUR])
            .0
    };
    let state = round_trip(&blob(0), Hints::None);
    assert_eq!((state.format, state.tokens), ("seq-blob", None));
    let error = read(&blob(1), Hints::None).unwrap_err();
    assert!(
        error.to_string().contains("names sequences {0, 1}"),
        "{error}"
    );
}

#[test]
fn slot_files_hold_the_servers_own_record() {
    let slot = |words: &[i32]| File::sequence(3, words).cache(&Cache::default(), &[FOUR]).0;
    let state = round_trip(&slot(&[-1, 1, 4, 9, 8, 7, 6, 0]), Hints::None);
    assert_eq!(fact(&state, "file"), "slot");
    assert_eq!(
        (state.tokens, state.notes),
        (Some(vec![9, 8, 7, 6]), Vec::new())
    );

    // an older slot file is a sequence file like any other
    let state = round_trip(&slot(&[9, 8, 7, 6]), Hints::None);
    assert_eq!(fact(&state, "file"), "sequence");

    // two images, of two and one tokens; chunks of 5 and 4 bytes, three bytes of padding
    let chunks: [u8; 20] = [5, 0, 0, 0, 1, 2, 3, 4, 5, 4, 0, 0, 0, 6, 7, 8, 9, 0, 0, 0];
    let words = |chunks: [u8; 20], starts: [i32; 2], ids: [i32; 5]| {
        let mut words = vec![-1, 1, 5];
        words.extend(ids);
        words.push(2);
        words.extend(starts);
        words.extend(
            chunks
                .chunks_exact(4)
                .map(|c| i32::from_le_bytes(c.try_into().unwrap())),
        );
        words
    };
    let ids = [9, -1, -1, -1, 8];
    let state = round_trip(&slot(&words(chunks, [1, 3], ids)), Hints::None);
    assert_eq!(fact(&state, "media"), "2");
    assert_eq!(state.tokens, Some(vec![9, u32::MAX, u32::MAX, u32::MAX, 8]));
    assert_eq!(state.notes.len(), 2); // five tokens on four positions, and media

    let mut padded = chunks;
    padded[19] = 1;
    for (words, code) in [
        (words(padded, [1, 3], ids), Code::StateMalformed),
        (words(chunks, [3, 1], ids), Code::StateMalformed),
        (words(chunks, [1, 9], ids), Code::StateMalformed),
        (words(chunks, [0, 3], ids), Code::StateContradiction),
        (words(chunks, [2, 3], ids), Code::StateContradiction),
        (
            words(chunks, [1, 3], [9, -1, -1, -1, -8]),
            Code::StateContradiction,
        ),
        (vec![-1, 1, 4, 9, 8, 7, 6, 0, 0], Code::StateMalformed),
        (vec![-1, 1, 4, 9, 8, 7, 6, 1, 0], Code::StateMalformed),
        (vec![-1, 2, 4, 9, 8, 7, 6, 0], Code::StateUnsupported),
        (vec![-1], Code::StateMalformed),
    ] {
        let error = read(&slot(&words), Hints::None).unwrap_err();
        assert_eq!(error.code(), code, "{words:?}: {error}");
    }
}

/// A rewind changes cells and token ids: what else a file holds is not cut (runtimes-v1 RUN-R-12).
#[test]
fn what_else_a_file_holds_is_not_cut() {
    let cut = |bytes: &Vec<u8>| {
        let state = crate::parse(RuntimeKind::LlamaCpp, bytes, Hints::None).unwrap();
        let out = Output(Mutex::new(vec![0; bytes.len()]));
        let one = kvcap::Workers::ONE;
        crate::truncate_state(RuntimeKind::LlamaCpp, &state, bytes, 2, &out, one)
            .map_or_else(|error| error.code().number(), |_| 0)
    };
    let cache = Cache::default();
    let session = |version| File::session(version, &[1, 2, 3, 4], "llama");
    assert_eq!(cut(&session(10).cache(&cache, &[FOUR]).0), 0);
    let outputs = session(9).words(&[1, 3, 2, 0, 7, 8, 0, 0]);
    assert_eq!(cut(&outputs.cache(&cache, &[FOUR]).0), 922);
    let other: &[(i32, &[u32])] = &[(0, &[3]), (1, &[3]), (2, &[3]), (3, &[3])];
    for (first, second) in [(4, 3), (3, 4), (4, 4)] {
        let streams = [&FOUR[..first], &other[..second]];
        assert_eq!(cut(&session(10).cache(&cache, &streams).0), 922);
    }
    let slot = |words: &[i32]| File::sequence(3, words).cache(&cache, &[FOUR]).0;
    assert_eq!(cut(&slot(&[-1, 1, 4, 9, 8, 7, 6, 0])), 0);
    // one image of one token, of four bytes
    let image = [-1, 1, 4, 9, 8, -1, 6, 1, 2, 4, 7];
    assert_eq!(cut(&slot(&image)), 922);
}
