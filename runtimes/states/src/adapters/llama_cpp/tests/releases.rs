//! Files that a release of llama.cpp wrote (tests/fixtures/make), of models of random weights.

use std::{fs, path::Path};

use super::*;

const LATENT: LayerGeometry = LayerGeometry::Latent {
    rank: 32,
    rope_dim: 16,
};

/// Stem of the files; layers of the model; facts that the file states: sections, type_k, v_trans,
/// n_rot_k, n_rot_v.
fn kinds() -> Vec<(&'static str, Vec<LayerGeometry>, [&'static str; 5])> {
    let full = || vec![attention(2, 64, 0); 2];
    let window = || vec![attention(2, 64, 4), attention(2, 64, 0)];
    let hybrid = || vec![LayerGeometry::Recurrent, attention(2, 64, 0)];
    vec![
        ("f16", full(), ["attention", "f16", "0", "0", "0"]),
        ("f16_vtrans", full(), ["attention", "f16", "1", "0", "0"]),
        ("bf16", full(), ["attention", "bf16", "0", "0", "0"]),
        ("q8_0", full(), ["attention", "ggml_q8_0", "0", "64", "64"]),
        (
            "q8_0_unrotated",
            full(),
            ["attention", "ggml_q8_0", "0", "0", "0"],
        ),
        ("q4_0", full(), ["attention", "ggml_q4_0", "0", "64", "64"]),
        (
            "window",
            window(),
            ["attention+window", "f16", "0", "0", "0"],
        ),
        (
            "window_q8_0",
            window(),
            ["attention+window", "ggml_q8_0", "0", "64", "64"],
        ),
        (
            "latent",
            vec![LATENT; 2],
            ["attention", "f16", "0", "0", "0"],
        ),
        (
            "hybrid",
            hybrid(),
            ["attention+recurrent", "f16", "0", "0", "0"],
        ),
        (
            "hybrid_vtrans",
            hybrid(),
            ["attention+recurrent", "f16", "1", "0", "0"],
        ),
        (
            "recurrent",
            vec![LayerGeometry::Recurrent; 2],
            ["recurrent", "none", "none", "(absent)", "(absent)"],
        ),
    ]
}

fn fixture(name: &str) -> Vec<u8> {
    let folder =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/llama_cpp_b11434");
    fs::read(folder.join(name)).unwrap()
}

#[test]
fn every_kind_and_form_comes_back_byte_for_byte() {
    for (stem, layers, facts) in kinds() {
        let model = geometry(layers);
        for (form, format, file) in [
            ("ggsq", "ggsq-4", "sequence"),
            ("ggsn", "ggsn-11", "session"),
            ("blob", "seq-blob", "blob"),
        ] {
            let name = format!("{stem}.{form}");
            let bytes = fixture(&name);
            let state = round_trip(&bytes, Hints::Model(&model));
            assert_eq!(
                (state.format, fact(&state, "file")),
                (format, file),
                "{name}"
            );
            assert_eq!(state.positions.end, 12, "{name}");
            assert_eq!(state.tokens.map_or(12, |ids| ids.len()), 12, "{name}");
            let state = read(&bytes, Hints::Model(&model)).unwrap();
            let names = ["sections", "type_k", "v_trans", "n_rot_k", "n_rot_v"];
            assert_eq!(names.map(|name| fact(&state, name)), facts, "{name}");
            for placed in &state.banks {
                let stated = match placed.bank.role {
                    Role::Key | Role::Latent => facts[3].parse().ok(),
                    Role::Value => facts[4].parse().ok(),
                    _ => None,
                };
                assert_eq!(placed.hadamard, stated, "{name} {}", placed.name());
            }
        }
    }
}

/// Where the rotation of a cache is written, in a file that has `quantized` bytes before its first row.
fn rotation_at(bytes: &[u8]) -> usize {
    let cells = 12 + 4 * 12 + 4 + 4; // header, ids, streams, cells
    let at = cells + 12 * 12 + 8;
    assert_eq!(&bytes[at..at + 8], [64, 0, 0, 0, 64, 0, 0, 0]);
    at
}

