//! Entropy-coded coefficients in frames of one length (codecs-v1 §12).

mod coded;
mod encode;
mod fields;

pub use coded::CodedFrame;
pub(super) use encode::encode;

use super::{affine::is_finite, check_encoded, turns::key_head};
use crate::{
    coefficients::unit,
    frame::FrameContext,
    kernels::{BLOCK, Coefficients, KeyHead, Synthesis, padded},
    layout::{CodecError, ErrorKind, ParamDtype},
    profile::{BankProfile, Components, paired},
    scratch::{Scratch, aligned},
};
use coded::Reader;
use fields::{Extent, Fields};

/// Rows of scratch that [`crate::kernels::Kernels::coefficients_rows`] asks for.
const ROWS: usize = 16;

fn malformed(what: &'static str) -> CodecError {
    CodecError::new(ErrorKind::Malformed, what)
}

pub(super) fn decode(
    (transform, rate): (u8, u16),
    ctx: &FrameContext<'_>,
    encoded: &[u8],
    out: &mut [u8],
    scratch: &mut Scratch,
) -> Result<(), CodecError> {
    let extent = Extent::new(rate, ctx)?;
    let profile = profile(transform, &extent, ctx)?;
    check_encoded(extent.encoded_len, encoded)?;
    if out.is_empty() {
        return Ok(());
    }
    let kernels = scratch.kernels;
    let head = key_head(ctx, kernels, &mut scratch.positions, &mut scratch.table)?;
    let buffers = &mut scratch.coefficients;
    let fields = Fields::parse(&extent, transform, encoded, buffers)?;
    check_finite(&extent, ctx, &fields)?;
    let coded = extent.tokens - fields.stored_rows;
    let mut reader = Reader::new(&fields);
    let group = profile.map_or(
        Components {
            heads: 1,
            count: extent.dim,
        },
        BankProfile::components,
    );
    let quantized = aligned(&mut buffers.quantized, group.count * coded);
    let stride = padded(extent.dim);
    let rows = aligned(&mut scratch.floats, ROWS * stride);
    let sums = aligned(&mut buffers.sums, ROWS * stride);
    let stored_len = fields.stored_rows * extent.dim * extent.element;
    let coded_turns = head.after(fields.stored_rows);
    let unit = unit(fields.step);
    for first in (0..extent.heads).step_by(group.heads) {
        let channels = first * extent.dim..first * extent.dim + group.count;
        for (channel, q) in channels
            .clone()
            .zip(quantized.chunks_exact_mut(coded.max(1)))
        {
            reader.channel(kernels, buffers.tables[channel], q)?;
        }
        let offsets = &buffers.offsets[channels];
        let pairs = group.count.div_ceil(2);
        if profile.is_some() {
            let blocks = aligned(&mut buffers.blocks, pairs * coded.next_multiple_of(BLOCK));
            pair_up(quantized, coded, blocks);
            buffers.paired_offsets.clear();
            let pair = |pair: &[i16]| paired(pair[0], pair.get(1).copied().unwrap_or(0));
            buffers.paired_offsets.extend(offsets.chunks(2).map(pair));
        }
        for at in first..first + group.heads {
            let out = &mut out[at * extent.head_len()..][..extent.head_len()];
            let (stored, out) = out.split_at_mut(stored_len);
            stored.copy_from_slice(&fields.stored[at * stored_len..][..stored_len]);
            if coded == 0 {
                continue;
            }
            let Some(profile) = profile else {
                let x = Coefficients {
                    quantized,
                    offsets,
                    unit,
                };
                (kernels.coefficients_rows)(coded_turns, x, out, rows);
                continue;
            };
            let x = Synthesis {
                coefficients: aligned(&mut buffers.blocks, pairs * coded.next_multiple_of(BLOCK)),
                pairs,
                weights: profile.weights(at),
                offsets: &buffers.paired_offsets,
                means: &profile.means()[at * extent.dim..][..extent.dim],
                unit,
            };
            (kernels.synthesis_rows)(coded_turns, x, out, sums, rows);
        }
    }
    reader.finish(&fields)
}

/// The profile of a bank that is transformed.
fn profile<'a>(
    transform: u8,
    extent: &Extent,
    ctx: &FrameContext<'a>,
) -> Result<Option<&'a BankProfile>, CodecError> {
    if transform == 0 {
        return Ok(None);
    }
    let missing = CodecError::new(
        ErrorKind::NoProfile,
        "the codec needs a profile of the bank",
    );
    let profile = ctx.profile.ok_or(missing)?;
    if profile.transform() != transform || profile.extent() != [extent.heads, extent.dim] {
        let what = "the profile has another transform or shape for the bank";
        return Err(CodecError::new(ErrorKind::Profile, what));
    }
    Ok(Some(profile))
}

/// Coefficients `[component][token]` of a group as [`Synthesis`] has them; zeros where there are none.
fn pair_up(quantized: &[i16], coded: usize, blocks: &mut [i32]) {
    let pairs = quantized.chunks(2 * coded.max(1));
    let count = pairs.len();
    for (at, pair) in pairs.enumerate() {
        let (first, second) = pair.split_at(coded.min(pair.len()));
        for (block, start) in (0..coded).step_by(BLOCK).enumerate() {
            let out = &mut blocks[(block * count + at) * BLOCK..][..BLOCK];
            let sixteen = |component: &[i16]| {
                let mut sixteen = [0; BLOCK];
                let component = component.get(start..).unwrap_or_default();
                if let Some(whole) = component.first_chunk() {
                    return *whole;
                }
                sixteen[..component.len()].copy_from_slice(component);
                sixteen
            };
            let (first, second) = (sixteen(first), sixteen(second));
            for ((out, low), high) in out.iter_mut().zip(first).zip(second) {
                *out = paired(low, high);
            }
        }
    }
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
