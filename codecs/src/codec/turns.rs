//! The turns of a frame's rows, shared by all of its heads (codecs-v1 §7.2).

use crate::{
    frame::FrameContext,
    kernels::{Kernels, KeyHead},
    layout::{CodecError, Pairing},
    rope::{self, Angles, Rotation},
    scratch::{Scratch, aligned},
};

/// What is the same for all heads of a frame. The table of turns is made in `table`.
pub(crate) fn key_head<'s>(
    ctx: &FrameContext<'_>,
    kernels: &Kernels,
    positions: &mut Vec<f64>,
    table: &'s mut Vec<f32>,
) -> Result<KeyHead<'s>, CodecError> {
    let none = Rotation {
        pairing: Pairing::Half,
        inv_freq: &[],
    };
    let (rotation, rows) = match ctx.rotation {
        Some((rotation, rows)) if rotation.pairs() > 0 => (rotation, Some(rows)),
        _ => (none, None),
    };
    let pairs = rotation.pairs();
    let mut turns: &[f32] = &[];
    if let Some(rows) = rows {
        rope::positions(
            &rotation,
            &rows,
            ctx.dim,
            ctx.first_token,
            ctx.tokens,
            positions,
        )?;
        let table = aligned(table, ctx.tokens * pairs * 2);
        for (position, row) in positions.iter().zip(table.chunks_exact_mut(pairs * 2)) {
            (kernels.turn)(rotation.inv_freq, *position, row);
        }
        turns = table;
    }
    Ok(KeyHead {
        dtype: ctx.dtype,
        dim: ctx.dim,
        pairing: rotation.pairing,
        table: turns,
        pairs,
    })
}

impl FrameContext<'_> {
    /// Returns how far each row of the frame is turned; `None` where the keys' rotation is not stated.
    ///
    /// # Errors
    /// 903 to 905 where rotation or positions break a rule (codecs-v1 §7.1).
    pub fn turns<'s>(&self, scratch: &'s mut Scratch) -> Result<Option<Angles<'s>>, CodecError> {
        if self.rotation.is_none() {
            return Ok(None);
        }
        let head = key_head(
            self,
            scratch.kernels,
            &mut scratch.positions,
            &mut scratch.table,
        )?;
        Ok(Some(Angles {
            pairing: head.pairing,
            pairs: head.pairs,
            table: head.table,
        }))
    }
}
