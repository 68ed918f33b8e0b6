//! Entropy-coded coefficients in frames of one length (codecs-v1 §12).

mod encode;
mod fields;

pub(super) use encode::encode;

use super::{affine::is_finite, check_encoded, turns::key_head};
use crate::{
    coefficients::{ESCAPE, Lanes, RENORM, unit},
    frame::FrameContext,
    kernels::{Coefficients, KeyHead, padded},
    layout::{CodecError, ErrorKind, ParamDtype},
    scratch::{Scratch, aligned},
};
use fields::{Extent, Fields};

/// Rows of scratch that [`crate::kernels::Kernels::coefficients_rows`] asks for.
const ROWS: usize = 16;

fn malformed(what: &'static str) -> CodecError {
    CodecError::new(ErrorKind::Malformed, what)
}

pub(super) fn decode(
    rate: u16,
    ctx: &FrameContext<'_>,
    encoded: &[u8],
    out: &mut [u8],
    scratch: &mut Scratch,
) -> Result<(), CodecError> {
    let extent = Extent::new(rate, ctx)?;
    check_encoded(extent.encoded_len, encoded)?;
    if out.is_empty() {
        return Ok(());
    }
    let kernels = scratch.kernels;
    let head = key_head(ctx, kernels, &mut scratch.positions, &mut scratch.table)?;
    let buffers = &mut scratch.coefficients;
    let fields = Fields::parse(&extent, encoded, buffers)?;
    check_finite(&extent, ctx, &fields)?;
    let coded = extent.tokens - fields.stored_rows;
    let mut lanes = Lanes {
        states: fields.states,
        words: fields.words.as_chunks().0,
    };
    let mut escapes = fields.escapes.as_chunks::<2>().0.iter();
    let quantized = aligned(&mut buffers.quantized, extent.dim * coded);
    let rows = aligned(&mut scratch.floats, ROWS * padded(extent.dim));
    let stored_len = fields.stored_rows * extent.dim * extent.element;
    let coded_turns = head.after(fields.stored_rows);
    for at in 0..extent.heads {
        let channels = at * extent.dim..(at + 1) * extent.dim;
        for (channel, q) in channels
            .clone()
            .zip(quantized.chunks_exact_mut(coded.max(1)))
        {
            let table = buffers.tables[channel];
            if !(kernels.coefficients_decode)(&mut lanes, table, q) {
                return Err(malformed("a frame of coefficients ends before them"));
            }
            for q in q.iter_mut().filter(|q| **q == ESCAPE) {
                let escape = escapes.next();
                *q = i16::from_le_bytes(*escape.ok_or(malformed("a frame has too few escapes"))?);
            }
        }
        let out = &mut out[at * extent.head_len()..][..extent.head_len()];
        let (stored, out) = out.split_at_mut(stored_len);
        stored.copy_from_slice(&fields.stored[at * stored_len..][..stored_len]);
        if coded > 0 {
            let x = Coefficients {
                quantized,
                offsets: &buffers.offsets[channels],
                unit: unit(fields.step),
            };
            (kernels.coefficients_rows)(coded_turns, x, out, rows);
        }
    }
    let left = lanes.words.as_flattened().iter().chain(fields.odd_byte());
    if escapes.next().is_some() || lanes.states != [RENORM; _] || left.into_iter().any(|b| *b != 0)
    {
        return Err(malformed("a frame of coefficients does not end with them"));
    }
    Ok(())
}

/// COD-T-6.
fn check_finite(
    extent: &Extent,
    ctx: &FrameContext<'_>,
    fields: &Fields<'_>,
) -> Result<(), CodecError> {
    let params = ParamDtype::from_dtype(ctx.dtype).unwrap_or(ParamDtype::F32);
    let mut stored = fields.stored.chunks_exact(extent.element);
    let Some(at) = stored.position(|x| !is_finite(params, x)) else {
        return Ok(());
    };
    let (row, channel) = (at / extent.dim, at % extent.dim);
    let (head, token) = (row / fields.stored_rows, row % fields.stored_rows);
    let place = ctx.place((head * extent.tokens + token) * extent.dim + channel);
    Err(CodecError::new(ErrorKind::NonFinite, "a stored element is not finite").at(place))
}

impl<'a> KeyHead<'a> {
    /// The same for the rows of a frame after the first `rows`.
    fn after(self, rows: usize) -> KeyHead<'a> {
        let table = self.table.get(rows * self.pairs * 2..).unwrap_or_default();
        Self { table, ..self }
    }
}
