//! Quality and size on real keys and values: one layer of a small model, 256 tokens at positions
//! 256 to 511, 2 heads of 64, keys rotated by halves with theta 1e4; and on Gaussian data.
#![allow(clippy::unwrap_used)]

use half::{bf16, f16};
use kvcap_codecs::{
    BankShape, Codec, CodecError, Content, Dtype, ErrorKind, FrameContext, FrameQuality, Guard,
    Measurement, Pairing, Positions, Preset, Quality, Reason, Rotation, Scratch, choose,
};

const SAMPLE: &[u8] = include_bytes!("fixtures/kv_f16_h2_t256_d64.bin");
const SHAPE: BankShape = BankShape::Tokens {
    heads: 2,
    tokens: 256,
    dim: 64,
};

fn keys() -> &'static [u8] {
    &SAMPLE[..SAMPLE.len() / 2]
}

fn values() -> &'static [u8] {
    &SAMPLE[SAMPLE.len() / 2..]
}

fn inv_freq() -> Vec<f64> {
    (0..32)
        .map(|pair| 1e4_f64.powf(-f64::from(pair) / 32.0))
        .collect()
}

/// Encodes and decodes one frame; quality and encoded bytes.
fn measure(
    codec: Codec,
    dtype: Dtype,
    plain: &[u8],
    inv_freq: Option<&[f64]>,
) -> Result<(Quality, usize), CodecError> {
    let mut ctx = FrameContext::new(&SHAPE, dtype, 0)?;
    if let Some(inv_freq) = inv_freq {
        let rotation = Rotation {
            pairing: Pairing::Half,
            inv_freq,
        };
        ctx = ctx.with_rotation(rotation, Positions::From(256));
    }
    let mut scratch = Scratch::new();
    let (mut encoded, mut decoded) = (Vec::new(), vec![0; plain.len()]);
    codec.encode_frame(&ctx, plain, &mut encoded, &mut scratch)?;
    codec.decode_frame(&ctx, &encoded, &mut decoded, &mut scratch)?;
    let mut measurement = Measurement::new();
    measurement.add(&FrameQuality::measure(&ctx, plain, &decoded, &mut scratch)?);
    Ok((measurement.finish(), encoded.len()))
}

fn named(name: &str) -> Codec {
    Codec::from_name(name).unwrap()
}

fn map(plain: &[u8], f: impl Fn(usize, f32) -> [u8; 2]) -> Vec<u8> {
    let elements = plain.as_chunks::<2>().0.iter().enumerate();
    elements
        .flat_map(|(at, two)| f(at, f16::from_le_bytes(*two).to_f32_const()))
        .collect()
}

/// Keys of which two pairs of channels are outliers.
fn outliers() -> Vec<u8> {
    map(keys(), |at, x| {
        let factor = if matches!(at % 32, 5 | 18) { 16.0 } else { 1.0 };
        f16::from_f32_const(x * factor).to_le_bytes()
    })
}

#[test]
fn errors_on_real_data_stay_within_margins() {
    let inv_freq = inv_freq();
    for (name, keys_at_most, values_at_most) in [
        ("q8_g64", 0.0058, 0.0057),
        ("q6_g64", 0.0235, 0.0230),
        ("q5_g64", 0.0470, 0.0460),
        ("q4_g64", 0.0960, 0.0940),
        ("q4_g32", 0.0860, 0.0850),
        ("q3_g64", 0.2050, 0.2000),
    ] {
        let (k, _) = measure(named(name), Dtype::F16, keys(), Some(&inv_freq)).unwrap();
        let (v, _) = measure(named(name), Dtype::F16, values(), None).unwrap();
        assert!(k.relative_rmse <= keys_at_most, "{name} keys: {k:?}");
        assert!(v.relative_rmse <= values_at_most, "{name} values: {v:?}");
        assert!(k.centred_key_error > k.relative_rmse && v.centred_key_error == 0.0);
    }
    let (q4, _) = measure(named("q4_g64"), Dtype::F16, keys(), Some(&inv_freq)).unwrap();
    let (q4c, _) = measure(Codec::KeyChannel, Dtype::F16, keys(), Some(&inv_freq)).unwrap();
    assert!(
        q4c.centred_key_error < 0.7 * q4.centred_key_error,
        "{q4c:?} {q4:?}"
    );
}

#[test]
fn planes_reach_their_ratio() {
    let bf16s = |plain| map(plain, |_, x| bf16::from_f32_const(x).to_le_bytes());
    for (dtype, sample, ratio) in [
        (Dtype::F16, SAMPLE.to_vec(), 1.17),
        (Dtype::Bf16, bf16s(SAMPLE), 1.48),
    ] {
        let sizes = sample
            .chunks(sample.len() / 2)
            .map(|bank| measure(Codec::Planes16, dtype, bank, None).unwrap().1);
        let size = f64::from(u32::try_from(sizes.sum::<usize>()).unwrap());
        let found = f64::from(u32::try_from(sample.len()).unwrap()) / size;
        assert!(found >= ratio, "{}: {found}", dtype.name());
    }
}

