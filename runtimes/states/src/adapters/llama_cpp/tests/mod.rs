use std::{io, sync::Mutex};

use kvcap::{Bank, Code, Result, Role, Rows};
use kvcap_codecs::{BankShape, Dtype};
use proptest::prelude::*;

use self::builder::{Cache, File};
use super::{parse, recognise};
use crate::{
    adapters::RuntimeKind,
    pipeline::residue::Skeleton,
    state::{Hints, Order, ReadAt, State, WriteAt},
};
use kvcap_models::{Geometry, LayerGeometry};

mod builder;
mod releases;
mod variants;

const FLASH: &[u8] = include_bytes!("../../../../../../tests/fixtures/llama_ggsq3_f16_fa.bin");
const TRANSPOSED: &[u8] =
    include_bytes!("../../../../../../tests/fixtures/llama_ggsq3_f16_vtrans.bin");
const SESSION: &[u8] = include_bytes!("../../../../../../tests/fixtures/llama_ggsn10_q8_0.bin");
const Q4: &[u8] = include_bytes!("../../../../../../tests/fixtures/llama_ggsq3_q4_0.bin");

fn attention(kv_heads: u64, dim: u64, window: u64) -> LayerGeometry {
    LayerGeometry::Attention {
        kv_heads,
        key_dim: dim,
        value_dim: dim,
        window,
    }
}

fn geometry(layers: impl IntoIterator<Item = LayerGeometry>) -> Geometry {
    Geometry {
        layers: layers.into_iter().collect(),
        context_length: 0,
        architecture: None,
    }
}

/// The model that the fixtures are from.
fn tiny() -> Geometry {
    geometry(vec![attention(2, 64, 0); 6])
}

fn read(bytes: &[u8], hints: Hints<'_>) -> Result<State> {
    parse(&bytes.to_vec(), hints)
}

fn fact<'a>(state: &'a State, name: &str) -> &'a str {
    let found = state.facts.iter().find(|fact| fact.0 == name);
    found.map_or("(absent)", |fact| &fact.1)
}

fn banks(state: &State) -> Vec<Bank> {
    state
        .banks
        .iter()
        .map(|placed| placed.bank.clone())
        .collect()
}

struct Output(Mutex<Vec<u8>>);

impl WriteAt for Output {
    fn write_all_at(&self, offset: u64, buf: &[u8]) -> io::Result<()> {
        let start = usize::try_from(offset).unwrap();
        self.0.lock().unwrap()[start..start + buf.len()].copy_from_slice(buf);
        Ok(())
    }
}

/// Takes the residue and every frame out of the file, puts them back, and compares.
fn round_trip(bytes: &[u8], hints: Hints<'_>) -> State {
    let file = bytes.to_vec();
    assert_eq!(crate::detect(&file), Ok(RuntimeKind::LlamaCpp));
    let state = crate::parse(RuntimeKind::LlamaCpp, &file, hints).unwrap();
    assert!(state.facts.is_sorted());
    assert_eq!(state.file_len, ReadAt::len(&file));
    assert!(state.padding_nonzero(&file).unwrap().is_empty());

    let residue = crate::residue(&state, &file).unwrap();
    let skeleton = Skeleton::parse(&residue).unwrap();
    let again = skeleton
        .state(RuntimeKind::LlamaCpp, &banks(&state))
        .unwrap();
    assert_eq!(again.facts, state.facts);
    assert_eq!(again.positions, state.positions);

    let output = Output(Mutex::new(vec![0; file.len()]));
    skeleton.write(&output).unwrap();
    let mut frame = Vec::new();
    for (from, to) in state.banks.iter().zip(&again.banks) {
        for index in 0..from.bank.shape.frames(from.bank.dtype).unwrap() {
            from.read_frame(&file, index, &mut frame).unwrap();
            to.write_frame(&output, index, &frame).unwrap();
        }
    }
    assert!(
        output.0.into_inner().unwrap() == file,
        "the file differs after a round trip"
    );
    state
}

