//! Entropy-coded frames of one length, from the outside (codecs-v1 §12).
#![allow(clippy::unwrap_used)]

use kvcap_codecs::{
    BankShape, Codec, Content, Dtype, FrameContext, Pairing, Positions, Preset, Rotation, Scratch,
};

const INV_FREQ: [f64; 8] = [1.0, 0.5, 0.25, 0.1, 0.05, 0.02, 0.01, 0.001];

fn shape(heads: u64, tokens: u64, dim: u64) -> BankShape {
    BankShape::Tokens { heads, tokens, dim }
}

/// A sum of four numbers in ±1, so that it is nearly Gaussian, for each element; channels have offsets
/// and widths of their own.
fn values(count: usize, dim: usize, mut seed: u32) -> Vec<f32> {
    let mut next = || {
        seed = seed.wrapping_mul(747_796_405).wrapping_add(2_891_336_453);
        let bits = (seed >> ((seed >> 28) + 4) ^ seed).wrapping_mul(277_803_737);
        f64::from(bits >> 22 ^ bits) / f64::from(u32::MAX) * 2.0 - 1.0
    };
    let mut made = Vec::new();
    for at in 0..count {
        let channel = u32::try_from(at % dim).unwrap();
        let noise = next() + next() + next() + next();
        let width = f64::from(1 + channel % 13) / 8.0;
        #[allow(clippy::cast_possible_truncation)]
        made.push((f64::from(channel % 5) * 3.0 - 6.0 + noise * width) as f32);
    }
    made
}

fn halves(values: &[f32]) -> Vec<u8> {
    let halves = values.iter().map(|x| half::f16::from_f32_const(*x));
    halves.flat_map(half::f16::to_le_bytes).collect()
}

fn context(shape: &BankShape, dtype: Dtype, frame: u64) -> FrameContext<'static> {
    let rotation = Rotation {
        pairing: Pairing::Half,
        inv_freq: &INV_FREQ,
    };
    FrameContext::new(shape, dtype, frame)
        .unwrap()
        .with_rotation(rotation, Positions::From(1000))
}

fn coded(rate: u16, ctx: &FrameContext<'_>, plain: &[u8], path: &str) -> (Vec<u8>, Vec<u8>) {
    let codec = Codec::Transform { transform: 0, rate };
    let mut scratch = Scratch::with_path(path).unwrap();
    let (mut encoded, mut decoded) = (Vec::new(), vec![0xee; plain.len()]);
    codec
        .encode_frame(ctx, plain, &mut encoded, &mut scratch)
        .unwrap();
    codec
        .decode_frame(ctx, &encoded, &mut decoded, &mut scratch)
        .unwrap();
    (encoded, decoded)
}

fn noise(plain: &[f32], decoded: &[u8]) -> f64 {
    let decoded = decoded.as_chunks::<2>().0.iter();
    let square = |(x, y): (&f32, &[u8; 2])| {
        let y = half::f16::from_le_bytes(*y).to_f32_const();
        f64::from(x - y).powi(2)
    };
    plain.iter().zip(decoded).map(square).sum::<f64>() / plain.len() as f64
}

#[test]
fn every_path_writes_and_reads_the_same() {
    for (heads, tokens, dim) in [(2, 256, 64), (3, 77, 20), (1, 1, 17), (1, 33, 128)] {
        let shape = shape(heads, tokens, dim);
        for dtype in [Dtype::F16, Dtype::Bf16, Dtype::F32] {
            let ctx = context(&shape, dtype, 0);
            let count = usize::try_from(heads * tokens * dim).unwrap();
            let values = values(count, usize::try_from(dim).unwrap(), 7);
            let plain = match dtype {
                Dtype::F16 => halves(&values),
                Dtype::Bf16 => values
                    .iter()
                    .flat_map(|x| half::bf16::from_f32_const(*x).to_le_bytes())
                    .collect(),
                _ => values
                    .iter()
                    .flat_map(|x| x.to_le_bytes())
                    .collect::<Vec<u8>>(),
            };
            for rate in [40, 200, 640] {
                let oracle = coded(rate, &ctx, &plain, "reference");
                for path in Scratch::paths() {
                    assert!(
                        coded(rate, &ctx, &plain, path) == oracle,
                        "{path} {rate} {dtype:?}"
                    );
                }
            }
        }
    }
}

