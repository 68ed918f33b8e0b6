//! Transforms by a profile, from the outside (codecs-v1 §12.4 and §12.7).
#![allow(clippy::unwrap_used)]

#[path = "../../tests/testkit/src/profile.rs"]
#[allow(unreachable_pub, reason = "of a crate that shares it")]
mod made_profile;

#[path = "../../tests/testkit/src/coded.rs"]
#[allow(unreachable_pub, reason = "of a crate that shares it")]
mod coded;

use coded::beyond_32_bits;
use kvcap_codecs::{
    BankProfile, BankShape, Codec, Content, Dtype, FrameContext, Pairing, Positions, Profile,
    Rotation, Scratch,
};
use made_profile::{Entry, made};

const INV_FREQ: [f64; 4] = [1.0, 0.3, 0.05, 0.001];

fn numbers(count: usize, mut seed: u32) -> Vec<f32> {
    let mut next = || {
        seed = seed.wrapping_mul(747_796_405).wrapping_add(2_891_336_453);
        let bits = (seed >> ((seed >> 28) + 4) ^ seed).wrapping_mul(277_803_737);
        (bits >> 22 ^ bits) as f32 / u32::MAX as f32 * 2.0 - 1.0
    };
    let gaussian = |at: usize| (next() + next() + next()) * (1 + at % 5) as f32;
    (0..count).map(gaussian).collect()
}

fn bytes(dtype: Dtype, values: &[f32]) -> Vec<u8> {
    let each = values.iter();
    match dtype {
        Dtype::F16 => each
            .flat_map(|x| half::f16::from_f32_const(*x).to_le_bytes())
            .collect(),
        Dtype::Bf16 => each
            .flat_map(|x| half::bf16::from_f32_const(*x).to_le_bytes())
            .collect(),
        _ => each.flat_map(|x| x.to_le_bytes()).collect(),
    }
}

fn told<'a>(shape: &BankShape, dtype: Dtype, bank: &'a BankProfile) -> FrameContext<'a> {
    let rotation = Rotation {
        pairing: Pairing::Half,
        inv_freq: &INV_FREQ,
    };
    FrameContext::new(shape, dtype, 0)
        .unwrap()
        .with_rotation(rotation, Positions::From(7))
        .with_profile(bank)
}

/// The decoded frame of each path, which are the same or the same refusal.
fn decoded(codec: Codec, ctx: &FrameContext<'_>, encoded: &[u8]) -> Result<Vec<u8>, u16> {
    let of = |path| {
        let mut out = vec![0xee; ctx.plain_len()];
        let mut scratch = Scratch::with_path(path).unwrap();
        let done = codec.decode_frame(ctx, encoded, &mut out, &mut scratch);
        done.map(|()| out).map_err(|error| error.code())
    };
    let found: Vec<_> = Scratch::paths().into_iter().map(of).collect();
    assert!(found.iter().all(|other| *other == found[0]));
    found.into_iter().next().unwrap()
}

#[test]
fn the_first_four_rows_come_back_bit_by_bit_where_there_is_room() {
    // at 3 bits, four rows of a whole frame take an eighth of it; of fewer tokens as many as still do
    for (tokens, rate, stored) in [
        (256, 192, 4),
        (256, 64, 1),
        (100, 192, 2),
        (64, 192, 1),
        (20, 192, 0),
        (10, 1024, 1),
    ] {
        let profile = made([1; 32], &[Entry::new(0, 0, 2, 2, 64)], &[]);
        let profile = Profile::parse(&profile).unwrap();
        let shape = BankShape::Tokens {
            heads: 2,
            tokens,
            dim: 64,
        };
        let ctx = told(&shape, Dtype::F16, profile.bank(0, 0).unwrap());
        let plain = bytes(Dtype::F16, &numbers(ctx.plain_len() / 2, 3));
        let (mut encoded, mut scratch) = (Vec::new(), Scratch::with_path("portable").unwrap());
        let codec = Codec::Transform { transform: 2, rate };
        codec
            .encode_frame(&ctx, &plain, &mut encoded, &mut scratch)
            .unwrap();
        assert_eq!(encoded[2], stored, "{tokens} tokens");
        let decoded = decoded(codec, &ctx, &encoded).unwrap();
        let (head, end) = (plain.len() / 2, usize::from(stored) * 128);
        for at in [0, head] {
            assert_eq!(decoded[at..at + end], plain[at..at + end]);
            let after = at + end..at + end + 128;
            assert_ne!(decoded[after.clone()], plain[after]);
        }
    }
}

