//! Keys for each channel (codecs-v1 §7).
//!
//! Rows in scratch are padded to whole vectors, so that only reading and writing see a partial one.

use super::{
    affine::{pack, quantize, unpack},
    element::{Element, F16, load_row, store_row},
};
use crate::{
    kernels::{
        KeyHead, MOMENT_ROWS, Moments, Sections, SectionsMut,
        cpu::isa::{Isa, WIDE, WIDTH},
        padded,
    },
    layout::{GROUP_TOKENS, Pairing},
    rope,
};

#[inline(always)]
#[allow(
    clippy::cast_possible_truncation,
    reason = "the table is binary32 by definition"
)]
pub(in super::super) fn turn(inv_freq: &[f64], position: f64, out: &mut [f32]) {
    let (cosines, sines) = out.split_at_mut(inv_freq.len());
    for ((frequency, cosine), sine) in inv_freq.iter().zip(cosines).zip(sines) {
        let (s, c) = rope::sin_cos(position * frequency);
        *cosine = c as f32;
        *sine = s as f32;
    }
}

/// Angles a row back (`BACK`) or forth.
#[inline(always)]
pub(super) fn rotate<I: Isa, const BACK: bool>(head: &KeyHead<'_>, token: usize, row: &mut [f32]) {
    let pairs = head.pairs;
    if pairs == 0 {
        return;
    }
    let (cosines, sines) = head.table[token * pairs * 2..][..pairs * 2].split_at(pairs);
    match head.pairing {
        Pairing::Half => {
            let (xs, ys) = row[..2 * pairs].split_at_mut(pairs);
            let (x_chunks, xs) = xs.as_chunks_mut::<WIDTH>();
            let (y_chunks, ys) = ys.as_chunks_mut::<WIDTH>();
            let (c_chunks, cosines) = cosines.as_chunks::<WIDTH>();
            let (s_chunks, sines) = sines.as_chunks::<WIDTH>();
            for (((xs, ys), c), s) in x_chunks
                .iter_mut()
                .zip(y_chunks)
                .zip(c_chunks)
                .zip(s_chunks)
            {
                let (x, y, c, s) = (I::load(xs), I::load(ys), I::load(c), I::load(s));
                let (xc, ys_, yc, xs_) = (I::mul(x, c), I::mul(y, s), I::mul(y, c), I::mul(x, s));
                I::store(
                    if BACK {
                        I::add(xc, ys_)
                    } else {
                        I::sub(xc, ys_)
                    },
                    xs,
                );
                I::store(
                    if BACK {
                        I::sub(yc, xs_)
                    } else {
                        I::add(yc, xs_)
                    },
                    ys,
                );
            }
            for (((x, y), c), s) in xs.iter_mut().zip(ys).zip(cosines).zip(sines) {
                (*x, *y) = turned::<BACK>(*x, *y, *c, *s);
            }
        }
        Pairing::Interleaved => {
            let two = row[..2 * pairs].as_chunks_mut::<2>().0;
            for ((xy, c), s) in two.iter_mut().zip(cosines).zip(sines) {
                let (x, y) = turned::<BACK>(xy[0], xy[1], *c, *s);
                *xy = [x, y];
            }
        }
    }
}

#[inline(always)]
fn turned<const BACK: bool>(x: f32, y: f32, c: f32, s: f32) -> (f32, f32) {
    let s = if BACK { -s } else { s };
    (x * c - y * s, y * c + x * s)
}

