//! What must be accepted: every kind of bank, row, section, element type and codec.

use kvcap::{
    BankEntry, CaptureFlags, PrefixValue, Role, RotationTable, RowsEntry, SectionKind, Stream,
    WrappingKey,
    binding::{F64Bits, Pairing, Scaling},
};
use kvcap_codecs::{AffineParams, BankShape, Codec, Dtype, Padding, ParamDtype};

use super::codec::{good_stream, keys_of};
use crate::{
    case::Made,
    cases,
    decode::encode,
    fixture::{self, TOKENS, WRAP_KEY},
};

fn of(seed: &str, change: impl FnOnce(&mut kvcap::Context)) -> Made {
    let mut context = fixture::context();
    change(&mut context);
    Made::of(fixture::seal_context(seed, context))
}

fn prefix_section() -> Stream {
    fixture::section(SectionKind::Prefix, 32)
}

/// The base capsule with a prompt of so many tokens; its banks and positions stay.
fn prompted(count: u64) -> Made {
    let mut tokens = fixture::prompt();
    tokens.resize(count as usize, 9);
    let value = PrefixValue::of(&tokens);
    let mut context = fixture::context();
    context.prefix = value.keyed(
        &WrappingKey::from_bytes(WRAP_KEY)
            .prefix_key()
            .unwrap()
            .unwrap(),
    );
    let mut plain = fixture::contents(&context);
    plain[2] = fixture::token_bytes(&tokens);
    plain[3] = value.value.0.to_vec();
    context.streams[2] = fixture::section(SectionKind::Tokens, plain[2].len());
    let seed = format!("prompt of {count}");
    let (terms, keys) = (fixture::terms(), [WRAP_KEY]);
    Made::of(fixture::seal(
        &seed,
        terms,
        context,
        plain,
        &[],
        &keys,
        Vec::new(),
    ))
}

/// One opaque bank of each element type.
fn dtypes() -> Made {
    let triplet =
        |bits, group, params| Dtype::MlxAffine(AffineParams::new(bits, group, params).unwrap());
    let triplets = [
        triplet(4, 64, ParamDtype::F16),
        triplet(8, 32, ParamDtype::Bf16),
        triplet(3, 128, ParamDtype::F32),
    ];
    of("element types", |context| {
        context.streams = Dtype::plain()
            .chain(triplets)
            .zip(0..)
            .map(|(dtype, index)| {
                Stream::Bank(fixture::whole(Role::Opaque, 0, index, dtype, &[2, 128]))
            })
            .collect();
        context.streams.push(prefix_section());
    })
}

/// Layers of a hybrid model: attention, latent attention, recurrent, none.
fn roles() -> Made {
    let rows =
        |role, layer, dim| Stream::Bank(fixture::rows(role, layer, Dtype::Bf16, 1, TOKENS, dim));
    of("roles", |context| {
        context.layers = 5;
        context.stateless = vec![3];
        context.rope = vec![fixture::rope_of(&[0, 1, 4], Scaling::None)];
        context.streams = vec![
            rows(Role::Key, 0, 8),
            rows(Role::Value, 0, 8),
            rows(Role::IndexKey, 0, 4),
            rows(Role::Latent, 1, 16),
            rows(Role::RopeKey, 1, 4),
            Stream::Bank(fixture::whole(
                Role::Recurrent,
                2,
                0,
                Dtype::F32,
                &[2, 4, 4],
            )),
            Stream::Bank(fixture::whole(Role::Convolution, 2, 0, Dtype::F16, &[3, 8])),
            Stream::Bank(fixture::whole(Role::Opaque, 2, 0, Dtype::U8, &[])),
            rows(Role::Latent, 4, 20),
            prefix_section(),
        ];
    })
}

