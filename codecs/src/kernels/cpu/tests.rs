//! Every path equals the oracle, bit for bit.

use proptest::prelude::*;

use super::paths;
use crate::{
    kernels::{
        Kernels, KeyHead, Moments, Sections, SectionsMut, padded, reference::KERNELS as ORACLE,
    },
    layout::{AffineParams, Dtype, Pairing, ParamDtype},
};

const PARAMS: [ParamDtype; 3] = [ParamDtype::F16, ParamDtype::Bf16, ParamDtype::F32];

fn others() -> impl Iterator<Item = &'static Kernels> {
    paths().filter(|path| path.name != ORACLE.name)
}

fn all_affine() -> impl Iterator<Item = AffineParams> {
    PARAMS.into_iter().flat_map(|params| {
        [3, 4, 5, 6, 8].into_iter().flat_map(move |bits| {
            [32, 64, 128]
                .into_iter()
                .filter_map(move |group| AffineParams::new(bits, group, params))
        })
    })
}

fn width(params: ParamDtype) -> usize {
    usize::try_from(params.bytes()).unwrap()
}

/// Codes, scales, biases and whether all was finite.
type Encoded = (Vec<u8>, Vec<u8>, Vec<u8>, bool);

fn encode(kernels: &Kernels, p: AffineParams, plain: &[u8]) -> Encoded {
    let groups = plain.len() / width(p.params) / usize::from(p.group);
    let mut codes = vec![0xee; groups * usize::from(p.group) / 8 * usize::from(p.bits)];
    let mut scales = vec![0xee; groups * width(p.params)];
    let mut biases = scales.clone();
    let sections = SectionsMut {
        codes: &mut codes,
        scales: &mut scales,
        biases: &mut biases,
    };
    let finite = (kernels.affine_encode)(p, plain, sections);
    (codes, scales, biases, finite)
}

fn decode(kernels: &Kernels, p: AffineParams, encoded: &Encoded) -> Option<Vec<u8>> {
    let groups = encoded.1.len() / width(p.params);
    let mut out = vec![0xee; groups * usize::from(p.group) * width(p.params)];
    let sections = Sections {
        codes: &encoded.0,
        scales: &encoded.1,
        biases: &encoded.2,
    };
    let decoded = (kernels.affine_decode)(p, sections, &mut out, false).then_some(out);
    // past the cache the same bytes come to every place that memory can begin at, and to no other
    for start in [0, 1, 2, 8, 62, 63] {
        let len = groups * usize::from(p.group) * width(p.params);
        let mut memory = vec![0xee; len + 128];
        let start = memory.as_ptr().align_offset(64) + start;
        let finite = (kernels.affine_decode)(p, sections, &mut memory[start..][..len], true);
        assert_eq!(finite, decoded.is_some());
        if let Some(decoded) = &decoded {
            assert_eq!(memory[start..][..len], *decoded);
        }
        memory[start..][..len].fill(0xee);
        assert!(memory.iter().all(|byte| *byte == 0xee));
    }
    decoded
}

/// Encodes and decodes `plain` on every path, for every parameter set of `params`.
fn check_affine(params: ParamDtype, plain: &[u8]) {
    for p in all_affine().filter(|p| p.params == params) {
        let group = usize::from(p.group) * width(params);
        let plain = &plain[..plain.len() / group * group];
        let expected = encode(&ORACLE, p, plain);
        let decoded = decode(&ORACLE, p, &expected);
        for path in others() {
            let found = encode(path, p, plain);
            assert_eq!(found.3, expected.3, "{} {p:?}: finite", path.name);
            if expected.3 {
                assert_eq!(found, expected, "{} {p:?}: encode", path.name);
                assert_eq!(decode(path, p, &expected), decoded, "{} {p:?}", path.name);
            }
        }
    }
}

fn halves(values: impl IntoIterator<Item = u16>) -> Vec<u8> {
    values.into_iter().flat_map(u16::to_le_bytes).collect()
}

fn f16s(values: impl IntoIterator<Item = f32>) -> Vec<u8> {
    halves(
        values
            .into_iter()
            .map(|x| half::f16::from_f32_const(x).to_bits()),
    )
}

#[test]
fn every_finite_half_pattern_encodes_alike() {
    for (params, exponent) in [(ParamDtype::F16, 0x7c00), (ParamDtype::Bf16, 0x7f80)] {
        let finite = |bits: &u16| bits & exponent != exponent;
        // In order, so that groups are narrow, and scattered, so that they are wide.
        check_affine(params, &halves((0..=u16::MAX).filter(finite)));
        let scattered = (0..=u16::MAX).map(|x| x.wrapping_mul(40_503));
        check_affine(params, &halves(scattered.filter(finite)));
    }
}

