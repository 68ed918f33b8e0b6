//! Part of an opened capsule or chain as plain tensors: chosen layers, a range of positions (runtimes-v1 §1.6).
//!
//! The output is a safetensors file of `layer.{i}.{role}.{index}` in the order `[head][token][dim]`,
//! which any runtime's tools can read; it is not a state file. Only the chunks that are needed are
//! read.

use std::{ops::Range, sync::Mutex};

use kvcap::{Bank, BankEntry, Code, Error, Members, Result, Rows, Workers, WriteAt};
use kvcap_codecs::{BLOCK_TOKENS, BankShape, Dtype, Scratch, WHOLE_FRAME_BYTES};
use serde_json::{Map, Value, json};

use crate::pipeline::{
    frames::{Wanted, each_frame, lock},
    whole::{WholeBank, rows_of, whole_banks},
};

use kvcap_models::safetensors::tensor_dtype;

/// Part of a capsule that is to be taken.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// Layers; all where `None`.
    pub layers: Option<Range<u32>>,
    /// Positions; all where `None`.
    pub positions: Option<Range<u64>>,
}

/// Account of what was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Extracted {
    /// Tensors written.
    pub tensors: usize,
    /// Bytes of the output.
    pub len: u64,
}

/// One tensor of the output: rows `rows` of a bank, a part of each row.
struct Tensor {
    name: String,
    dtype: &'static str,
    shape: Vec<u64>,
    /// First byte and bytes of a row, of each of the frame's sections.
    row: u64,
    offset: u64,
}

/// A bank to take, and which of its rows.
struct Taken<'a, S> {
    whole: WholeBank<'a, S>,
    rows: Range<u64>,
    pieces: Vec<Tensor>,
}

/// Writes the selected banks into `out`, which is empty.
///
/// # Errors
/// KVC-810 for layers or positions that the capsule does not hold, and where a bank cannot be cut by
/// position (it has no token axis, keeps a window, or lists its rows); otherwise as
/// [`crate::open_state`].
pub fn extract<M: Members>(
    opened: &M,
    selection: &Selection,
    out: &dyn WriteAt,
    workers: Workers,
    progress: &mut (dyn FnMut(u64) + Send),
) -> Result<Extracted> {
    let context = &opened.tip().manifest().context;
    if let Some(layers) = &selection.layers
        && (layers.is_empty() || layers.end > context.layers)
    {
        return Err(
            outside("layers").sides(format_args!("within 0..{}", context.layers), shown(layers))
        );
    }
    if let Some(positions) = &selection.positions {
        let held = &opened.positions();
        if positions.is_empty() || positions.start < held.start || positions.end > held.end {
            return Err(outside("positions")
                .sides(format_args!("within {}", shown(held)), shown(positions)));
        }
    }
    let mut offset = 0;
    let mut taken = Vec::new();
    for whole in whole_banks(opened)? {
        let wanted = selection.layers.as_ref();
        if wanted.is_some_and(|layers| !layers.contains(&whole.bank.layer)) {
            continue;
        }
        let rows = rows(&whole.bank, selection.positions.as_ref())?;
        let pieces = pieces(&whole.bank, &rows, &mut offset)?;
        taken.push(Taken {
            whole,
            rows,
            pieces,
        });
    }
    if taken.is_empty() {
        return Err(outside("layers").at("no bank is selected"));
    }
    let header = header(&taken)?;
    let data_at = u64::try_from(header.len()).unwrap_or(u64::MAX);
    let len = data_at.saturating_add(offset);
    let io = |error: std::io::Error| Error::sink(&error, "output");
    out.trim(len).map_err(io)?;
    out.write_all_at(0, &header).map_err(io)?;
    let (mut wanted, mut owners) = (Vec::new(), Vec::new());
    for bank in &taken {
        // the whole bank's row that a part begins with
        let mut first = 0;
        for part in &bank.whole.parts {
            wanted.push(Wanted {
                part: *part,
                frames: bank.frames(part.bank, first),
            });
            owners.push((bank, first));
            first += rows_of(part.bank);
        }
    }
    let progress = Mutex::new(progress);
    each_frame(
        &wanted,
        workers,
        <(Vec<u8>, Scratch)>::default,
        |(plain, scratch), frame| {
            let plain = frame
                .codec
                .plain(frame.index, frame.encoded, plain, scratch)?;
            lock(&progress)(u64::try_from(plain.len()).unwrap_or(0));
            let Some((bank, first)) = owners.get(frame.bank) else {
                return Ok(());
            };
            bank.write(out, data_at, *first, frame.index, plain)
                .map_err(io)
        },
    )?;
    Ok(Extracted {
        tensors: taken.iter().map(|bank| bank.pieces.len()).sum(),
        len,
    })
}

