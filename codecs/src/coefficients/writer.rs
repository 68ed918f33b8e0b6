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

/// First slot and frequency of each symbol of a base, the escape last.
struct Intervals([(u16, u16); 2 * MIDDLE as usize + 2]);

/// Number of the escape's interval.
const ESCAPE_AT: usize = 2 * MIDDLE as usize + 1;

impl Intervals {
    fn of(table: Table) -> Self {
        let (escape, sides) = table.frequencies();
        let mut all = [(0, 0); ESCAPE_AT + 1];
        let most = sides.len() - 1;
        let middle = usize::from(MIDDLE.unsigned_abs());
        let mut first = 0;
        for (at, interval) in all[middle - most..=middle + most].iter_mut().enumerate() {
            let frequency = sides[at.abs_diff(most)];
            *interval = (first, frequency);
            first += frequency;
        }
        all[ESCAPE_AT] = (first, escape);
        Self(all)
    }

    fn put(&self, q: i16, table: Table, state: &mut u32, words: &mut Vec<u16>) {
        let symbol = (i32::from(q) + i32::from(table.half())) >> table.bits;
        let at = usize::try_from(symbol + i32::from(MIDDLE)).unwrap_or(ESCAPE_AT);
        let (first, frequency) = match self.0.get(at) {
            Some((first, frequency)) if *frequency > 0 => (*first, *frequency),
            _ => self.0[ESCAPE_AT],
        };
        let (first, frequency) = (u32::from(first), u32::from(frequency));
        if *state >= frequency << (32 - SLOT_BITS) {
            make_room(state, 0, words);
        }
        *state = ((*state / frequency) << SLOT_BITS) + *state % frequency + first;
    }
}

/// Whether `table` has a symbol for a coefficient.
pub(crate) fn has_symbol(table: Table, q: i16) -> bool {
    let symbol = (i32::from(q) + i32::from(table.half())) >> table.bits;
    symbol.unsigned_abs() < u32::try_from(table.frequencies().1.len()).unwrap_or(0)
}