/// Every kind of section, and two of the sealer's own.
fn sections() -> Made {
    of("sections", |context| {
        let kinds = [
            SectionKind::History,
            SectionKind::AgentState,
            SectionKind::Residue,
            SectionKind::Positions,
            SectionKind::Positions,
            SectionKind::Other("notes".to_owned()),
            SectionKind::Other("more notes".to_owned()),
        ];
        let added = kinds.into_iter().zip((0..).map(|n| 40 + 8 * n));
        context
            .streams
            .extend(added.map(|(kind, len)| fixture::section(kind, len)));
    })
}

/// Every kind of scaling, one a layer.
fn scalings() -> Made {
    let f = |value: f64| F64Bits(value.to_bits());
    let kinds = vec![
        Scaling::None,
        Scaling::Linear { factor: f(4.0) },
        Scaling::Yarn {
            factor: f(4.0),
            original: 32_768,
            beta_fast: f(32.0),
            beta_slow: f(1.0),
            mscale: f(0.0),
            mscale_all_dim: f(0.0),
            attention_factor: f(0.0),
            truncate: true,
        },
        Scaling::Llama3 {
            factor: f(8.0),
            low_freq_factor: f(1.0),
            high_freq_factor: f(4.0),
            original: 8192,
        },
        Scaling::LongRope {
            short: vec![f(1.0); 32],
            long: vec![f(2.5); 32],
            original: 4096,
            attention_factor: f(1.19),
            long_used: false,
        },
        Scaling::Factors {
            factors: vec![f(1.0); 32],
        },
        Scaling::Proportional { factor: f(1.0) },
        Scaling::Multi {
            sections: vec![16, 8, 8],
            interleaved: true,
        },
    ];
    of("scalings", |context| {
        context.layers = 8;
        context.streams = (0..8)
            .flat_map(|layer| {
                [Role::Key, Role::Value]
                    .map(|role| Stream::Bank(fixture::rows(role, layer, Dtype::F16, 1, TOKENS, 2)))
            })
            .collect();
        context.streams.push(prefix_section());
        context.rope = (0..8)
            .zip(kinds)
            .map(|(layer, scaling)| fixture::rope_of(&[layer], scaling))
            .collect();
        context.rope[1].pairing = Pairing::Interleaved;
        context.rope[1].offset = -3;
        context.flags = CaptureFlags {
            speculative_prefill: true,
            multi_token_prediction: true,
            quantized_attention: true,
        };
    })
}

/// Keys and values of a sliding window of 16 tokens.
fn windowed(rows: RowsEntry, change: impl FnOnce(&mut kvcap::Context)) -> Made {
    of(&format!("window {rows:?}"), |context| {
        for stream in &mut context.streams {
            if let Stream::Bank(bank) = stream {
                bank.shape = BankShape::Tokens {
                    heads: 2,
                    tokens: 16,
                    dim: 8,
                };
                bank.window = 16;
                bank.rows = rows;
            }
        }
        change(context);
    })
}

/// Numbers that a lossy codec takes: f16 between −2 and 2, f32 from the same.
fn finite(dtype: Dtype, elements: usize) -> Vec<u8> {
    let noise = fixture::noise("finite", 2 * elements);
    let (pairs, _) = noise.as_chunks::<2>();
    let values = pairs.iter().map(|pair| {
        let bits = u16::from_le_bytes(*pair);
        f32::from(bits) / 16384.0 - 2.0
    });
    match dtype {
        Dtype::F32 => values.flat_map(f32::to_le_bytes).collect(),
        Dtype::Bf16 => values
            .flat_map(|value| ((value.to_bits() >> 16) as u16).to_le_bytes())
            .collect(),
        // sign, exponent 13 to 15 and mantissa bits as they come
        _ => pairs
            .iter()
            .flat_map(|pair| {
                let bits = u16::from_le_bytes(*pair);
                (bits & 0x83FF | (13 + bits % 3) << 10).to_le_bytes()
            })
            .collect(),
    }
}

/// Keys of 300 tokens, two frames, under `codec`; values raw.
fn coded(codec: Codec, dtype: Dtype, frequencies: &[f64]) -> Made {
    coded_in(fixture::context(), "", codec, dtype, frequencies)
}

