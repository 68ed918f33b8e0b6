//! Coefficients of entropy-coded frames (codecs-v1 §12).

use super::{
    element::{Element, load_row, store_row},
    keys::rotate,
};
use crate::{
    coefficients::{ESCAPE, LANES, Lanes, RENORM, Slots, Table, slots},
    kernels::{
        BLOCK, Coefficients, KeyHead, Synthesis,
        cpu::isa::{Isa, WIDTH, add_products},
        padded,
    },
};

#[inline(always)]
pub(in super::super) fn coefficients_decode<I: Isa>(
    lanes: &mut Lanes<'_>,
    table: Table,
    out: &mut [i16],
) -> bool {
    let slots = slots(table);
    let (steps, last) = out.as_chunks_mut::<LANES>();
    for step in steps {
        // of both words that a lane may take in a step
        if lanes.words.len() < 2 * LANES {
            if !few_words(lanes, slots, table, step) {
                return false;
            }
            continue;
        }
        I::take_symbols(&mut lanes.states, slots, table, step);
        let taken = I::take_words(&mut lanes.states, lanes.words);
        lanes.words = &lanes.words[taken..];
        if table.bits > 0 {
            for (state, q) in lanes.states.iter_mut().zip(step) {
                *q = with_low_bits(state, table, *q);
            }
            let taken = I::take_words(&mut lanes.states, lanes.words);
            lanes.words = &lanes.words[taken..];
        }
    }
    last.is_empty() || few_words(lanes, slots, table, last)
}

/// The low bits of a coefficient, from its lane.
#[inline(always)]
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    reason = "at most 9 bits"
)]
fn with_low_bits(state: &mut u32, table: Table, q: i16) -> i16 {
    let low = (*state & ((1 << table.bits) - 1)) as i16;
    *state >>= table.bits;
    if q == ESCAPE { ESCAPE } else { q + low }
}

/// A step of fewer lanes, or where words may run out.
#[inline(never)]
fn few_words(lanes: &mut Lanes<'_>, slots: &Slots, table: Table, out: &mut [i16]) -> bool {
    for (state, q) in lanes.states.iter_mut().zip(&mut *out) {
        *q = slots.take(state, table);
    }
    let mut whole = next_words(lanes, out.len());
    if table.bits > 0 {
        for (state, q) in lanes.states.iter_mut().zip(&mut *out) {
            *q = with_low_bits(state, table, *q);
        }
        whole &= next_words(lanes, out.len());
    }
    whole
}

fn next_words(lanes: &mut Lanes<'_>, count: usize) -> bool {
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

/// Rows that are made before they are turned: few enough to stay in the nearest cache.
const ROWS: usize = 16;

#[inline(always)]
#[allow(
    clippy::cast_precision_loss,
    reason = "counts of eighths are below 2^24"
)]
pub(in super::super) fn coefficients_rows<I: Isa, E: Element>(
    head: KeyHead<'_>,
    x: Coefficients<'_>,
    out: &mut [u8],
    scratch: &mut [f32],
) {
    let dim = head.dim;
    let stride = padded(dim);
    let row_len = dim * E::BYTES;
    let tokens = out.len() / row_len;
    let scratch = &mut scratch[..ROWS * stride];
    let (least, most, unit) = (I::splat(-f32::MAX), I::splat(f32::MAX), I::splat(x.unit));
    for (block, out) in out.chunks_mut(ROWS * row_len).enumerate() {
        let first = block * ROWS;
        let count = out.len() / row_len;
        // a square of channels and tokens at a time
        for group in (0..dim).step_by(WIDTH) {
            let mut columns = [[0; ROWS]; WIDTH];
            let channels = x.quantized[group * tokens..].chunks_exact(tokens);
            for (column, channel) in columns.iter_mut().zip(channels) {
                let channel = &channel[first..];
                match channel.first_chunk::<ROWS>() {
                    Some(sixteen) => *column = *sixteen,
                    None => column[..channel.len()].copy_from_slice(channel),
                }
            }
            let mut offsets = [0; WIDTH];
            for (wide, offset) in offsets.iter_mut().zip(&x.offsets[group..]) {
                *wide = i32::from(*offset);
            }
            let squares = I::transposed(&columns);
            for (row, quantized) in scratch.chunks_exact_mut(stride).zip(squares) {
                let mut eighths = [0.0; WIDTH];
                for ((y, q), offset) in eighths.iter_mut().zip(quantized).zip(offsets) {
                    *y = (8 * i32::from(q) + offset) as f32;
                }
                if let Some(row) = row[group..].first_chunk_mut() {
                    let y = I::mul(I::load(&eighths), unit);
                    I::store(I::min(I::max(y, least), most), row);
                }
            }
        }
        let rows = scratch.chunks_exact_mut(stride).take(count);
        for ((at, row), out) in rows.enumerate().zip(out.chunks_exact_mut(row_len)) {
            rotate::<I, false>(&head, first + at, row);
            store_row::<I, E>(&row[..dim], out);
        }
    }
}

