//! MLX against the CPU's plain loops, bit for bit: every affine codec, q4c and tc on every vector; its
//! threads, its refusals, and its arrays.
#![cfg(any(all(target_os = "macos", target_arch = "aarch64"), kvcap_mlx_linux))]
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

use kvcap_codecs::{BankShape, Codec, Dtype, ErrorKind, FrameContext, Scratch};
use kvcap_codecs_mlx::{Error, arrays, choose, selftest, vectors};
use mlx_rs::Array;

#[test]
fn every_codec_gives_the_bits_of_the_plain_loops() {
    let (mut compared, mut refused) = (0, Vec::new());
    for dtype in [Dtype::F16, Dtype::Bf16, Dtype::F32] {
        let vectors = vectors::all(dtype);
        let affine = [3, 4, 5, 6, 8].into_iter().flat_map(|bits| {
            [32, 64, 128]
                .into_iter()
                .map(move |group| Codec::Affine { bits, group })
        });
        let coded = [(0, 192), (1, 192), (1, 400), (2, 192), (2, 400)];
        let coded = coded.map(|(transform, rate)| Codec::Transform { transform, rate });
        for codec in affine.chain([Codec::KeyChannel]).chain(coded) {
            for vector in &vectors {
                match vector.compare(codec) {
                    Ok(true) => compared += 1,
                    Ok(false) => refused.push((codec, dtype, vector.name)),
                    Err(how) => panic!("{codec} {} {}: {how}", dtype.name(), vector.name),
                }
            }
        }
    }
    // linux/test looks for this line: a run that compared nothing is a failure there.
    println!("parity: {compared} frames equal, {refused:?} refused alike");
    assert_eq!(compared + refused.len(), 3 * 21 * 20);
    let known = |(codec, _, name): &(Codec, Dtype, &str)| {
        !matches!(codec, Codec::Affine { .. }) && ["largest", "any finite bits"].contains(name)
    };
    assert!(refused.iter().all(known), "{refused:?}");
}

#[test]
fn the_self_test_passes_and_says_so() {
    let report = selftest();
    assert!(report.passed(), "{report}");
    assert!(report.to_string().contains("all equal to the cpu"));
    assert!(report.serves(Codec::KeyChannel, Dtype::Bf16));
    assert!(!report.serves(Codec::Raw, Dtype::Bf16));
    assert_eq!(choose().0.unwrap().name(), "mlx");
}

#[test]
fn threads_take_turns() {
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for vector in vectors::all(Dtype::F16).iter().step_by(3) {
                    vector.compare(Codec::KeyChannel).unwrap();
                }
            });
        }
    });
}

#[test]
fn a_refusal_has_the_words_of_the_cpu() {
    let shape = BankShape::Tokens {
        heads: 1,
        tokens: 2,
        dim: 64,
    };
    let ctx = FrameContext::new(&shape, Dtype::F16, 0).unwrap();
    let mut plain = vec![0; ctx.plain_len()];
    plain[131] = 0x7c; // an infinity: token 1, channel 1
    let codec = Codec::from_name("q8_g64").unwrap();
    let (mlx, _) = choose();
    let (mut out, mut scratch) = (Vec::new(), Scratch::new());
    assert!(
        !mlx.unwrap()
            .encode(codec, &ctx, &plain, &mut out, &mut scratch)
    );
    assert!(kvcap_codecs::accelerate(mlx.unwrap()));
    let mut scratch = Scratch::new();
    let error = codec
        .encode_frame(&ctx, &plain, &mut out, &mut scratch)
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NonFinite);
    let place = error.place().unwrap();
    assert_eq!((place.token, place.channel), (1, 1));
    // Bytes that are no frame: refused by MLX, and by the CPU with both lengths.
    let error = codec
        .decode_frame(&ctx, &[0; 5], &mut plain, &mut scratch)
        .unwrap_err();
    assert_eq!(error.lengths(), Some((136, 5)));
}

#[test]
fn arrays_have_the_form_of_mlx_and_come_back() {
    let values: Vec<f32> = (0_u16..2 * 3 * 128).map(|i| f32::from(i) / 32.0).collect();
    let rows = Array::from_slice(&values, &[2, 3, 128]);
    for (bits, words) in [(8, 32), (6, 24), (4, 16), (3, 12)] {
        let triplet = arrays::affine_encode(&rows, bits, 64).unwrap();
        assert_eq!(triplet.codes.shape(), [2, 3, words]);
        assert_eq!(triplet.codes.dtype(), mlx_rs::Dtype::Uint32);
        assert_eq!(triplet.scales.shape(), [2, 3, 2]);
        let back = arrays::affine_decode(&triplet, bits, 64).unwrap();
        assert_eq!(back.shape(), rows.shape());
        let back = back.to_vec_exact::<f32>().unwrap();
        let step = 2.0 / f32::from((1_u8 << (bits - 1)) - 1);
        for (x, y) in values.iter().zip(back) {
            assert!((x - y).abs() < step, "{bits} bits: {x} became {y}");
        }
        // One frame's bytes are those of the host's calls.
        let shape = BankShape::Tokens {
            heads: 2,
            tokens: 3,
            dim: 128,
        };
        let ctx = FrameContext::new(&shape, Dtype::F32, 0).unwrap();
        let plain: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
        let (mut frame, mut scratch) = (Vec::new(), Scratch::with_path("reference").unwrap());
        Codec::Affine { bits, group: 64 }
            .encode_frame(&ctx, &plain, &mut frame, &mut scratch)
            .unwrap();
        let mut bytes = Vec::new();
        for word in triplet.codes.to_vec_exact::<u32>().unwrap() {
            bytes.extend(word.to_le_bytes());
        }
        for params in [&triplet.scales, &triplet.biases] {
            for x in params.to_vec_exact::<f32>().unwrap() {
                bytes.extend(x.to_le_bytes());
            }
        }
        assert_eq!(bytes, frame);
    }
}

#[test]
fn what_mlx_cannot_do_is_an_error() {
    let words = Array::from_slice(&[1_u32, 2], &[2]);
    assert!(matches!(
        arrays::affine_encode(&words, 4, 64),
        Err(Error::Unserved(_))
    ));
    let infinite = Array::from_slice(&[f32::INFINITY; 64], &[1, 64]);
    assert!(matches!(
        arrays::affine_encode(&infinite, 4, 64),
        Err(Error::Broken(_))
    ));
    // Shapes that contradict each other reach MLX, whose exception comes back as an error.
    let triplet = arrays::Triplet {
        codes: Array::from_slice(&[0_u32; 3], &[3]),
        scales: Array::from_slice(&[1.0_f32], &[1]),
        biases: Array::from_slice(&[1.0_f32], &[1]),
    };
    let error = arrays::affine_decode(&triplet, 4, 64).unwrap_err();
    assert!(matches!(error, Error::Mlx(_)), "{error}");
}