#[test]
fn fixtures_come_back_byte_for_byte() {
    for (bytes, format, kind, v_trans) in [
        (FLASH, "ggsq-3", Dtype::F16, "0"),
        (TRANSPOSED, "ggsq-3", Dtype::F16, "1"),
        (SESSION, "ggsn-10", Dtype::GgmlQ8_0, "0"),
        (Q4, "ggsq-3", Dtype::GgmlQ4_0, "0"),
    ] {
        let geometry = tiny();
        round_trip(bytes, Hints::None);
        let state = round_trip(bytes, Hints::Model(&geometry));
        assert_eq!((state.runtime, state.format), ("llama.cpp", format));
        assert_eq!((state.layers, state.stateless.len()), (6, 0));
        assert_eq!(state.positions, 0..16);
        assert_eq!(state.tokens.as_ref().map(Vec::len), Some(16));
        assert_eq!(state.notes, Vec::<String>::new());
        assert_eq!(state.banks.len(), 12);
        assert_eq!(fact(&state, "v_trans"), v_trans);
        assert_eq!(fact(&state, "type_k"), kind.name());
        for placed in &state.banks {
            let bank = &placed.bank;
            assert_eq!((bank.dtype, &bank.rows), (kind, &Rows::From(0)));
            let (heads, tokens, dim) = (2, 16, 64);
            assert_eq!(bank.shape, BankShape::Tokens { heads, tokens, dim });
        }
    }
    let session = read(SESSION, Hints::None).unwrap();
    assert_eq!(
        (fact(&session, "arch"), fact(&session, "file")),
        ("llama", "session")
    );
    assert_eq!(
        (fact(&session, "n_stream"), fact(&session, "cell_ext")),
        ("1", "0")
    );
}

/// Layer 0's values depend on the token alone: transposed or not, they are the same numbers.
#[test]
fn transposed_values_are_the_same_numbers() {
    let geometry = tiny();
    let values = [FLASH, TRANSPOSED].map(|bytes| {
        let state = read(bytes, Hints::Model(&geometry)).unwrap();
        let placed = state.of_role(Role::Value).next().unwrap();
        let mut frame = Vec::new();
        placed.read_frame(&bytes.to_vec(), 0, &mut frame).unwrap();
        frame
    });
    assert!(values[0].iter().any(|&byte| byte != 0));
    assert_eq!(values[0], values[1]);
}

#[test]
fn a_model_that_contradicts_the_file_is_refused() {
    for (geometry, says) in [
        (
            geometry(vec![attention(2, 64, 0); 7]),
            "expected 7 attention layers, found 6 in the file",
        ),
        (
            geometry(vec![attention(4, 64, 0); 6]),
            "expected 4 heads of 64, found 128 elements",
        ),
        (
            geometry(vec![attention(2, 64, 512); 5]),
            "expected 5 attention layers",
        ),
        (
            geometry([attention(2, 64, 0), LayerGeometry::Recurrent]),
            "recurrent layers and the file has no recurrent state",
        ),
        (geometry([]), "expected 0 attention layers"),
    ] {
        let error = read(FLASH, Hints::Model(&geometry)).unwrap_err();
        assert_eq!(error.code(), Code::StateContradiction);
        assert!(error.to_string().contains(says), "{error}");
    }
    let unknown = geometry(vec![LayerGeometry::Unknown; 6]);
    let state = round_trip(FLASH, Hints::Model(&unknown));
    let (heads, tokens, dim) = (1, 16, 128);
    assert_eq!(
        state.banks[0].bank.shape,
        BankShape::Tokens { heads, tokens, dim }
    );
}

#[test]
fn banks_that_contradict_the_file_are_refused() {
    let described = banks(&read(Q4, Hints::None).unwrap());
    for change in [
        |banks: &mut Vec<Bank>| banks.truncate(11),
        |banks: &mut Vec<Bank>| banks[3].dtype = Dtype::GgmlIq4Nl,
        |banks: &mut Vec<Bank>| {
            let (heads, tokens, dim) = (1, 15, 128);
            banks[3].shape = BankShape::Tokens { heads, tokens, dim };
        },
    ] {
        let mut changed = described.clone();
        change(&mut changed);
        let error = read(Q4, Hints::Banks(&changed)).unwrap_err();
        assert_eq!(error.code(), Code::StateContradiction, "{error}");
    }
}

