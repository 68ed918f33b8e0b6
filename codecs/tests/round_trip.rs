//! Every codec over shapes that are not round, from the outside.
#![allow(clippy::unwrap_used)]

use kvcap_codecs::{
    BankShape, Codec, Dtype, FrameContext, Padding, Pairing, Positions, Rotation, Scratch, packed,
};
use proptest::prelude::*;

const INV_FREQ: [f64; 4] = [1.0, 0.1, 0.01, 0.001];

fn codecs() -> Vec<Codec> {
    let names = [
        "raw",
        "planes16",
        "planes32",
        "q4c",
        "q8_g64",
        "q6_g32",
        "q5_g128",
        "q4_g32",
        "q3_g64",
        "tc0_r256",
        "tc0_r1024",
    ];
    names
        .into_iter()
        .map(|name| Codec::from_name(name).unwrap())
        .collect()
}

fn serves(codec: Codec, dtype: Dtype) -> bool {
    match codec {
        Codec::Planes16 => dtype != Dtype::F32,
        Codec::Planes32 => dtype == Dtype::F32,
        _ => true,
    }
}

/// Finite elements of small magnitude, by their bits.
fn element(dtype: Dtype, random: u32) -> Vec<u8> {
    let unit = (f64::from(random) / f64::from(u32::MAX) - 0.5) * 8.0;
    #[allow(clippy::cast_possible_truncation)]
    let x = unit as f32;
    match dtype {
        Dtype::F16 => half::f16::from_f32_const(x).to_le_bytes().to_vec(),
        Dtype::Bf16 => half::bf16::from_f32_const(x).to_le_bytes().to_vec(),
        _ => x.to_le_bytes().to_vec(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_codec_round_trips_every_shape(
        heads in 1_u64..4,
        tokens in 1_u64..300,
        dim in 1_u64..150,
        dtype in prop::sample::select(vec![Dtype::F16, Dtype::Bf16, Dtype::F32]),
        pairing in prop::sample::select(vec![Pairing::Half, Pairing::Interleaved]),
        seed in any::<u32>(),
    ) {
        let shape = BankShape::Tokens { heads, tokens, dim };
        let mut scratch = Scratch::new();
        let pairs = usize::try_from(dim / 2).unwrap().min(INV_FREQ.len());
        let rotation = Rotation { pairing, inv_freq: &INV_FREQ[..pairs] };
        for codec in codecs().into_iter().filter(|codec| serves(*codec, dtype)) {
            let mut index = Vec::new();
            let mut total = Vec::new();
            for frame in 0..shape.frames(dtype).unwrap() {
                let ctx = FrameContext::new(&shape, dtype, frame).unwrap()
                    .with_rotation(rotation, Positions::From(-5));
                let len = shape.frame_plain_len(dtype, frame).unwrap();
                let mut state = seed;
                let mut plain = Vec::new();
                while u64::try_from(plain.len()).unwrap() < len {
                    state = state.wrapping_mul(747_796_405).wrapping_add(2_891_336_453);
                    plain.extend(element(dtype, state ^ state >> 15));
                }
                let (mut encoded, mut decoded) = (Vec::new(), vec![0; plain.len()]);
                codec.encode_frame(&ctx, &plain, &mut encoded, &mut scratch).unwrap();
                let bytes = u64::try_from(encoded.len()).unwrap();
                prop_assert!(bytes <= codec.max_encoded_frame_len(&shape, dtype, frame).unwrap());
                if let Some(fixed) = codec.encoded_frame_len(&shape, dtype, frame) {
                    prop_assert_eq!(bytes, fixed);
                }
                // whatever the memory held before
                let mut again = vec![0xee; usize::try_from(seed).unwrap() % (2 * plain.len())];
                codec.encode_frame(&ctx, &plain, &mut again, &mut scratch).unwrap();
                prop_assert_eq!(&again, &encoded);
                packed::push_entry(&mut index, encoded.len()).unwrap();
                total.push(bytes);
                codec.decode_frame(&ctx, &encoded, &mut decoded, &mut scratch).unwrap();
                if let Some(row) = ctx.row_len().filter(|_| codec.decodes_rows(&scratch)) {
                    // the same in two parts, which need not end at a head
                    let rows = decoded.len() / row;
                    let cut = usize::try_from(seed).unwrap() % (rows + 1);
                    let mut parts = vec![0xee; decoded.len()];
                    let (first, last) = parts.split_at_mut(cut * row);
                    codec.decode_rows(&ctx, &encoded, 0..cut, first, true, &mut scratch).unwrap();
                    codec.decode_rows(&ctx, &encoded, cut..rows, last, false, &mut scratch).unwrap();
                    prop_assert_eq!(&parts, &decoded);
                }
                if codec.is_exact() {
                    prop_assert_eq!(&decoded, &plain);
                } else {
                    let error = worst(dtype, &plain, &decoded);
                    if matches!(codec, Codec::Transform { .. }) {
                        // how fine a step fits depends on the values; never coarser than all of them
                        prop_assert!(error < 12.0, "{codec}: {error}");
                        continue;
                    }
                    let bits = codec.params().first().map_or(4, |bits| *bits);
                    // Half a step of a range of 8, or for q4c of 8·√2 on each of two turned axes,
                    // and the rounding of scale and bias.
                    let step = 8.0 * 1.5 / f64::from((1_u32 << bits) - 1);
                    prop_assert!(error < step + 0.05, "{codec}: {error} of {step}");
                }
            }
            let used = total.iter().map(|bytes| bytes + 4).sum();
            for padding in [Padding::Padme, Padding::Fine] {
                let stream = padding.padded(used).unwrap();
                let parsed = packed::Index::parse(codec, &shape, dtype, &index, stream).unwrap();
                prop_assert_eq!(parsed.frames(), total.len());
                prop_assert!(stream <= codec.max_stream_len(&shape, dtype).unwrap());
            }
        }
    }
}

fn worst(dtype: Dtype, plain: &[u8], decoded: &[u8]) -> f64 {
    let width = if dtype == Dtype::F32 { 4 } else { 2 };
    let value = |bytes: &[u8]| match dtype {
        Dtype::F16 => f64::from(half::f16::from_le_bytes([bytes[0], bytes[1]]).to_f32_const()),
        Dtype::Bf16 => f64::from(half::bf16::from_le_bytes([bytes[0], bytes[1]]).to_f32_const()),
        _ => f64::from(f32::from_le_bytes(bytes.try_into().unwrap())),
    };
    plain
        .chunks_exact(width)
        .zip(decoded.chunks_exact(width))
        .map(|(x, y)| (value(x) - value(y)).abs())
        .fold(0.0, f64::max)
}