#[test]
fn every_path_writes_and_reads_the_same() {
    for (heads, tokens, dim) in [(3, 256, 64), (2, 77, 24), (1, 1, 17), (2, 33, 9)] {
        for transform in [1, 2] {
            let profile = made([1; 32], &[Entry::new(0, 0, transform, heads, dim)], &[]);
            let profile = Profile::parse(&profile).unwrap();
            let bank = profile.bank(0, 0).unwrap();
            let [wide_heads, wide_dim] = [heads, dim].map(u64::from);
            let shape = BankShape::Tokens {
                heads: wide_heads,
                tokens,
                dim: wide_dim,
            };
            for dtype in [Dtype::F16, Dtype::Bf16, Dtype::F32] {
                let ctx = told(&shape, dtype, bank);
                let count = usize::try_from(wide_heads * tokens * wide_dim).unwrap();
                let values = numbers(count, 3);
                let plain = bytes(dtype, &values);
                for rate in [90, 256, 900] {
                    let codec = Codec::Transform { transform, rate };
                    let encode = |path| {
                        let mut encoded = Vec::new();
                        let mut scratch = Scratch::with_path(path).unwrap();
                        codec
                            .encode_frame(&ctx, &plain, &mut encoded, &mut scratch)
                            .unwrap();
                        encoded
                    };
                    let encoded = encode("reference");
                    for path in Scratch::paths() {
                        assert!(
                            encode(path) == encoded,
                            "{path} {transform} {rate} {dtype:?}"
                        );
                    }
                    let decoded = decoded(codec, &ctx, &encoded).unwrap();
                    if dtype == Dtype::F32 && tokens > 1 {
                        let back = decoded
                            .as_chunks::<4>()
                            .0
                            .iter()
                            .map(|b| f32::from_le_bytes(*b));
                        let square = |(x, y): (&f32, f32)| f64::from(x - y).powi(2);
                        let noise = values.iter().zip(back).map(square).sum::<f64>();
                        let signal: f64 = values.iter().map(|x| f64::from(*x).powi(2)).sum();
                        let most = [1.0, 0.06, 0.01]
                            [[90, 256, 900].iter().position(|r| *r == rate).unwrap()];
                        assert!(
                            noise < signal * most,
                            "{noise} of {signal} at {rate}, {heads}x{dim}"
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn sums_beyond_32_bits_wrap_alike() {
    // coefficients as large as escapes make them, by the largest weights
    let mut entry = Entry::new(0, 1, 2, 2, 64);
    entry.shifts = vec![8; 128];
    let profile = Profile::parse(&made([1; 32], &[entry], &[])).unwrap();
    let bank = profile.bank(0, 1).unwrap();
    let shape = BankShape::Tokens {
        heads: 2,
        tokens: 40,
        dim: 64,
    };
    let ctx = told(&shape, Dtype::F32, bank);
    let codec = Codec::Transform {
        transform: 2,
        rate: 1024,
    };
    let mut frame = beyond_32_bits();
    let len = codec.encoded_frame_len(&shape, Dtype::F32, 0).unwrap();
    frame.resize(usize::try_from(len).unwrap(), 0);
    let out = decoded(codec, &ctx, &frame).unwrap();
    assert!(
        out.as_chunks::<4>()
            .0
            .iter()
            .all(|x| f32::from_le_bytes(*x).is_finite())
    );
}

#[test]
fn damaged_frames_are_refused_alike() {
    let profile = made([1; 32], &[Entry::new(0, 0, 2, 2, 16)], &[]);
    let profile = Profile::parse(&profile).unwrap();
    let shape = BankShape::Tokens {
        heads: 2,
        tokens: 100,
        dim: 16,
    };
    let ctx = told(&shape, Dtype::F16, profile.bank(0, 0).unwrap());
    let codec = Codec::Transform {
        transform: 2,
        rate: 200,
    };
    let plain = bytes(Dtype::F16, &numbers(3200, 9));
    let mut good = Vec::new();
    codec
        .encode_frame(&ctx, &plain, &mut good, &mut Scratch::new())
        .unwrap();
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 0x41;
        let _same = decoded(codec, &ctx, &bad);
    }
    let with_step = |k: i16| {
        let mut bad = good.clone();
        bad[..2].copy_from_slice(&k.to_le_bytes());
        decoded(codec, &ctx, &bad).map(|_| ())
    };
    assert_eq!(with_step(4064), Ok(()));
    assert_eq!(with_step(4065), Err(904));
}

#[test]
fn another_profile_is_refused() {
    let profile = made(
        [1; 32],
        &[Entry::new(0, 0, 1, 2, 16), Entry::new(0, 1, 1, 3, 16)],
        &[],
    );
    let profile = Profile::parse(&profile).unwrap();
    let shape = BankShape::Tokens {
        heads: 2,
        tokens: 100,
        dim: 16,
    };
    let none = FrameContext::new(&shape, Dtype::F16, 0).unwrap();
    let codec = |transform| Codec::Transform {
        transform,
        rate: 200,
    };
    let len = codec(1).encoded_frame_len(&shape, Dtype::F16, 0).unwrap();
    let frame = vec![0; usize::try_from(len).unwrap()];
    let other = none.with_profile(profile.bank(0, 1).unwrap());
    let right = none.with_profile(profile.bank(0, 0).unwrap());
    assert_eq!(decoded(codec(1), &none, &frame), Err(908));
    assert_eq!(decoded(codec(1), &other, &frame), Err(909));
    assert_eq!(decoded(codec(2), &right, &frame), Err(909));
    let plain = vec![0; none.plain_len()];
    let encoded = |codec: Codec, ctx: &FrameContext<'_>| {
        let done = codec.encode_frame(ctx, &plain, &mut Vec::new(), &mut Scratch::new());
        done.map_err(|error| error.code())
    };
    assert_eq!(encoded(codec(1), &none), Err(908));
    assert_eq!(encoded(codec(2), &right), Err(909));
    assert_eq!(encoded(codec(1), &right), Ok(()));
    assert!(profile.bank(1, 0).is_none() && profile.bank(u64::MAX, 0).is_none());
}

#[test]
fn shapes_beyond_a_profile_are_refused() {
    let applies = |transform, heads, dim| {
        let shape = BankShape::Tokens {
            heads,
            tokens: 3,
            dim,
        };
        let codec = Codec::Transform {
            transform,
            rate: 200,
        };
        codec
            .applies(Dtype::F16, &shape, Content::Values)
            .map_err(|error| error.code())
    };
    assert_eq!(applies(2, 8, 128), Ok(()));
    assert_eq!(applies(2, 9, 128), Err(903));
    assert_eq!(applies(1, 128, 128), Ok(()));
    assert_eq!(applies(1, 129, 128), Err(903));
    assert_eq!(applies(1, 1, 1025), Err(903));
    assert_eq!(applies(0, 129, 1025), Ok(()));
}

#[test]
fn lying_files_are_refused() {
    let entries = [Entry::new(0, 0, 1, 2, 8), Entry::new(0, 1, 2, 2, 8)];
    let points = [(9000, vec![100, 90]), (300, vec![200, 190])];
    let good = made([7; 32], &entries, &points);
    let profile = Profile::parse(&good).unwrap();
    assert_eq!((profile.model(), profile.banks().len()), (&[7; 32], 2));
    let refused = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = good.clone();
        change(&mut bytes);
        Profile::parse(&bytes).err().map(|error| error.code())
    };
    for len in 0..good.len() {
        assert_eq!(refused(&|b| b.truncate(len)), Some(909), "{len}");
    }
    assert_eq!(refused(&|b| b.push(0)), Some(909), "a byte more");
    for (at, byte, what) in [
        (0, b'X', "magic"),
        (8, 2, "version"),
        (10, 0, "no banks"),
        (11, 0x10, "more banks than there are"),
        (12, 65, "points"),
        (14, 1, "a reserved byte"),
        (52, 4, "a role"),
        (53, 3, "a transform"),
        (53, 0, "no transform"),
        (55, 0xff, "heads"),
        (57, 0xff, "dim"),
        (58, 1, "a reserved byte of an entry"),
        (64, 0, "a bank twice"),
        (76, 15, "a rate"),
    ] {
        assert_eq!(refused(&|b| b[at] = byte), Some(909), "{what}");
    }
    // points: coarser after finer, and more loss at more bits
    assert_eq!(
        refused(&|b| b[80..84].copy_from_slice(&9001_u32.to_le_bytes())),
        Some(909)
    );
    assert_eq!(
        refused(&|b| b[84..88].copy_from_slice(&[16, 0, 16, 0])),
        Some(909)
    );
    let means = 88;
    assert_eq!(refused(&|b| b[means + 3] = 0x7f), None);
    assert_eq!(
        refused(&|b| b[means + 2..means + 4].copy_from_slice(&[0x80, 0x7f])),
        Some(909)
    );
    let shifts = means + 4 * 16;
    assert_eq!(refused(&|b| b[shifts] = 8), None);
    assert_eq!(refused(&|b| b[shifts] = 9), Some(909));
    assert_eq!(refused(&|b| b[shifts + 16] = 0x80), Some(909));
}

#[test]
fn rates_lie_between_points() {
    let entries = [Entry::new(0, 0, 1, 1, 8), Entry::new(0, 1, 1, 3, 8)];
    let points = [(9000, vec![100, 60]), (300, vec![200, 160])];
    let profile = Profile::parse(&made([7; 32], &entries, &points)).unwrap();
    // means are 70 and 170
    assert_eq!(profile.rates(70), [100, 60]);
    assert_eq!(profile.rates(170), [200, 160]);
    assert_eq!(profile.rates(120), [150, 110]);
    assert_eq!(profile.rates(180), [210, 170]);
    assert_eq!(profile.rates(60), [90, 50]);
    for rate in 16..=1024 {
        let [key, value] = profile.rates(rate)[..] else {
            panic!()
        };
        let mean = f64::from(key + 3 * value) / 4.0;
        assert!(
            mean <= f64::from(rate) && mean > f64::from(rate) - 45.0,
            "{rate}: {mean}"
        );
    }
    assert_eq!(profile.rate_for(1e-5), Some(70));
    assert_eq!(profile.rate_for(1e-6), Some(170));
    assert_eq!(profile.rate_for(1e-7), None);
}
