//! Elements as binary32 and back, for states that are opened with another element type than the one
//! they were sealed with (runtimes-v1 §7).

use half::{bf16, f16};

use crate::layout::{CodecError, Dtype, ErrorKind};

/// Elements of a block of ggml's q8_0 and q4_0.
const BLOCK: usize = 32;

/// The numbers that `bytes` stand for, in place of what `out` held: f16, bf16, f32, and ggml's q8_0
/// and q4_0, whose blocks lie one after the other.
///
/// # Errors
/// 903 for another element type, or a length that is not whole elements.
pub fn to_f32(dtype: Dtype, bytes: &[u8], out: &mut Vec<f32>) -> Result<(), CodecError> {
    out.clear();
    let whole = match dtype {
        Dtype::F16 => each(bytes, |x| out.push(f16::from_le_bytes(x).to_f32())),
        Dtype::Bf16 => each(bytes, |x| out.push(bf16::from_le_bytes(x).to_f32())),
        Dtype::F32 => each(bytes, |x| out.push(f32::from_le_bytes(x))),
        Dtype::GgmlQ8_0 => each(bytes, |block: [u8; 34]| {
            let (scale, codes) = (scale([block[0], block[1]]), &block[2..]);
            out.extend(
                codes
                    .iter()
                    .map(|code| f32::from(code.cast_signed()) * scale),
            );
        }),
        Dtype::GgmlQ4_0 => each(bytes, |block: [u8; 18]| {
            let (scale, codes) = (scale([block[0], block[1]]), &block[2..]);
            let value = |nibble: u8| (f32::from(nibble) - 8.0) * scale;
            out.extend(codes.iter().map(|code| value(code & 15)));
            out.extend(codes.iter().map(|code| value(code >> 4)));
        }),
        _ => return Err(unserved()),
    };
    match whole {
        true => Ok(()),
        false => Err(unserved()),
    }
}

/// The bytes of `values` as elements of `dtype`, the nearest where it cannot hold them, in place of
/// what `out` held. q8_0 and q4_0 are quantized as ggml's reference does.
///
/// # Errors
/// 903 for another element type than [`to_f32`] serves, or values that are not whole blocks; 905
/// for a number that is not finite in `dtype`.
pub fn from_f32(dtype: Dtype, values: &[f32], out: &mut Vec<u8>) -> Result<(), CodecError> {
    out.clear();
    let mut finite = values.iter().all(|x| x.is_finite());
    match dtype {
        Dtype::F16 => values.iter().map(|x| f16::from_f32(*x)).for_each(|x| {
            finite &= x.is_finite();
            out.extend(x.to_le_bytes());
        }),
        Dtype::Bf16 => values.iter().map(|x| bf16::from_f32(*x)).for_each(|x| {
            finite &= x.is_finite();
            out.extend(x.to_le_bytes());
        }),
        Dtype::F32 => values.iter().for_each(|x| out.extend(x.to_le_bytes())),
        Dtype::GgmlQ8_0 | Dtype::GgmlQ4_0 => {
            let (blocks, rest) = values.as_chunks::<BLOCK>();
            if !rest.is_empty() {
                return Err(unserved());
            }
            for block in blocks {
                let scale = match dtype {
                    Dtype::GgmlQ8_0 => push_q8_0(block, out),
                    _ => push_q4_0(block, out),
                };
                finite &= scale.is_finite();
            }
        }
        _ => return Err(unserved()),
    }
    match finite {
        true => Ok(()),
        false => Err(CodecError::new(
            ErrorKind::NonFinite,
            "a value is not finite in the element type that was asked for",
        )),
    }
}

/// Multiplies each run of `block` values by the normalised Walsh-Hadamard matrix, which is its own
/// inverse. Values after the last whole run stay; `block` is a power of two.
pub fn hadamard(values: &mut [f32], block: usize) {
    if !block.is_power_of_two() {
        return;
    }
    // exact: every power of two is a binary32
    let length = (0..block.trailing_zeros()).fold(1.0_f32, |n, _| 2.0 * n);
    let norm = 1.0 / length.sqrt();
    for run in values.chunks_exact_mut(block) {
        let mut half = 1;
        while half < block {
            for pair in run.chunks_exact_mut(2 * half) {
                let (low, high) = pair.split_at_mut(half);
                for (a, b) in low.iter_mut().zip(high) {
                    (*a, *b) = (*a + *b, *a - *b);
                }
            }
            half *= 2;
        }
        run.iter_mut().for_each(|x| *x *= norm);
    }
}

/// Calls `take` with each whole element; false where bytes are left over.
fn each<const N: usize>(bytes: &[u8], take: impl FnMut([u8; N])) -> bool {
    let (elements, rest) = bytes.as_chunks::<N>();
    elements.iter().copied().for_each(take);
    rest.is_empty()
}

fn scale(bytes: [u8; 2]) -> f32 {
    f16::from_le_bytes(bytes).to_f32()
}

fn push_q8_0(block: &[f32; BLOCK], out: &mut Vec<u8>) -> f16 {
    let largest = block.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
    let step = largest / 127.0;
    let inverse = if step == 0.0 { 0.0 } else { 1.0 / step };
    let scale = f16::from_f32(step);
    out.extend(scale.to_le_bytes());
    out.extend(
        block
            .iter()
            .map(|x| code(x * inverse, -127.0, 127.0).to_le_bytes()[0]),
    );
    scale
}

