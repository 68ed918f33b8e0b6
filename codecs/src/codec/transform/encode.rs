//! The finest step with which a frame fits (codecs-v1 §12.5).
//!
//! Sums and comparisons alone decide, so that every machine writes the same bytes.

use std::ops::RangeInclusive;

use super::{
    super::{affine::refused_value, turns::key_head},
    fields::{Extent, TABLE_BITS, push_numbers, stream_len},
    profile,
};
use crate::{
    coefficients::{Buffers, Costs, Table, log2, steps, symbols, unit, write},
    frame::FrameContext,
    kernels::{BLOCK, Kernels, padded},
    layout::{CodecError, ErrorKind, ParamDtype, TRANSFORM_HEADER},
    profile::BankProfile,
    scratch::{Scratch, aligned},
};

/// Most rows of a sequence's beginning that are stored as they are: the first token is a sink of attention.
const SINKS: usize = 1;
/// The same with a profile: in some texts one of the next three is a sink as well, and at 3 bits it cost seven eighths of what
/// such a text lost. Without one, all that is lost elsewhere is more than that.
const SINKS_WITH_A_PROFILE: usize = 4;

pub(in super::super) fn encode(
    (transform, rate): (u8, u16),
    ctx: &FrameContext<'_>,
    plain: &[u8],
    out: &mut Vec<u8>,
    scratch: &mut Scratch,
) -> Result<(), CodecError> {
    let extent = Extent::new(rate, ctx)?;
    let profile = profile(transform, &extent, ctx)?;
    let params = ParamDtype::from_dtype(ctx.dtype).unwrap_or(ParamDtype::F32);
    let kernels = scratch.kernels;
    let head = key_head(ctx, kernels, &mut scratch.positions, &mut scratch.table)?;
    if let Some(refused) = refused_value(ctx, params, plain) {
        return Err(refused);
    }
    if plain.is_empty() {
        out.clear();
        out.resize(extent.encoded_len, 0);
        return Ok(());
    }
    // sinks of attention, as far as there is room for them
    let values = extent.channels() * extent.tokens;
    let least = TRANSFORM_HEADER as usize + 2 * extent.channels() + values.div_ceil(256);
    let sinks = profile.map_or(SINKS, |_| SINKS_WITH_A_PROFILE);
    let most = match ctx.first_token {
        0 => sinks.min(extent.tokens - 1),
        _ => 0,
    };
    let roomy = |rows: &usize| least + 8 * extent.rows_len(*rows) <= extent.encoded_len;
    let stored_rows = (1..=most).rev().find(roomy).unwrap_or(0);
    let coded = extent.tokens - stored_rows;
    let stride = padded(extent.dim);
    // channels are as long as whole vectors
    let column = coded.next_multiple_of(BLOCK);
    let lens = [
        extent.channels() * column,
        extent.tokens * stride,
        extent.channels() * coded,
    ];
    let floats = aligned(&mut scratch.floats, lens.iter().sum());
    let (columns, rest) = floats.split_at_mut(lens[0]);
    let (rows, values) = rest.split_at_mut(lens[1]);
    if coded > 0 {
        let heads = plain.chunks_exact(extent.head_len());
        for (plain, columns) in heads.zip(columns.chunks_exact_mut(extent.dim * column)) {
            (kernels.rows_load)(head, plain, rows);
            transpose(&rows[stored_rows * stride..], stride, coded, columns);
        }
        match profile {
            None => {
                let columns = columns.chunks_exact(column);
                for (channel, values) in columns.zip(values.chunks_exact_mut(coded)) {
                    values.copy_from_slice(&channel[..coded]);
                }
            }
            Some(profile) => analyse(profile, kernels, columns, coded, values),
        }
    }
    let frame = Frame {
        extent: &extent,
        profile,
        values,
        coded,
        // what is left for offsets, escapes and words, in 1/256 bit
        room: room(&extent, stored_rows),
    };
    if !frame.measure(&mut scratch.coefficients) {
        return Err(out_of_range());
    }
    let mut step = frame.finest_step(&mut scratch.coefficients);
    while !frame.write(step, (plain, stored_rows), out, &mut scratch.coefficients) {
        // whole words and rounded costs may miss by a little
        step = frame.coarser(step)?;
        frame.cost(step, &mut scratch.coefficients);
    }
    Ok(())
}

