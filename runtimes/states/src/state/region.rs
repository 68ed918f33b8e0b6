//! Regions of a state file, and frames of a bank out of them and back (runtimes-v1 §1.1, §1.2).

use std::{cell::RefCell, ops::Range};

use kvcap::{Code, Error, Result, Rows};
use kvcap_codecs::{BLOCK_TOKENS, BankShape, WHOLE_FRAME_BYTES};

use crate::state::{
    Placed, ReadAt, WriteAt,
    file::{file_error, output_error, overflow, product, size},
};

/// Place of one part of a bank in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// First byte of the part's region. The region belongs to the bank alone; bytes of it that no
    /// row covers are padding: not sealed, zeros when written back.
    pub offset: u64,
    /// Length of the region.
    pub len: u64,
    /// Order of the rows in it.
    pub order: Order,
}

/// Order of a bank's rows in a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Bytes in order (a bank without a token axis); the region has no padding.
    Contiguous,
    /// Row (head h, token t) is `row_bytes` contiguous bytes at `h · head_stride + t · token_stride`.
    Rows {
        /// Bytes of one head of one token in this part.
        row_bytes: u64,
        /// Bytes from one head to the next.
        head_stride: u64,
        /// Bytes from one token to the next.
        token_stride: u64,
    },
    /// Element (head h, token t, dim d) is `element` bytes at
    /// `h · head_stride + d · dim_stride + t · element` (llama.cpp's transposed values).
    Transposed {
        /// Bytes of one element.
        element: u64,
        /// Bytes from one head to the next.
        head_stride: u64,
        /// Bytes from one element of a head to the next.
        dim_stride: u64,
    },
}

impl Placed {
    /// Returns the bank with only its rows from `first` on, `tokens` of them, where they lie in the
    /// file.
    ///
    /// # Errors
    /// [`Code::StateContradiction`] where the bank does not keep every position in order, or has not so
    /// many rows.
    pub fn rows(&self, first: u64, tokens: u64) -> Result<Self> {
        self.rows_checked(first, tokens).ok_or_else(|| {
            let what = "the bank does not hold these rows in the order of their positions";
            Error::new(Code::StateContradiction, what).at(self.name())
        })
    }

    fn rows_checked(&self, first: u64, tokens: u64) -> Option<Self> {
        let BankShape::Tokens {
            heads,
            tokens: held,
            dim,
        } = self.bank.shape
        else {
            return None;
        };
        let Rows::From(start) = self.bank.rows else {
            return None;
        };
        if self.bank.window != 0 || first.checked_add(tokens)? > held || tokens == 0 {
            return None;
        }
        let mut rows = self.clone();
        rows.bank.rows = Rows::From(start.checked_add(first)?);
        rows.bank.shape = BankShape::Tokens { heads, tokens, dim };
        for part in &mut rows.parts {
            let step = match part.order {
                Order::Rows { token_stride, .. } => token_stride,
                Order::Transposed { element, .. } => element,
                Order::Contiguous => return None,
            };
            let skipped = step.checked_mul(first)?;
            part.offset = part.offset.checked_add(skipped)?;
            part.len = part.len.checked_sub(skipped)?;
        }
        Some(rows)
    }

    /// Reads frame `index` of the bank into `out`, in canonical order: `[head][token][dim]`, for
    /// affine triplets codes, then scales, then biases; a piece of 1 MiB for a bank without a token
    /// axis. `out` has exactly the frame's length afterwards.
    ///
    /// # Errors
    /// [`Code::StateMalformed`] where the file ends early, [`Code::StateLimit`] where the bank has
    /// no such frame, [`Code::LocalIo`] as the operating system says.
    pub fn read_frame(&self, file: &dyn ReadAt, index: u64, out: &mut Vec<u8>) -> Result<()> {
        self.check(u64::MAX)?;
        out.resize(self.frame_len(index)?, 0);
        let mut rest = out.as_mut_slice();
        for part in &self.parts {
            let section = take_mut(&mut rest, self.section_len(part, index)?)?;
            match self.runs(part, index)? {
                Runs::Plain(runs) => runs.read(file, 0, section)?,
                Runs::ByToken { runs, heads, row } => with_scratch(section.len(), |rows| {
                    runs.read(file, 0, rows)?;
                    for (h, head) in section.chunks_exact_mut(rows.len() / heads).enumerate() {
                        let tokens = rows.chunks_exact(heads * row);
                        for (to, token) in head.chunks_exact_mut(row).zip(tokens) {
                            to.copy_from_slice(&token[h * row..][..row]);
                        }
                    }
                    Ok(())
                })?,
                Runs::Transposed(t) => with_scratch(t.head_len, |channels| {
                    let mut at = 0;
                    for head in section.chunks_exact_mut(t.head_len) {
                        t.runs.read(file, at, channels)?;
                        transpose(t.element, channels, t.dim, head)?;
                        at = at.saturating_add(t.head_stride);
                    }
                    Ok(())
                })?,
            }
        }
        Ok(())
    }

