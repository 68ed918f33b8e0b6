//! A file put together without its model: what the manifest's banks give, and what they must agree in.

use kvcap::{Bank, Code, Role, Rows};
use kvcap_codecs::{BankShape, Dtype};
use kvcap_states::{Hints, RuntimeKind, Skeleton, parse, residue};

use super::support::{banks, fixture};

const LLAMA: RuntimeKind = RuntimeKind::LlamaCpp;

fn llama(name: &str) -> Vec<u8> {
    std::fs::read(kvcap_testkit::fixture(&format!("{name}.bin"))).unwrap()
}

/// The residue of a file and the banks that it leaves out.
fn taken_apart(kind: RuntimeKind, file: &[u8]) -> (Vec<u8>, Vec<Bank>) {
    let state = parse(kind, &file, Hints::None).unwrap();
    (residue(&state, &file).unwrap(), banks(&state))
}

/// A residue of these places of a file.
fn segments(file: &[u8], places: &[std::ops::Range<usize>]) -> Vec<u8> {
    let number = |n: usize| u64::try_from(n).unwrap().to_le_bytes();
    let mut out = number(file.len()).to_vec();
    out.extend(u32::try_from(places.len()).unwrap().to_le_bytes());
    for place in places {
        out.extend(number(place.start));
        out.extend(number(place.len()));
    }
    for place in places {
        out.extend_from_slice(&file[place.clone()]);
    }
    out
}

/// 0 where the banks are found.
fn found(kind: RuntimeKind, rest: &[u8], banks: &[Bank]) -> u16 {
    let state = Skeleton::parse(rest).unwrap().state(kind, banks);
    state.map_or_else(|error| error.code().number(), |_| 0)
}

fn changed(banks: &[Bank], change: impl Fn(&mut Bank)) -> Vec<Bank> {
    let mut banks = banks.to_vec();
    banks.iter_mut().for_each(change);
    banks
}

#[test]
fn the_holes_have_room_for_the_banks_and_are_no_more() {
    let file = fixture("mlx032_tiny");
    let (rest, all) = taken_apart(RuntimeKind::MlxLm, &file);
    assert_eq!(found(RuntimeKind::MlxLm, &rest, &all), 0);
    // a bank of 256 rows more than the holes have
    let tokens = 3 * 256;
    let more = changed(&all, |bank| {
        bank.shape = BankShape::Tokens {
            heads: 1,
            tokens,
            dim: 2,
        }
    });
    let error = Skeleton::parse(&rest).unwrap();
    let error = error.state(RuntimeKind::MlxLm, &more).unwrap_err();
    assert_eq!(error.code(), Code::StateContradiction);
    assert!(error.to_string().contains("does not leave out"), "{error}");
    // two banks leave six holes at most
    let many: Vec<_> = (0..8).map(|n| 4 * n..4 * n + 1).collect();
    let rest = segments(&file, &many);
    assert_eq!(found(RuntimeKind::MlxLm, &rest, &all), 923);
    assert_eq!(
        found(RuntimeKind::MlxLm, &segments(&file, &many[..7]), &all),
        921
    );
}

#[test]
fn nothing_that_is_read_lies_in_a_hole() {
    let file = llama("llama_ggsq3_f16_fa");
    let (_, all) = taken_apart(LLAMA, &file);
    // the first word of the last cell, and the count of layers, which stand in front of the keys
    for at in [0x108, 0x118] {
        let rest = segments(&file, &[0..at, at + 4..0x128]);
        assert_eq!(found(LLAMA, &rest, &all), 921, "{at:x}");
    }
    let tiny = fixture("mlx031_tiny");
    let (_, all) = taken_apart(RuntimeKind::MlxLm, &tiny);
    let rest = segments(&tiny, &[0..100, 101..176]);
    assert_eq!(found(RuntimeKind::MlxLm, &rest, &all), 921);
}

