//! Coefficients, as codecs-v1 §12.3 and §12.4 have them.

use super::{element_bytes, load, rotate, store_saturating};
use crate::{
    coefficients::{ESCAPE, LANES, Lanes, RENORM, SLOTS, Table, slots},
    kernels::{BLOCK, Coefficients, KeyHead, Synthesis, padded},
};

pub(super) fn coefficients_decode(lanes: &mut Lanes<'_>, table: Table, out: &mut [i16]) -> bool {
    let slots = slots(table);
    for step in out.chunks_mut(LANES) {
        for (state, q) in lanes.states.iter_mut().zip(&mut *step) {
            let entry = slots.0[*state as usize % SLOTS];
            let (frequency, within) = (entry & 0xfff, entry >> 12 & 0xfff);
            *state = frequency * (*state / 4096) + within;
            *q = match entry >> 24 {
                127 => ESCAPE,
                number => (i16::try_from(number).unwrap_or(0) - 32) * (1 << table.bits),
            };
        }
        if !take_words(lanes, step.len()) {
            return false;
        }
        if table.bits == 0 {
            continue;
        }
        for (state, q) in lanes.states.iter_mut().zip(&mut *step) {
            let low = *state % (1 << table.bits);
            *state >>= table.bits;
            if *q != ESCAPE {
                *q += i16::try_from(low).unwrap_or(0) - (1 << table.bits) / 2;
            }
        }
        if !take_words(lanes, step.len()) {
            return false;
        }
    }
    true
}

/// Gives a word to each of the first lanes that needs one; false where there is none.
fn take_words(lanes: &mut Lanes<'_>, count: usize) -> bool {
    for state in &mut lanes.states[..count] {
        if *state < RENORM {
            let Some((word, rest)) = lanes.words.split_first() else {
                return false;
            };
            *state = *state << 16 | u32::from(u16::from_le_bytes(*word));
            lanes.words = rest;
        }
    }
    true
}

pub(super) fn coefficients_rows(
    head: KeyHead<'_>,
    x: Coefficients<'_>,
    out: &mut [u8],
    scratch: &mut [f32],
) {
    let width = element_bytes(head.dtype);
    let dim = head.dim;
    let tokens = out.len() / (dim * width);
    for (token, out) in out.chunks_exact_mut(dim * width).enumerate() {
        let row = &mut scratch[..dim];
        for (channel, y) in row.iter_mut().enumerate() {
            let q = i32::from(x.quantized[channel * tokens + token]);
            let eighths = 8 * q + i32::from(x.offsets[channel]);
            #[allow(clippy::cast_precision_loss, reason = "below 2^24")]
            let value = eighths as f32 * x.unit;
            *y = value.clamp(-f32::MAX, f32::MAX);
        }
        rotate(&head, token, row, false);
        for (y, bytes) in row.iter().zip(out.chunks_exact_mut(width)) {
            store_saturating(head.dtype, *y, bytes);
        }
    }
}

#[allow(clippy::cast_precision_loss, reason = "rounds, as it should")]
pub(super) fn synthesis_rows(
    head: KeyHead<'_>,
    x: Synthesis<'_>,
    out: &mut [u8],
    _: &mut [i32],
    scratch: &mut [f32],
) {
    let halves = |pair: i32| {
        let [a, b, c, d] = pair.to_le_bytes();
        [i16::from_le_bytes([a, b]), i16::from_le_bytes([c, d])].map(i32::from)
    };
    // of the components, by the weights of an element
    let sum = |of: &dyn Fn(usize) -> i32, element: usize| {
        let weights = |pair| halves(x.weights[pair * padded(head.dim) + element]);
        (0..x.pairs).fold(0_i32, |sum, pair| {
            let both = halves(of(pair)).into_iter().zip(weights(pair));
            both.fold(sum, |sum, (q, w)| sum.wrapping_add(q.wrapping_mul(w)))
        })
    };
    let width = element_bytes(head.dtype);
    let dim = head.dim;
    for (token, out) in out.chunks_exact_mut(dim * width).enumerate() {
        let row = &mut scratch[..dim];
        for (element, y) in row.iter_mut().enumerate() {
            let offset = sum(&|pair| x.offsets[pair], element) as f32 * x.unit;
            let bias = (offset + x.means[element]).clamp(-f32::MAX, f32::MAX);
            let block = &x.coefficients[token / BLOCK * x.pairs * BLOCK..];
            let inner = sum(&|pair| block[pair * BLOCK + token % BLOCK], element);
            let value = inner as f32 * (8.0 * x.unit) + bias;
            *y = value.clamp(-f32::MAX, f32::MAX);
        }
        rotate(&head, token, row, false);
        for (y, bytes) in row.iter().zip(out.chunks_exact_mut(width)) {
            store_saturating(head.dtype, *y, bytes);
        }
    }
}

pub(super) fn analysis(
    columns: &[f32],
    rows: &[i16],
    scales: &[f32],
    tokens: usize,
    out: &mut [f32],
) {
    let column = tokens.next_multiple_of(BLOCK);
    let rows = rows.chunks_exact(scales.len());
    for ((row, scale), out) in rows.zip(scales).zip(out.chunks_exact_mut(tokens)) {
        for (token, z) in out.iter_mut().enumerate() {
            let channels = row.iter().zip(columns.chunks_exact(column));
            let sum = channels.fold(0.0, |sum, (a, channel)| {
                sum + f32::from(*a) * channel[token]
            });
            *z = sum * scale;
        }
    }
}

pub(super) fn rows_load(head: KeyHead<'_>, plain: &[u8], out: &mut [f32]) {
    let width = element_bytes(head.dtype);
    let rows = plain.chunks_exact(head.dim * width);
    let stride = padded(head.dim);
    for ((token, bytes), row) in rows.enumerate().zip(out.chunks_exact_mut(stride)) {
        for (x, bytes) in row.iter_mut().zip(bytes.chunks_exact(width)) {
            *x = load(head.dtype, bytes);
        }
        rotate(&head, token, row, true);
    }
}
