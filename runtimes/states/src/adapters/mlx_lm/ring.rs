//! Which positions the rows of a rotating cache hold (runtimes-v1 §2.3).

use kvcap::{Code, Error, Result};

/// A `RotatingKVCache`'s numbers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ring {
    /// Rows of the stored tensors.
    pub rows: u64,
    /// Tokens seen.
    pub offset: u64,
    /// First positions that are never overwritten.
    pub keep: u64,
    /// Rows from which on the ring wraps.
    pub max_size: u64,
    /// Row that the next token is written to.
    pub idx: u64,
}

/// The positions of a ring's rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Held {
    /// Row r holds position `start + r`.
    From(u64),
    /// The ring has wrapped: [`Ring::wrapped`] tells them.
    Wrapped,
}

impl Ring {
    /// How many rows from the first on hold tokens, and which positions.
    ///
    /// # Errors
    /// [`Code::StateContradiction`] where no sequence of updates leads to these numbers.
    pub(crate) fn positions(self) -> Result<(u64, Held)> {
        let Self {
            rows,
            offset,
            keep,
            max_size,
            idx,
        } = self;
        if max_size == 0 || keep >= max_size {
            return Err(self.contradiction("the ring's keep is not below its max_size"));
        }
        // Not wrapped: rows in order of position, the rest not written yet or rolled back.
        if offset <= rows && idx == offset {
            return Ok((offset, Held::From(0)));
        }
        let wrapped = idx == rows || (rows == max_size && keep < idx && idx < rows);
        if offset <= rows || rows < max_size || !wrapped {
            return Err(self.contradiction("the ring's indices do not belong together"));
        }
        if idx == rows && keep == 0 {
            return Ok((rows, Held::From(offset - rows)));
        }
        match i64::try_from(offset) {
            Ok(_) => Ok((rows, Held::Wrapped)),
            Err(_) => Err(self.contradiction("the ring's offset is out of range")),
        }
    }

    /// The positions of a ring that [`Self::positions`] found to have wrapped, in storage order: one by one,
    /// since the file alone says how many they are.
    pub(crate) fn wrapped(self) -> impl Iterator<Item = i64> {
        // The kept rows; then, up to the write head, the newest; then the oldest that are left.
        let newest = self
            .offset
            .saturating_sub(self.idx)
            .saturating_add(self.keep);
        let oldest = (self.offset + self.keep).saturating_sub(self.rows);
        (0..self.keep)
            .chain(newest..self.offset)
            .chain(oldest..newest)
            .map(|position| i64::try_from(position).unwrap_or(i64::MAX))
    }

    fn contradiction(self, what: &'static str) -> Error {
        Error::new(Code::StateContradiction, what).sides(
            format_args!(
                "keep < max_size {}, _idx up to {}",
                self.max_size, self.rows
            ),
            format_args!(
                "offset {}, keep {}, _idx {}",
                self.offset, self.keep, self.idx
            ),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::{Held, Ring};

    /// mlx-lm's own cache over one number a token, which is its position.
    #[derive(Clone)]
    struct Oracle {
        rows: Vec<Option<i64>>,
        offset: usize,
        keep: usize,
        max_size: usize,
        idx: usize,
    }

    impl Oracle {
        fn trim(&mut self, trim: isize) {
            if let Ok(trim @ 1..) = usize::try_from(trim) {
                let tail = self.rows.split_off((trim + self.keep).min(self.rows.len()));
                self.rows.truncate(self.keep);
                self.rows.extend(tail);
            }
        }

        fn prefill(&mut self, count: usize) {
            let new = (self.offset..self.offset + count).map(|p| Some(i64::try_from(p).unwrap()));
            if !self.rows.is_empty() {
                if self.idx < self.rows.len() && self.idx < self.offset {
                    let mut ordered = self.rows[..self.keep].to_vec();
                    ordered.extend(&self.rows[self.idx..]);
                    ordered.extend(&self.rows[self.keep..self.idx]);
                    self.rows = ordered;
                } else {
                    self.rows.truncate(self.idx);
                }
                self.trim(self.rows.len().cast_signed() - self.max_size.cast_signed() + 1);
            }
            self.rows.extend(new);
            self.offset += count;
            self.idx = self.rows.len();
        }

        fn step(&mut self, step: usize) {
            let prev = self.offset;
            if self.rows.is_empty() || (prev >= self.rows.len() && self.rows.len() < self.max_size)
            {
                let grow = step.min(self.max_size - prev);
                self.rows.extend(std::iter::repeat_n(None, grow));
                self.idx = prev;
            }
            let over = self.rows.len().cast_signed() - self.max_size.cast_signed();
            if over > 0 {
                self.trim(over);
                self.idx = self.max_size;
            }
            if self.idx == self.max_size {
                self.idx = self.keep;
            }
            self.rows[self.idx] = Some(i64::try_from(self.offset).unwrap());
            self.offset += 1;
            self.idx += 1;
        }

        fn check(&self) {
            let ring = Ring {
                rows: u64::try_from(self.rows.len()).unwrap(),
                offset: u64::try_from(self.offset).unwrap(),
                keep: u64::try_from(self.keep).unwrap(),
                max_size: u64::try_from(self.max_size).unwrap(),
                idx: u64::try_from(self.idx).unwrap(),
            };
            let (valid, rows) = ring.positions().unwrap();
            let valid = usize::try_from(valid).unwrap();
            let positions: Vec<_> = match rows {
                Held::From(start) => (i64::try_from(start).unwrap()..).take(valid).collect(),
                Held::Wrapped => ring.wrapped().collect(),
            };
            let want: Vec<_> = self.rows[..valid].iter().map(|p| p.unwrap()).collect();
            assert_eq!(positions, want, "{ring:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn positions_are_those_of_the_runtime(
            keep in 0usize..4,
            size in 5usize..20,
            updates in proptest::collection::vec(0usize..30, 1..30),
            trimmed in 0usize..4,
        ) {
            let mut oracle = Oracle { rows: Vec::new(), offset: 0, keep, max_size: size, idx: 0 };
            for update in updates {
                match update {
                    n @ 2.. => oracle.prefill(n),
                    _ => oracle.step(8),
                }
                oracle.check();
                if oracle.offset < size {
                    let mut back = oracle.clone();
                    let n = trimmed.min(back.offset);
                    back.offset -= n;
                    back.idx -= n;
                    back.check();
                }
            }
        }
    }

    #[test]
    fn numbers_that_no_update_leads_to_are_refused() {
        let good = Ring {
            rows: 8,
            offset: 20,
            keep: 2,
            max_size: 8,
            idx: 5,
        };
        assert!(good.positions().is_ok());
        for bad in [
            Ring { idx: 9, ..good },
            Ring { idx: 2, ..good },
            Ring { idx: 0, ..good },
            Ring { keep: 8, ..good },
            Ring {
                keep: u64::MAX,
                ..good
            },
            Ring {
                max_size: 0,
                ..good
            },
            Ring {
                max_size: 9,
                ..good
            },
            Ring { rows: 7, ..good },
            Ring { offset: 8, ..good },
            Ring { offset: 3, ..good },
            Ring {
                offset: u64::MAX,
                ..good
            },
        ] {
            assert!(bad.positions().is_err(), "{bad:?}");
        }
    }
}
