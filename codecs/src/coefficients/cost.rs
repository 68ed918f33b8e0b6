//! What a coefficient costs, for the choice of steps and tables.

use std::sync::OnceLock;

use super::lanes::{MIDDLE, SLOT_BITS, Table};

/// Costs of coefficients by tables, in 1/256 bit.
pub(crate) struct Costs {
    /// For each table of each coefficient what it costs by the table before, by this and by the next.
    trios: Vec<Vec<u64>>,
    /// Mean costs of Gaussians whose widths are those of the bases.
    gaussians: Vec<u64>,
}

/// Bits of one of three sums: [`FEW`] tokens of the dearest symbol.
const SUM_BITS: u32 = 21;
/// Coefficients that are summed at a time.
const FEW: usize = 192;
/// More than any coefficient costs.
const DEAREST: u64 = ((1 << SUM_BITS) - 1) / FEW as u64;
const _: () = assert!((12 + 9 + 16) << 8 < DEAREST, "a sum fits");

impl Costs {
    /// The costs, made once.
    pub(crate) fn shared() -> &'static Self {
        static COSTS: OnceLock<Costs> = OnceLock::new();
        COSTS.get_or_init(Self::new)
    }

    fn new() -> Self {
        let trio = |number: u8| {
            let beside = [number.checked_sub(1), Some(number), Some(number + 1)];
            let limit = reach(number);
            let of = |q| {
                beside.iter().rev().fold(0, |trio, number| {
                    let table = number.and_then(Table::numbered);
                    let price = table.map_or(DEAREST, |table| price(table, q));
                    trio << SUM_BITS | price.min(DEAREST)
                })
            };
            (-limit..=limit).map(of).collect()
        };
        let gaussian = |number| {
            let table = Table::numbered(number).unwrap_or(Table { base: 0, bits: 0 });
            let (escape, sides) = table.frequencies();
            let most = i32::try_from(sides.len()).unwrap_or(0) - 1;
            let weigh = |q: i32| {
                let frequency = sides.get(q.unsigned_abs() as usize).copied();
                u64::from(frequency.unwrap_or(0)) * price(table, q)
            };
            let sum: u64 = (-most..=most).map(weigh).sum();
            (sum + u64::from(escape) * price(table, most + 1)) >> SLOT_BITS
        };
        Self {
            trios: (0..Table::COUNT).map(trio).collect(),
            gaussians: (0..Table::BASES).map(gaussian).collect(),
        }
    }

    /// The cheapest of a table and those beside it for the coefficients of a channel, and what they cost.
    pub(crate) fn best(&self, table: Table, coefficients: &[i16]) -> (u64, Table) {
        let number = table.number();
        let (row, limit) = (&self.trios[usize::from(number)], reach(number));
        let mut sums = [0; 3];
        // as many as no sum overflows with
        for coefficients in coefficients.chunks(FEW) {
            let price = |q: &i16| {
                let at = i32::from(*q).clamp(-limit, limit) + limit;
                row.get(usize::try_from(at).unwrap_or(0))
                    .copied()
                    .unwrap_or(0)
            };
            let trio: u64 = coefficients.iter().map(price).sum();
            for (at, sum) in (0..).zip(&mut sums) {
                *sum += trio >> (at * SUM_BITS) & ((1 << SUM_BITS) - 1);
            }
        }
        let beside = [number.checked_sub(1), Some(number), Some(number + 1)];
        let known = beside.into_iter().map(|number| Table::numbered(number?));
        let priced = sums.into_iter().zip(known);
        let priced = priced.filter_map(|(sum, table)| Some((sum, table?)));
        priced
            .min_by_key(|(sum, _)| *sum)
            .unwrap_or((u64::MAX, table))
    }

    /// Mean cost of a coefficient of a Gaussian channel, `width` the logarithm to base 2 of its width in
    /// steps, in 1/256.
    pub(crate) fn gaussian(&self, width: i32) -> u64 {
        // 676 is 256 · log2(1 / 0.16); bases are a quarter of an octave apart
        let quarters = width + 676;
        let last = i32::try_from(self.gaussians.len()).unwrap_or(1) - 1;
        let (at, part) = (quarters.div_euclid(64), quarters.rem_euclid(64));
        let of = |at: i32| {
            let known = usize::try_from(at.clamp(0, last)).unwrap_or(0);
            // an octave wider costs a bit more
            let beyond = u64::try_from((at - last).max(0)).unwrap_or(0);
            self.gaussians[known] + beyond * 64
        };
        let part = u64::try_from(part).unwrap_or(0);
        (of(at) * (64 - part) + of(at + 1) * part) / 64
    }
}

