//! Groups along head_dim (codecs-v1 §6). Scales and biases are found and converted 16 at a time.

use std::slice::ChunksExactMut;

use super::element::{Element, load_row, saturate, store_row};
use crate::kernels::{
    Sections, SectionsMut,
    cpu::{
        isa::{Isa, WIDTH},
        stream::Lines,
    },
};

#[inline(always)]
pub(in super::super) fn affine_encode<I: Isa, E: Element, const G: usize, const BITS: usize>(
    plain: &[u8],
    out: SectionsMut<'_>,
) -> bool {
    let highest = f32::from(u8::MAX >> (8 - BITS));
    let mut ranges = true;
    let batches = plain
        .chunks(WIDTH * G * E::BYTES)
        .zip(out.codes.chunks_mut(WIDTH * G / 8 * BITS))
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
            .zip(codes.chunks_exact_mut(G / 8 * BITS))
            .zip(scales.iter().zip(&biases));
        for ((group, codes), (scale, bias)) in groups {
            let (scale, bias) = (I::splat(*scale), I::splat(*bias));
            let vectors = group
                .chunks_exact(WIDTH * E::BYTES)
                .zip(codes.chunks_exact_mut(WIDTH / 8 * BITS));
            for (bytes, codes) in vectors {
                let codes_of = quantize::<I>(E::load::<I>(bytes), scale, bias, highest);
                pack::<I, BITS>(codes_of, codes);
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
pub(super) fn pack<I: Isa, const BITS: usize>(codes: [u8; WIDTH], out: &mut [u8]) {
    if BITS == 8 {
        out.copy_from_slice(&codes);
        return;
    }
    for (out, eight) in out.chunks_exact_mut(BITS).zip(codes.as_chunks::<8>().0) {
        let word = I::gather_bits(u64::from_le_bytes(*eight), code_mask(BITS));
        out.copy_from_slice(&word.to_le_bytes()[..BITS]);
    }
}

/// The inverse of [`pack`].
#[inline(always)]
pub(super) fn unpack<I: Isa, const BITS: usize>(bytes: &[u8]) -> [u8; WIDTH] {
    let mut codes = [0; WIDTH];
    if BITS == 8 {
        codes.copy_from_slice(bytes);
        return codes;
    }
    let eights = codes.as_chunks_mut::<8>().0.iter_mut();
    for (eight, bytes) in eights.zip(bytes.chunks_exact(BITS)) {
        let mut word = [0; 8];
        word[..BITS].copy_from_slice(bytes);
        *eight = I::spread_bits(u64::from_le_bytes(word), code_mask(BITS)).to_le_bytes();
    }
    codes
}

#[inline(always)]
pub(in super::super) fn affine_decode<I: Isa, E: Element, const G: usize, const BITS: usize>(
    encoded: Sections<'_>,
    out: &mut [u8],
    past_cache: bool,
) -> bool {
    let Sections { scales, biases, .. } = encoded;
    if E::BYTES == 2
        && past_cache
        && let Some(mut lines) = Lines::<I>::of(out)
    {
        decode_pairs::<I, E, G, BITS>(encoded, &mut lines);
        lines.finish();
    } else {
        let mut places = out.chunks_exact_mut(2 * WIDTH * E::BYTES);
        decode_pairs::<I, E, G, BITS>(encoded, &mut places);
    }
    E::finite(scales) && E::finite(biases)
}

/// What takes elements in order, two vectors at a time.
trait Sink<I: Isa, E: Element> {
    fn put(&mut self, pair: [I::V; 2]);
}

impl<I: Isa, E: Element> Sink<I, E> for ChunksExactMut<'_, u8> {
    #[inline(always)]
    fn put(&mut self, pair: [I::V; 2]) {
        if let Some(place) = self.next() {
            E::store_two::<I>(pair, place);
        }
    }
}

impl<I: Isa, E: Element> Sink<I, E> for Lines<'_, I> {
    #[inline(always)]
    fn put(&mut self, pair: [I::V; 2]) {
        let mut line = [0; 64];
        E::store_two::<I>(pair, &mut line);
        self.push(line);
    }
}

/// A group is an even number of vectors.
#[inline(always)]
fn decode_pairs<I: Isa, E: Element, const G: usize, const BITS: usize>(
    encoded: Sections<'_>,
    sink: &mut impl Sink<I, E>,
) {
    let batches = encoded
        .codes
        .chunks(WIDTH * G / 8 * BITS)
        .zip(encoded.scales.chunks(WIDTH * E::BYTES))
        .zip(encoded.biases.chunks(WIDTH * E::BYTES));
    for ((codes, scale_bytes), bias_bytes) in batches {
        let groups = scale_bytes.len() / E::BYTES;
        let (mut scales, mut biases) = ([0.0; WIDTH], [0.0; WIDTH]);
        load_row::<I, E>(scale_bytes, &mut scales[..groups]);
        load_row::<I, E>(bias_bytes, &mut biases[..groups]);
        let groups = codes
            .chunks_exact(G / 8 * BITS)
            .zip(scales.iter().zip(&biases));
        for (codes, (scale, bias)) in groups {
            // half of the largest, so that rounding on the way does not matter; false for a NaN
            let within = scale.abs() * 255.0 + bias.abs() < E::LARGEST / 2.0;
            let (scale, bias) = (I::splat(*scale), I::splat(*bias));
            if within && E::BYTES == 2 {
                // 8 bits by at most 11: exact
                let value = |q| I::exact_mul_add(q, scale, bias);
                decode_group::<I, E, BITS>(codes, value, sink);
            } else {
                let value = |q| saturate::<I, E>(I::add(I::mul(q, scale), bias));
                decode_group::<I, E, BITS>(codes, value, sink);
            }
        }
    }
}

#[inline(always)]
fn decode_group<I: Isa, E: Element, const BITS: usize>(
    codes: &[u8],
    value: impl Fn(I::V) -> I::V,
    sink: &mut impl Sink<I, E>,
) {
    for codes in codes.chunks_exact(WIDTH / 4 * BITS) {
        let (first, second) = codes.split_at(WIDTH / 8 * BITS);
        sink.put([first, second].map(|codes| value(I::from_codes(unpack::<I, BITS>(codes)))));
    }
}
