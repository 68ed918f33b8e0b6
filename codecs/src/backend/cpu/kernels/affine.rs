//! Groups along head_dim (codecs-v1 §6). Scales and biases are found and converted 16 at a time.

use super::element::{Bf16, Element, F16, F32, load_row, saturate, store_row};
use crate::{
    AffineParams, ParamDtype,
    backend::{
        Sections, SectionsMut,
        cpu::isa::{Isa, WIDTH},
    },
};

/// The call for the element type and group that `$p` names.
macro_rules! by_params {
    ($p:expr, $function:ident::<$isa:ty>($($argument:expr),*)) => {
        match ($p.params, $p.group) {
            (ParamDtype::F16, 32) => $function::<$isa, F16, 32>($($argument),*),
            (ParamDtype::F16, 64) => $function::<$isa, F16, 64>($($argument),*),
            (ParamDtype::F16, _) => $function::<$isa, F16, 128>($($argument),*),
            (ParamDtype::Bf16, 32) => $function::<$isa, Bf16, 32>($($argument),*),
            (ParamDtype::Bf16, 64) => $function::<$isa, Bf16, 64>($($argument),*),
            (ParamDtype::Bf16, _) => $function::<$isa, Bf16, 128>($($argument),*),
            (ParamDtype::F32, 32) => $function::<$isa, F32, 32>($($argument),*),
            (ParamDtype::F32, 64) => $function::<$isa, F32, 64>($($argument),*),
            (ParamDtype::F32, _) => $function::<$isa, F32, 128>($($argument),*),
        }
    };
}

#[inline(always)]
pub(in super::super) fn affine_encode<I: Isa>(
    p: AffineParams,
    plain: &[u8],
    out: SectionsMut<'_>,
) -> bool {
    by_params!(p, encode::<I>(p.bits, plain, out))
}

#[inline(always)]
fn encode<I: Isa, E: Element, const G: usize>(
    bits: u8,
    plain: &[u8],
    out: SectionsMut<'_>,
) -> bool {
    let highest = f32::from(u8::MAX >> (8 - bits));
    let bits = usize::from(bits);
    let mut ranges = true;
    let batches = plain
        .chunks(WIDTH * G * E::BYTES)
        .zip(out.codes.chunks_mut(WIDTH * G / 8 * bits))
        .zip(out.scales.chunks_mut(WIDTH * E::BYTES))
        .zip(out.biases.chunks_mut(WIDTH * E::BYTES));
    for (((plain, codes), scale_bytes), bias_bytes) in batches {
        let groups = scale_bytes.len() / E::BYTES;
        let (mut scales, mut biases) = ([0.0; WIDTH], [0.0; WIDTH]);
        for (at, group) in plain.chunks_exact(G * E::BYTES).enumerate() {
            let mut vectors = group.chunks_exact(WIDTH * E::BYTES).map(E::load::<I>);
            let first = vectors.next().unwrap_or(I::splat(0.0));
            let (mut low, mut high) = (first, first);
            for v in vectors {
                low = I::min(low, v);
                high = I::max(high, v);
            }
            (biases[at], scales[at]) = (I::lowest(low), I::highest(high));
        }
        for (low, high) in biases.iter_mut().zip(&mut scales).take(groups) {
            ranges &= (*high - *low).is_finite();
            (*high, *low) = scale_and_bias(*low, *high, highest);
        }
        store_row::<I, E>(&scales[..groups], scale_bytes);
        load_row::<I, E>(scale_bytes, &mut scales[..groups]);
        store_row::<I, E>(&biases[..groups], bias_bytes);
        let groups = plain
            .chunks_exact(G * E::BYTES)
            .zip(codes.chunks_exact_mut(G / 8 * bits))
            .zip(scales.iter().zip(&biases));
        for ((group, codes), (scale, bias)) in groups {
            let (scale, bias) = (I::splat(*scale), I::splat(*bias));
            let vectors = group
                .chunks_exact(WIDTH * E::BYTES)
                .zip(codes.chunks_exact_mut(WIDTH / 8 * bits));
            for (bytes, codes) in vectors {
                let codes_of = quantize::<I>(E::load::<I>(bytes), scale, bias, highest);
                pack::<I>(bits, codes_of, codes);
            }
        }
    }
    E::finite(plain) && ranges
}

/// Scale and bias of profile `affine-1` (codecs-v1 §6.4), before the scale is rounded.
#[inline(always)]
fn scale_and_bias(low: f32, high: f32, highest: f32) -> (f32, f32) {
    if low == high {
        return (1.0, high + 0.0);
    }
    let step = ((high - low) / highest).max(1e-7);
    let (edge, step) = if low.abs() > high.abs() {
        (low, step)
    } else {
        (high, -step)
    };
    let steps = (edge / step).round_ties_even();
    if steps == 0.0 {
        (step, 0.0)
    } else {
        (edge / steps, edge)
    }
}