#[test]
fn errors_on_gaussian_data_stay_within_the_targets() {
    let mut state = 1_u64;
    let mut uniform = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (f64::from(u32::try_from(state >> 32).unwrap()) + 0.5) / 4_294_967_296.0
    };
    let mut normal = || {
        let (radius, angle) = (
            (-2.0 * uniform().ln()).sqrt(),
            uniform() * std::f64::consts::TAU,
        );
        f16::from_f64_const(radius * angle.cos()).to_le_bytes()
    };
    let plain: Vec<u8> = (0..2 * 256 * 64).flat_map(|_| normal()).collect();
    let (q8, _) = measure(named("q8_g64"), Dtype::F16, &plain, None).unwrap();
    let (q4, _) = measure(named("q4_g64"), Dtype::F16, &plain, None).unwrap();
    assert!(q8.relative_rmse <= 0.0056 && q8.cosine > 0.9999, "{q8:?}");
    assert!(q4.relative_rmse <= 0.093, "{q4:?}");
}

fn not_finite(error: &CodecError) -> bool {
    error.kind() == ErrorKind::NonFinite
}

#[test]
fn the_guard_sees_outlier_channels() {
    let inv_freq = inv_freq();
    let chosen = |wanted: Codec, plain: &[u8]| {
        choose(
            wanted,
            true,
            Guard::default(),
            |codec| measure(codec, Dtype::F16, plain, Some(&inv_freq)).map(|(quality, _)| quality),
            not_finite,
        )
        .unwrap()
    };
    let calm = chosen(named("q4_g64"), keys());
    assert_eq!((calm.codec, calm.reason), (named("q4_g64"), Reason::Wanted));
    assert_eq!(
        calm.quality.unwrap().centred_key_error.to_bits(),
        calm.measured.to_bits()
    );
    let wild = chosen(named("q4_g64"), &outliers());
    assert_eq!(
        (wild.codec, wild.reason),
        (Codec::KeyChannel, Reason::Error)
    );
    assert!(wild.measured > wild.limit);
    assert!(wild.quality.unwrap().centred_key_error < 0.1);
    let turned = chosen(Codec::KeyChannel, &outliers());
    assert_eq!(
        (turned.codec, turned.reason),
        (Codec::KeyChannel, Reason::Wanted)
    );
}

#[test]
fn the_ladder_is_walked_to_the_exact_bank() {
    let walk = |first: &str, turned| {
        let next = |codec: &Codec| Some(codec.finer(turned)).filter(|_| *codec != Codec::Raw);
        let codecs = std::iter::successors(Some(named(first)), next);
        codecs.map(Codec::name).collect::<Vec<_>>().join(" ")
    };
    let finest = "q5_g64 q6_g64 q8_g64 raw";
    assert_eq!(walk("q3_g64", true), format!("q3_g64 q4_g64 q4c {finest}"));
    assert_eq!(walk("q3_g64", false), format!("q3_g64 q4_g64 {finest}"));
    assert_eq!(
        walk("q4_g32", false),
        finest.replace("g64", "g32").replacen("q5", "q4_g32 q5", 1)
    );
}

#[test]
fn a_value_that_is_not_finite_is_an_error_or_keeps_the_bank_exact() {
    let mut plain = values().to_vec();
    plain[100..102].copy_from_slice(&0x7e00_u16.to_le_bytes());
    let run = |exact_where_non_finite| {
        let guard = Guard {
            exact_where_non_finite,
            ..Guard::default()
        };
        choose(
            named("q4_g64"),
            false,
            guard,
            |codec| measure(codec, Dtype::F16, &plain, None).map(|(quality, _)| quality),
            not_finite,
        )
    };
    assert_eq!(run(false).unwrap_err().code(), 905);
    let choice = run(true).unwrap();
    assert_eq!(
        (choice.codec, choice.reason),
        (Codec::Raw, Reason::NonFinite)
    );
    assert_eq!(choice.quality, None);
}

#[test]
fn presets_give_codecs_that_serve() {
    let whole = BankShape::Whole { dims: vec![4, 4] };
    assert_eq!(Preset::from_name("q4k"), Some(Preset::Q4c));
    assert_eq!(Codec::from_name("q4k"), Some(Codec::KeyChannel));
    for (preset, name) in Preset::ALL {
        assert_eq!(
            (preset.name(), Preset::from_name(name)),
            (name, Some(preset))
        );
    }
    let q4 = |content| Preset::Q4c.codec(Dtype::Bf16, &SHAPE, content);
    assert_eq!(q4(Content::Keys), Codec::KeyChannel);
    assert_eq!(q4(Content::Values), named("q4_g64"));
    assert_eq!(q4(Content::Latent), named("q8_g64"));
    for (preset, _) in Preset::ALL {
        for content in [
            Content::Keys,
            Content::Values,
            Content::Latent,
            Content::Other,
        ] {
            for (dtype, shape) in [
                (Dtype::F32, &SHAPE),
                (Dtype::I8, &SHAPE),
                (Dtype::F16, &whole),
            ] {
                let codec = preset.codec(dtype, shape, content);
                assert!(codec.applies(dtype, shape, content).is_ok());
            }
        }
    }
}

#[test]
fn receipts_survive_their_bytes_and_refuse_nonsense() {
    let (quality, _) = measure(named("q3_g32"), Dtype::F16, keys(), Some(&inv_freq())).unwrap();
    assert_eq!(Quality::from_bytes(&quality.to_bytes()).unwrap(), quality);
    for (at, x) in [(0, f64::NAN), (1, f64::INFINITY), (2, f64::NAN), (3, -1.0)] {
        let mut bytes = quality.to_bytes();
        bytes[8 * at..8 * at + 8].copy_from_slice(&x.to_le_bytes());
        assert_eq!(Quality::from_bytes(&bytes).unwrap_err().code(), 905);
    }
}