#[test]
fn every_cut_and_every_extension_is_refused() {
    let small = File::sequence(3, &[5, 6])
        .cache(&Cache::default(), &[&[(0, &[0]), (1, &[0])]])
        .0;
    let transposed = Cache {
        v_trans: true,
        ..Cache::default()
    };
    let session = File::session(10, &[5], "llama")
        .cache(&transposed, &[&[(0, &[0, 2])]])
        .0;
    let slot = File::sequence(3, &[-1, 1, 1, 9, 0])
        .cache(&Cache::default(), &[&[(0, &[0])]])
        .0;
    let recurrent = File::sequence(3, &[5])
        .recurrent(&[(0, &[])], 2, 2, (8, 16))
        .0;
    for bytes in [small, session, slot, recurrent] {
        round_trip(&bytes, Hints::None);
        for len in 0..bytes.len() {
            let error = read(&bytes[..len], Hints::None).unwrap_err();
            let known = [
                Code::StateMalformed,
                Code::StateUnsupported,
                Code::StateLimit,
            ];
            assert!(known.contains(&error.code()), "cut at {len}: {error}");
        }
        for extra in 1..40 {
            let longer = [bytes.as_slice(), &vec![0; extra]].concat();
            assert!(read(&longer, Hints::None).is_err());
        }
    }
}

#[test]
fn every_cut_of_a_real_file_is_refused_for_its_model() {
    let geometry = tiny();
    for len in 0..Q4.len() {
        assert!(
            read(&Q4[..len], Hints::Model(&geometry)).is_err(),
            "cut at {len}"
        );
    }
}

#[test]
fn counts_are_limited_before_anything_is_made_of_them() {
    let head = File::sequence(3, &[5]);
    let session = File::default().words(&[0x6767_736e, 10, 0]);
    for (bytes, code) in [
        (
            File::default().words(&[0x6767_7371, 3, u32::MAX]),
            Code::StateLimit,
        ),
        (
            File::default().words(&[0x6767_7371, 3, 1 << 20]),
            Code::StateMalformed,
        ),
        (head.clone().words(&[u32::MAX, 1]), Code::StateLimit),
        (head.clone().words(&[1, u32::MAX]), Code::StateLimit),
        (head.clone().words(&[1, 1 << 20]), Code::StateMalformed),
        (
            head.clone().words(&[1, 1, 0, 1, 0, 0, u32::MAX]),
            Code::StateLimit,
        ),
        (session.clone().words(&[u32::MAX]), Code::StateLimit),
        (
            session.words(&[5]).bytes(b"\x1b[2J\n"),
            Code::StateMalformed,
        ),
    ] {
        let error = read(&bytes.0, Hints::None).unwrap_err();
        assert_eq!(error.code(), code, "{error}");
    }
}

#[test]
fn other_files_and_versions_are_named() {
    for bytes in [&b""[..], b"GGUF", b"qsg", b"{\"a\":1}"] {
        assert!(!recognise(&bytes.to_vec()));
    }
    for (file, says) in [
        (
            File::sequence(5, &[]),
            "version of the sequence file is unknown (expected 2 to 4, found 5)",
        ),
        (
            File::session(8, &[], "llama"),
            "version of the session file is unknown",
        ),
        (File::sequence(3, &[]).words(&[0x3456_5344]), "DeepSeek-V4"),
    ] {
        assert!(recognise(&file.0));
        let error = read(&file.0, Hints::None).unwrap_err();
        assert_eq!(error.code(), Code::StateUnsupported);
        assert!(error.to_string().contains(says), "{error}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

    /// Whatever the bytes, the answer is a sound state or an error.
    #[test]
    fn mutated_files_never_panic(
        which in 0..4usize,
        changes in prop::collection::vec((0..700usize, any::<u8>()), 1..8),
        cut in 0..64usize,
    ) {
        let mut bytes = [FLASH, TRANSPOSED, SESSION, Q4][which].to_vec();
        for (at, byte) in changes {
            bytes[at] = byte;
        }
        bytes.truncate(bytes.len() - cut);
        if let Ok(state) = parse(&bytes, Hints::None) {
            state.check().unwrap();
        }
    }

    /// Small files of words that look like counts.
    #[test]
    fn files_of_small_words_never_panic(
        version in 2..5u32,
        words in prop::collection::vec(prop_oneof![0..4u32, 0..64u32, any::<u32>()], 0..64),
    ) {
        let file = File::sequence(version, &[]).words(&words);
        if let Ok(state) = parse(&file.0, Hints::None) {
            state.check().unwrap();
        }
    }
}