/// Codes of a vector: half to even, clamped to `0..=highest`.
#[inline(always)]
pub(super) fn quantize<I: Isa>(x: I::V, scale: I::V, bias: I::V, highest: f32) -> [u8; WIDTH] {
    let steps = I::div(I::sub(x, bias), scale);
    let clamped = I::min(I::max(steps, I::splat(0.0)), I::splat(highest));
    I::to_codes(clamped)
}

/// Bits of each byte that a code takes.
#[inline(always)]
const fn code_mask(bits: usize) -> u64 {
    0x0101_0101_0101_0101 * (0xff >> (8 - bits))
}

/// Packs codes of `bits` bits into a little-endian stream.
#[inline(always)]
pub(super) fn pack<I: Isa>(bits: usize, codes: [u8; WIDTH], out: &mut [u8]) {
    if bits == 8 {
        out.copy_from_slice(&codes);
        return;
    }
    for (out, eight) in out.chunks_exact_mut(bits).zip(codes.as_chunks::<8>().0) {
        let word = I::gather_bits(u64::from_le_bytes(*eight), code_mask(bits));
        out.copy_from_slice(&word.to_le_bytes()[..bits]);
    }
}

/// The inverse of [`pack`].
#[inline(always)]
pub(super) fn unpack<I: Isa>(bits: usize, bytes: &[u8]) -> [u8; WIDTH] {
    let mut codes = [0; WIDTH];
    if bits == 8 {
        codes.copy_from_slice(bytes);
        return codes;
    }
    let eights = codes.as_chunks_mut::<8>().0.iter_mut();
    for (eight, bytes) in eights.zip(bytes.chunks_exact(bits)) {
        let mut word = [0; 8];
        word[..bits].copy_from_slice(bytes);
        *eight = I::spread_bits(u64::from_le_bytes(word), code_mask(bits)).to_le_bytes();
    }
    codes
}

#[inline(always)]
pub(in super::super) fn affine_decode<I: Isa>(
    p: AffineParams,
    encoded: Sections<'_>,
    out: &mut [u8],
) -> bool {
    by_params!(p, decode::<I>(p.bits, encoded, out))
}

#[inline(always)]
fn decode<I: Isa, E: Element, const G: usize>(
    bits: u8,
    encoded: Sections<'_>,
    out: &mut [u8],
) -> bool {
    // One loop for each number of bits, so that it is a constant inside.
    match bits {
        3 => decode_bits::<I, E, G, 3>(&encoded, out),
        4 => decode_bits::<I, E, G, 4>(&encoded, out),
        5 => decode_bits::<I, E, G, 5>(&encoded, out),
        6 => decode_bits::<I, E, G, 6>(&encoded, out),
        _ => decode_bits::<I, E, G, 8>(&encoded, out),
    }
    E::finite(encoded.scales) && E::finite(encoded.biases)
}

#[inline(always)]
fn decode_bits<I: Isa, E: Element, const G: usize, const BITS: usize>(
    encoded: &Sections<'_>,
    out: &mut [u8],
) {
    let batches = out
        .chunks_mut(WIDTH * G * E::BYTES)
        .zip(encoded.codes.chunks(WIDTH * G / 8 * BITS))
        .zip(encoded.scales.chunks(WIDTH * E::BYTES))
        .zip(encoded.biases.chunks(WIDTH * E::BYTES));
    for (((out, codes), scale_bytes), bias_bytes) in batches {
        let groups = scale_bytes.len() / E::BYTES;
        let (mut scales, mut biases) = ([0.0; WIDTH], [0.0; WIDTH]);
        load_row::<I, E>(scale_bytes, &mut scales[..groups]);
        load_row::<I, E>(bias_bytes, &mut biases[..groups]);
        let groups = out
            .chunks_exact_mut(G * E::BYTES)
            .zip(codes.chunks_exact(G / 8 * BITS))
            .zip(scales.iter().zip(&biases));
        for ((out, codes), (scale, bias)) in groups {
            let (scale, bias) = (I::splat(*scale), I::splat(*bias));
            let vectors = out
                .chunks_exact_mut(WIDTH * E::BYTES)
                .zip(codes.chunks_exact(WIDTH / 8 * BITS));
            for (out, codes) in vectors {
                let q = I::from_codes(unpack::<I>(BITS, codes));
                let x = I::add(I::mul(q, scale), bias);
                E::store::<I>(saturate::<I, E>(x), out);
            }
        }
    }
}
