//! Bytes from anywhere: decoding ends in bytes or in a code, never in a panic. The same calls are
//! what a fuzzer drives.
#![allow(clippy::unwrap_used)]

use kvcap_codecs::{
    BankShape, Codec, Dtype, FrameContext, Pairing, Positions, Quality, Rotation, Scratch, packed,
};
use proptest::prelude::*;

const INV_FREQ: [f64; 3] = [1.0, 0.3, 0.01];
const NAMES: [&str; 10] = [
    "raw", "planes16", "planes32", "q4c", "q8_g64", "q6_g128", "q4_g32", "q3_g32", "tc0_r16",
    "tc0_r400",
];

fn context(shape: &BankShape, dtype: Dtype) -> FrameContext<'static> {
    let rotation = Rotation {
        pairing: Pairing::Half,
        inv_freq: &INV_FREQ,
    };
    FrameContext::new(shape, dtype, 0)
        .unwrap()
        .with_rotation(rotation, Positions::From(7))
}

proptest! {
    #[test]
    fn random_frames_are_decoded_or_refused(
        heads in 0_u64..3,
        tokens in 1_u64..70,
        dim in 0_u64..80,
        dtype in prop::sample::select(vec![Dtype::F16, Dtype::Bf16, Dtype::F32, Dtype::U8]),
        name in prop::sample::select(NAMES.to_vec()),
        bytes in prop::collection::vec(any::<u8>(), 0..400),
        whole_length in any::<bool>(),
    ) {
        let codec = Codec::from_name(name).unwrap();
        let shape = BankShape::Tokens { heads, tokens, dim };
        let ctx = context(&shape, dtype);
        let mut encoded = bytes;
        if whole_length && let Some(len) = codec.max_encoded_frame_len(&shape, dtype, 0) {
            let seed = encoded.clone();
            encoded = seed.iter().chain([&1]).cycle().copied()
                .take(usize::try_from(len).unwrap())
                .collect();
        }
        let mut out = vec![0; ctx.plain_len()];
        if let Err(error) = codec.decode_frame(&ctx, &encoded, &mut out, &mut Scratch::new()) {
            prop_assert!((902..=905).contains(&error.code()), "{error}");
            prop_assert!(!error.to_string().contains('\n'));
        }
    }

    #[test]
    fn altered_frames_are_decoded_or_refused(
        name in prop::sample::select(NAMES.to_vec()),
        at in any::<prop::sample::Index>(),
        value in any::<u8>(),
        cut in any::<prop::sample::Index>(),
        seed in any::<u32>(),
    ) {
        let codec = Codec::from_name(name).unwrap();
        let dtype = if name == "planes32" { Dtype::F32 } else { Dtype::Bf16 };
        let shape = BankShape::Tokens { heads: 2, tokens: 65, dim: 70 };
        let ctx = context(&shape, dtype);
        let mut state = seed;
        let plain: Vec<u8> = (0..ctx.plain_len()).map(|at| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            if at % 2 == 0 { state.to_le_bytes()[3] } else { 0x3c }
        }).collect();
        let mut scratch = Scratch::new();
        let mut encoded = Vec::new();
        codec.encode_frame(&ctx, &plain, &mut encoded, &mut scratch).unwrap();
        let place = at.index(encoded.len());
        encoded[place] = value;
        let mut out = vec![0; ctx.plain_len()];
        let _ = codec.decode_frame(&ctx, &encoded, &mut out, &mut scratch);
        let end = cut.index(encoded.len());
        prop_assert!(codec.decode_frame(&ctx, &encoded[..end], &mut out, &mut scratch).is_err());
        // What went wrong before leaves nothing behind.
        codec.encode_frame(&ctx, &plain, &mut encoded, &mut scratch).unwrap();
        codec.decode_frame(&ctx, &encoded, &mut out, &mut scratch).unwrap();
        if codec.is_exact() {
            prop_assert_eq!(out, plain);
        }
    }

    #[test]
    fn random_indexes_and_receipts_are_read_or_refused(
        bytes in prop::collection::vec(any::<u8>(), 0..64),
        stream in any::<u64>(),
        receipt in any::<[u8; 32]>(),
    ) {
        let tokens = u64::try_from(bytes.len() / 4).unwrap() * 256;
        let shape = BankShape::Tokens { heads: 1, tokens, dim: 64 };
        let _ = packed::Index::parse(Codec::Planes16, &shape, Dtype::F16, &bytes, stream);
        if let Ok(quality) = Quality::from_bytes(&receipt) {
            prop_assert_eq!(quality.to_bytes(), receipt);
        }
    }
}

#[test]
fn buffers_are_reused_from_frame_to_frame() {
    let shape = BankShape::Tokens {
        heads: 2,
        tokens: 512,
        dim: 64,
    };
    let plain = vec![0x3c; 2 * 256 * 64 * 2];
    let mut scratch = Scratch::new();
    for name in ["raw", "planes16", "q4c", "q8_g64", "tc0_r256"] {
        let codec = Codec::from_name(name).unwrap();
        let mut out = Vec::new();
        let mut places = Vec::new();
        for frame in [0, 1, 0, 1] {
            let ctx = FrameContext::new(&shape, Dtype::F16, frame).unwrap();
            let rotation = Rotation {
                pairing: Pairing::Half,
                inv_freq: &INV_FREQ,
            };
            let ctx = ctx.with_rotation(rotation, Positions::From(0));
            codec
                .encode_frame(&ctx, &plain, &mut out, &mut scratch)
                .unwrap();
            places.push((out.as_ptr(), out.capacity()));
        }
        assert!(
            places[1..].iter().all(|place| *place == places[1]),
            "{name}"
        );
    }
}