#[inline(always)]
pub(in super::super) fn keys_encode<I: Isa, E: Element>(
    head: KeyHead<'_>,
    plain: &[u8],
    out: SectionsMut<'_>,
    scratch: &mut [f32],
) -> bool {
    let dim = head.dim;
    let stride = padded(dim);
    let (scales, rest) = scratch.split_at_mut(stride);
    let (biases, rows) = rest.split_at_mut(stride);
    let rows = &mut rows[..plain.len() / (dim * E::BYTES) * stride];
    let plain_rows = plain.chunks_exact(dim * E::BYTES);
    for (token, (row, bytes)) in rows.chunks_exact_mut(stride).zip(plain_rows).enumerate() {
        load_row::<I, E>(bytes, &mut row[..dim]);
        row[dim..].fill(0.0);
        rotate::<I, true>(&head, token, row);
    }
    let code_row = dim.div_ceil(2);
    let groups = rows
        .chunks(GROUP_TOKENS * stride)
        .zip(out.codes.chunks_mut(GROUP_TOKENS * code_row))
        .zip(out.scales.chunks_exact_mut(dim * 2))
        .zip(out.biases.chunks_exact_mut(dim * 2));
    let mut ranges = true;
    for (((rows, codes), scale_bytes), bias_bytes) in groups {
        extremes::<I>(rows, stride, biases, scales);
        for low in &mut *biases {
            *low += 0.0;
            ranges &= low.abs() < BEYOND_HALF;
        }
        store_row::<I, F16>(&biases[..dim], bias_bytes);
        load_row::<I, F16>(bias_bytes, &mut biases[..dim]);
        for (high, bias) in scales.iter_mut().zip(&*biases) {
            *high = ((*high - bias) / 15.0).max(SMALLEST_HALF);
            ranges &= *high < BEYOND_HALF;
        }
        store_row::<I, F16>(&scales[..dim], scale_bytes);
        load_row::<I, F16>(scale_bytes, &mut scales[..dim]);
        for (row, codes) in rows
            .chunks_exact(stride)
            .zip(codes.chunks_exact_mut(code_row))
        {
            let chunks = row.as_chunks::<WIDTH>().0.iter();
            let scales = scales.as_chunks::<WIDTH>().0.iter();
            let biases = biases.as_chunks::<WIDTH>().0.iter();
            for (((x, scale), bias), out) in chunks
                .zip(scales)
                .zip(biases)
                .zip(codes.chunks_mut(WIDTH / 2))
            {
                let (x, scale, bias) = (I::load(x), I::load(scale), I::load(bias));
                let mut packed = [0; WIDTH / 2];
                pack::<I, 4>(quantize::<I>(x, scale, bias, 15.0), &mut packed);
                if let Some(out) = out.first_chunk_mut() {
                    *out = packed;
                } else {
                    out.copy_from_slice(&packed[..out.len()]);
                }
            }
        }
    }
    E::finite(plain) && ranges
}

/// The smallest number that rounds to an infinity in binary16.
const BEYOND_HALF: f32 = 65520.0;

/// The smallest positive number of binary16, 2^-24.
const SMALLEST_HALF: f32 = f32::from_bits(0x3380_0000);

/// Smallest and largest of each channel of padded rows.
#[inline(always)]
fn extremes<I: Isa>(rows: &[f32], stride: usize, lows: &mut [f32], highs: &mut [f32]) {
    let lows = lows.as_chunks_mut::<WIDTH>().0.iter_mut();
    let highs = highs.as_chunks_mut::<WIDTH>().0.iter_mut();
    for (at, (lows, highs)) in lows.zip(highs).enumerate() {
        let chunk = |row: &[f32]| {
            let lanes = row.as_chunks::<WIDTH>().0.get(at);
            lanes.map_or(I::splat(0.0), I::load)
        };
        let first = chunk(rows);
        let (mut low, mut high) = (first, first);
        for row in rows.chunks_exact(stride) {
            let x = chunk(row);
            low = I::min(low, x);
            high = I::max(high, x);
        }
        I::store(low, lows);
        I::store(high, highs);
    }
}

