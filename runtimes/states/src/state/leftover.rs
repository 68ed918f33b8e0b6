//! What every parsed state must keep, whatever its runtime (runtimes-v1 §1.1).

use kvcap::{Code, Error, Result, Rows};
use kvcap_codecs::{BankShape, Dtype};

use crate::state::{
    Order, Placed, ReadAt, Region, State,
    file::{overflow, product, read_at},
    region::with_scratch,
};

/// Most banks of one state; a capsule has room for 4,096 streams, sections among them.
const MAX_BANKS: usize = 4064;

/// Bytes that are read at once where a file is only scanned.
const SCAN_BYTES: usize = 1 << 20;

/// A bank with bytes that are neither rows nor zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Leftover {
    /// Its place in [`State::banks`].
    pub bank: usize,
    /// True if they may be rolled-back tokens. Otherwise they are constant scales, as a quantizer
    /// leaves in empty rows.
    pub tokens: bool,
}

impl State {
    /// Checks what every adapter's result must keep: some bank, at most 4,064 banks, no two of one identity,
    /// layers below `layers`, one position a row, rows inside regions, and regions that do not
    /// overlap.
    ///
    /// # Errors
    /// [`Code::StateLimit`], [`Code::StateUnsupported`], [`Code::StateMalformed`] or
    /// [`Code::StateContradiction`], naming the bank.
    pub fn check(&self) -> Result<()> {
        if self.banks.len() > MAX_BANKS {
            let what = "the state has more banks than a capsule can hold";
            return Err(Error::new(Code::StateLimit, what).sides(MAX_BANKS, self.banks.len()));
        }
        if self.banks.is_empty() {
            return Err(Error::new(
                Code::StateUnsupported,
                "a state that holds nothing",
            ));
        }
        let mut names: Vec<_> = self
            .banks
            .iter()
            .map(|p| (p.bank.role, p.bank.layer, p.bank.index))
            .collect();
        names.sort_unstable();
        if names.windows(2).any(|pair| pair[0] == pair[1]) {
            let what = "two banks have one role, layer and index";
            return Err(Error::new(Code::StateContradiction, what));
        }
        for placed in &self.banks {
            placed.check(self.file_len)?;
            let bank = &placed.bank;
            let rows_fit = match (&bank.shape, &bank.rows) {
                (BankShape::Tokens { tokens: 0, .. }, _) => false,
                (BankShape::Tokens { tokens, .. }, Rows::From(start)) => {
                    start.checked_add(*tokens).is_some()
                }
                (BankShape::Tokens { tokens, .. }, Rows::Listed(list)) => {
                    u64::try_from(list.len()) == Ok(*tokens)
                }
                (BankShape::Whole { .. }, Rows::None) => true,
                _ => false,
            };
            if !rows_fit {
                let what = "the bank has no rows, or not one position for each";
                return Err(Error::new(Code::StateContradiction, what).at(placed.name()));
            }
            if bank.layer >= self.layers {
                let what = "a bank names a layer that the state does not have";
                return Err(Error::new(Code::StateContradiction, what)
                    .at(placed.name())
                    .sides(format_args!("below {}", self.layers), bank.layer));
            }
        }
        let regions = self.regions();
        match regions.windows(2).find(|two| two[0].1 > two[1].0) {
            None => Ok(()),
            Some(two) => Err(
                Error::new(Code::StateMalformed, "two banks' regions overlap")
                    .at(format_args!("byte {}", two[1].0)),
            ),
        }
    }

    /// Start and end of every region that is not empty, ascending.
    pub(crate) fn regions(&self) -> Vec<(u64, u64)> {
        let parts = self.banks.iter().flat_map(|placed| &placed.parts);
        let mut regions: Vec<_> = parts
            .filter(|part| part.len > 0)
            .map(|part| (part.offset, part.offset.saturating_add(part.len)))
            .collect();
        regions.sort_unstable();
        regions
    }

    /// The banks whose regions hold non-zero bytes that no row covers. Such bytes are not sealed and
    /// come back as zeros; a file without any comes back byte for byte.
    ///
    /// # Errors
    /// As [`Placed::read_frame`].
    pub fn padding_nonzero(&self, file: &dyn ReadAt) -> Result<Vec<Leftover>> {
        let mut found = Vec::new();
        for (bank, placed) in self.banks.iter().enumerate() {
            // The first part is the codes: a quantizer leaves scales in empty rows, but no codes.
            for (number, part) in placed.parts.iter().enumerate() {
                if placed.part_padding_nonzero(part, file)? {
                    found.push(Leftover {
                        bank,
                        tokens: number == 0,
                    });
                    break;
                }
            }
        }
        Ok(found)
    }
}

impl Placed {
    /// Checks that the parts are what the bank's type and shape need, that every row lies inside
    /// its region, every region inside the file, and no two rows share a byte.
    ///
    /// # Errors
    /// [`Code::StateMalformed`], naming the bank.
    pub fn check(&self, file_len: u64) -> Result<()> {
        self.checked(file_len).ok_or_else(|| {
            let what = "the bank's rows do not fit its region of the file";
            Error::new(Code::StateMalformed, what).at(self.name())
        })
    }

