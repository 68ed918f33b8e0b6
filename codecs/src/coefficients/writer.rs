//! Coefficients to states and words: decoding, backwards.

use super::lanes::{LANES, MIDDLE, RENORM, SLOT_BITS, Table};

/// Writes the coefficients of channels, `tokens` of each: `words` are then those that decoding takes, in
/// its order. Returns the states at which it begins.
///
/// A coefficient without a symbol is written as an escape; its value goes elsewhere.
pub(crate) fn write(
    coefficients: &[i16],
    tokens: usize,
    tables: impl DoubleEndedIterator<Item = Table> + ExactSizeIterator,
    words: &mut Vec<u16>,
) -> [u32; LANES] {
    words.clear();
    let mut states = [RENORM; LANES];
    let channels = coefficients.chunks_exact(tokens.max(1));
    for (table, channel) in tables.zip(channels).rev() {
        let intervals = Intervals::of(table);
        for step in channel.chunks(LANES).rev() {
            if table.bits > 0 {
                for (state, q) in states.iter_mut().zip(step).rev() {
                    let low = q.wrapping_add(table.half()).cast_unsigned();
                    let low = u32::from(low) & ((1 << table.bits) - 1);
                    make_room(state, 32 - u32::from(table.bits), words);
                    *state = *state << table.bits | low;
                }
            }
            for (state, q) in states.iter_mut().zip(step).rev() {
                intervals.put(*q, table, state, words);
            }
        }
    }
    words.reverse();
    states
}

/// Gives a word away where the state has `bits` bits or more.
fn make_room(state: &mut u32, bits: u32, words: &mut Vec<u16>) {
    if *state >> bits != 0 {
        let [a, b, ..] = state.to_le_bytes();
        words.push(u16::from_le_bytes([a, b]));
        *state >>= 16;
    }
}

/// The interval of each symbol of a base, the escape last; a frequency of 0 where there is none.
struct Intervals([Interval; ESCAPE_AT + 1]);

#[derive(Clone, Copy, Default)]
struct Interval {
    first: u32,
    frequency: u32,
    /// A little more than 2^[`INVERSE_BITS`] divided by the frequency.
    inverse: u64,
}

/// With so many bits quotients of 32 bits are exact: a state times what the inverse is too large by, which is at most 1, is
/// less than 2^44 / 4096, a step of the quotient by the largest frequency.
const INVERSE_BITS: u32 = 32 + SLOT_BITS;

impl Interval {
    fn new(first: u16, frequency: u16) -> Self {
        Self {
            first: first.into(),
            frequency: frequency.into(),
            inverse: (1 << INVERSE_BITS) / u64::from(frequency.max(1)) + 1,
        }
    }

    /// Quotient and rest of a state by the frequency: a division is what takes longest in a step.
    #[allow(clippy::cast_possible_truncation, reason = "a quotient of 32 bits")]
    fn divided(self, state: u32) -> (u32, u32) {
        let product = u128::from(state) * u128::from(self.inverse);
        let quotient = (product >> INVERSE_BITS) as u32;
        (quotient, state - quotient * self.frequency)
    }
}

/// Number of the escape's interval.
const ESCAPE_AT: usize = 2 * MIDDLE as usize + 1;

impl Intervals {
    fn of(table: Table) -> Self {
        let (escape, sides) = table.frequencies();
        let mut all = [Interval::default(); ESCAPE_AT + 1];
        let most = sides.len() - 1;
        let middle = usize::from(MIDDLE.unsigned_abs());
        let mut first = 0;
        for (at, interval) in all[middle - most..=middle + most].iter_mut().enumerate() {
            let frequency = sides[at.abs_diff(most)];
            *interval = Interval::new(first, frequency);
            first += frequency;
        }
        all[ESCAPE_AT] = Interval::new(first, escape);
        Self(all)
    }

    fn put(&self, q: i16, table: Table, state: &mut u32, words: &mut Vec<u16>) {
        let symbol = (i32::from(q) + i32::from(table.half())) >> table.bits;
        let at = usize::try_from(symbol + i32::from(MIDDLE)).unwrap_or(ESCAPE_AT);
        let interval = match self.0.get(at) {
            Some(interval) if interval.frequency > 0 => *interval,
            _ => self.0[ESCAPE_AT],
        };
        if *state >= interval.frequency << (32 - SLOT_BITS) {
            make_room(state, 0, words);
        }
        let (quotient, rest) = interval.divided(*state);
        *state = (quotient << SLOT_BITS) + rest + interval.first;
    }
}

/// The coefficients for which a table has a symbol: between these two, both among them.
pub(crate) fn symbols(table: Table) -> (i32, i32) {
    let most = i32::try_from(table.frequencies().1.len()).unwrap_or(0) - 1;
    let (half, width) = (i32::from(table.half()), 1 << table.bits);
    (-most * width - half, most * width + width - 1 - half)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotients_are_those_of_division() {
        for frequency in 1..=4096 {
            let interval = Interval::new(0, frequency);
            let wide = u32::from(frequency);
            let whole = (u32::MAX / wide) * wide;
            for state in [
                0,
                1,
                wide - 1,
                wide,
                whole - 1,
                whole,
                u32::MAX,
                0x8765_4321,
            ] {
                let divided = interval.divided(state);
                assert_eq!(divided, (state / wide, state % wide), "{frequency} {state}");
            }
        }
    }

    #[test]
    fn symbols_are_those_of_the_table() {
        for number in 0..Table::COUNT {
            let table = Table::numbered(number).unwrap();
            let (least, most) = symbols(table);
            let has = |q: i32| {
                let symbol = (q + i32::from(table.half())) >> table.bits;
                (symbol.unsigned_abs() as usize) < table.frequencies().1.len()
            };
            assert!(has(least) && has(most) && !has(least - 1) && !has(most + 1));
        }
    }
}
