//! The finest step with which a frame fits (codecs-v1 §12.5).
//!
//! Sums and comparisons alone decide, so that every machine writes the same bytes.

use std::sync::OnceLock;

use super::{
    super::{affine::refused_value, turns::key_head},
    fields::{Extent, TABLE_BITS, push_numbers, stream_len},
};
use crate::{
    coefficients::{Buffers, Costs, STEP_RANGE, Table, has_symbol, log2, unit, write},
    frame::FrameContext,
    kernels::padded,
    layout::{CodecError, ErrorKind, ParamDtype, TRANSFORM_HEADER},
    scratch::{Scratch, aligned},
};

pub(in super::super) fn encode(
    rate: u16,
    ctx: &FrameContext<'_>,
    plain: &[u8],
    out: &mut Vec<u8>,
    scratch: &mut Scratch,
) -> Result<(), CodecError> {
    let extent = Extent::new(rate, ctx)?;
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
    // the sink of attention, where there is room for it
    let values = extent.channels() * extent.tokens;
    let least = TRANSFORM_HEADER as usize + 2 * extent.channels() + values.div_ceil(256);
    let roomy = least + 8 * extent.rows_len(1) <= extent.encoded_len;
    let stored_rows = usize::from(ctx.first_token == 0 && extent.tokens > 1 && roomy);
    let coded = extent.tokens - stored_rows;
    let stride = padded(extent.dim);
    let floats = aligned(
        &mut scratch.floats,
        extent.channels() * coded + extent.tokens * stride,
    );
    let (values, rows) = floats.split_at_mut(extent.channels() * coded);
    if coded > 0 {
        let heads = plain.chunks_exact(extent.head_len());
        for (plain, values) in heads.zip(values.chunks_exact_mut(extent.dim * coded)) {
            (kernels.rows_load)(head, plain, rows);
            let rows = rows.chunks_exact(stride).skip(stored_rows);
            for (token, row) in rows.enumerate() {
                let column = values[token..].iter_mut().step_by(coded);
                for (value, x) in column.zip(row) {
                    *value = *x;
                }
            }
        }
    }
    let frame = Frame {
        extent: &extent,
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
    }
    Ok(())
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
    /// `[channel][token]`, keys turned back.
    values: &'a [f32],
    /// Tokens that are not stored as they are.
    coded: usize,
    room: u64,
}

/// Tables that are tried for a channel.
#[derive(Clone, Copy)]
enum Tables {
    /// The one of its width.
    Fitting,
    /// That one and those beside it.
    Best,
}

/// Coefficients that a frame tries to stay within: escapes and offsets have 16 bits.
const LARGEST: f64 = 16_000.0;

