//! Every codec over dumped keys and values: size, errors, error of attention, speed.
//!
//! `cargo run --release -p kvcap-codecs --example quality -- DIR` reads `{rustdoc,python}.{f16,bf16}`
//! and `rustdoc.q_pre_rope.f16` (safetensors: K, V `[layer][head][token][64]`, keys rotated by
//! halves with theta 1e4) and prints the table of `docs/results/codecs.md`. The centred error is that
//! of the worst layer; times are of frames of 64 KiB in cache.
#![allow(clippy::print_stdout, clippy::unwrap_used)]

use std::{
    path::Path,
    time::{Duration, Instant},
};

use half::{bf16, f16};
use kvcap_codecs::{
    BankShape, Codec, Dtype, FrameContext, FrameQuality, Measurement, Pairing, Positions, Quality,
    Rotation, Scratch,
};

const LAYERS: usize = 6;
const HEADS: usize = 2;
const QUERY_HEADS: usize = 8;
const TOKENS: usize = 1536;
const DIM: usize = 64;
const BANK: usize = HEADS * TOKENS * DIM;
const ROUNDS: usize = 5;
/// Pairs whose key channels are made outliers, and by how much (queries are divided by it).
const OUTLIERS: [usize; 3] = [5, 18, 27];
const OUTLIER_FACTOR: f32 = 12.0;

/// Plain bytes of all layers' keys or values.
struct Banks {
    dtype: Dtype,
    bytes: Vec<u8>,
    rotation: Option<Vec<f64>>,
}

/// What a codec made of them.
struct Coded {
    quality: Quality,
    encoded: usize,
    decoded: Vec<u8>,
    encode: Duration,
    decode: Duration,
    copy: Duration,
}

fn main() {
    let dir = std::env::args().nth(1).unwrap();
    let dir = Path::new(&dir);
    let queries = tensor(
        &dir.join("rustdoc.q_pre_rope.f16.safetensors"),
        "Q_pre_rope",
    );
    let queries: Vec<f32> = floats(Dtype::F16, &queries);
    println!("path: {}", Scratch::new().path());
    println!(
        "data            codecs        bits  ratio  rmse K  rmse V  max K  centred K  attention  \
         enc GB/s  ×memcpy  dec GB/s  ×memcpy"
    );
    for name in ["rustdoc", "python"] {
        for (dtype, suffix) in [(Dtype::F16, "f16"), (Dtype::Bf16, "bf16")] {
            let file = dir.join(format!("{name}.{suffix}.safetensors"));
            let (keys, values) = (tensor(&file, "K"), tensor(&file, "V"));
            let queries = (name == "rustdoc").then(|| rotate_queries(&queries));
            table(
                &format!("{name} {suffix}"),
                dtype,
                keys,
                values,
                queries.as_deref(),
            );
        }
    }
    let file = dir.join("rustdoc.f16.safetensors");
    let (keys, values) = (tensor(&file, "K"), tensor(&file, "V"));
    let outlier = |channel: usize| OUTLIERS.contains(&(channel % (DIM / 2)));
    let keys = floats(Dtype::F16, &keys)
        .into_iter()
        .enumerate()
        .flat_map(|(at, x)| {
            let factor = if outlier(at % DIM) {
                OUTLIER_FACTOR
            } else {
                1.0
            };
            f16::from_f32_const(x * factor).to_le_bytes()
        });
    let mut queries = rotate_queries(&queries);
    for (at, x) in queries.iter_mut().enumerate() {
        if outlier(at % DIM) {
            *x /= OUTLIER_FACTOR;
        }
    }
    table(
        "outliers f16",
        Dtype::F16,
        keys.collect(),
        values,
        Some(&queries),
    );
}

fn inv_freq() -> Vec<f64> {
    (0..DIM / 2)
        .map(|pair| 1e4_f64.powf(-f64::from(u32::try_from(pair).unwrap()) / 32.0))
        .collect()
}

