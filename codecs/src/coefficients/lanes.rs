//! Tables, and the lanes that are decoded by them.

use std::sync::OnceLock;

use super::frequencies::{FREQUENCIES, Frequencies};

/// Lanes that are decoded side by side.
pub(crate) const LANES: usize = 32;
/// Slots of a table.
pub(crate) const SLOTS: usize = 1 << SLOT_BITS;
pub(super) const SLOT_BITS: u32 = 12;
/// What a state never falls below once it has taken its word.
pub(crate) const RENORM: u32 = 1 << 16;
/// Mark of a coefficient that is among the escapes: no table gives it.
pub(crate) const ESCAPE: i16 = i16::MIN;
/// The symbol number of the escape; others are their symbol and [`MIDDLE`].
const ESCAPE_SYMBOL: u32 = 127;
/// The largest symbol of any base.
pub(super) const MIDDLE: i16 = 32;

/// The table of a channel: a base, and low bits that are uniform.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Table {
    /// Number of the base.
    pub(crate) base: u8,
    /// Bits of a coefficient below its symbol.
    pub(crate) bits: u8,
}

impl Table {
    /// How many tables there are.
    pub(crate) const COUNT: u8 = 60;
    /// How many bases there are.
    pub(crate) const BASES: u8 = 24;

    /// The table of number `number`, where there is one.
    pub(crate) const fn numbered(number: u8) -> Option<Self> {
        match number {
            0..Self::BASES => Some(Self {
                base: number,
                bits: 0,
            }),
            Self::BASES..Self::COUNT => Some(Self {
                base: 20 + number % 4,
                bits: (number - 20) / 4,
            }),
            _ => None,
        }
    }

    /// Its number.
    pub(crate) const fn number(self) -> u8 {
        match self.bits {
            0 => self.base,
            bits => self.base + 4 * bits,
        }
    }

    /// Half of the coefficients that share a symbol: it lies in their middle.
    pub(crate) const fn half(self) -> i16 {
        (1 << self.bits) >> 1
    }

    /// Frequencies of its base.
    pub(super) const fn frequencies(self) -> Frequencies {
        FREQUENCIES[self.base as usize]
    }
}

/// For each slot what it means ([`Slots::entry`]).
pub(crate) struct Slots(pub(crate) [u32; SLOTS]);

impl Slots {
    /// An entry: frequency in the low 12 bits, then the slot less the first of its symbol in 12 bits,
    /// then the symbol's number.
    const fn entry(frequency: u32, within: u32, symbol: u32) -> u32 {
        frequency | within << 12 | symbol << 24
    }

    fn of(base: usize) -> Self {
        let (escape, sides) = FREQUENCIES[base];
        let mut slots = [0; SLOTS];
        let mut first = 0;
        let mut put = |frequency: u16, symbol: u32| {
            for within in 0..u32::from(frequency) {
                if let Some(slot) = slots.get_mut(first) {
                    *slot = Self::entry(frequency.into(), within, symbol);
                }
                first += 1;
            }
        };
        let middle = u32::from(MIDDLE.unsigned_abs());
        let upper = || (middle..).zip(sides);
        let mut lower: Vec<_> = upper().skip(1).collect();
        lower.reverse();
        for (symbol, frequency) in lower {
            put(*frequency, 2 * middle - symbol);
        }
        for (symbol, frequency) in upper() {
            put(*frequency, symbol);
        }
        put(escape, ESCAPE_SYMBOL);
        Self(slots)
    }

    /// Takes a symbol from a state: its coefficient above the low bits of `table`, or [`ESCAPE`].
    #[inline(always)]
    #[allow(
        clippy::cast_possible_truncation,
        clippy::inline_always,
        reason = "7 bits of a symbol; loops take on the instruction set of their caller"
    )]
    pub(crate) fn take(&self, state: &mut u32, table: Table) -> i16 {
        let entry = self.0[*state as usize % SLOTS];
        *state = (entry & 0xfff) * (*state >> SLOT_BITS) + (entry >> 12 & 0xfff);
        let symbol = entry >> 24;
        let coefficient = ((symbol as i16 - MIDDLE) << table.bits) - table.half();
        if symbol == ESCAPE_SYMBOL {
            ESCAPE
        } else {
            coefficient
        }
    }
}

/// The slots of a table's base.
pub(crate) fn slots(table: Table) -> &'static Slots {
    static ALL: OnceLock<Vec<Slots>> = OnceLock::new();
    let all = ALL.get_or_init(|| (0..FREQUENCIES.len()).map(Slots::of).collect());
    &all[usize::from(table.base)]
}

/// The lanes of a frame while it is decoded.
pub(crate) struct Lanes<'a> {
    /// A state a lane, at least [`RENORM`].
    pub(crate) states: [u32; LANES],
    /// The words that were not taken yet.
    pub(crate) words: &'a [[u8; 2]],
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frequencies_add_up_and_slots_follow_one_another() {
        for number in 0..Table::COUNT {
            let table = Table::numbered(number).unwrap();
            let (escape, sides) = table.frequencies();
            let both: u16 = sides[1..].iter().sum();
            assert_eq!(usize::from(escape + sides[0] + 2 * both), SLOTS, "{number}");
            assert!(sides.is_sorted_by(|a, b| a >= b) && escape > 0);
            assert!(sides.len() <= 33 && table.bits < 10);
            let entries = slots(table).0;
            for (slot, entry) in entries.iter().enumerate() {
                let (frequency, within) = (entry & 0xfff, entry >> 12 & 0xfff);
                assert!(within < frequency, "{number} {slot}");
                let first = slot - within as usize;
                assert_eq!(entries[first] >> 24, entry >> 24);
            }
        }
        assert_eq!(Table::numbered(60), None);
    }
}