/// The coefficient beyond which all are escapes by a table and those beside it.
fn reach(number: u8) -> i32 {
    let widest = Table::numbered((number + 1).min(Table::COUNT - 1));
    let bits = widest.map_or(0, |table| table.bits);
    (i32::from(MIDDLE) + 2) << bits
}

/// What a coefficient costs by a table.
fn price(table: Table, q: i32) -> u64 {
    let (escape, sides) = table.frequencies();
    let price =
        |frequency: u16| u64::from((SLOT_BITS << 8) - log2(f64::from(frequency)).unsigned_abs());
    let symbol = (q + i32::from(table.half())) >> table.bits;
    let frequency = sides.get(symbol.unsigned_abs() as usize);
    // an escape is also a value of 16 bits
    let symbol = frequency.map_or(price(escape) + (16 << 8), |frequency| price(*frequency));
    symbol + (u64::from(table.bits) << 8)
}

/// The logarithm to base 2 of a positive normal number, in 1/256, by products alone.
#[allow(
    clippy::cast_possible_truncation,
    reason = "the exponent of a binary64 has 11 bits"
)]
pub(crate) fn log2(x: f64) -> i32 {
    let bits = x.to_bits();
    let mut whole = (bits >> 52 & 0x7ff) as i32 - 1023;
    let mut rest = f64::from_bits(bits & ((1 << 52) - 1) | 1023 << 52);
    for _ in 0..8 {
        rest *= rest;
        whole *= 2;
        if rest >= 2.0 {
            rest /= 2.0;
            whole += 1;
        }
    }
    whole
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logarithms_are_within_their_unit() {
        for x in [1.0, 1.5, 2.0, 3.0, 4077.0, 1e-9, 1e30] {
            let exact = f64::log2(x) * 256.0;
            assert!((f64::from(log2(x)) - exact).abs() <= 1.0, "{x}");
        }
    }

    #[test]
    fn what_the_table_expects_is_cheap() {
        let narrow = Table::numbered(0).unwrap();
        let of = |table, coefficients: &[i16]| {
            coefficients
                .iter()
                .map(|q| price(table, i32::from(*q)))
                .sum::<u64>()
        };
        assert!(of(narrow, &[0; 256]) < 256 * 3);
        assert!(of(narrow, &[9]) > 16 << 8);
        let wide = Table::numbered(40).unwrap();
        assert!(of(wide, &[100; 256]) < of(narrow, &[100; 256]));
    }

    #[test]
    fn the_best_of_three_tables_is_found() {
        let costs = Costs::shared();
        for number in 0..Table::COUNT {
            let fitting = Table::numbered(number).unwrap();
            for spread in [0, 1, 7, 300, 20_000] {
                let channel: Vec<i16> = (0..300)
                    .map(|at| (at * 37 % 101 - 50) * spread / 50)
                    .map(|q: i32| i16::try_from(q).unwrap())
                    .collect();
                let beside = [number.checked_sub(1), Some(number), Some(number + 1)];
                let tables = beside.into_iter().flatten().filter_map(Table::numbered);
                let price = |table| {
                    channel
                        .iter()
                        .map(|q| price(table, i32::from(*q)))
                        .sum::<u64>()
                };
                let least = tables.map(price).min().unwrap();
                assert_eq!(costs.best(fitting, &channel).0, least, "{number} {spread}");
            }
        }
    }

    #[test]
    fn gaussians_cost_what_their_tables_expect() {
        let costs = Costs::shared();
        let prices: Vec<_> = (-1500..3000).map(|width| costs.gaussian(width)).collect();
        assert!(prices.is_sorted());
        // 2.05 bits over the logarithm
        let wide = costs.gaussian(2048);
        assert!(wide.abs_diff(2048 + 524) < 40, "{wide}");
    }
}