#[test]
fn every_half_pattern_as_scale_and_bias_decodes_alike() {
    for p in all_affine().filter(|p| p.group == 32 && p.params != ParamDtype::F32) {
        let patterns: Vec<u16> = (0..=u16::MAX).collect();
        let exponent = if p.params == ParamDtype::F16 {
            0x7c00
        } else {
            0x7f80
        };
        let finite = |x: u16| {
            if x & exponent == exponent {
                x ^ exponent
            } else {
                x
            }
        };
        let scales = halves(patterns.iter().map(|x| finite(*x)));
        let biases = halves(patterns.iter().map(|x| finite(x.wrapping_mul(25_173))));
        let mut state = 7_u32;
        let codes = (0..patterns.len() * 4 * usize::from(p.bits))
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                state.to_le_bytes()[3]
            })
            .collect();
        let encoded = (codes, scales, biases, true);
        let expected = decode(&ORACLE, p, &encoded);
        assert!(expected.is_some());
        for path in others() {
            assert!(decode(path, p, &encoded) == expected, "{} {p:?}", path.name);
        }
    }
}

#[test]
fn a_scale_or_bias_that_is_not_finite_is_seen_wherever_it_stands() {
    let p = AffineParams::new(4, 32, ParamDtype::F16).unwrap();
    let good = encode(&ORACLE, p, &f16s((0_u8..224).map(f32::from)));
    for path in paths() {
        for group in 0..7 {
            for bits in [0x7c00_u16, 0xfc00, 0x7e01] {
                let mut bad = good.clone();
                bad.1[2 * group..2 * group + 2].copy_from_slice(&bits.to_le_bytes());
                assert_eq!(decode(path, p, &bad), None, "{}", path.name);
                let mut bad = good.clone();
                bad.2[2 * group..2 * group + 2].copy_from_slice(&bits.to_le_bytes());
                assert_eq!(decode(path, p, &bad), None, "{}", path.name);
            }
        }
    }
}

#[test]
fn special_groups_encode_alike() {
    let ramp = || (0_u8..128).map(f32::from);
    let cases: Vec<Vec<f32>> = vec![
        ramp().map(|x| x * 0.5).collect(), // ties of 8 bits
        ramp().map(|x| x.rem_euclid(31.0) * 0.5).collect(), // ties of 4 bits
        ramp().map(|x| -1.0 - x).collect(), // all negative
        ramp().map(|x| 1.0 + x).collect(), // all positive
        vec![0.0; 128],
        vec![-0.0; 128],
        ramp().map(|x| if x > 60.0 { 0.0 } else { -0.0 }).collect(),
        vec![-65504.0; 128],
        vec![3.25; 128],
        ramp()
            .map(|x| if x > 60.0 { 65504.0 } else { -65504.0 })
            .collect(),
        ramp().map(|x| x * 2.0_f32.powi(-24)).collect(), // subnormal
        ramp().map(|x| -x * 2.0_f32.powi(-24)).collect(),
        ramp().map(|x| 1000.0 + x * 2.0_f32.powi(-20)).collect(),
        ramp().map(|x| if x == 5.0 { 1e-7 } else { 0.0 }).collect(),
    ];
    for case in cases {
        check_affine(ParamDtype::F16, &f16s(case.iter().copied()));
        let bf16s = case
            .iter()
            .map(|x| half::bf16::from_f32_const(*x).to_bits());
        check_affine(ParamDtype::Bf16, &halves(bf16s));
        let f32s: Vec<u8> = case.iter().flat_map(|x| x.to_le_bytes()).collect();
        check_affine(ParamDtype::F32, &f32s);
    }
    // A range that overflows binary32, and one that does not.
    for largest in [f32::MAX, f32::MAX / 2.0] {
        let f32s = ramp().map(|x| if x > 60.0 { largest } else { -largest });
        check_affine(
            ParamDtype::F32,
            &f32s.flat_map(f32::to_le_bytes).collect::<Vec<_>>(),
        );
    }
}

#[test]
fn planes_split_and_merge_alike_for_every_pattern() {
    let plain = halves(0..=u16::MAX);
    for (width, len) in [(2, plain.len()), (2, 26), (4, plain.len()), (4, 52)] {
        let plain = &plain[plain.len() - len..];
        let elements = len / width;
        let run = |kernels: &Kernels| {
            let (mut low, mut top) = (vec![0; len - elements], vec![0; elements]);
            (kernels.split)(width, plain, &mut low, &mut top);
            let mut out = vec![0; len];
            (kernels.merge)(width, &low, &top, &mut out);
            assert!(out == plain, "{}", kernels.name);
            (low, top)
        };
        let expected = run(&ORACLE);
        for path in others() {
            assert!(run(path) == expected, "{}", path.name);
        }
    }
}

struct Keys {
    dtype: Dtype,
    dim: usize,
    pairing: Pairing,
    inv_freq: Vec<f64>,
    plain: Vec<u8>,
}