#[test]
fn the_banks_are_the_manifests_one_by_one() {
    let (rest, all) = taken_apart(RuntimeKind::MlxLm, &fixture("mlx032_tiny"));
    let other: [fn(&mut Bank); 7] = [
        |bank| bank.role = Role::Opaque,
        |bank| bank.layer = 1,
        |bank| bank.index = 1,
        |bank| bank.dtype = Dtype::Bf16,
        |bank| {
            bank.shape = BankShape::Tokens {
                heads: 2,
                tokens: 3,
                dim: 1,
            }
        },
        |bank| bank.rows = Rows::From(1),
        |bank| bank.window = 8,
    ];
    for (number, change) in other.into_iter().enumerate() {
        let banks = changed(&all, change);
        assert_eq!(found(RuntimeKind::MlxLm, &rest, &banks), 923, "{number}");
    }
    let turned: Vec<_> = all.iter().rev().cloned().collect();
    assert_eq!(found(RuntimeKind::MlxLm, &rest, &turned), 923);
    assert_eq!(found(RuntimeKind::MlxLm, &rest, &all[..1]), 923);
}

#[test]
fn what_only_a_model_could_tell_is_taken_from_the_manifest() {
    let file = llama("llama_ggsq3_f16_fa");
    let (rest, all) = taken_apart(LLAMA, &file);
    let shape = |heads, tokens, dim| BankShape::Tokens { heads, tokens, dim };
    let skeleton = Skeleton::parse(&rest).unwrap();
    let taken: Vec<_> = (all.iter())
        .map(|bank| Bank {
            role: if bank.role == Role::Key {
                Role::Latent
            } else {
                Role::IndexKey
            },
            layer: 40 - bank.layer,
            index: bank.layer,
            shape: shape(4, 16, 32),
            window: 100,
            ..bank.clone()
        })
        .collect();
    let state = skeleton.state(LLAMA, &taken).unwrap();
    assert_eq!(banks(&state), taken);
    let other: [fn(&mut Bank); 4] = [
        |bank| bank.dtype = Dtype::Bf16,
        |bank| bank.rows = Rows::From(1),
        |bank| {
            bank.shape = BankShape::Tokens {
                heads: 2,
                tokens: 8,
                dim: 128,
            }
        },
        |bank| {
            bank.shape = BankShape::Tokens {
                heads: 2,
                tokens: 16,
                dim: 63,
            }
        },
    ];
    for (number, change) in other.into_iter().enumerate() {
        assert_eq!(found(LLAMA, &rest, &changed(&all, change)), 923, "{number}");
    }
    // blocks of q8_0 would run across heads
    let (rest, all) = taken_apart(LLAMA, &llama("llama_ggsn10_q8_0"));
    let apart = changed(&all, |bank| bank.shape = shape(4, 16, 32));
    assert_eq!(found(LLAMA, &rest, &apart), 0);
    let across = changed(&all, |bank| bank.shape = shape(8, 16, 16));
    assert_eq!(found(LLAMA, &rest, &across), 923);
}

/// An old session's logits are passed over and not read: they may not be left out all the same.
#[test]
fn the_holes_are_the_regions() {
    let new = llama("llama_ggsn10_q8_0");
    let mut file = new[..0x55].to_vec();
    file[4] = 9;
    let outputs: [u32; 8] = [1, 3, 2, 0, 7, 8, 0, 0];
    file.extend(outputs.iter().flat_map(|word| word.to_le_bytes()));
    file.extend_from_slice(&new[0x55..]);
    let (rest, all) = taken_apart(LLAMA, &file);
    assert_eq!(found(LLAMA, &rest, &all), 0);
    let state = parse(LLAMA, &&file[..], Hints::None).unwrap();
    let mut places = Vec::new();
    let mut at = 0;
    let logits = 0x55 + 16;
    let mut regions: Vec<_> = (state.banks.iter())
        .map(|placed| {
            let [offset, len] = [placed.parts[0].offset, placed.parts[0].len];
            let start = usize::try_from(offset).unwrap();
            start..start + usize::try_from(len).unwrap()
        })
        .collect();
    regions.push(logits..logits + 8);
    regions.sort_unstable_by_key(|region| region.start);
    for region in regions {
        places.push(at..region.start);
        at = region.end;
    }
    assert_eq!(found(LLAMA, &segments(&file, &places), &all), 923);
}
