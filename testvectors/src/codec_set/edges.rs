//! Elements at which implementations differ: rows of them for each element type.

use kvcap_codecs::{Dtype, ParamDtype};

/// Elements of a row: whole and partial groups of 32, 64 and 128.
pub(super) const DIM: usize = 136;

/// The bits of `x` in f16 or bf16, ties to even, by arithmetic alone.
fn narrowed(x: f32, dtype: Dtype) -> u16 {
    let bits = x.to_bits();
    let half = |bits: u32, drop: u32| (bits + (1 << (drop - 1)) - 1 + (bits >> drop & 1)) >> drop;
    if dtype == Dtype::Bf16 {
        return half(bits, 16) as u16;
    }
    let (sign, exponent) = (
        (bits >> 16 & 0x8000) as u16,
        (bits >> 23 & 0xFF).cast_signed() - 112,
    );
    let magnitude = match exponent {
        // a subnormal: the fraction with its leading one, shifted
        ..=0 if exponent > -11 => half(
            bits & 0x7F_FFFF | 0x80_0000,
            (14 - exponent).cast_unsigned(),
        ),
        ..=0 => 0,
        _ => half((bits & 0x7FFF_FFFF) - (112 << 23), 13),
    };
    sign | magnitude as u16
}

/// Values as elements.
pub(super) fn elements(dtype: Dtype, values: impl IntoIterator<Item = f32>) -> Vec<u8> {
    let values = values.into_iter();
    match dtype {
        Dtype::F32 => values.flat_map(f32::to_le_bytes).collect(),
        _ => values
            .flat_map(|x| narrowed(x, dtype).to_le_bytes())
            .collect(),
    }
}

/// The largest finite number.
pub(super) fn largest(params: ParamDtype) -> f32 {
    match params {
        ParamDtype::F16 => 65504.0,
        ParamDtype::Bf16 => f32::from_bits(0x7F7F_0000),
        ParamDtype::F32 => f32::MAX,
    }
}

/// The smallest subnormal.
fn smallest(params: ParamDtype) -> f32 {
    match params {
        ParamDtype::F16 => 2.0_f32.powi(-24),
        ParamDtype::Bf16 => f32::from_bits(0x0001_0000),
        ParamDtype::F32 => f32::from_bits(1),
    }
}

fn row(value: impl Fn(f32) -> f32) -> Vec<f32> {
    (0_u8..DIM as u8).map(|at| value(f32::from(at))).collect()
}

/// Each row is a case.
pub(super) fn rows(params: ParamDtype) -> Vec<Vec<f32>> {
    let (most, least) = (largest(params), smallest(params));
    let alternating = |x: f32, y: f32| row(move |at| if at % 2.0 == 0.0 { x } else { y });
    vec![
        row(|at| at / 4.0 - 16.0), // a ramp through zero
        row(|at| if at == 0.0 { 15.0 } else { at % 15.0 + 0.5 }), // ties of 4 bits
        row(|at| if at == 0.0 { -255.0 } else { 0.5 - at }), // ties of 8 bits, from below
        row(|at| -1.0 - at),       // all negative
        row(|at| 1.0 + at),        // all positive
        row(|_| 0.0),
        row(|_| -0.0),
        alternating(0.0, -0.0),
        row(|_| 3.25), // constants
        row(|_| -most),
        alternating(most / 2.0, -most / 2.0), // the widest range that all types express
        row(|at| at * least),                 // subnormals
        row(|at| -at * least),
        row(|at| 1000.0 + at * 2.0_f32.powi(-10)), // small steps far from zero
        row(|at| if at == 5.0 { 1e-7 } else { 0.0 }), // the least step
        row(|at| {
            if at % 40.0 == 7.0 {
                most / 4.0
            } else {
                at / 1024.0
            }
        }), // outliers
    ]
}