/// Everything that a path makes of keys: table, sections, decoded keys, moments, sums.
type KeyResult = (Vec<u32>, Option<(Vec<u8>, Vec<u8>)>, Vec<u64>);

fn run_keys(kernels: &Kernels, keys: &Keys) -> KeyResult {
    let element = if keys.dtype == Dtype::F32 { 4 } else { 2 };
    let (dim, pairs) = (keys.dim, keys.inv_freq.len());
    let tokens = keys.plain.len() / element / dim;
    let mut table = vec![0.0; tokens * pairs * 2];
    for (at, turns) in table.chunks_exact_mut((pairs * 2).max(1)).enumerate() {
        let position = f64::from(u32::try_from(at).unwrap()) * 97.0 - 1000.0;
        (kernels.turn)(&keys.inv_freq, position, turns);
    }
    let head = KeyHead {
        dtype: keys.dtype,
        dim,
        pairing: keys.pairing,
        table: &table,
        pairs,
    };
    let mut floats = vec![f32::NAN; (tokens + 3) * padded(dim)];
    let mut codes = vec![0xee; tokens * dim.div_ceil(2)];
    let mut scales = vec![0xee; tokens.div_ceil(64) * dim * 2];
    let mut biases = scales.clone();
    let sections = SectionsMut {
        codes: &mut codes,
        scales: &mut scales,
        biases: &mut biases,
    };
    let finite = (kernels.keys_encode)(head, &keys.plain, sections, &mut floats);
    let (mut sums, mut squares) = (vec![0.0; dim], vec![0.0; dim]);
    let mut measured = Vec::new();
    let sections = finite.then(|| {
        let mut out = vec![0xee; keys.plain.len()];
        let sections = Sections {
            codes: &codes,
            scales: &scales,
            biases: &biases,
        };
        assert!((kernels.keys_decode)(head, sections, &mut out, &mut floats));
        let s = (kernels.sums)(keys.dtype, &keys.plain, &out);
        measured.extend([s.error2, s.original2, s.decoded2, s.product, s.max_error]);
        let moments = Moments {
            sums: &mut sums,
            squares: &mut squares,
        };
        (kernels.key_moments)(head, &keys.plain, moments, &mut floats);
        (
            [codes.clone(), scales.clone(), biases.clone()].concat(),
            out,
        )
    });
    measured.extend(sums.into_iter().chain(squares));
    let table = table.iter().map(|x| x.to_bits()).collect();
    (
        table,
        sections,
        measured.iter().map(|x| x.to_bits()).collect(),
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn random_bits_encode_alike(bytes in prop::collection::vec(any::<u8>(), 1024..4096)) {
        for params in PARAMS {
            // Clearing one exponent bit keeps every element finite.
            let mut finite = bytes.clone();
            for element in finite.chunks_mut(width(params)) {
                if let [.., last] = element {
                    *last &= 0xbf;
                }
            }
            check_affine(params, &finite);
            check_affine(params, &bytes);
        }
    }

    #[test]
    fn keys_are_alike(
        seed in any::<u64>(),
        dim in 1_usize..140,
        tokens in 1_usize..140,
        pairs in 0_usize..70,
        dtype in prop::sample::select(vec![Dtype::F16, Dtype::Bf16, Dtype::F32]),
        pairing in prop::sample::select(vec![Pairing::Half, Pairing::Interleaved]),
        wild in any::<bool>(),
    ) {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            u32::try_from(state >> 32).unwrap()
        };
        let mut plain = Vec::new();
        for _ in 0..dim * tokens {
            // Wild values have any sign, mantissa and lower exponent.
            let bits = if wild { next() & 0xbfff_ffff } else { next() & 0x83ff_ffff | 0x3c00_0000 };
            match dtype {
                Dtype::F32 => plain.extend(bits.to_le_bytes()),
                _ => plain.extend(bits.to_le_bytes().into_iter().skip(2)),
            }
        }
        let inv_freq = (0..pairs.min(dim / 2))
            .map(|_| f64::from(next()) / 4_294_967_296.0)
            .collect();
        let keys = Keys { dtype, dim, pairing, inv_freq, plain };
        let expected = run_keys(&ORACLE, &keys);
        for path in others() {
            prop_assert!(run_keys(path, &keys) == expected, "{}", path.name);
        }
    }
}

#[test]
fn every_path_that_the_machine_has_is_tried() {
    let names: Vec<_> = paths().map(|path| path.name).collect();
    assert_eq!(names[..2], ["reference", "portable"]);
    #[cfg(target_arch = "x86_64")]
    assert_eq!(
        names.contains(&"avx2"),
        is_x86_feature_detected!("avx2") && is_x86_feature_detected!("f16c")
    );
}
