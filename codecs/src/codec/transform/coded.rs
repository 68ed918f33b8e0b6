//! Coefficients as they come out of the entropy decoder (codecs-v1 §12.3).

use super::{
    check_finite,
    fields::{Extent, Fields},
    malformed, profile,
};
use crate::{
    codec::{check_encoded, turns::key_head},
    coefficients::{ESCAPE, Lanes, RENORM, Table, unit},
    frame::FrameContext,
    kernels::Kernels,
    layout::{Codec, CodecError, ErrorKind},
    profile::BankProfile,
    rope::Angles,
    scratch::{Scratch, aligned},
};

/// A frame of `tc` whose whole numbers are decoded and judged: what is left is the arithmetic of codecs-v1 §12.4,
/// which another device may do.
#[derive(Clone, Copy, Debug)]
pub struct CodedFrame<'a> {
    /// An eighth of the frame's step.
    pub unit: f32,
    /// Rows of each head that are stored as they are, before all others.
    pub stored_rows: usize,
    /// Their elements, `[head][row][dim]`; they are finite.
    pub stored: &'a [u8],
    /// Coefficients `[component][token]` of the tokens after the stored rows.
    pub quantized: &'a [i16],
    /// Offsets of the components, in eighths of a step.
    pub offsets: &'a [i16],
    /// Turns of the rows after the stored ones; no pairs where keys are not turned.
    pub turns: Angles<'a>,
    /// Means and weights of the bank; `None` with transform 0, whose components are the channels.
    pub profile: Option<&'a BankProfile>,
}

impl Codec {
    /// Decodes the whole numbers of a frame of [`Codec::Transform`], and judges the frame by every rule.
    ///
    /// # Errors
    /// As [`Self::decode_frame`]; 903 for other codecs, and for a frame without elements.
    pub fn decode_coefficients<'s>(
        self,
        ctx: &FrameContext<'s>,
        encoded: &'s [u8],
        scratch: &'s mut Scratch,
    ) -> Result<CodedFrame<'s>, CodecError> {
        let other = CodecError::new(ErrorKind::Length, "the frame has no coefficients");
        let Self::Transform { transform, rate } = self else {
            return Err(other);
        };
        let extent = Extent::new(rate, ctx)?;
        let profile = profile(transform, &extent, ctx)?;
        check_encoded(extent.encoded_len, encoded)?;
        if ctx.plain_len == 0 {
            return Err(other);
        }
        let kernels = scratch.kernels;
        let head = key_head(ctx, kernels, &mut scratch.positions, &mut scratch.table)?;
        let buffers = &mut scratch.coefficients;
        let fields = Fields::parse(&extent, transform, encoded, buffers)?;
        check_finite(&extent, ctx, &fields)?;
        let coded = extent.tokens - fields.stored_rows;
        let quantized = aligned(&mut buffers.quantized, extent.channels() * coded);
        let mut reader = Reader::new(&fields);
        let channels = quantized.chunks_exact_mut(coded.max(1));
        for (table, q) in buffers.tables.iter().zip(channels) {
            reader.channel(kernels, *table, q)?;
        }
        reader.finish(&fields)?;
        let turns = head.after(fields.stored_rows);
        Ok(CodedFrame {
            unit: unit(fields.step),
            stored_rows: fields.stored_rows,
            stored: fields.stored,
            quantized,
            offsets: &buffers.offsets,
            turns: Angles {
                pairing: turns.pairing,
                pairs: turns.pairs,
                table: turns.table,
            },
            profile,
        })
    }
}

/// Reads the coefficients of a frame, channel after channel.
pub(super) struct Reader<'a> {
    lanes: Lanes<'a>,
    escapes: std::slice::Iter<'a, [u8; 2]>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(fields: &Fields<'a>) -> Self {
        Self {
            lanes: Lanes {
                states: fields.states,
                words: fields.words.as_chunks().0,
            },
            escapes: fields.escapes.as_chunks().0.iter(),
        }
    }

    /// The coefficients of the next channel.
    pub(super) fn channel(
        &mut self,
        kernels: &Kernels,
        table: Table,
        q: &mut [i16],
    ) -> Result<(), CodecError> {
        if !(kernels.coefficients_decode)(&mut self.lanes, table, q) {
            return Err(malformed("a frame of coefficients ends before them"));
        }
        // vectors of channels without one are passed over
        if !q.iter().fold(false, |any, q| any | (*q == ESCAPE)) {
            return Ok(());
        }
        for q in q.iter_mut().filter(|q| **q == ESCAPE) {
            let escape = self.escapes.next();
            *q = i16::from_le_bytes(*escape.ok_or(malformed("a frame has too few escapes"))?);
        }
        Ok(())
    }

    /// COD-T-7, after the last channel.
    pub(super) fn finish(mut self, fields: &Fields<'_>) -> Result<(), CodecError> {
        let words = self.lanes.words.as_flattened().iter();
        let mut left = words.chain(fields.odd_byte());
        let open = self.escapes.next().is_some() || self.lanes.states != [RENORM; _];
        if open || left.any(|b| *b != 0) {
            return Err(malformed("a frame of coefficients does not end with them"));
        }
        Ok(())
    }
}
