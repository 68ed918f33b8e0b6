//! Frames of `tc` take no memory of their own: what the first ones have needed, the next ones use again.
#![allow(clippy::unwrap_used)]

#[path = "../../tests/testkit/src/profile.rs"]
#[allow(unreachable_pub, reason = "of a crate that shares it")]
mod made_profile;

use allocation_counter::measure;
use kvcap_codecs::{BankShape, Codec, Dtype, FrameContext, Profile, Scratch};
use made_profile::{Entry, made};

#[test]
fn a_frame_of_coefficients_is_coded_in_the_memory_of_those_before() {
    let shape = BankShape::Tokens {
        heads: 2,
        tokens: 1024,
        dim: 64,
    };
    for transform in [0, 1, 2] {
        let profile = made([1; 32], &[Entry::new(0, 0, transform.max(1), 2, 64)], &[]);
        let profile = Profile::parse(&profile).unwrap();
        let codec = Codec::Transform {
            transform,
            rate: 192,
        };
        let context = |frame| {
            let ctx = FrameContext::new(&shape, Dtype::F16, frame).unwrap();
            match transform {
                0 => ctx,
                _ => ctx.with_profile(profile.bank(0, 0).unwrap()),
            }
        };
        for path in Scratch::paths() {
            let mut scratch = Scratch::with_path(path).unwrap();
            let (mut encoded, mut decoded) = (Vec::new(), vec![0; context(0).plain_len()]);
            for frame in 0..4 {
                let ctx = context(frame);
                let plain: Vec<u8> = (0..ctx.plain_len() / 2)
                    .flat_map(|at| {
                        half::f16::from_f32_const((at * 37 % 101) as f32 - 50.0).to_le_bytes()
                    })
                    .collect();
                encoded.clear();
                let coding = measure(|| {
                    codec
                        .encode_frame(&ctx, &plain, &mut encoded, &mut scratch)
                        .unwrap();
                });
                let decoding = measure(|| {
                    codec
                        .decode_frame(&ctx, &encoded, &mut decoded, &mut scratch)
                        .unwrap();
                });
                let taken = [coding.count_total, decoding.count_total];
                match frame {
                    0 => assert!(taken[0] > 0, "the first frame's buffers are counted"),
                    // it has more coefficients than the first, whose first rows are stored
                    1 => assert_eq!(taken[1], 0, "{path}, transform {transform}"),
                    _ => assert_eq!(taken, [0, 0], "{path}, transform {transform}"),
                }
            }
        }
    }
}