#[inline(always)]
#[allow(clippy::cast_precision_loss, reason = "rounds, as it should")]
pub(in super::super) fn synthesis_rows<I: Isa, E: Element>(
    head: KeyHead<'_>,
    x: Synthesis<'_>,
    out: &mut [u8],
    sums: &mut [i32],
    scratch: &mut [f32],
) {
    let dim = head.dim;
    let stride = padded(dim);
    let row_len = dim * E::BYTES;
    let sums = &mut sums[..ROWS * stride];
    let (row, biases) = scratch[..2 * stride].split_at_mut(stride);
    biases.fill(0.0);
    let offsets = &mut sums[..stride];
    offsets.fill(0);
    for (pair, weights) in x.offsets.iter().zip(x.weights.chunks_exact(stride)) {
        add_products(offsets, *pair, weights);
    }
    for ((bias, offset), mean) in biases.iter_mut().zip(offsets).zip(x.means) {
        *bias = (*offset as f32 * x.unit + mean).clamp(-f32::MAX, f32::MAX);
    }
    let step = 8.0 * x.unit;
    let blocks = x.coefficients.chunks_exact(x.pairs.max(1) * BLOCK);
    let mut token = 0;
    for (coefficients, out) in blocks.zip(out.chunks_mut(ROWS * row_len)) {
        I::products(coefficients.as_chunks().0, x.weights, stride, sums);
        for (sums, out) in sums.chunks_exact(stride).zip(out.chunks_exact_mut(row_len)) {
            for ((y, sum), bias) in row.iter_mut().zip(sums).zip(&*biases) {
                *y = (*sum as f32 * step + bias).clamp(-f32::MAX, f32::MAX);
            }
            rotate::<I, false>(&head, token, row);
            store_row::<I, E>(&row[..dim], out);
            token += 1;
        }
    }
}

#[inline(always)]
pub(in super::super) fn analysis<I: Isa>(
    columns: &[f32],
    rows: &[i16],
    scales: &[f32],
    tokens: usize,
    out: &mut [f32],
) {
    /// Components that are summed side by side.
    const FEW: usize = 4;
    let (count, column) = (scales.len(), tokens.next_multiple_of(WIDTH));
    for first in (0..count).step_by(FEW) {
        let few = FEW.min(count - first);
        // the last is repeated where there are fewer
        let rows: [&[i16]; FEW] = std::array::from_fn(|at| {
            let row = first + at.min(few - 1);
            &rows[row * count..][..count]
        });
        for start in (0..column).step_by(WIDTH) {
            let mut sums = [I::splat(0.0); FEW];
            let channels = columns.chunks_exact(column);
            for (at, channel) in channels.enumerate().take(count) {
                let Some(x) = channel[start..].first_chunk() else {
                    continue;
                };
                let x = I::load(x);
                for (sum, row) in sums.iter_mut().zip(rows) {
                    *sum = I::add(*sum, I::mul(I::splat(f32::from(row[at])), x));
                }
            }
            let left = WIDTH.min(tokens.saturating_sub(start));
            for (at, sum) in sums.into_iter().enumerate().take(few) {
                let mut sixteen = [0.0; WIDTH];
                I::store(I::mul(sum, I::splat(scales[first + at])), &mut sixteen);
                out[(first + at) * tokens + start..][..left].copy_from_slice(&sixteen[..left]);
            }
        }
    }
}

#[inline(always)]
pub(in super::super) fn rows_load<I: Isa, E: Element>(
    head: KeyHead<'_>,
    plain: &[u8],
    out: &mut [f32],
) {
    let rows = plain.chunks_exact(head.dim * E::BYTES);
    let stride = padded(head.dim);
    for ((token, bytes), row) in rows.enumerate().zip(out.chunks_exact_mut(stride)) {
        load_row::<I, E>(bytes, &mut row[..head.dim]);
        rotate::<I, true>(&head, token, row);
    }
}

const _: () = assert!(ROWS == BLOCK, "blocks of coefficients are blocks of rows");
const _: () = assert!(ROWS == WIDTH, "a block of rows is one vector of a channel");