#[inline(always)]
pub(in super::super) fn keys_decode<I: Isa, E: Element>(
    head: KeyHead<'_>,
    encoded: Sections<'_>,
    out: &mut [u8],
    scratch: &mut [f32],
) -> bool {
    let dim = head.dim;
    let stride = padded(dim);
    let (scales, rest) = scratch.split_at_mut(stride);
    let (biases, rest) = rest.split_at_mut(stride);
    let row = &mut rest[..stride];
    let code_row = dim.div_ceil(2);
    let groups = out
        .chunks_mut(GROUP_TOKENS * dim * E::BYTES)
        .zip(encoded.codes.chunks(GROUP_TOKENS * code_row))
        .zip(encoded.scales.chunks_exact(dim * 2))
        .zip(encoded.biases.chunks_exact(dim * 2));
    for (group, (((out, codes), scale_bytes), bias_bytes)) in groups.enumerate() {
        load_row::<I, F16>(scale_bytes, &mut scales[..dim]);
        load_row::<I, F16>(bias_bytes, &mut biases[..dim]);
        let rows = out
            .chunks_exact_mut(dim * E::BYTES)
            .zip(codes.chunks_exact(code_row));
        for (token, (out, codes)) in rows.enumerate() {
            let chunks = row.as_chunks_mut::<WIDTH>().0.iter_mut();
            let scales = scales.as_chunks::<WIDTH>().0.iter();
            let biases = biases.as_chunks::<WIDTH>().0.iter();
            for (((row, scale), bias), codes) in
                chunks.zip(scales).zip(biases).zip(codes.chunks(WIDTH / 2))
            {
                let packed = codes.first_chunk().copied().unwrap_or_else(|| {
                    let mut packed = [0; WIDTH / 2];
                    packed[..codes.len()].copy_from_slice(codes);
                    packed
                });
                let q = I::from_codes(unpack::<I, 4>(&packed));
                I::store(I::add(I::mul(q, I::load(scale)), I::load(bias)), row);
            }
            rotate::<I, false>(&head, group * GROUP_TOKENS + token, row);
            store_row::<I, E>(&row[..dim], out);
        }
    }
    F16::finite(encoded.scales) && F16::finite(encoded.biases)
}

#[inline(always)]
pub(in super::super) fn key_moments<I: Isa, E: Element>(
    head: KeyHead<'_>,
    plain: &[u8],
    out: Moments<'_>,
    scratch: &mut [f32],
) {
    let dim = head.dim;
    let stride = padded(dim);
    let plain_row = dim * E::BYTES;
    for (block, plain) in plain.chunks(MOMENT_ROWS * plain_row).enumerate() {
        let rows = &mut scratch[..plain.len() / plain_row * stride];
        let plain_rows = plain.chunks_exact(plain_row);
        for (at, (row, bytes)) in rows.chunks_exact_mut(stride).zip(plain_rows).enumerate() {
            load_row::<I, E>(bytes, &mut row[..dim]);
            rotate::<I, true>(&head, block * MOMENT_ROWS + at, row);
        }
        let (sums, last_sums) = out.sums.as_chunks_mut::<WIDTH>();
        let (squares, last_squares) = out.squares.as_chunks_mut::<WIDTH>();
        let whole = sums.len();
        for (at, (sums, squares)) in sums.iter_mut().zip(squares).enumerate() {
            add_column::<I>(rows, stride, at, sums, squares);
        }
        let last = last_sums.len();
        if last > 0 {
            let [mut sums, mut squares] = [[0.0; WIDTH]; 2];
            sums[..last].copy_from_slice(last_sums);
            squares[..last].copy_from_slice(last_squares);
            add_column::<I>(rows, stride, whole, &mut sums, &mut squares);
            last_sums.copy_from_slice(&sums[..last]);
            last_squares.copy_from_slice(&squares[..last]);
        }
    }
}

/// Adds vector `at` of each padded row to the sums of its channels and those of their squares, in
/// order. What is past a row's last channel ends up in lanes that nobody reads.
#[inline(always)]
fn add_column<I: Isa>(
    rows: &[f32],
    stride: usize,
    at: usize,
    sums: &mut [f64; WIDTH],
    squares: &mut [f64; WIDTH],
) {
    let (sums, _) = sums.as_chunks_mut::<WIDE>();
    let (squares, _) = squares.as_chunks_mut::<WIDE>();
    // named one by one, so that they stay in registers
    let [mut sum0, mut sum1] = [I::wide_load(&sums[0]), I::wide_load(&sums[1])];
    let [mut square0, mut square1] = [I::wide_load(&squares[0]), I::wide_load(&squares[1])];
    for row in rows.chunks_exact(stride) {
        let x = row.as_chunks().0.get(at).map_or(I::splat(0.0), I::load);
        let [x0, x1] = I::widen(x);
        sum0 = I::wide_add(sum0, x0);
        sum1 = I::wide_add(sum1, x1);
        square0 = I::wide_add(square0, I::wide_mul(x0, x0));
        square1 = I::wide_add(square1, I::wide_mul(x1, x1));
    }
    I::wide_store(sum0, &mut sums[0]);
    I::wide_store(sum1, &mut sums[1]);
    I::wide_store(square0, &mut squares[0]);
    I::wide_store(square1, &mut squares[1]);
}