fn outside(what: &'static str) -> Error {
    Error::new(Code::BodyRange, "the capsule does not hold this range").at(what)
}

fn shown<T: std::fmt::Display>(range: &Range<T>) -> String {
    format!("{}..{}", range.start, range.end)
}

/// Which rows of a bank hold the wanted positions.
fn rows(bank: &Bank, positions: Option<&Range<u64>>) -> Result<Range<u64>> {
    let tokens = match bank.shape {
        BankShape::Tokens { tokens, .. } => tokens,
        BankShape::Whole { .. } => 0,
    };
    let Some(wanted) = positions else {
        return Ok(0..tokens);
    };
    let why = match bank.rows {
        // a bank may begin after the capsule's first position
        Rows::From(start) if bank.window == 0 => {
            let place = |position: u64| position.checked_sub(start);
            return match (place(wanted.start), place(wanted.end)) {
                (Some(first), Some(end)) => Ok(first..end),
                _ => Err(outside("positions").sides(format_args!("from {start}"), shown(wanted))),
            };
        }
        Rows::None => "a bank without a token axis (a recurrent state) cannot be cut by position",
        Rows::From(_) => "a bank with a sliding window cannot be cut by position",
        Rows::Listed(_) => "a bank whose rows are not in the order of positions cannot be cut",
    };
    Err(Error::new(Code::BodyRange, why).at(format_args!(
        "layer {} {}",
        bank.layer,
        bank.role.name()
    )))
}

fn pieces(bank: &Bank, rows: &Range<u64>, offset: &mut u64) -> Result<Vec<Tensor>> {
    let overflow = || Error::new(Code::ResourceBudget, "the output's length overflows");
    let role = bank.role.name();
    let name = format!("layer.{}.{role}.{}", bank.layer, bank.index);
    let mut pieces = Vec::new();
    let mut push = |suffix: &str, dtype, shape: Vec<u64>, row: u64, len: u64| -> Result<()> {
        pieces.push(Tensor {
            name: format!("{name}{suffix}"),
            dtype,
            shape,
            row,
            offset: *offset,
        });
        *offset = offset.checked_add(len).ok_or_else(overflow)?;
        Ok(())
    };
    match (&bank.shape, bank.dtype) {
        (BankShape::Whole { dims }, dtype) => {
            let len = bank.shape.plain_len(dtype).ok_or_else(overflow)?;
            match tensor_dtype(dtype) {
                Some(name) => push("", name, dims.clone(), 0, len)?,
                None => push("", "U8", vec![len], 0, len)?,
            }
        }
        (BankShape::Tokens { heads, dim, .. }, dtype) => {
            let count = heads
                .checked_mul(rows.end - rows.start)
                .ok_or_else(overflow)?;
            let mut part = |suffix: &str, name, last: u64, row: u64| {
                let shape = vec![*heads, rows.end - rows.start, last];
                push(
                    suffix,
                    name,
                    shape,
                    row,
                    count.checked_mul(row).ok_or_else(overflow)?,
                )
            };
            if let Dtype::MlxAffine(params) = dtype {
                let (codes, scales) = params.row_sections(*dim).ok_or_else(overflow)?;
                let each = params.params.bytes();
                let of = tensor_dtype(params.params.dtype()).unwrap_or("U8");
                part(".codes", "U32", codes / 4, codes)?;
                part(".scales", of, scales / each, scales)?;
                part(".biases", of, scales / each, scales)?;
            } else {
                let row = dtype.row_bytes(*dim).ok_or_else(overflow)?;
                match tensor_dtype(dtype) {
                    Some(name) => part("", name, *dim, row)?,
                    None => part("", "U8", row, row)?,
                }
            }
        }
    }
    Ok(pieces)
}