/// Rows of `stride` numbers to columns of whole vectors, zeros after the last row.
fn transpose(rows: &[f32], stride: usize, coded: usize, columns: &mut [f32]) {
    let column = coded.next_multiple_of(BLOCK);
    for first in (0..column).step_by(BLOCK) {
        for (at, column) in columns.chunks_exact_mut(column).enumerate() {
            for (token, value) in (first..).zip(&mut column[first..first + BLOCK]) {
                *value = if token < coded {
                    rows[token * stride + at]
                } else {
                    0.0
                };
            }
        }
    }
}

/// Components of channels.
fn analyse(
    profile: &BankProfile,
    kernels: &Kernels,
    columns: &mut [f32],
    coded: usize,
    values: &mut [f32],
) {
    let column = coded.next_multiple_of(BLOCK);
    for (channel, mean) in columns.chunks_exact_mut(column).zip(profile.means()) {
        for x in channel {
            *x -= mean;
        }
    }
    let count = profile.components().count;
    let groups = columns.chunks_exact(count * column);
    for (at, (columns, values)) in groups
        .zip(values.chunks_exact_mut(count * coded))
        .enumerate()
    {
        let scales = &profile.scales()[at * count..][..count];
        (kernels.analysis)(columns, profile.analysis(at), scales, coded, values);
    }
}

fn out_of_range() -> CodecError {
    let what = "a frame's range cannot be expressed at this rate";
    CodecError::new(ErrorKind::NonFinite, what)
}

/// Bits of a frame, in 1/256, that are not taken by fields of one length.
fn room(extent: &Extent, stored_rows: usize) -> u64 {
    let fixed = TRANSFORM_HEADER as usize
        + stream_len(extent.channels(), TABLE_BITS)
        + extent.rows_len(stored_rows);
    let bytes = extent.encoded_len.saturating_sub(fixed);
    bytes as u64 * 8 * 256
}

struct Frame<'a> {
    extent: &'a Extent,
    profile: Option<&'a BankProfile>,
    /// `[channel][token]`, keys turned back; with a profile `[component][token]`.
    values: &'a [f32],
    /// Tokens that are not stored as they are.
    coded: usize,
    room: u64,
}

/// Coefficients that a frame tries to stay within: escapes and offsets have 16 bits.
const LARGEST: f64 = 16_000.0;
/// Sums of components, in steps, that stay within 32 bits where offsets are counted in eighths.
const LARGEST_SUM: f64 = 268_000_000.0;

