//! `tc` whose synthesis MLX does, against the CPU's plain loops, bit for bit: stored rows, later frames, sums that
//! wrap, and rows that stay in MLX's arrays.
#![cfg(any(all(target_os = "macos", target_arch = "aarch64"), kvcap_mlx_linux))]
#![allow(clippy::unwrap_used)]

#[path = "../../../tests/testkit/src/profile.rs"]
#[allow(unreachable_pub, reason = "of a crate that shares it")]
mod made_profile;

#[path = "../../../tests/testkit/src/coded.rs"]
#[allow(unreachable_pub, reason = "of a crate that shares it")]
mod coded;

use coded::beyond_32_bits;
use kvcap_codecs::{
    BankShape, Codec, Dtype, ErrorKind, FrameContext, Pairing, Positions, Profile, Rotation,
    Scratch, from_f32,
};
use kvcap_codecs_mlx::{Error, Mlx, arrays};
use made_profile::{Entry, made};

const INV_FREQ: [f64; 8] = [1.0, 0.6, 0.3, 0.1, 0.05, 0.02, 0.005, 0.001];

/// Numbers about as large as keys are.
fn numbers(count: usize) -> Vec<f32> {
    let mut seed = 5_u32;
    let mut next = || {
        seed = seed.wrapping_mul(747_796_405).wrapping_add(2_891_336_453);
        f32::from((seed >> 16) as u16) / 32_768.0 - 1.0
    };
    let sum = |at: usize| (next() + next() + next()) * f32::from((1 + at % 5) as u8);
    (0..count).map(sum).collect()
}

/// The frame by the plain loops, and by MLX in host memory and as an array.
fn compare(codec: Codec, ctx: &FrameContext<'_>, encoded: &[u8]) -> Vec<u8> {
    let mut scratch = Scratch::with_path("reference").unwrap();
    let mut expected = vec![0xee; ctx.plain_len()];
    let mut found = vec![0x11; ctx.plain_len()];
    codec
        .decode_frame(ctx, encoded, &mut expected, &mut scratch)
        .unwrap();
    let mut scratch = Scratch::new();
    Mlx::decode_frame(codec, ctx, encoded, &mut found, &mut scratch).unwrap();
    assert!(found == expected, "{codec} {ctx:?}");
    let rows = arrays::transform_decode(codec, ctx, encoded, &mut scratch).unwrap();
    let extent = ctx.extent().unwrap().map(|n| i32::try_from(n).unwrap());
    assert_eq!(rows.shape(), extent);
    let bytes = rows.flatten(None, None).unwrap().contiguous().unwrap();
    let bytes = bytes.view_dtype(mlx_rs::Dtype::Uint8).unwrap();
    assert!(bytes.to_vec_exact::<u8>().unwrap() == expected, "{codec}");
    expected
}

#[test]
fn frames_of_a_bank_come_back_as_on_the_cpu() {
    let heads = 3_u8;
    for (tokens, dim, pairing) in [
        (300_u16, 32_u8, Pairing::Half),
        (280, 27, Pairing::Interleaved),
    ] {
        let shape = BankShape::Tokens {
            heads: heads.into(),
            tokens: tokens.into(),
            dim: dim.into(),
        };
        let (mut stored, mut none) = (0, 0);
        for transform in [0, 1, 2] {
            let entry = Entry::new(0, 0, transform.max(1), heads.into(), dim.into());
            let profile = Profile::parse(&made([1; 32], &[entry], &[])).unwrap();
            for dtype in [Dtype::F16, Dtype::Bf16, Dtype::F32] {
                for (index, turned) in [(0, true), (1, true), (1, false)] {
                    let mut ctx = FrameContext::new(&shape, dtype, index).unwrap();
                    if transform > 0 {
                        ctx = ctx.with_profile(profile.bank(0, 0).unwrap());
                    }
                    if turned {
                        let rotation = Rotation {
                            pairing,
                            inv_freq: &INV_FREQ,
                        };
                        ctx = ctx.with_rotation(rotation, Positions::From(11));
                    }
                    let [heads, tokens, dim] = ctx.extent().unwrap();
                    let values = numbers(heads * tokens * dim);
                    let mut plain = Vec::new();
                    from_f32(dtype, &values, &mut plain).unwrap();
                    let codec = Codec::Transform {
                        transform,
                        rate: 300,
                    };
                    let mut encoded = Vec::new();
                    codec
                        .encode_frame(&ctx, &plain, &mut encoded, &mut Scratch::new())
                        .unwrap();
                    let decoded = compare(codec, &ctx, &encoded);
                    match encoded[2] {
                        0 => none += 1,
                        rows => {
                            let row = usize::from(rows) * plain.len() / heads / tokens;
                            assert_eq!(decoded[..row], plain[..row]);
                            stored += 1;
                        }
                    }
                }
            }
        }
        assert_eq!((stored, none), (9, 18));
    }
}