fn table(name: &str, dtype: Dtype, keys: Vec<u8>, values: Vec<u8>, queries: Option<&[f32]>) {
    let keys = Banks {
        dtype,
        bytes: keys,
        rotation: Some(inv_freq()),
    };
    let values = Banks {
        dtype,
        bytes: values,
        rotation: None,
    };
    let exact = queries.map(|q| {
        attend(
            q,
            &floats(dtype, &keys.bytes),
            &floats(dtype, &values.bytes),
        )
    });
    for (k, v) in [
        ("raw", "raw"),
        ("planes16", "planes16"),
        ("q8_g64", "q8_g64"),
        ("q6_g64", "q6_g64"),
        ("q5_g64", "q5_g64"),
        ("q8_g64", "q4_g64"),
        ("q4_g32", "q4_g32"),
        ("q4_g64", "q4_g64"),
        ("q4c", "q4_g64"),
        ("q3_g64", "q3_g64"),
    ] {
        let coded = [
            run(&keys, Codec::from_name(k).unwrap()),
            run(&values, Codec::from_name(v).unwrap()),
        ];
        let attention = queries.zip(exact.as_ref()).map(|(q, exact)| {
            let [k, v] = [&coded[0], &coded[1]].map(|c| floats(dtype, &c.decoded));
            distance(exact, &attend(q, &k, &v))
        });
        let codecs = if k == v {
            k.to_owned()
        } else {
            format!("{k}/{v}")
        };
        let whole = number(keys.bytes.len() + values.bytes.len());
        let encoded = number(coded[0].encoded + coded[1].encoded);
        let rate = |time: fn(&Coded) -> Duration| {
            let seconds: f64 = coded.iter().map(|c| time(c).as_secs_f64()).sum();
            whole / seconds / 1e9
        };
        let (encode, decode, copy) = (rate(|c| c.encode), rate(|c| c.decode), rate(|c| c.copy));
        println!(
            "{name:<15} {codecs:<13} {:5.2} {:6.3} {:7.5} {:7.5} {:6.3} {:10.5} {:>10} {:9.2} {:8.3} {:9.2} {:8.3}",
            encoded * 16.0 / whole,
            whole / encoded,
            coded[0].quality.relative_rmse,
            coded[1].quality.relative_rmse,
            coded[0].quality.max_abs_error,
            coded[0].quality.centred_key_error,
            attention.map_or("-".to_owned(), |x| format!("{:.3} %", x * 100.0)),
            encode,
            encode / copy,
            decode,
            decode / copy,
        );
    }
}

fn run(banks: &Banks, codec: Codec) -> Coded {
    let shape = BankShape::Tokens {
        heads: 2,
        tokens: 1536,
        dim: 64,
    };
    let mut scratch = Scratch::new();
    let mut coded = Coded {
        quality: Quality::default(),
        encoded: 0,
        decoded: Vec::new(),
        encode: Duration::ZERO,
        decode: Duration::ZERO,
        copy: Duration::ZERO,
    };
    let mut whole = Measurement::new();
    let mut worst = 0.0_f64;
    let mut encoded = Vec::new();
    for layer in banks.bytes.chunks(BANK * 2) {
        let mut bank = Measurement::new();
        let mut back = vec![0; layer.len()];
        for frame in 0..shape.frames(banks.dtype).unwrap() {
            let mut ctx = FrameContext::new(&shape, banks.dtype, frame).unwrap();
            if let Some(inv_freq) = &banks.rotation {
                let rotation = Rotation {
                    pairing: Pairing::Half,
                    inv_freq,
                };
                ctx = ctx.with_rotation(rotation, Positions::From(0));
            }
            let first = usize::try_from(frame).unwrap() * 256;
            let plain = gather(layer, first);
            let mut decoded = vec![0; plain.len()];
            let mut least = [Duration::MAX; 3];
            for _ in 0..ROUNDS {
                let mut timed = |at: usize, work: &mut dyn FnMut()| {
                    let start = Instant::now();
                    work();
                    least[at] = least[at].min(start.elapsed());
                };
                timed(0, &mut || {
                    decoded.copy_from_slice(std::hint::black_box(&plain))
                });
                timed(1, &mut || {
                    codec
                        .encode_frame(&ctx, &plain, &mut encoded, &mut scratch)
                        .unwrap();
                });
                timed(2, &mut || {
                    codec
                        .decode_frame(&ctx, &encoded, &mut decoded, &mut scratch)
                        .unwrap();
                });
            }
            coded.copy += least[0];
            coded.encode += least[1];
            coded.decode += least[2];
            coded.encoded += encoded.len();
            let quality = FrameQuality::measure(&ctx, &plain, &decoded, &mut scratch).unwrap();
            whole.add(&quality);
            bank.add(&quality);
            scatter(&decoded, &mut back, first);
        }
        coded.decoded.extend(back);
        worst = worst.max(bank.finish().centred_key_error);
    }
    coded.quality = Quality {
        centred_key_error: worst,
        ..whole.finish()
    };
    coded
}