impl Frame<'_> {
    fn channels(&self) -> impl Iterator<Item = &[f32]> {
        self.values.chunks_exact(self.coded.max(1))
    }

    /// Mean and mean square about it of each channel; false where keys overflow when turned back.
    fn measure(&self, buffers: &mut Buffers) -> bool {
        buffers.moments.clear();
        let tokens = self.coded.max(1) as f64;
        let moments = self.channels().map(|channel| {
            let mean = channel.iter().map(|x| f64::from(*x)).sum::<f64>() / tokens;
            let square = |x: &f32| (f64::from(*x) - mean) * (f64::from(*x) - mean);
            (mean, channel.iter().map(square).sum::<f64>() / tokens)
        });
        buffers.moments.extend(moments);
        buffers.moments.iter().all(|(_, square)| square.is_finite())
    }

    /// The finest step with which all fits by what symbols cost.
    fn finest_step(&self, buffers: &mut Buffers) -> i16 {
        // by one table a channel, which costs no less than the best of three
        let mut step = self.fitting_step(buffers);
        while step > self.least_step() && self.cost(step - 1, Tables::Best, buffers).0 <= self.room
        {
            step -= 1;
        }
        step
    }

    fn fitting_step(&self, buffers: &mut Buffers) -> i16 {
        let (least, most) = (self.least_step(), *STEP_RANGE.end());
        // the ends of what is left, and their costs once they are known
        let (mut fine, mut coarse) = ((least - 1, None), (most, None));
        let mut guess = self.likely_step(buffers).clamp(least, most);
        // a step coarser by 1/32 of an octave saves at most 1/32 bit of every value
        let slope = (self.values.len() as u64 * 256 / 32).max(1);
        for round in 1_u32.. {
            let (cost, _) = self.cost(guess, Tables::Fitting, buffers);
            let distance = cost.abs_diff(self.room) / slope * 9 / 8 + 1;
            let distance = i16::try_from(distance).unwrap_or(i16::MAX);
            let beyond = if cost <= self.room {
                coarse = (guess, Some(cost));
                guess.saturating_sub(distance)
            } else {
                fine = (guess, Some(cost));
                guess.saturating_add(distance)
            };
            let span = coarse.0 - fine.0;
            if span <= 1 {
                break;
            }
            guess = match (fine.1, coarse.1) {
                (Some(over), Some(under)) if !round.is_multiple_of(4) => {
                    let share = (over - self.room) * u64::from(span.unsigned_abs());
                    let part = i16::try_from(share / (over - under).max(1)).unwrap_or(span);
                    fine.0 + part.clamp(1, span - 1)
                }
                (None, _) | (_, None) if fine.0 < beyond && beyond < coarse.0 => beyond,
                _ => fine.0 + span / 2,
            };
        }
        coarse.0
    }

    /// The step with which the finest coefficients have 16 bits.
    fn least_step(&self) -> i16 {
        let largest = self
            .values
            .iter()
            .fold(0.0_f32, |most, x| most.max(x.abs()));
        let (start, end) = (*STEP_RANGE.start(), *STEP_RANGE.end());
        if largest < f32::MIN_POSITIVE {
            return start;
        }
        let octaves = log2(f64::from(largest) / LARGEST) / 8 + 1;
        i16::try_from(octaves).unwrap_or(end).clamp(start, end)
    }

    /// The step that Gaussian channels would have.
    fn likely_step(&self, buffers: &Buffers) -> i16 {
        let live = buffers.moments.iter().filter(|(_, square)| *square > 1e-30);
        let (count, sum) = live.fold((0_i64, 0_i64), |(count, sum), (_, square)| {
            (count + 1, sum + i64::from(log2(*square)) / 2)
        });
        let bits = self.room / (self.values.len() as u64).max(1);
        let bits = i64::try_from(bits).unwrap_or(0);
        let mean = sum / count.max(1);
        // the entropy of a Gaussian is 2.05 bits over the logarithm of its width
        i16::try_from((mean + 524 - bits) / 8).unwrap_or(*STEP_RANGE.end())
    }

    /// What offsets, escapes and symbols take with a step, in 1/256 bit, and the bits of an offset.
    /// Coefficients, offsets and tables are left in `buffers`.
    fn cost(&self, step: i16, choice: Tables, buffers: &mut Buffers) -> (u64, u8) {
        static COSTS: OnceLock<Costs> = OnceLock::new();
        let costs = COSTS.get_or_init(Costs::new);
        let width = self.quantize(step, buffers);
        let mut cost = u64::from(width) * self.extent.channels() as u64 * 256;
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
            let candidates = match choice {
                Tables::Fitting => fitting.number()..=fitting.number(),
                Tables::Best => fitting.number().saturating_sub(1)..=fitting.number() + 1,
            };
            let (price, table) = candidates
                .filter_map(Table::numbered)
                .map(|table| (costs.channel(table, channel), table))
                .min_by_key(|(price, _)| *price)
                .unwrap_or((u64::MAX, fitting));
            cost += price;
            tables.push(table);
        }
        (cost, width)
    }

    /// Fills offsets and coefficients; returns the bits that an offset has.
    #[allow(
        clippy::cast_possible_truncation,
        reason = "rounded and clamped to 16 bits"
    )]
    #[allow(clippy::cast_possible_wrap, reason = "the low bits are signed")]
    fn quantize(&self, step: i16, buffers: &mut Buffers) -> u8 {
        let eighth = unit(step);
        let inverse = 1.0 / (8.0 * f64::from(eighth));
        buffers.offsets.clear();
        buffers.quantized.resize(self.values.len(), 0);
        let quantized = buffers.quantized.chunks_exact_mut(self.coded.max(1));
        for ((channel, q), (mean, _)) in self.channels().zip(quantized).zip(&buffers.moments) {
            let offset = (mean * inverse * 8.0).round_ties_even();
            let offset = offset.clamp(f64::from(i16::MIN), f64::from(i16::MAX));
            buffers.offsets.push(offset as i16);
            let (inverse, offset) = (inverse as f32, (offset / 8.0) as f32);
            for (q, x) in q.iter_mut().zip(channel) {
                // adding 1.5 · 2^23 rounds to a whole number, ties to even, in its low bits
                let within = (x * inverse - offset).clamp(-32_767.0, 32_767.0);
                *q = (within + 12_582_912.0).to_bits() as i16;
            }
        }
        let widest = buffers
            .offsets
            .iter()
            .map(|o| o.unsigned_abs().max(1))
            .max();
        let all_zero = buffers.offsets.iter().all(|o| *o == 0);
        let bits = 16 - widest.unwrap_or(0).leading_zeros() + 1;
        if all_zero { 0 } else { bits.min(16) as u8 }
    }

    fn coarser(&self, step: i16) -> Result<i16, CodecError> {
        let next = step.checked_add(1).filter(|step| STEP_RANGE.contains(step));
        next.ok_or_else(out_of_range)
    }

    /// Writes the frame with a step; false where it is too long.
    fn write(
        &self,
        step: i16,
        (plain, stored_rows): (&[u8], usize),
        out: &mut Vec<u8>,
        buffers: &mut Buffers,
    ) -> bool {
        let (_, width) = self.cost(step, Tables::Best, buffers);
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
        let escapes = channels
            .flat_map(|(channel, table)| channel.iter().filter(|q| !has_symbol(*table, **q)));
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
