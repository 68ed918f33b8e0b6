//! Capsules into other states: other runtimes and element types, parts, shorter ones, and sealed again.

pub(crate) mod convert;
mod extract;
mod layers;
mod reseal;
mod truncate;

pub use convert::{Elements, Target, TargetRuntime, open_as};
pub use extract::{Extracted, Selection, extract};
pub use layers::{Layer, layers, open_layer};
pub use reseal::{as_sealed, reopen};
pub use truncate::{can_be_cut, truncate_state};
