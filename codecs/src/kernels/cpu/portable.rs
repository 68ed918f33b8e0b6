//! The loops for any machine.

use super::{compiled_for, isa::Portable};

compiled_for!(PORTABLE, "portable", Portable);
