//! Encode and decode of each codec on one core, beside memcpy in the same process.
//!
//! `cargo bench -p kvcap-codecs` prints, for each path that the machine has, GB/s of plain bytes and
//! the ratio to memcpy. Sums over 64 frames of a Llama-class bank (8 heads of 128, 256 tokens;
//! 32 MiB of 16-bit elements) of each frame's least time, Gaussian data; what is copied or decoded goes to
//! places that begin at cache lines. `KVCAP_CPU=name` restricts it to one path; arguments name codecs.
#![allow(clippy::print_stdout, clippy::unwrap_used)]

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use half::{bf16, f16};
use kvcap_codecs::{
    BankShape, Codec, Dtype, FrameContext, Pairing, Positions, Rotation, Scratch, aligned,
};

const HEADS: u64 = 8;
const DIM: u64 = 128;
const FRAMES: u64 = 64;
const ROUNDS: usize = 7;

fn main() {
    let wanted: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| !argument.starts_with('-'))
        .collect();
    let only = std::env::var("KVCAP_CPU").ok();
    let inv_freq: Vec<f64> = (0..DIM / 2)
        .map(|pair| 1e4_f64.powf(-2.0 * f64::from(u32::try_from(pair).unwrap()) / 128.0))
        .collect();
    println!("path       dtype codec      ratio   encode GB/s  × memcpy   decode GB/s  × memcpy");
    for path in Scratch::paths() {
        if only
            .as_deref()
            .map_or(path == "reference", |name| name != path)
        {
            continue;
        }
        for (dtype, exact) in [
            (Dtype::F16, "planes16"),
            (Dtype::Bf16, "planes16"),
            (Dtype::F32, "planes32"),
        ] {
            let lossy = ["q8_g64", "q6_g64", "q5_g64", "q4_g64", "q3_g64", "q4c"];
            for name in ["raw", exact].into_iter().chain(lossy) {
                if wanted.is_empty() || wanted.iter().any(|w| w == name) {
                    let codec = Codec::from_name(name).unwrap();
                    bench(path, dtype, codec, &inv_freq);
                }
            }
        }
    }
}

fn bench(path: &str, dtype: Dtype, codec: Codec, inv_freq: &[f64]) {
    let shape = BankShape::Tokens {
        heads: HEADS,
        tokens: FRAMES * 256,
        dim: DIM,
    };
    let rotation = Rotation {
        pairing: Pairing::Half,
        inv_freq,
    };
    let frame_len = usize::try_from(shape.frame_plain_len(dtype, 0).unwrap()).unwrap();
    let plain = gaussian(dtype, frame_len * usize::try_from(FRAMES).unwrap());
    let contexts: Vec<_> = (0..FRAMES)
        .map(|frame| {
            FrameContext::new(&shape, dtype, frame)
                .unwrap()
                .with_rotation(rotation, Positions::From(0))
        })
        .collect();
    let mut scratch = Scratch::with_path(path).unwrap();
    let mut encoded: Vec<Vec<u8>> = contexts.iter().map(|_| Vec::new()).collect();
    let mut decoded = Vec::new();
    let decoded = aligned(&mut decoded, plain.len());
    // Each pass goes over all frames, so that memory is as cold as in a memcpy of them; of each
    // frame's times the least is kept, so that a busy machine disturbs little.
    let mut times = vec![[Duration::MAX; 3]; contexts.len()];
    for round in 0..3 * ROUNDS {
        let pass = round % 3;
        let frames = contexts
            .iter()
            .zip(plain.chunks(frame_len))
            .zip(decoded.chunks_mut(frame_len).zip(&mut encoded));
        for (((ctx, plain), (decoded, encoded)), least) in frames.zip(&mut times) {
            let start = Instant::now();
            match pass {
                0 => decoded.copy_from_slice(black_box(plain)),
                1 => codec
                    .encode_frame(ctx, plain, encoded, &mut scratch)
                    .unwrap(),
                _ => codec
                    .decode_frame(ctx, encoded, decoded, &mut scratch)
                    .unwrap(),
            }
            black_box((&decoded, &encoded));
            least[pass] = least[pass].min(start.elapsed());
        }
    }
    let total = |at: usize| times.iter().map(|least| least[at]).sum::<Duration>();
    let (copy, encode, decode) = (total(0), total(1), total(2));
    let bytes = |n: usize| f64::from(u32::try_from(n).unwrap());
    let size = bytes(encoded.iter().map(Vec::len).sum());
    let rate = |time: Duration| bytes(plain.len()) / time.as_secs_f64() / 1e9;
    println!(
        "{path:<10} {:<5} {:<9} {:6.3} {:13.2} {:9.3} {:13.2} {:9.3}",
        dtype.name(),
        codec.name(),
        bytes(plain.len()) / size,
        rate(encode),
        rate(encode) / rate(copy),
        rate(decode),
        rate(decode) / rate(copy),
    );
}

/// Normal deviates by the sum of uniform ones: enough like a key for the speed of a codec.
fn gaussian(dtype: Dtype, len: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let mut uniform = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        f32::from(u16::try_from(state >> 48).unwrap()) / 65536.0 - 0.5
    };
    let mut out = Vec::with_capacity(len);
    while out.len() < len {
        let x: f32 = (0..6).map(|_| uniform()).sum();
        match dtype {
            Dtype::F16 => out.extend(f16::from_f32_const(x).to_le_bytes()),
            Dtype::Bf16 => out.extend(bf16::from_f32_const(x).to_le_bytes()),
            _ => out.extend(x.to_le_bytes()),
        }
    }
    out
}