    /// Writes frame `index`, in the order of [`Self::read_frame`], to its place in `file`.
    ///
    /// # Errors
    /// [`Code::CodecLength`] where `frame` is not as long as the bank's frame, [`Code::StateLimit`]
    /// where the bank has no such frame, [`Code::LocalIo`] as the operating system says.
    pub fn write_frame(&self, file: &dyn WriteAt, index: u64, frame: &[u8]) -> Result<()> {
        self.check(u64::MAX)?;
        let len = self.frame_len(index)?;
        if frame.len() != len {
            return Err(Error::new(
                Code::CodecLength,
                "a frame has not the length of its bank's",
            )
            .sides(len, frame.len()));
        }
        let mut rest = frame;
        for part in &self.parts {
            let section = take(&mut rest, self.section_len(part, index)?)?;
            match self.runs(part, index)? {
                Runs::Plain(runs) => runs.write(file, 0, section)?,
                Runs::ByToken { runs, heads, row } => with_scratch(section.len(), |rows| {
                    for (h, head) in section.chunks_exact(rows.len() / heads).enumerate() {
                        let tokens = rows.chunks_exact_mut(heads * row);
                        for (from, token) in head.chunks_exact(row).zip(tokens) {
                            token[h * row..][..row].copy_from_slice(from);
                        }
                    }
                    runs.write(file, 0, rows)
                })?,
                Runs::Transposed(t) => with_scratch(t.head_len, |channels| {
                    let mut at = 0;
                    for head in section.chunks_exact(t.head_len) {
                        transpose(t.element, head, t.tokens, channels)?;
                        t.runs.write(file, at, channels)?;
                        at = at.saturating_add(t.head_stride);
                    }
                    Ok(())
                })?,
            }
        }
        Ok(())
    }

    /// Calls `each` with the places in the file of frame `index`, and the rows of the frame that lie there,
    /// where they lie as they are in the frame. Otherwise false, and nothing is called.
    ///
    /// # Errors
    /// That of `each`; as [`Self::write_frame`] for `index`.
    pub(crate) fn each_rows(
        &self,
        index: u64,
        mut each: impl FnMut(u64, Range<usize>) -> Result<()>,
    ) -> Result<bool> {
        let ([part], BankShape::Tokens { dim, .. }) = (&*self.parts, &self.bank.shape) else {
            return Ok(false);
        };
        self.check(u64::MAX)?;
        let len = self.frame_len(index)?;
        let row = self.bank.dtype.row_bytes(*dim).filter(|row| *row > 0);
        let row = size(row.ok_or_else(overflow)?)?;
        let Runs::Plain(runs) = self.runs(part, index)? else {
            return Ok(false);
        };
        runs.each(0, len, |offset, range| {
            each(offset, range.start / row..range.end / row)
        })?;
        Ok(true)
    }

    fn frame_len(&self, index: u64) -> Result<usize> {
        let bank = &self.bank;
        let len = bank.shape.frame_plain_len(bank.dtype, index);
        match len {
            Some(len) if len > 0 => size(len),
            _ => {
                let what = "the bank has no frame of this number";
                Err(Error::new(Code::StateLimit, what).at(self.name()))
            }
        }
    }

    /// Bytes of one part in frame `index`.
    fn section_len(&self, part: &Region, index: u64) -> Result<usize> {
        let BankShape::Tokens { heads, .. } = self.bank.shape else {
            return self.frame_len(index);
        };
        match part.order {
            Order::Rows { row_bytes, .. } => {
                let tokens = self.bank.shape.frame_tokens(index);
                size(product(product(heads, tokens)?, row_bytes)?)
            }
            _ => self.frame_len(index),
        }
    }

    /// The calls to the file that one frame of one part takes.
    fn runs(&self, part: &Region, index: u64) -> Result<Runs> {
        let at = |offset: u64| part.offset.checked_add(offset).ok_or_else(overflow);
        let &BankShape::Tokens { heads, dim, .. } = &self.bank.shape else {
            let first = at(product(index, WHOLE_FRAME_BYTES)?)?;
            let len = self.frame_len(index)?;
            return Ok(Runs::Plain(Strided::new(first, len, 0)));
        };
        let start = product(index, BLOCK_TOKENS)?;
        let tokens = self.bank.shape.frame_tokens(index);
        Ok(match part.order {
            Order::Rows {
                row_bytes: row,
                head_stride,
                token_stride,
            } => {
                let first = at(product(start, token_stride)?)?;
                if token_stride == row {
                    let len = size(product(tokens, row)?)?;
                    Runs::Plain(Strided::new(first, len, head_stride))
                } else {
                    let len = size(product(heads, row)?)?;
                    Runs::ByToken {
                        runs: Strided::new(first, len, token_stride),
                        heads: size(heads)?,
                        row: size(row)?,
                    }
                }
            }
            Order::Transposed {
                element,
                head_stride,
                dim_stride,
            } => {
                let len = size(product(tokens, element)?)?;
                Runs::Transposed(Transposed {
                    runs: Strided::new(at(product(start, element)?)?, len, dim_stride),
                    head_stride,
                    head_len: size(product(product(tokens, element)?, dim)?)?,
                    element,
                    tokens: size(tokens)?,
                    dim: size(dim)?,
                })
            }
            Order::Contiguous => return Err(overflow()),
        })
    }
}