/// The same in another context, which `what` names.
fn coded_in(
    mut context: kvcap::Context,
    what: &str,
    codec: Codec,
    dtype: Dtype,
    frequencies: &[f64],
) -> Made {
    context.positions = 0..300;
    let keys = BankEntry {
        codec,
        rotation: (!frequencies.is_empty()).then_some(0),
        chunk_len: 16_384,
        ..fixture::rows(Role::Key, 0, dtype, 1, 300, 64)
    };
    if !frequencies.is_empty() {
        context.rotations = vec![RotationTable {
            pairing: Pairing::Half,
            attention_factor: F64Bits(1.0_f64.to_bits()),
            frequencies: frequencies.iter().map(|f| F64Bits(f.to_bits())).collect(),
        }];
    }
    context.streams = vec![
        Stream::Bank(keys.clone()),
        Stream::Bank(fixture::rows(Role::Value, 0, Dtype::F16, 1, 300, 2)),
        prefix_section(),
    ];
    let plain = finite(dtype, 300 * 64);
    let (encoded, receipt) = encode(&keys, frequencies, &plain);
    let mut streams = vec![encoded];
    streams.extend([
        fixture::noise("values", 1200),
        fixture::contents(&fixture::context())[3].clone(),
    ]);
    // the file's bytes follow from it, and are older than the codec's name
    let name = match codec {
        Codec::KeyChannel => "q4k".to_owned(),
        codec => codec.name(),
    };
    let seed = format!("{name} of {}{what}", dtype.name());
    let terms = fixture::terms();
    Made::of(fixture::seal(
        &seed,
        terms,
        context,
        streams,
        &[receipt],
        &[WRAP_KEY],
        Vec::new(),
    ))
}

fn affine(bits: u8, group: u16, dtype: Dtype) -> Made {
    coded(Codec::Affine { bits, group }, dtype, &[])
}

/// Powers of two: every implementation has their bits.
fn frequencies() -> Vec<f64> {
    (0..32).map(|n| 0.5_f64.powi(n / 2)).collect()
}