fn header<S>(taken: &[Taken<'_, S>]) -> Result<Vec<u8>> {
    let mut map = Map::new();
    for bank in taken {
        for piece in &bank.pieces {
            let len = piece.len(bank);
            let entry = json!({
                "dtype": piece.dtype,
                "shape": piece.shape,
                "data_offsets": [piece.offset, piece.offset + len],
            });
            map.insert(piece.name.clone(), entry);
        }
    }
    let mut json = serde_json::to_vec(&Value::Object(map))
        .map_err(|error| Error::new(Code::LocalIo, error.to_string()))?;
    // the data begins at a multiple of eight
    json.resize(json.len().next_multiple_of(8), b' ');
    let len = u64::try_from(json.len()).unwrap_or(u64::MAX);
    Ok([&len.to_le_bytes()[..], &json].concat())
}

impl Tensor {
    fn len<S>(&self, taken: &Taken<'_, S>) -> u64 {
        let (bank, rows) = (&taken.whole.bank, &taken.rows);
        match bank.shape {
            BankShape::Tokens { heads, .. } => heads * (rows.end - rows.start) * self.row,
            BankShape::Whole { .. } => bank.shape.plain_len(bank.dtype).unwrap_or(0),
        }
    }
}

impl<S> Taken<'_, S> {
    /// The frames of a part that hold wanted rows; the part begins with row `first` of the whole bank.
    fn frames(&self, part: &BankEntry, first: u64) -> Range<u64> {
        let BankShape::Tokens { tokens, .. } = part.shape else {
            return 0..u64::MAX;
        };
        let end = first.saturating_add(tokens);
        let from = self.rows.start.max(first).min(end) - first;
        let to = self.rows.end.max(first).min(end) - first;
        match from < to {
            true => from / BLOCK_TOKENS..to.div_ceil(BLOCK_TOKENS),
            false => 0..0,
        }
    }

    /// Writes what is wanted of frame `index` of a part that begins with row `first`.
    fn write(
        &self,
        out: &dyn WriteAt,
        data_at: u64,
        first: u64,
        index: u64,
        frame: &[u8],
    ) -> std::io::Result<()> {
        match (&self.whole.bank.shape, self.pieces.first()) {
            (BankShape::Whole { .. }, Some(piece)) => {
                let start = data_at + piece.offset + index * WHOLE_FRAME_BYTES;
                out.write_all_at(start, frame)
            }
            _ => {
                let begin = first + index * BLOCK_TOKENS;
                let rows = self.rows_in(frame);
                self.write_rows(out, data_at, &(begin..begin + rows), frame)
            }
        }
    }

    /// Rows of a decoded frame.
    fn rows_in(&self, frame: &[u8]) -> u64 {
        let BankShape::Tokens { heads, .. } = self.whole.bank.shape else {
            return 0;
        };
        let row: u64 = self.pieces.iter().map(|piece| piece.row).sum();
        u64::try_from(frame.len()).unwrap_or(0) / (row * heads).max(1)
    }

    /// The wanted rows of a frame that holds rows `held`, a run for each head of each section.
    fn write_rows(
        &self,
        out: &dyn WriteAt,
        data_at: u64,
        held: &Range<u64>,
        mut frame: &[u8],
    ) -> std::io::Result<()> {
        let BankShape::Tokens { heads, .. } = self.whole.bank.shape else {
            return Ok(());
        };
        let in_frame = held.end - held.start;
        let from = self.rows.start.max(held.start);
        let to = self.rows.end.min(held.end);
        let rows = self.rows.end - self.rows.start;
        let size = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
        for piece in &self.pieces {
            let section = size(heads * in_frame * piece.row);
            let (now, later) = frame.split_at_checked(section).unwrap_or((frame, &[]));
            frame = later;
            for head in 0..heads {
                let start = size((head * in_frame + from - held.start) * piece.row);
                let end = start.saturating_add(size((to - from) * piece.row));
                let row = head * rows + from - self.rows.start;
                let place = data_at + piece.offset + row * piece.row;
                out.write_all_at(place, now.get(start..end).unwrap_or_default())?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use kvcap::Role;

    use super::*;

    #[test]
    fn positions_before_a_banks_first_row_are_refused() {
        let bank = Bank {
            role: Role::Key,
            layer: 0,
            index: 0,
            dtype: Dtype::F16,
            shape: BankShape::Tokens {
                heads: 1,
                tokens: 6,
                dim: 4,
            },
            rows: Rows::From(10),
            window: 0,
        };
        assert_eq!(rows(&bank, Some(&(11..13))).unwrap(), 1..3);
        for early in [3..5, 9..12] {
            let error = rows(&bank, Some(&early)).unwrap_err();
            assert_eq!(error.code(), Code::BodyRange);
        }
    }
}