#[test]
fn sums_beyond_32_bits_wrap_as_on_the_cpu() {
    let mut entry = Entry::new(0, 1, 2, 2, 64);
    entry.shifts = vec![8; 128];
    let profile = Profile::parse(&made([1; 32], &[entry], &[])).unwrap();
    let shape = BankShape::Tokens {
        heads: 2,
        tokens: 40,
        dim: 64,
    };
    let codec = Codec::Transform {
        transform: 2,
        rate: 1024,
    };
    for dtype in [Dtype::F16, Dtype::Bf16, Dtype::F32] {
        let ctx = FrameContext::new(&shape, dtype, 0).unwrap();
        let mut frame = beyond_32_bits();
        let len = codec.encoded_frame_len(&shape, dtype, 0).unwrap();
        frame.resize(usize::try_from(len).unwrap(), 0);
        let ctx = ctx.with_profile(profile.bank(0, 1).unwrap());
        // by its own step, and by one that leaves the sums within every type
        for step in [0_i16, -900] {
            frame[..2].copy_from_slice(&step.to_le_bytes());
            compare(codec, &ctx, &frame);
        }
    }
}

#[test]
fn a_frame_of_stored_rows_alone_is_those() {
    let shape = BankShape::Tokens {
        heads: 2,
        tokens: 1,
        dim: 8,
    };
    let codec = Codec::Transform {
        transform: 0,
        rate: 1024,
    };
    let ctx = FrameContext::new(&shape, Dtype::F16, 0).unwrap();
    // one row of 16 channels, no bits of offsets, no escapes; each lane as it began
    let mut frame = vec![0, 0, 1, 0, 0, 0, 0, 0];
    frame.extend([0, 0, 1, 0].repeat(32));
    frame.extend([0; 12]);
    frame.extend((0..16_u8).flat_map(|at| [at, 0x3c]));
    let len = codec.encoded_frame_len(&shape, Dtype::F16, 0).unwrap();
    frame.resize(usize::try_from(len).unwrap(), 0);
    let rows = compare(codec, &ctx, &frame);
    assert_eq!(rows[..4], [0, 0x3c, 1, 0x3c]);
}

#[test]
fn what_the_cpu_refuses_mlx_does_not_make() {
    let shape = BankShape::Tokens {
        heads: 1,
        tokens: 9,
        dim: 16,
    };
    let ctx = FrameContext::new(&shape, Dtype::F16, 0).unwrap();
    let refused = |codec: Codec, encoded: &[u8]| {
        let mut scratch = Scratch::new();
        match arrays::transform_decode(codec, &ctx, encoded, &mut scratch) {
            Err(Error::Codec(error)) => error.kind(),
            other => panic!("{other:?}"),
        }
    };
    let codec = |transform| Codec::Transform {
        transform,
        rate: 300,
    };
    assert_eq!(refused(codec(0), &[0; 5]), ErrorKind::Length);
    assert_eq!(refused(codec(1), &[0; 5]), ErrorKind::NoProfile);
    assert_eq!(refused(Codec::Raw, &[0; 288]), ErrorKind::Length);
    let len = codec(0).encoded_frame_len(&shape, Dtype::F16, 0).unwrap();
    let zeros = vec![0; usize::try_from(len).unwrap()];
    assert_eq!(refused(codec(0), &zeros), ErrorKind::Malformed);
}