#[test]
fn lengths_follow_from_shape_and_rate_alone() {
    let shape = shape(3, 356, 64);
    for (frame, len) in [(0, 18_432), (1, 7_516)] {
        let ctx = context(&shape, Dtype::F16, frame);
        let count = ctx.plain_len() / 2;
        for plain in [
            values(count, 64, 1),
            values(count, 64, 2),
            vec![0.0; count],
            vec![60_000.0; count],
        ] {
            let (encoded, _) = coded(192, &ctx, &halves(&plain), "portable");
            assert_eq!(encoded.len(), len);
        }
    }
}

#[test]
fn a_bit_more_is_a_quarter_of_the_noise() {
    let shape = shape(2, 512, 64);
    let ctx = FrameContext::new(&shape, Dtype::F16, 1).unwrap();
    let plain = values(2 * 256 * 64, 64, 3);
    let at = |rate| noise(&plain, &coded(rate, &ctx, &halves(&plain), "portable").1);
    let (four, five, six) = (at(256), at(320), at(384));
    assert!((3.4..4.6).contains(&(four / five)), "{four} {five}");
    assert!((3.4..4.6).contains(&(five / six)), "{five} {six}");
    // within a tenth of a bit of what Gaussian channels of this width allow at 4 bits less tables
    let logs = (0..64).map(|c| (f64::from(1 + c % 13) / 8.0 * (4.0_f64 / 3.0).sqrt()).ln());
    let width = (logs.sum::<f64>() / 64.0).exp();
    let step = width * 2.0_f64.powf(2.047 - 3.9);
    assert!(
        four < step * step / 12.0 * 1.15,
        "{four} {}",
        step * step / 12.0
    );
}

#[test]
fn the_first_row_comes_back_bit_by_bit_where_there_is_room() {
    for (tokens, rate, stored) in [(300, 192, 1), (64, 192, 1), (20, 192, 0), (3, 1024, 0)] {
        let shape = shape(2, tokens, 64);
        let tokens = usize::try_from(tokens).unwrap().min(256);
        let plain = halves(&values(2 * tokens * 64, 64, 4));
        let ctx = context(&shape, Dtype::F16, 0);
        let (encoded, decoded) = coded(rate, &ctx, &plain, "portable");
        assert_eq!(encoded[2], stored, "{tokens} tokens");
        let (head, end) = (tokens * 64 * 2, usize::from(stored) * 128);
        for at in [0, head] {
            assert_eq!(decoded[at..at + end], plain[at..at + end]);
            let after = at + end..at + end + 128;
            assert_ne!(decoded[after.clone()], plain[after]);
        }
    }
    // another frame has no beginning of a sequence
    let shape = shape(2, 600, 64);
    let plain = halves(&values(2 * 256 * 64, 64, 4));
    let (encoded, _) = coded(192, &context(&shape, Dtype::F16, 1), &plain, "portable");
    assert_eq!(encoded[2], 0);
}

#[test]
fn what_no_table_expects_is_escaped() {
    let shape = shape(1, 256, 32);
    let ctx = context(&shape, Dtype::F16, 0);
    let mut plain = vec![0.25; 256 * 32];
    plain[5000] = -60_000.0;
    plain[5001] = 1.0;
    let (encoded, decoded) = coded(512, &ctx, &halves(&plain), "portable");
    assert_ne!(encoded[4..8], [0; 4], "no escape");
    assert!(noise(&plain, &decoded) < 30.0);
}

#[test]
fn a_rate_by_name_counts_everything() {
    for (name, rate) in [
        ("tc:3.0", 192),
        ("tc:4", 256),
        ("tc:0.25", 16),
        ("tc:16", 1024),
    ] {
        assert_eq!(Preset::from_name(name), Some(Preset::Rate(rate)));
    }
    for wrong in ["tc:", "tc:0.2", "tc:17", "tc:nan", "tc:1e1", "tc:-3", "tc"] {
        assert_eq!(Preset::from_name(wrong), None, "{wrong}");
    }
    for (heads, tokens, dim) in [(3, 1024, 64), (8, 300, 128), (1, 2000, 64)] {
        let shape = shape(heads, tokens, dim);
        let codec = Preset::Rate(256).codec(Dtype::F16, &shape, Content::Values);
        let frames = (0..shape.frames(Dtype::F16).unwrap())
            .map(|frame| codec.encoded_frame_len(&shape, Dtype::F16, frame).unwrap());
        let bits = (frames.sum::<u64>() + 32) as f64 * 8.0 / (heads * tokens * dim) as f64;
        assert!((3.9..=4.0).contains(&bits), "{bits} of {codec}");
    }
    let codec = Preset::Rate(256).codec(Dtype::U8, &shape(1, 9, 64), Content::Values);
    assert_eq!(codec, Codec::Raw);
}