/// How one frame of one part is read: runs of the file as they are, or with a step in memory.
enum Runs {
    Plain(Strided),
    ByToken {
        runs: Strided,
        heads: usize,
        row: usize,
    },
    Transposed(Transposed),
}

/// One head's channels, each a run of tokens.
struct Transposed {
    runs: Strided,
    head_stride: u64,
    head_len: usize,
    element: u64,
    tokens: usize,
    dim: usize,
}

/// Runs of one length at equal distances in a file.
struct Strided {
    first: u64,
    len: usize,
    stride: u64,
}

impl Strided {
    fn new(first: u64, len: usize, stride: u64) -> Self {
        Self { first, len, stride }
    }

    /// Calls `each` with the place and length of every run that `total` bytes take; runs that touch
    /// are one.
    fn each(
        &self,
        shift: u64,
        total: usize,
        mut each: impl FnMut(u64, Range<usize>) -> Result<()>,
    ) -> Result<()> {
        let dense = u64::try_from(self.len) == Ok(self.stride);
        let step = if dense { total } else { self.len };
        let mut offset = self.first.checked_add(shift);
        let mut done = 0;
        while done < total {
            let end = done.saturating_add(step).min(total);
            each(offset.ok_or_else(overflow)?, done..end)?;
            offset = offset.and_then(|offset| offset.checked_add(self.stride));
            done = end;
        }
        Ok(())
    }

    fn read(&self, file: &dyn ReadAt, shift: u64, out: &mut [u8]) -> Result<()> {
        self.each(shift, out.len(), |offset, range| {
            let read = file.read_exact_at(offset, &mut out[range]);
            read.map_err(|error| file_error(&error))
        })
    }

    fn write(&self, file: &dyn WriteAt, shift: u64, bytes: &[u8]) -> Result<()> {
        self.each(shift, bytes.len(), |offset, range| {
            let written = file.write_all_at(offset, &bytes[range]);
            written.map_err(|error| output_error(&error))
        })
    }
}

/// Angles `from`, rows of `to_columns`-many rows' elements, into `to` with rows and columns swapped.
fn transpose(element: u64, from: &[u8], to_columns: usize, to: &mut [u8]) -> Result<()> {
    match element {
        1 => transpose_elements::<1>(from, to_columns, to),
        2 => transpose_elements::<2>(from, to_columns, to),
        4 => transpose_elements::<4>(from, to_columns, to),
        8 => transpose_elements::<8>(from, to_columns, to),
        _ => return Err(overflow()),
    }
    Ok(())
}

/// Tiled, so that the source rows of a tile stay in the first-level cache while it is written.
fn transpose_elements<const N: usize>(from: &[u8], to_columns: usize, to: &mut [u8]) {
    const TILE: usize = 32;
    let (from, _) = from.as_chunks::<N>();
    let (to, _) = to.as_chunks_mut::<N>();
    if to_columns == 0 || from.len() < to_columns {
        return;
    }
    let from_columns = from.len() / to_columns;
    for tile in (0..to_columns).step_by(TILE) {
        let width = TILE.min(to_columns - tile);
        for (column, row) in to.chunks_exact_mut(to_columns).enumerate() {
            let source = from.iter().skip(tile * from_columns + column);
            for (to, from) in row[tile..][..width]
                .iter_mut()
                .zip(source.step_by(from_columns))
            {
                *to = *from;
            }
        }
    }
}

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Lends `len` bytes of this thread's scratch memory, which grows to one frame and is kept.
pub(crate) fn with_scratch<T>(len: usize, work: impl FnOnce(&mut [u8]) -> Result<T>) -> Result<T> {
    SCRATCH.with_borrow_mut(|scratch| {
        if scratch.len() < len {
            scratch.resize(len, 0);
        }
        work(&mut scratch[..len])
    })
}

fn take<'a>(rest: &mut &'a [u8], len: usize) -> Result<&'a [u8]> {
    let (head, tail) = rest.split_at_checked(len).ok_or_else(overflow)?;
    *rest = tail;
    Ok(head)
}

fn take_mut<'a>(rest: &mut &'a mut [u8], len: usize) -> Result<&'a mut [u8]> {
    let whole = std::mem::take(rest);
    let (head, tail) = whole.split_at_mut_checked(len).ok_or_else(overflow)?;
    *rest = tail;
    Ok(head)
}

#[cfg(test)]
mod tests;
