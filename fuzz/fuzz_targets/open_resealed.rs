//! Behind the cipher: a saved state's capsule whose banks, residue, tokens, positions and frame
//! indices a script changes before everything is sealed and signed again, opened into a state file,
//! cut into tensors, and held against its receipts.

#![no_main]

use kvcap::{Role, RowsEntry, SectionKind, SourceFile, Stream, Workers, binding::F64Bits};
use kvcap_codecs::{AffineParams, BankShape, Codec, Dtype, ParamDtype};
use kvcap_fuzz::{Input, Seed, edit_bytes, scratch_file, seeds};
use kvcap_states::{Selection, check_quality, extract, open_state};
use libfuzzer_sys::fuzz_target;

/// Bytes of a state file that is read back.
const READ_BACK: u64 = 1 << 20;

fuzz_target!(|data: &[u8]| {
    let mut script = Input::new(data);
    let all = seeds();
    let mut seed = all[usize::from(script.byte()) % all.len()].clone();
    let cut = script.byte();
    let (layers, positions) = (script.byte(), script.byte());
    let mut left = 16;
    while !script.is_empty() && left > 0 {
        left -= 1;
        edit(&mut seed, &mut script);
    }
    let _ = seed.open(&mut |opened| {
        let context = &opened.manifest().context;
        let _ = opened.tokens();
        let _ = opened.check_prompt(&[1, 2, 3]);
        let out = scratch_file();
        if let Ok(report) = open_state(opened, &out, Workers::new(2), &mut |_| {})
            && report.state_len <= READ_BACK
        {
            let _ = check_quality(opened, &SourceFile::new(out).unwrap());
        }
        let held = &context.positions;
        let first = u32::from(layers) % context.layers.max(1);
        let start = held.start.saturating_add(u64::from(positions) % 32);
        let selection = Selection {
            layers: (cut & 1 != 0).then(|| first..first + 1),
            positions: (cut & 2 != 0).then(|| start..start.saturating_add(7).min(held.end)),
        };
        let _ = extract(
            opened,
            &selection,
            &scratch_file(),
            Workers::new(2),
            &mut |_| {},
        );
    });
});

fn edit(seed: &mut Seed, script: &mut Input<'_>) {
    let at = script.below(seed.streams.len());
    let (Some(bytes), Some(stream)) = (seed.streams.get_mut(at), seed.context.streams.get_mut(at))
    else {
        return;
    };
    match script.byte() % 4 {
        0 | 1 => {
            edit_bytes(bytes, script);
            if let Stream::Section(section) = stream {
                section.len = bytes.len() as u64;
            }
        }
        2 => match stream {
            Stream::Section(section) => match script.byte() % 3 {
                0 => section.chunk_len = 4096,
                1 => {
                    let kinds = [
                        SectionKind::Residue,
                        SectionKind::Positions,
                        SectionKind::History,
                    ];
                    section.kind = kinds[script.below(kinds.len())].clone();
                }
                _ => {
                    bytes.resize(script.u16().into(), 0);
                    section.len = bytes.len() as u64;
                }
            },
            Stream::Bank(bank) => {
                edit_bank(bank, script);
                fit(bank, bytes);
                seed.fit_receipts();
            }
        },
        _ => edit_context(seed, script),
    }
}

fn edit_bank(bank: &mut kvcap::BankEntry, script: &mut Input<'_>) {
    const ROLES: [Role; 4] = [Role::Key, Role::Value, Role::Recurrent, Role::Opaque];
    match script.byte() % 9 {
        0 => bank.layer = script.byte().into(),
        1 => bank.index = script.byte().into(),
        2 => bank.role = script.pick(&ROLES),
        3 => bank.dtype = dtype(script),
        4 => match &mut bank.shape {
            BankShape::Tokens { heads, tokens, dim } => {
                let field = match script.byte() % 3 {
                    0 => heads,
                    1 => tokens,
                    _ => dim,
                };
                *field = match script.byte() % 4 {
                    0 => script.edge(),
                    _ => u64::from(script.u16() % 600),
                };
            }
            BankShape::Whole { dims } => {
                let place = script.below(dims.len());
                if let Some(dim) = dims.get_mut(place) {
                    *dim = match script.byte() % 4 {
                        0 => script.edge(),
                        _ => script.u16().into(),
                    };
                }
            }
        },
        5 => bank.codec = codec(script),
        6 => {
            bank.rows = match script.byte() % 3 {
                0 => RowsEntry::From(script.edge()),
                1 => RowsEntry::Listed(script.byte().into()),
                _ => RowsEntry::None,
            };
        }
        7 => bank.window = script.edge(),
        _ => bank.rotation = (script.byte() & 1 == 0).then(|| script.byte().into()),
    }
}

/// Gives a stream the length that its description now calls for.
fn fit(bank: &kvcap::BankEntry, bytes: &mut Vec<u8>) {
    if let Some(len) = bank.fixed_len().and_then(|len| usize::try_from(len).ok())
        && len <= 1 << 20
    {
        bytes.resize(len, 0x3c);
    }
}

fn edit_context(seed: &mut Seed, script: &mut Input<'_>) {
    let context = &mut seed.context;
    match script.byte() % 6 {
        0 => context.positions.start = script.byte().into(),
        1 => context.positions.end = script.u16().into(),
        2 => context.layers = script.u16().into(),
        3 => {
            const NAMES: [&str; 4] = ["mlx-lm", "llama.cpp", "transformers", "raw"];
            context.runtime.name = script.pick(&NAMES).to_owned();
        }
        4 => {
            let table = script.below(context.rotations.len());
            if let Some(table) = context.rotations.get_mut(table) {
                let pair = script.below(table.frequencies.len());
                if let Some(frequency) = table.frequencies.get_mut(pair) {
                    *frequency = F64Bits(script.u64());
                }
            }
        }
        _ => {
            let (a, b) = (
                script.below(seed.streams.len()),
                script.below(seed.streams.len()),
            );
            seed.streams.swap(a, b);
            context.streams.swap(a, b);
        }
    }
}

fn dtype(script: &mut Input<'_>) -> Dtype {
    let plain: Vec<Dtype> = Dtype::plain().collect();
    let affine = AffineParams::new(4, 64, ParamDtype::F16).map(Dtype::MlxAffine);
    let all: Vec<Dtype> = plain.into_iter().chain(affine).collect();
    script.pick(&all)
}

fn codec(script: &mut Input<'_>) -> Codec {
    let affine = |bits, group| Codec::Affine { bits, group };
    script.pick(&[
        Codec::Raw,
        Codec::Planes16,
        Codec::Planes32,
        Codec::KeyChannel,
        affine(8, 64),
        affine(4, 32),
        affine(3, 128),
    ])
}
