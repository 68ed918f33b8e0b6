//! The arithmetic of the format as plain loops: the oracle that every path must equal bit for bit.
//!
//! Written for reading beside codecs-v1 §5 to §7, §10 and §12; speed is of no concern here.

mod coefficients;

use half::{bf16, f16};

use super::{Kernels, KeyHead, LANES, Moments, Sections, SectionsMut, Sums, fold_lanes};
use crate::{
    layout::{AffineParams, Dtype, GROUP_TOKENS, Pairing},
    rope,
};

pub(crate) static KERNELS: Kernels = Kernels {
    name: "reference",
    affine_encode,
    affine_decode,
    split,
    merge,
    turn,
    keys_encode,
    keys_decode,
    sums,
    key_moments,
    coefficients_decode: coefficients::coefficients_decode,
    coefficients_rows: coefficients::coefficients_rows,
    synthesis_rows: coefficients::synthesis_rows,
    analysis: coefficients::analysis,
    rows_load: coefficients::rows_load,
};

/// An element as a binary32 (exact for every type).
fn load(dtype: Dtype, bytes: &[u8]) -> f32 {
    match (dtype, bytes) {
        (Dtype::F16, [a, b, ..]) => f16::from_le_bytes([*a, *b]).to_f32_const(),
        (Dtype::Bf16, [a, b, ..]) => bf16::from_le_bytes([*a, *b]).to_f32_const(),
        (Dtype::F32, [a, b, c, d, ..]) => f32::from_le_bytes([*a, *b, *c, *d]),
        _ => f32::NAN,
    }
}

/// Rounds to the element type, ties to even, without saturation.
fn store(dtype: Dtype, x: f32, bytes: &mut [u8]) {
    match dtype {
        Dtype::F16 => bytes.copy_from_slice(&f16::from_f32_const(x).to_le_bytes()),
        Dtype::Bf16 => bytes.copy_from_slice(&bf16::from_f32_const(x).to_le_bytes()),
        _ => bytes.copy_from_slice(&x.to_le_bytes()),
    }
}

/// Rounds to the element type, ties to even; what would be beyond its range becomes its largest
/// finite value.
fn store_saturating(dtype: Dtype, x: f32, bytes: &mut [u8]) {
    let largest = match dtype {
        Dtype::F16 => f16::MAX.to_f32_const(),
        Dtype::Bf16 => bf16::MAX.to_f32_const(),
        _ => f32::MAX,
    };
    store(dtype, x.clamp(-largest, largest), bytes);
}

const fn element_bytes(dtype: Dtype) -> usize {
    match dtype {
        Dtype::F32 => 4,
        _ => 2,
    }
}

/// Code `index` of a little-endian stream of codes of `bits` bits.
fn code(codes: &[u8], bits: usize, index: usize) -> u8 {
    (0..bits).fold(0, |code, bit| {
        let at = index * bits + bit;
        code | (codes[at / 8] >> (at % 8) & 1) << bit
    })
}

fn set_code(codes: &mut [u8], bits: usize, index: usize, code: u8) {
    for bit in 0..bits {
        let at = index * bits + bit;
        codes[at / 8] &= !(1 << (at % 8));
        codes[at / 8] |= (code >> bit & 1) << (at % 8);
    }
}

/// The code of `x`: half to even, clamped.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped to 0..=255 first"
)]
fn quantize(x: f32, scale: f32, bias: f32, highest: f32) -> u8 {
    ((x - bias) / scale).clamp(0.0, highest).round_ties_even() as u8
}

fn affine_encode(p: AffineParams, plain: &[u8], out: SectionsMut<'_>) -> bool {
    let dtype = p.params.dtype();
    let width = element_bytes(dtype);
    let (group, bits) = (usize::from(p.group), usize::from(p.bits));
    let highest = f32::from(u8::MAX >> (8 - bits));
    let groups = plain
        .chunks_exact(group * width)
        .zip(out.codes.chunks_exact_mut(group / 8 * bits))
        .zip(out.scales.chunks_exact_mut(width))
        .zip(out.biases.chunks_exact_mut(width));
    for (((plain, codes), scale_bytes), bias_bytes) in groups {
        let values: Vec<f32> = plain.chunks_exact(width).map(|x| load(dtype, x)).collect();
        let smallest = values.iter().fold(f32::INFINITY, |m, x| m.min(*x));
        let largest = values.iter().fold(f32::NEG_INFINITY, |m, x| m.max(*x));
        let range = largest - smallest;
        if !values.iter().all(|x| x.is_finite()) || !range.is_finite() {
            return false;
        }
        let (scale, bias) = scale_and_bias(smallest, largest, highest);
        store(dtype, scale, scale_bytes);
        store(dtype, bias, bias_bytes);
        let scale = load(dtype, scale_bytes);
        for (index, x) in values.iter().enumerate() {
            set_code(codes, bits, index, quantize(*x, scale, bias, highest));
        }
    }
    true
}