/// A frame of 256 tokens from a bank `[head][token][dim]`, and back.
fn gather(bank: &[u8], first: usize) -> Vec<u8> {
    let head = TOKENS * DIM * 2;
    let rows = first * DIM * 2..(first + 256) * DIM * 2;
    bank.chunks(head)
        .flat_map(|head| head[rows.clone()].to_vec())
        .collect()
}

fn scatter(frame: &[u8], bank: &mut [u8], first: usize) {
    let head = TOKENS * DIM * 2;
    let rows = first * DIM * 2..(first + 256) * DIM * 2;
    for (head, frame) in bank.chunks_mut(head).zip(frame.chunks(frame.len() / HEADS)) {
        head[rows.clone()].copy_from_slice(frame);
    }
}

fn rotate_queries(queries: &[f32]) -> Vec<f32> {
    let frequencies = inv_freq();
    let mut out = queries.to_vec();
    for (row, q) in out.chunks_mut(DIM).enumerate() {
        let position = number(row % TOKENS);
        for (pair, frequency) in frequencies.iter().enumerate() {
            let (sine, cosine) = (position * frequency).sin_cos();
            let (x, y) = (f64::from(q[pair]), f64::from(q[pair + DIM / 2]));
            q[pair] = narrow(x * cosine - y * sine);
            q[pair + DIM / 2] = narrow(y * cosine + x * sine);
        }
    }
    out
}

/// Outputs of causal attention for every 31st token.
fn attend(queries: &[f32], keys: &[f32], values: &[f32]) -> Vec<f64> {
    let mut out = Vec::new();
    for layer in 0..LAYERS {
        for query_head in 0..QUERY_HEADS {
            let bank = (layer * HEADS + query_head * HEADS / QUERY_HEADS) * TOKENS * DIM;
            let (keys, values) = (
                &keys[bank..bank + TOKENS * DIM],
                &values[bank..bank + TOKENS * DIM],
            );
            for token in (30..TOKENS).step_by(31) {
                let at = ((layer * QUERY_HEADS + query_head) * TOKENS + token) * DIM;
                let query = &queries[at..at + DIM];
                let dot = |row: &[f32]| {
                    row.iter()
                        .zip(query)
                        .map(|(k, q)| f64::from(k * q))
                        .sum::<f64>()
                };
                let scores: Vec<f64> = keys
                    .chunks(DIM)
                    .take(token + 1)
                    .map(|row| dot(row) / 8.0)
                    .collect();
                let highest = scores.iter().fold(f64::NEG_INFINITY, |m, x| m.max(*x));
                let weights: Vec<f64> = scores.iter().map(|x| (x - highest).exp()).collect();
                let sum: f64 = weights.iter().sum();
                let mut output = [0.0; DIM];
                for (row, weight) in values.chunks(DIM).zip(&weights) {
                    for (x, value) in output.iter_mut().zip(row) {
                        *x += weight / sum * f64::from(*value);
                    }
                }
                out.extend(output);
            }
        }
    }
    out
}

fn distance(exact: &[f64], other: &[f64]) -> f64 {
    let (mut error, mut whole) = (0.0, 0.0);
    for (x, y) in exact.iter().zip(other) {
        error += (x - y) * (x - y);
        whole += x * x;
    }
    (error / whole).sqrt()
}

fn floats(dtype: Dtype, bytes: &[u8]) -> Vec<f32> {
    bytes
        .as_chunks::<2>()
        .0
        .iter()
        .map(|two| match dtype {
            Dtype::F16 => f16::from_le_bytes(*two).to_f32_const(),
            _ => bf16::from_le_bytes(*two).to_f32_const(),
        })
        .collect()
}

fn number(n: usize) -> f64 {
    f64::from(u32::try_from(n).unwrap())
}

#[allow(clippy::cast_possible_truncation)]
fn narrow(x: f64) -> f32 {
    x as f32
}

/// The bytes of one tensor of a safetensors file.
fn tensor(file: &Path, name: &str) -> Vec<u8> {
    let bytes = std::fs::read(file).unwrap();
    let header_len = u64::from_le_bytes(bytes[..8].try_into().unwrap());
    let (header, data) = bytes[8..].split_at(usize::try_from(header_len).unwrap());
    let header = std::str::from_utf8(header).unwrap();
    let entry = header.split(&format!("\"{name}\":")).nth(1).unwrap();
    let offsets = entry.split("\"data_offsets\":[").nth(1).unwrap();
    let offsets = offsets.split(']').next().unwrap();
    let mut offsets = offsets
        .split(',')
        .map(|x| x.trim().parse::<usize>().unwrap());
    data[offsets.next().unwrap()..offsets.next().unwrap()].to_vec()
}
