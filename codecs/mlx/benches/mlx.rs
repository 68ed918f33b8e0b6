//! Encode and decode of the lossy codecs by MLX and by the CPU's fastest path, in one run.
//!
//! `cargo bench -p kvcap-codecs-mlx` on a Mac; on Linux with the configuration of `linux/setup`, where MLX
//! runs on the CPU and shows that the bits are right, not how fast they can be. GB/s of plain
//! bytes on one thread, over 16 frames of a Llama-class bank (8 heads of 128, 256 tokens), bf16; of
//! each frame's times the least.
#![allow(clippy::print_stdout, clippy::unwrap_used)]

#[cfg(not(any(all(target_os = "macos", target_arch = "aarch64"), kvcap_mlx_linux)))]
fn main() {
    println!("{}", kvcap_codecs_mlx::selftest());
}

#[cfg(any(all(target_os = "macos", target_arch = "aarch64"), kvcap_mlx_linux))]
fn main() {
    mlx::main();
}

#[cfg(any(all(target_os = "macos", target_arch = "aarch64"), kvcap_mlx_linux))]
mod mlx {
    use std::{
        hint::black_box,
        time::{Duration, Instant},
    };

    use kvcap_codecs::{
        BankShape, Codec, Dtype, FrameContext, Pairing, Positions, Rotation, Scratch,
    };
    use kvcap_codecs_mlx::{Mlx, choose};

    const FRAMES: u64 = 16;
    const ROUNDS: usize = 5;

    pub(crate) fn main() {
        let (_, report) = choose();
        println!("{report}");
        println!("path       codec    encode GB/s  decode GB/s");
        for codec in ["q8_g64", "q4_g64", "q4c"] {
            let codec = Codec::from_name(codec).unwrap();
            for mlx in [false, true] {
                bench(codec, mlx);
            }
        }
    }

    fn bench(codec: Codec, mlx: bool) {
        let shape = BankShape::Tokens {
            heads: 8,
            tokens: FRAMES * 256,
            dim: 128,
        };
        let inv_freq: Vec<f64> = (0..64)
            .map(|pair| 1e4_f64.powf(-f64::from(pair) / 64.0))
            .collect();
        let rotation = Rotation {
            pairing: Pairing::Half,
            inv_freq: &inv_freq,
        };
        let mut scratch = Scratch::with_path(Scratch::paths().last().unwrap()).unwrap();
        let mut total = [Duration::ZERO; 2];
        let mut bytes = 0;
        for frame in 0..FRAMES {
            let ctx = FrameContext::new(&shape, Dtype::Bf16, frame)
                .unwrap()
                .with_rotation(rotation, Positions::From(0));
            let plain = keys(ctx.plain_len());
            let (mut encoded, mut decoded) = (Vec::new(), vec![0; plain.len()]);
            let mut least = [Duration::MAX; 2];
            for _ in 0..ROUNDS {
                let start = Instant::now();
                if mlx {
                    Mlx::encode_frame(codec, &ctx, &plain, &mut encoded, &mut scratch).unwrap();
                } else {
                    codec
                        .encode_frame(&ctx, &plain, &mut encoded, &mut scratch)
                        .unwrap();
                }
                least[0] = least[0].min(start.elapsed());
                let start = Instant::now();
                if mlx {
                    Mlx::decode_frame(codec, &ctx, &encoded, &mut decoded, &mut scratch).unwrap();
                } else {
                    codec
                        .decode_frame(&ctx, &encoded, &mut decoded, &mut scratch)
                        .unwrap();
                }
                least[1] = least[1].min(start.elapsed());
                black_box((&encoded, &decoded));
            }
            bytes += plain.len();
            for (total, least) in total.iter_mut().zip(least) {
                *total += least;
            }
        }
        let [encode, decode] =
            total.map(|time| f64::from(u32::try_from(bytes).unwrap()) / time.as_secs_f64() / 1e9);
        let path = if mlx { "mlx" } else { scratch.path() };
        println!(
            "{path:<10} {codec:<8} {encode:11.3} {decode:12.3}",
            codec = codec.name()
        );
    }

    /// Deviates between −2 and 2 as bf16.
    fn keys(len: usize) -> Vec<u8> {
        let mut state = 1_u64;
        let mut plain = Vec::with_capacity(len);
        while plain.len() < len {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let x = f32::from(u16::try_from(state >> 48).unwrap()) / 16384.0 - 2.0;
            plain.extend_from_slice(&x.to_le_bytes()[2..]);
        }
        plain
    }
}