/// Scale and bias of profile `affine-1` (codecs-v1 §6.4), before the scale is rounded.
fn scale_and_bias(smallest: f32, largest: f32, highest: f32) -> (f32, f32) {
    if smallest == largest {
        return (1.0, largest + 0.0);
    }
    let step = ((largest - smallest) / highest).max(1e-7);
    let (edge, step) = if smallest.abs() > largest.abs() {
        (smallest, step)
    } else {
        (largest, -step)
    };
    let steps = (edge / step).round_ties_even();
    if steps == 0.0 {
        (step, 0.0)
    } else {
        (edge / steps, edge)
    }
}

fn affine_decode(
    p: AffineParams,
    encoded: Sections<'_>,
    out: &mut [u8],
    _past_cache: bool,
) -> bool {
    let dtype = p.params.dtype();
    let width = element_bytes(dtype);
    let (group, bits) = (usize::from(p.group), usize::from(p.bits));
    let groups = out
        .chunks_exact_mut(group * width)
        .zip(encoded.codes.chunks_exact(group / 8 * bits))
        .zip(encoded.scales.chunks_exact(width))
        .zip(encoded.biases.chunks_exact(width));
    for (((out, codes), scale), bias) in groups {
        let (scale, bias) = (load(dtype, scale), load(dtype, bias));
        if !scale.is_finite() || !bias.is_finite() {
            return false;
        }
        for (index, element) in out.chunks_exact_mut(width).enumerate() {
            let q = f32::from(code(codes, bits, index));
            store_saturating(dtype, q * scale + bias, element);
        }
    }
    true
}

fn split(width: usize, plain: &[u8], low: &mut [u8], top: &mut [u8]) {
    let elements = top.len();
    for (at, element) in plain.chunks_exact(width).enumerate() {
        let mut value = 0_u32;
        for (byte, bits) in element.iter().zip([0, 8, 16, 24]) {
            value |= u32::from(*byte) << bits;
        }
        let turned = match width {
            2 => value << 1 & 0xffff | value >> 15,
            _ => value.rotate_left(1),
        };
        let bytes = turned.to_le_bytes();
        for plane in 0..width - 1 {
            low[plane * elements + at] = bytes[plane];
        }
        top[at] = bytes[width - 1];
    }
}

fn merge(width: usize, low: &[u8], top: &[u8], out: &mut [u8]) {
    let elements = top.len();
    for (at, element) in out.chunks_exact_mut(width).enumerate() {
        let mut bytes = [0; 4];
        for plane in 0..width - 1 {
            bytes[plane] = low[plane * elements + at];
        }
        bytes[width - 1] = top[at];
        let turned = u32::from_le_bytes(bytes);
        let value = match width {
            2 => turned >> 1 | turned << 15 & 0x8000,
            _ => turned.rotate_right(1),
        };
        element.copy_from_slice(&value.to_le_bytes()[..width]);
    }
}

#[allow(
    clippy::cast_possible_truncation,
    reason = "the table is binary32 by definition"
)]
fn turn(inv_freq: &[f64], position: f64, out: &mut [f32]) {
    let pairs = inv_freq.len();
    for (pair, frequency) in inv_freq.iter().enumerate() {
        let (sine, cosine) = rope::sin_cos(position * frequency);
        out[pair] = cosine as f32;
        out[pairs + pair] = sine as f32;
    }
}

/// The two elements of pair `pair`.
const fn pair_at(head: &KeyHead<'_>, pair: usize) -> (usize, usize) {
    match head.pairing {
        Pairing::Half => (pair, pair + head.pairs),
        Pairing::Interleaved => (2 * pair, 2 * pair + 1),
    }
}

/// Angles row `token` back (`back`) or forth.
fn rotate(head: &KeyHead<'_>, token: usize, row: &mut [f32], back: bool) {
    for pair in 0..head.pairs {
        let turns = &head.table[token * head.pairs * 2..];
        let (cosine, sine) = (turns[pair], turns[head.pairs + pair]);
        let sine = if back { -sine } else { sine };
        let (i, j) = pair_at(head, pair);
        let (x, y) = (row[i], row[j]);
        row[i] = x * cosine - y * sine;
        row[j] = y * cosine + x * sine;
    }
}