impl Frame<'_> {
    fn channels(&self) -> impl Iterator<Item = &[f32]> {
        self.values.chunks_exact(self.coded.max(1))
    }

    /// Mean and mean square about it of each channel; false where keys overflow when turned back.
    fn measure(&self, buffers: &mut Buffers) -> bool {
        /// Channels whose sums do not wait for one another.
        const FEW: usize = 4;
        buffers.moments.clear();
        let (coded, tokens) = (self.coded.max(1), self.coded.max(1) as f64);
        for few in self.values.chunks(FEW * coded) {
            let channels: [&[f32]; FEW] =
                std::array::from_fn(|at| few.chunks_exact(coded).nth(at).unwrap_or(&few[..coded]));
            let mut means = [0.0; FEW];
            for token in 0..coded {
                for (mean, channel) in means.iter_mut().zip(channels) {
                    *mean += f64::from(channel[token]);
                }
            }
            let means = means.map(|sum| sum / tokens);
            let mut squares = [0.0; FEW];
            for token in 0..coded {
                for ((square, channel), mean) in squares.iter_mut().zip(channels).zip(means) {
                    let away = f64::from(channel[token]) - mean;
                    *square += away * away;
                }
            }
            let moments = means.into_iter().zip(squares.map(|sum| sum / tokens));
            buffers.moments.extend(moments.take(few.len() / coded));
        }
        buffers.moments.iter().all(|(_, square)| square.is_finite())
    }

    /// The finest step with which all fits by what symbols cost. Its coefficients, offsets and tables are
    /// left in `buffers`.
    fn finest_step(&self, buffers: &mut Buffers) -> i16 {
        let (least, most) = (self.least_step(buffers), *self.steps().end());
        // the ends of what is left
        let (mut fine, mut coarse) = (least - 1, most);
        let mut guess = self.likely_step(least, most, buffers);
        loop {
            let cost = self.cost(guess, buffers);
            let slope = self.slope(guess, buffers).max(1);
            let distance = cost.abs_diff(self.room) / slope;
            let distance = i16::try_from(distance).unwrap_or(i16::MAX);
            let next = if cost <= self.room {
                // a finer step costs more than is left
                if distance == 0 || guess == fine + 1 {
                    return guess;
                }
                coarse = guess;
                guess.saturating_sub(distance)
            } else {
                fine = guess;
                if guess == most {
                    return guess;
                }
                guess.saturating_add(distance).saturating_add(1)
            };
            guess = if fine < next && next < coarse {
                next
            } else if fine + 1 < coarse {
                fine + 1 + (coarse - fine - 1) / 2
            } else {
                coarse
            };
        }
    }

    fn steps(&self) -> RangeInclusive<i16> {
        steps(self.profile.map_or(0, BankProfile::transform))
    }

    /// The step with which the finest coefficients have 16 bits, and sums of components 32.
    fn least_step(&self, buffers: &mut Buffers) -> i16 {
        let highest = |x: &[f32]| x.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
        let (start, end) = self.steps().into_inner();
        let mut bound = f64::from(highest(self.values)) / LARGEST;
        if let Some(profile) = self.profile {
            let largest = &mut buffers.largest;
            largest.clear();
            largest.extend(self.channels().map(|channel| f64::from(highest(channel))));
            bound = bound.max(profile.largest_sum(largest) / LARGEST_SUM);
        }
        if bound < f64::from(f32::MIN_POSITIVE) {
            return start;
        }
        i16::try_from(log2(bound) / 8 + 1)
            .unwrap_or(end)
            .clamp(start, end)
    }

    /// The step that Gaussian channels would have.
    fn likely_step(&self, least: i16, most: i16, buffers: &mut Buffers) -> i16 {
        let Buffers {
            moments, widths, ..
        } = buffers;
        widths.clear();
        widths.extend(
            moments
                .iter()
                .map(|(_, square)| log2(square.max(1e-60)) / 2),
        );
        let (mut fine, mut coarse) = (least, most);
        while fine < coarse {
            let middle = fine + (coarse - fine) / 2;
            if self.expected(middle, buffers) <= self.room {
                coarse = middle;
            } else {
                fine = middle + 1;
            }
        }
        coarse
    }

    /// What symbols of Gaussian channels cost with a step, in 1/256 bit.
    fn expected(&self, step: i16, buffers: &Buffers) -> u64 {
        let costs = Costs::shared();
        let price = |width: &i32| costs.gaussian(width - i32::from(step) * 8);
        let prices: u64 = buffers.widths.iter().map(price).sum();
        prices * self.coded as u64
    }

    /// What a finer step costs more than this, likely and at least.
    fn slope(&self, step: i16, buffers: &Buffers) -> u64 {
        let finer = self.expected(step - 1, buffers);
        finer.saturating_sub(self.expected(step, buffers)) * 7 / 8
    }

    /// What offsets, escapes and symbols take with a step, in 1/256 bit. Coefficients, offsets, tables and
    /// the bits of an offset are left in `buffers`.
    fn cost(&self, step: i16, buffers: &mut Buffers) -> u64 {
        let costs = Costs::shared();
        self.quantize(step, buffers);
        let mut cost = u64::from(buffers.offset_bits) * self.extent.channels() as u64 * 256;
        buffers.tables.clear();
        let Buffers {
            quantized,
            moments,
            tables,
            ..
        } = buffers;
        let eighth = f64::from(unit(step));
        for (channel, (_, square)) in quantized.chunks_exact(self.coded.max(1)).zip(moments) {
            let fitting = table_for(*square / (64.0 * eighth * eighth));
            let (price, table) = costs.best(fitting, channel);
            cost += price;
            tables.push(table);
        }
        cost
    }

    /// Fills offsets and coefficients, and the bits that an offset has.
    #[allow(
        clippy::cast_possible_truncation,
        reason = "rounded and clamped to 16 bits"
    )]
    #[allow(clippy::cast_possible_wrap, reason = "the low bits are signed")]
    fn quantize(&self, step: i16, buffers: &mut Buffers) {
        let eighth = unit(step);
        let inverse = 1.0 / (8.0 * f64::from(eighth));
        buffers.offsets.clear();
        buffers.quantized.resize(self.values.len(), 0);
        let quantized = buffers.quantized.chunks_exact_mut(self.coded.max(1));
        for ((channel, q), (mean, _)) in self.channels().zip(quantized).zip(&buffers.moments) {
            let eighths = |steps: f64| {
                let offset = (steps * 8.0).round_ties_even();
                offset.clamp(f64::from(i16::MIN), f64::from(i16::MAX)) as i16
            };
            let mean = mean * inverse;
            let (inverse, offset) = (inverse as f32, f32::from(eighths(mean)) / 8.0);
            for (q, x) in q.iter_mut().zip(channel) {
                // adding 1.5 · 2^23 rounds to a whole number, ties to even, in its low bits
                let within = (x * inverse - offset).clamp(-32_767.0, 32_767.0);
                *q = (within + 12_582_912.0).to_bits() as i16;
            }
            // errors that all tokens share are not averaged out by attention: their mean goes to the offset
            let sum: i32 = q.iter().map(|q| i32::from(*q)).sum();
            buffers
                .offsets
                .push(eighths(mean - f64::from(sum) / q.len() as f64));
        }
        let widest = buffers
            .offsets
            .iter()
            .map(|o| o.unsigned_abs().max(1))
            .max();
        let all_zero = buffers.offsets.iter().all(|o| *o == 0);
        let bits = 16 - widest.unwrap_or(0).leading_zeros() + 1;
        buffers.offset_bits = if all_zero { 0 } else { bits.min(16) as u8 };
    }

    fn coarser(&self, step: i16) -> Result<i16, CodecError> {
        let next = step
            .checked_add(1)
            .filter(|step| self.steps().contains(step));
        next.ok_or_else(out_of_range)
    }

    /// Writes the frame with the step that was costed last; false where it is too long.
    fn write(
        &self,
        step: i16,
        (plain, stored_rows): (&[u8], usize),
        out: &mut Vec<u8>,
        buffers: &mut Buffers,
    ) -> bool {
        let width = buffers.offset_bits;
        let Buffers {
            quantized,
            tables,
            offsets,
            words,
            ..
        } = buffers;
        let coded = self.coded.max(1);
        let states = write(quantized, coded, tables.iter().copied(), words);
        let channels = quantized.chunks_exact(coded).zip(tables.iter());
        let escapes = channels.flat_map(|(channel, table)| {
            let (least, most) = symbols(*table);
            let escapes = move |q: &&i16| !(least..=most).contains(&i32::from(**q));
            // vectors of channels without one are passed over
            let any = channel.iter().fold(false, |any, q| any | escapes(&q));
            let channel = if any { channel } else { &[] };
            channel.iter().filter(escapes)
        });
        out.clear();
        out.extend(step.to_le_bytes());
        out.extend([u8::try_from(stored_rows).unwrap_or(0), width, 0, 0, 0, 0]);
        out.extend(states.into_iter().flat_map(u32::to_le_bytes));
        push_numbers(
            out,
            TABLE_BITS,
            tables.iter().map(|table| table.number().into()),
        );
        push_numbers(
            out,
            width,
            offsets.iter().map(|offset| offset.cast_unsigned()),
        );
        let row = self.extent.dim * self.extent.element;
        if stored_rows > 0 {
            for head in plain.chunks_exact(self.extent.head_len()) {
                out.extend_from_slice(&head[..stored_rows * row]);
            }
        }
        let before = out.len();
        out.extend(escapes.flat_map(|q| q.to_le_bytes()));
        let escapes = u32::try_from((out.len() - before) / 2).unwrap_or(u32::MAX);
        out[4..8].copy_from_slice(&escapes.to_le_bytes());
        out.extend(words.iter().flat_map(|word| word.to_le_bytes()));
        let fits = out.len() <= self.extent.encoded_len;
        out.resize(self.extent.encoded_len, 0);
        fits
    }
}

/// The table of a Gaussian of this mean square, in steps.
fn table_for(square: f64) -> Table {
    // 4 · log2(width / 0.16), rounded; 676 is 256 · log2(1 / 0.16)
    let quarters = (log2(square.max(1e-9)) / 2 + 676 + 32).div_euclid(64);
    let number = quarters.clamp(0, i32::from(Table::COUNT) - 1);
    table(u8::try_from(number).unwrap_or(0))
}

fn table(number: u8) -> Table {
    Table::numbered(number).unwrap_or(Table { base: 0, bits: 0 })
}
