//! The facts that a capsule binds its banks to: model, tokenizer, runtime, rope, prefix, positions.
//!
//! Plain data, in the order of capsule-v1 §6. What is compared with what, and the code of each
//! difference, is in `policy`; how they are written as CBOR is in `manifest`.

mod model;
pub(crate) mod prefix;
mod rope;
mod runtime;
mod tokenizer;

use std::fmt;

pub use crate::digest::{Digest, labelled_hasher};
pub use model::{Adapter, Model};
pub use prefix::{PrefixKey, PrefixValue};
pub use rope::{KeyBasis, Pairing, Rope, Scaling};
pub use runtime::Runtime;
pub use tokenizer::Tokenizer;

/// An IEEE 754 binary64 by its bits, so that no rule about floats can blur a comparison.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct F64Bits(pub u64);

impl F64Bits {
    /// Returns whether it is neither infinite nor NaN: its exponent is not all ones.
    #[must_use]
    pub const fn is_finite(self) -> bool {
        self.0 >> 52 & 0x7FF != 0x7FF
    }
}

impl fmt::Debug for F64Bits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "F64Bits({:#018x})", self.0)
    }
}