fn keys_encode(head: KeyHead<'_>, plain: &[u8], out: SectionsMut<'_>, scratch: &mut [f32]) -> bool {
    let width = element_bytes(head.dtype);
    let dim = head.dim;
    let tokens = plain.len() / (dim * width);
    let (rows, _) = scratch.split_at_mut(tokens * dim);
    for (x, bytes) in rows.iter_mut().zip(plain.chunks_exact(width)) {
        *x = load(head.dtype, bytes);
    }
    if !rows.iter().all(|x| x.is_finite()) {
        return false;
    }
    for (token, row) in rows.chunks_exact_mut(dim).enumerate() {
        rotate(&head, token, row, true);
    }
    let code_row = dim.div_ceil(2);
    out.codes.fill(0);
    for (group, rows) in rows.chunks(GROUP_TOKENS * dim).enumerate() {
        for channel in 0..dim {
            let values = || rows.iter().skip(channel).step_by(dim);
            let smallest = values().fold(f32::INFINITY, |m, x| m.min(*x));
            let largest = values().fold(f32::NEG_INFINITY, |m, x| m.max(*x));
            let bias = f16::from_f32_const(smallest + 0.0);
            let step = (largest - bias.to_f32_const()) / 15.0;
            let scale = f16::from_f32_const(step.max(2.0_f32.powi(-24)));
            if !bias.is_finite() || !scale.is_finite() {
                return false;
            }
            let at = (group * dim + channel) * 2;
            out.scales[at..at + 2].copy_from_slice(&scale.to_le_bytes());
            out.biases[at..at + 2].copy_from_slice(&bias.to_le_bytes());
            for (row, x) in values().enumerate() {
                let code = quantize(*x, scale.to_f32_const(), bias.to_f32_const(), 15.0);
                let row = (group * GROUP_TOKENS + row) * code_row;
                set_code(&mut out.codes[row..row + code_row], 4, channel, code);
            }
        }
    }
    true
}

fn keys_decode(
    head: KeyHead<'_>,
    encoded: Sections<'_>,
    out: &mut [u8],
    scratch: &mut [f32],
) -> bool {
    let width = element_bytes(head.dtype);
    let dim = head.dim;
    let code_row = dim.div_ceil(2);
    for (token, out) in out.chunks_exact_mut(dim * width).enumerate() {
        let row = &mut scratch[..dim];
        for (channel, x) in row.iter_mut().enumerate() {
            let at = (token / GROUP_TOKENS * dim + channel) * 2;
            let scale = load(Dtype::F16, &encoded.scales[at..]);
            let bias = load(Dtype::F16, &encoded.biases[at..]);
            if !scale.is_finite() || !bias.is_finite() {
                return false;
            }
            let q = code(&encoded.codes[token * code_row..], 4, channel);
            *x = f32::from(q) * scale + bias;
        }
        rotate(&head, token, row, false);
        for (x, bytes) in row.iter().zip(out.chunks_exact_mut(width)) {
            store_saturating(head.dtype, *x, bytes);
        }
    }
    true
}

fn sums(dtype: Dtype, original: &[u8], decoded: &[u8]) -> Sums {
    let width = element_bytes(dtype);
    let mut lanes = [[0.0_f64; LANES]; 4];
    let mut max_error = 0.0_f64;
    let pairs = original
        .chunks_exact(width)
        .zip(decoded.chunks_exact(width));
    for (at, (x, y)) in pairs.enumerate() {
        let (x, y) = (f64::from(load(dtype, x)), f64::from(load(dtype, y)));
        let error = x - y;
        for (sum, term) in lanes.iter_mut().zip([error * error, x * x, y * y, x * y]) {
            sum[at % LANES] += term;
        }
        max_error = max_error.max(error.abs());
    }
    let [error2, original2, decoded2, product] = lanes.map(fold_lanes);
    Sums {
        error2,
        original2,
        decoded2,
        product,
        max_error,
    }
}

fn key_moments(head: KeyHead<'_>, plain: &[u8], out: Moments<'_>, scratch: &mut [f32]) {
    let width = element_bytes(head.dtype);
    for (token, bytes) in plain.chunks_exact(head.dim * width).enumerate() {
        let row = &mut scratch[..head.dim];
        for (x, bytes) in row.iter_mut().zip(bytes.chunks_exact(width)) {
            *x = load(head.dtype, bytes);
        }
        rotate(&head, token, row, true);
        for ((x, sum), square) in row.iter().zip(&mut *out.sums).zip(&mut *out.squares) {
            let x = f64::from(*x);
            *sum += x;
            *square += x * x;
        }
    }
}