#[test]
fn lying_fields_are_refused() {
    let shape = shape(1, 256, 48);
    let ctx = context(&shape, Dtype::F16, 0);
    let plain = halves(&values(256 * 48, 48, 5));
    let (good, _) = coded(300, &ctx, &plain, "portable");
    let width = usize::from(good[3]);
    let (tables, offsets) = (136, 136 + 36);
    let stored = offsets + width * 6;
    let words = stored + 96 + 2 * usize::from(good[4]);
    let code = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = good.clone();
        change(&mut bytes);
        let codec = Codec::Transform {
            transform: 0,
            rate: 300,
        };
        let codes = Scratch::paths().into_iter().map(|path| {
            let mut out = vec![0; plain.len()];
            let mut scratch = Scratch::with_path(path).unwrap();
            let found = codec.decode_frame(&ctx, &bytes, &mut out, &mut scratch);
            found.err().map(|error| error.code())
        });
        let codes: Vec<_> = codes.collect();
        assert!(codes.iter().all(|code| *code == codes[0]), "{codes:?}");
        codes[0]
    };
    assert_eq!(code(&|_| ()), None);
    assert_eq!(code(&|b| b.truncate(b.len() - 1)), Some(903));
    assert_eq!(code(&|b| b.push(0)), Some(903));
    let steps = [
        (-3201_i16, 904),
        (4097, 904),
        (i16::MIN, 904),
        (i16::MAX, 904),
    ];
    for (step, refused) in steps {
        assert_eq!(
            code(&|b| b[..2].copy_from_slice(&step.to_le_bytes())),
            Some(refused)
        );
    }
    assert_eq!(code(&|b| b[2] = 17), Some(904), "stored rows");
    assert_eq!(code(&|b| b[3] = 17), Some(904), "bits of an offset");
    assert_eq!(code(&|b| b[7] = 1), Some(904), "escapes");
    assert_eq!(code(&|b| b[5] = 0x1f), Some(904), "escapes over the frame");
    assert_eq!(code(&|b| b[4] += 1), Some(902), "one escape more");
    assert_eq!(code(&|b| b[10..12].fill(0)), Some(902), "a small state");
    assert_eq!(code(&|b| b[11] ^= 0x40), Some(902), "another state");
    assert_eq!(code(&|b| b[tables] |= 63), Some(902), "table 63");
    assert_eq!(
        code(&|b| b[stored + 1] = 0x7c),
        Some(905),
        "an infinite element"
    );
    assert_eq!(
        code(&|b| *b.last_mut().unwrap() = 1),
        Some(902),
        "a byte after the last word"
    );
    assert_eq!(code(&|b| b[words..].fill(0)), Some(902), "no words");
}

#[test]
fn the_widest_numbers_are_encoded() {
    let shape = shape(1, 200, 16);
    let ctx = FrameContext::new(&shape, Dtype::F32, 0).unwrap();
    for extreme in [f32::MAX, f32::MIN_POSITIVE, f32::from_bits(1)] {
        let plain: Vec<u8> = (0..200 * 16)
            .flat_map(|at| if at % 3 == 0 { extreme } else { -extreme }.to_le_bytes())
            .collect();
        for rate in [16, 1024]
            .into_iter()
            .filter(|rate| *rate > 16 || extreme < 1.0)
        {
            let (_, decoded) = coded(rate, &ctx, &plain, "portable");
            let finite = |x: &[u8; 4]| f32::from_le_bytes(*x).is_finite();
            assert!(decoded.as_chunks::<4>().0.iter().all(finite));
        }
    }
    // of both signs, so that no offset holds them
    let plain = [f32::MAX, -f32::MAX, f32::MAX].map(f32::to_le_bytes);
    let plain: Vec<u8> = plain.into_iter().cycle().take(200 * 16).flatten().collect();
    let codec = Codec::Transform {
        transform: 0,
        rate: 16,
    };
    let mut scratch = Scratch::new();
    let refused = codec.encode_frame(&ctx, &plain, &mut Vec::new(), &mut scratch);
    assert_eq!(refused.unwrap_err().code(), 905);
}