    /// The bank by layer, role and index, for messages.
    pub(crate) fn name(&self) -> String {
        let bank = &self.bank;
        let role = bank.role.name();
        format!("layer {} {role} {}", bank.layer, bank.index)
    }

    fn checked(&self, file_len: u64) -> Option<()> {
        let bank = &self.bank;
        bank.shape.plain_len(bank.dtype)?;
        let one;
        let three;
        let rows: &[u64] = match (bank.dtype, &bank.shape) {
            (Dtype::MlxAffine(p), BankShape::Tokens { dim, .. }) => {
                let (codes, params) = p.row_sections(*dim)?;
                three = [codes, params, params];
                &three
            }
            (Dtype::MlxAffine(_), BankShape::Whole { .. }) => return None,
            (dtype, BankShape::Tokens { dim, .. }) => {
                one = [dtype.row_bytes(*dim)?];
                &one
            }
            (dtype, whole) => {
                one = [whole.plain_len(dtype)?];
                &one
            }
        };
        if rows.len() != self.parts.len() {
            return None;
        }
        for (part, &want) in self.parts.iter().zip(rows) {
            if part.offset.checked_add(part.len)? > file_len {
                return None;
            }
            let fits = match (part.order, &bank.shape) {
                (Order::Contiguous, BankShape::Whole { .. }) => part.len == want,
                (
                    Order::Rows {
                        row_bytes,
                        head_stride,
                        token_stride,
                    },
                    &BankShape::Tokens { heads, tokens, .. },
                ) => {
                    let by_head = token_stride == row_bytes
                        && head_stride >= tokens.checked_mul(row_bytes)?;
                    let by_token =
                        head_stride == row_bytes && token_stride >= heads.checked_mul(row_bytes)?;
                    row_bytes == want
                        && (by_head || by_token)
                        && extent(row_bytes, &[(heads, head_stride), (tokens, token_stride)])?
                            <= part.len
                }
                (
                    Order::Transposed {
                        element,
                        head_stride,
                        dim_stride,
                    },
                    &BankShape::Tokens { heads, tokens, dim },
                ) => {
                    matches!(element, 1 | 2 | 4 | 8)
                        && bank.dtype.row_bytes(1) == Some(element)
                        && dim_stride >= tokens.checked_mul(element)?
                        && head_stride >= dim.checked_mul(dim_stride)?
                        && extent(
                            element,
                            &[(heads, head_stride), (dim, dim_stride), (tokens, element)],
                        )? <= part.len
                }
                _ => false,
            };
            if !fits {
                return None;
            }
        }
        Some(())
    }

    fn part_padding_nonzero(&self, part: &Region, file: &dyn ReadAt) -> Result<bool> {
        let &BankShape::Tokens { heads, tokens, dim } = &self.bank.shape else {
            return Ok(false);
        };
        // Covered runs of equal length and stride, `count` of them; what lies between is padding.
        let (count, len, stride) = match part.order {
            Order::Rows {
                row_bytes: row,
                head_stride,
                token_stride,
            } if token_stride == row => (heads, product(tokens, row)?, head_stride),
            Order::Rows {
                row_bytes: row,
                token_stride,
                ..
            } => (tokens, product(heads, row)?, token_stride),
            Order::Transposed {
                element,
                head_stride,
                dim_stride,
            } if head_stride == product(dim, dim_stride)? => {
                (product(heads, dim)?, product(tokens, element)?, dim_stride)
            }
            // Heads of transposed values lie one after the other in every known file.
            Order::Transposed { .. } | Order::Contiguous => return Ok(false),
        };
        let mut end = 0;
        for run in 0..count {
            let start = product(run, stride)?;
            if nonzero(file, part, end, start)? {
                return Ok(true);
            }
            end = start.checked_add(len).ok_or_else(overflow)?;
        }
        nonzero(file, part, end, part.len)
    }
}

/// Whether a byte of `from..to` of the part's region is not zero.
fn nonzero(file: &dyn ReadAt, part: &Region, from: u64, to: u64) -> Result<bool> {
    let mut at = part.offset.checked_add(from).ok_or_else(overflow)?;
    let end = part.offset.checked_add(to).ok_or_else(overflow)?;
    while at < end {
        let len = usize::try_from(end - at).map_or(SCAN_BYTES, |left| left.min(SCAN_BYTES));
        let found = with_scratch(len, |bytes| {
            read_at(file, at, bytes)?;
            Ok(bytes.iter().any(|&byte| byte != 0))
        })?;
        if found {
            return Ok(true);
        }
        at = at
            .saturating_add(u64::try_from(len).unwrap_or(u64::MAX))
            .min(end);
    }
    Ok(false)
}

/// Bytes from the first to past the last of `unit` bytes repeated along each (count, stride).
fn extent(unit: u64, axes: &[(u64, u64)]) -> Option<u64> {
    if axes.iter().any(|axis| axis.0 == 0) {
        return Some(0);
    }
    axes.iter().try_fold(unit, |n, (count, stride)| {
        n.checked_add((count - 1).checked_mul(*stride)?)
    })
}