cases! {
    /// every element type, raw
    element_types: A 0 Accept ["§7.1"] = dtypes();
    /// every role, and a layer without state
    bank_roles: A 0 Accept ["§7.1" "CAP-S-3" "CAP-S-4"] = roles();
    /// every kind of section
    section_kinds: A 0 Accept ["§7.3"] = sections();
    /// sections whose names look like paths: names are never made into any
    section_names_like_paths: A 0 Accept ["§7.3"] = of("names", |context| {
        let names = ["../state", "/etc/passwd", "..", "C:\\state", "~/.ssh/id_ed25519"];
        context.streams.extend(names.map(|name| {
            fixture::section(SectionKind::Other(name.to_owned()), 16)
        }));
    });
    /// every kind of rope scaling, every capture flag
    rope_scalings: A 0 Accept ["§6.4"] = scalings();
    /// rows of a sliding window, the last positions
    window_last: A 0 Accept ["CAP-S-5"] = windowed(RowsEntry::From(TOKENS - 16), |_| {});
    /// rows of a sliding window that ends earlier
    window_earlier: A 0 Accept ["CAP-S-5"] = windowed(RowsEntry::From(3), |_| {});
    /// rows in the runtime's own order
    rows_listed: A 0 Accept ["CAP-S-6"] = windowed(RowsEntry::Listed(4), |context| {
        context.streams.push(fixture::section(SectionKind::Positions, 128));
    });
    /// positions that do not begin at 0
    positions_later: A 0 Accept ["CAP-S-5"] = of("later", |context| {
        context.positions = 100..100 + TOKENS;
        for stream in &mut context.streams {
            if let Stream::Bank(bank) = stream {
                bank.rows = RowsEntry::From(100);
            }
        }
    });
    /// a prompt of one token more than positions: the last is not computed yet
    prompt_longer: A 0 Accept ["CAP-P-4"] = prompted(TOKENS + 1);
    /// a prompt of fewer tokens than positions: an image takes several
    prompt_shorter: A 0 Accept ["CAP-P-4"] = prompted(TOKENS - 9);
    /// positions that the runtime does not tell
    positions_unknown: A 0 Accept ["CAP-M-5"] = of("untold", |context| {
        context.positions = 0..0;
        let bank = fixture::whole(Role::Recurrent, 0, 0, Dtype::F16, &[4, 4]);
        context.streams.splice(..2, [Stream::Bank(bank)]);
    });
    /// eight dimensions
    dimensions_at_limit: A 0 Accept ["§10"] = of("eight dimensions", |context| {
        let bank = fixture::whole(Role::Recurrent, 0, 0, Dtype::F16, &[1, 2, 1, 2, 1, 2, 1, 3]);
        context.streams.push(Stream::Bank(bank));
    });
    /// 64 adapters
    adapters_at_limit: A 0 Accept ["§10"] = of("64 adapters", |context| {
        let adapter = context.model.adapters[0].clone();
        context.model.adapters = vec![adapter; 64];
    });
    /// several banks of one role in a layer
    bank_indices: A 0 Accept ["CAP-S-1"] = of("indices", |context| {
        let again: Vec<Stream> = context.streams[..2].to_vec();
        for mut stream in again {
            if let Stream::Bank(bank) = &mut stream {
                bank.index = 1;
            }
            context.streams.push(stream);
        }
    });
    /// planes16 with a hand-written run
    planes16_run: A 0 Accept ["codecs-v1 §5"] = Made::of(keys_of(Codec::Planes16, good_stream(Padding::Padme), None));
    /// the same stream with the finer padding: 4128 bytes instead of 4352
    padding_fine: A 0 Accept ["codecs-v1 §8.2"] = Made::of(keys_of(Codec::Planes16, good_stream(Padding::Fine), None));
    /// planes16 of bf16, two frames
    planes16_bf16: A 0 Accept ["codecs-v1 §5"] = coded(Codec::Planes16, Dtype::Bf16, &[]);
    /// planes16 of f16
    planes16_f16: A 0 Accept ["codecs-v1 §5"] = coded(Codec::Planes16, Dtype::F16, &[]);
    /// planes32
    planes32: A 0 Accept ["codecs-v1 §5"] = coded(Codec::Planes32, Dtype::F32, &[]);
    /// q8 of f16
    q8_f16: A 0 Accept ["codecs-v1 §6"] = affine(8, 64, Dtype::F16);
    /// q4 of bf16
    q4_bf16: A 0 Accept ["codecs-v1 §6"] = affine(4, 64, Dtype::Bf16);
    /// q6 of f32
    q6_f32: A 0 Accept ["codecs-v1 §6"] = affine(6, 32, Dtype::F32);
    /// q5 of f16
    q5_f16: A 0 Accept ["codecs-v1 §6"] = affine(5, 32, Dtype::F16);
    /// q3, groups of 128 in rows of 64
    q3_f16: A 0 Accept ["codecs-v1 §6"] = affine(3, 128, Dtype::F16);
    /// q4k
    q4k_f16: A 0 Accept ["codecs-v1 §7"] = coded(Codec::KeyChannel, Dtype::F16, &frequencies());
    /// tc at three bits, keys turned back
    tc_f16: A 0 Accept ["codecs-v1 §12"] = {
        coded(Codec::Transform { transform: 0, rate: 192 }, Dtype::F16, &frequencies())
    };
    /// tc of bf16, keys as they are
    tc_bf16: A 0 Accept ["codecs-v1 §12"] = {
        coded(Codec::Transform { transform: 0, rate: 256 }, Dtype::Bf16, &[])
    };
    /// q4c under a rope with an offset and of the other pairing, which do not enter: the same bits as `q4k_f16`
    q4c_rope_offset: A 0 Accept ["COD-K-3"] = {
        let mut context = fixture::context();
        context.rope[0].offset = 1000;
        context.rope[0].pairing = Pairing::Interleaved;
        coded_in(context, " with an offset", Codec::KeyChannel, Dtype::F16, &frequencies())
    };
}