#[test]
fn a_rotation_that_cannot_be_is_refused() {
    let good = fixture("q8_0.ggsq");
    let at = rotation_at(&good);
    let model = geometry(vec![attention(2, 64, 0); 2]);
    for (block, code) in [
        (0_u32, None),
        // a head has 64 elements
        (128, Some(Code::StateContradiction)),
        (32, Some(Code::StateMalformed)),
        (96, Some(Code::StateMalformed)),
        (1 << 31, Some(Code::StateMalformed)),
    ] {
        let mut bytes = good.clone();
        bytes[at..at + 4].copy_from_slice(&block.to_le_bytes());
        let read = read(&bytes, Hints::Model(&model));
        assert_eq!(read.err().map(|error| error.code()), code, "{block}");
    }
    // rows that are not quantized are never rotated
    let mut bytes = fixture("f16.ggsq");
    bytes[at] = 64;
    let error = read(&bytes, Hints::Model(&model)).unwrap_err();
    assert_eq!(error.code(), Code::StateContradiction, "{error}");
}

/// What llama-server saves: its record of tokens, and of a memory that it cannot roll back only the newest state, whatever
/// checkpoints it kept.
#[test]
fn slots_of_llama_server_come_back_byte_for_byte() {
    let window = vec![attention(2, 64, 4), attention(2, 64, 0)];
    let hybrid = vec![LayerGeometry::Recurrent, attention(2, 64, 0)];
    for (stem, layers, sections, cell_ext, media, tokens, positions) in [
        (
            "window",
            window,
            "attention+window",
            "0",
            "(absent)",
            16,
            16,
        ),
        (
            "hybrid",
            hybrid,
            "attention+recurrent",
            "0",
            "(absent)",
            16,
            16,
        ),
        // eight tokens of an image stand at four positions
        (
            "image",
            vec![attention(2, 64, 0); 2],
            "attention",
            "12",
            "1",
            25,
            21,
        ),
    ] {
        let model = geometry(layers);
        let bytes = fixture(&format!("{stem}.slot"));
        round_trip(&bytes, Hints::Model(&model));
        let state = read(&bytes, Hints::Model(&model)).unwrap();
        let names = ["file", "sections", "cell_ext", "media"];
        assert_eq!(
            names.map(|name| fact(&state, name)),
            ["slot", sections, cell_ext, media],
            "{stem}"
        );
        let ids = state.tokens.as_ref().unwrap();
        let places = ids.iter().filter(|id| **id == u32::MAX).count();
        assert_eq!(
            (ids.len(), state.positions.end),
            (tokens, positions),
            "{stem}"
        );
        assert_eq!(places, if stem == "image" { 8 } else { 0 }, "{stem}");
    }
}

/// What else a slot with an image could be: each field of the server's record, changed.
#[test]
fn a_record_that_is_not_llama_servers_is_refused() {
    let whole = fixture("image.slot");
    let model = geometry(vec![attention(2, 64, 0); 2]);
    // header; marker, version, count; ids; number of media, its start, length of its chunk
    let [marker, ids] = [12, 24];
    let media = ids + 4 * 25;
    let number = |at: usize| u32::from_le_bytes(whole[at..at + 4].try_into().unwrap());
    assert_eq!(
        [number(marker), number(marker + 4), number(marker + 8)],
        [u32::MAX, 1, 25]
    );
    assert_eq!(number(media), 1);
    let start = number(media + 4);
    for (at, value, code) in [
        (marker + 4, 2, Code::StateUnsupported),
        (media, 0, Code::StateMalformed),
        (media, 2, Code::StateMalformed),
        (media + 4, start + 1, Code::StateContradiction),
        (media + 4, 25, Code::StateContradiction),
        (media + 8, 0, Code::StateMalformed),
        (media + 8, number(media + 8) + 8, Code::StateMalformed),
        (ids, u32::MAX, Code::StateContradiction),
    ] {
        let mut bytes = whole.clone();
        bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
        let error = read(&bytes, Hints::Model(&model)).unwrap_err();
        assert_eq!(error.code(), code, "{at} {value}: {error}");
    }
}

/// llama-server's proposals append more than a sequence: whole files of a writer that is not known.
#[test]
fn a_tagged_trailer_is_named_and_other_bytes_are_damage() {
    let whole = fixture("f16.ggsq");
    for (trailer, code, says) in [
        (
            &b"SCKP\x01\0\0\0rest"[..],
            Code::StateUnsupported,
            "checkpoints (SCKP)",
        ),
        (
            b"PKCS\x01\0\0\0rest",
            Code::StateUnsupported,
            "checkpoints (SCKP)",
        ),
        (b"ABC1more", Code::StateUnsupported, "trailer ABC1"),
        (b"\0\0\0\0", Code::StateMalformed, "4 bytes follow"),
        (b"SCK", Code::StateMalformed, "3 bytes follow"),
    ] {
        let bytes = [&whole[..], trailer].concat();
        let error = read(&bytes, Hints::None).unwrap_err();
        assert_eq!(error.code(), code, "{error}");
        assert!(error.to_string().contains(says), "{error}");
    }
}
