//! The ladder of lengths of packed streams (codecs-v1 §8.2).

/// The ladder of lengths that a stream is padded to (codecs-v1 §8.2): the sealer's choice, which a
/// stream does not state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Padding {
    /// Padmé: at most 12 % more. Lengths show how repetitive a state is, and hardly more.
    #[default]
    Padme,
    /// Three more of the leading bits are kept: less than 0.8 % more. The lengths of a capsule's
    /// banks together can tell known prompts apart.
    Fine,
}

impl Padding {
    /// The smallest length of the ladder that is at least `len`; `None` beyond 64 bits.
    #[must_use]
    pub fn padded(self, len: u64) -> Option<u64> {
        let more = match self {
            Self::Padme => 0,
            Self::Fine => 3,
        };
        let exponent = len.max(2).ilog2();
        let kept = exponent.ilog2() + 1 + more;
        let mask = (1_u64 << exponent.saturating_sub(kept)) - 1;
        Some(len.checked_add(mask)? & !mask)
    }
}