fn push_q4_0(block: &[f32; BLOCK], out: &mut Vec<u8>) -> f16 {
    let largest = block.iter().copied().fold(
        0.0_f32,
        |most, x| {
            if x.abs() > most.abs() { x } else { most }
        },
    );
    let step = largest / -8.0;
    let inverse = if step == 0.0 { 0.0 } else { 1.0 / step };
    let scale = f16::from_f32(step);
    out.extend(scale.to_le_bytes());
    let nibble = |x: f32| code((x * inverse + 8.5).floor(), 0.0, 15.0).to_le_bytes()[0];
    let (low, high) = block.split_at(BLOCK / 2);
    out.extend(
        low.iter()
            .zip(high)
            .map(|(a, b)| nibble(*a) | nibble(*b) << 4),
    );
    scale
}

/// The nearest whole number between two small ones.
fn code(x: f32, least: f32, most: f32) -> i16 {
    #[expect(clippy::cast_possible_truncation, reason = "clamped; NaN gives 0")]
    let code = x.round().clamp(least, most) as i16;
    code
}

fn unserved() -> CodecError {
    CodecError::new(
        ErrorKind::Length,
        "no conversion serves this element type or length",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values of one block, from −5 to 5, and their largest magnitude.
    fn ramp() -> Vec<f32> {
        (0..64_u8).map(|i| (f32::from(i) - 32.0) / 6.4).collect()
    }

    fn back(dtype: Dtype, values: &[f32]) -> Vec<f32> {
        let (mut bytes, mut out) = (Vec::new(), Vec::new());
        from_f32(dtype, values, &mut bytes).unwrap();
        assert_eq!(
            u64::try_from(bytes.len()).ok(),
            dtype.row_bytes(u64::try_from(values.len()).unwrap())
        );
        to_f32(dtype, &bytes, &mut out).unwrap();
        out
    }

    #[test]
    fn each_type_comes_back_within_its_step() {
        for (dtype, step) in [
            (Dtype::F32, 0.0),
            (Dtype::F16, 5.0 / 2048.0),
            (Dtype::Bf16, 5.0 / 256.0),
            (Dtype::GgmlQ8_0, 5.0 / 127.0 * 0.51),
            (Dtype::GgmlQ4_0, 5.0 / 8.0 * 1.01),
        ] {
            for (x, y) in ramp().iter().zip(back(dtype, &ramp())) {
                assert!((x - y).abs() <= step, "{dtype:?}: {x} {y}");
            }
        }
        assert_eq!(back(Dtype::GgmlQ8_0, &[0.0; 32]), [0.0; 32]);
        assert_eq!(back(Dtype::GgmlQ4_0, &[0.0; 32]), [0.0; 32]);
    }

    #[test]
    fn what_a_type_cannot_hold_is_refused() {
        let mut out = Vec::new();
        for (dtype, values) in [
            (Dtype::F16, vec![65_536.0]),
            (Dtype::Bf16, vec![f32::MAX]),
            (Dtype::F32, vec![f32::NAN]),
            (Dtype::GgmlQ8_0, vec![1e10; 32]),
            (Dtype::GgmlQ4_0, vec![f32::INFINITY; 32]),
        ] {
            let error = from_f32(dtype, &values, &mut out).unwrap_err();
            assert_eq!(error.code(), 905, "{dtype:?}");
        }
        assert_eq!(
            from_f32(Dtype::GgmlQ8_0, &[0.0; 31], &mut out)
                .unwrap_err()
                .code(),
            903
        );
        assert_eq!(
            to_f32(Dtype::F16, &[0; 3], &mut Vec::new())
                .unwrap_err()
                .code(),
            903
        );
        assert_eq!(
            to_f32(Dtype::I8, &[0; 3], &mut Vec::new())
                .unwrap_err()
                .code(),
            903
        );
    }

    #[test]
    fn hadamard_is_its_own_inverse_and_keeps_lengths() {
        let mut values = ramp();
        values.extend([7.0, 8.0]);
        let before = values.clone();
        hadamard(&mut values, 64);
        assert_eq!(values[64..], [7.0, 8.0]);
        let square = |v: &[f32]| v.iter().map(|x| x * x).sum::<f32>();
        assert!((square(&values) / square(&before) - 1.0).abs() < 1e-5);
        let mean = before[..64].iter().sum::<f32>() / 8.0;
        assert!((values[0] - mean).abs() < 1e-4);
        hadamard(&mut values, 64);
        for (x, y) in before.iter().zip(values) {
            assert!((x - y).abs() < 1e-4);
        }
    }

    #[test]
    fn hadamard_of_every_block_is_normalised() {
        for power in 0..=16 {
            let mut values = vec![0.0_f32; 1 << power];
            values[0] = 256.0;
            hadamard(&mut values, 1 << power);
            let norm = 1.0 / f32::powi(2.0, power).sqrt();
            assert!(values.iter().all(|x| *x == 256.0 * norm), "{power}");
        }
    }
}
