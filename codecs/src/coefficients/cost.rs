//! What a coefficient costs, for the choice of steps and tables.

use super::lanes::{MIDDLE, SLOT_BITS, Table};

/// Costs of the symbols of every base, in 1/256 bit.
pub(crate) struct Costs(Vec<[u32; WIDTH]>);

/// Symbols on both sides, and one beyond on each, which are escapes.
const WIDTH: usize = 2 * BEYOND + 1;
const BEYOND: usize = MIDDLE.unsigned_abs() as usize + 1;

impl Costs {
    pub(crate) fn new() -> Self {
        let of = |number| {
            let (escape, sides) = Table::numbered(number).map_or((1, &[][..]), Table::frequencies);
            let price =
                |frequency: u16| (SLOT_BITS << 8) - log2(f64::from(frequency)).unsigned_abs();
            // an escape is also a value of 16 bits
            let mut row = [price(escape) + (16 << 8); WIDTH];
            for (distance, frequency) in sides.iter().enumerate() {
                row[BEYOND - distance] = price(*frequency);
                row[BEYOND + distance] = price(*frequency);
            }
            row
        };
        Self((0..Table::BASES).map(of).collect())
    }

    /// What the coefficients of a channel cost by a table, in 1/256 bit.
    pub(crate) fn channel(&self, table: Table, coefficients: &[i16]) -> u64 {
        let row = &self.0[usize::from(table.base)];
        let (half, limit) = (i32::from(table.half()), i32::from(MIDDLE) + 1);
        let price = |q: &i16| {
            let symbol = (i32::from(*q) + half) >> table.bits;
            let at = symbol.clamp(-limit, limit) + limit;
            row[usize::try_from(at).unwrap_or(0)]
        };
        let sum: u32 = coefficients.iter().map(price).sum();
        let low = u64::from(table.bits) * coefficients.len() as u64;
        u64::from(sum) + (low << 8)
    }
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
        let costs = Costs::new();
        let narrow = Table::numbered(0).unwrap();
        assert!(costs.channel(narrow, &[0; 256]) < 256 * 3);
        assert!(costs.channel(narrow, &[9]) > 16 << 8);
        let wide = Table::numbered(40).unwrap();
        assert!(costs.channel(wide, &[100; 256]) < costs.channel(narrow, &[100; 256]));
    }
}
