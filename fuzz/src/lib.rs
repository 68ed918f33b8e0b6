//! Parts that the fuzz targets share: an allocator with a ceiling, a reader of scripts, edits of CBOR, and
//! the way past the signature.

mod cap;
mod claims;
mod edit;
mod frame;
mod input;
mod memory;
mod models;
mod resign;
mod sealed;
mod states;

pub use cap::capped;
pub use claims::claims;
pub use edit::{edit_bytes, edit_value};
pub use frame::Frame;
pub use input::Input;
pub use memory::{Memory, Ragged, scratch_file};
pub use models::{read_model, tokenizer_json};
pub use resign::{base, check_all, header_for, is_canonical, parse_value, resign};
pub use sealed::{FIXTURES, Opening, Seed, fixture, open, seal, seeds, terms};
pub use states::parse_state;
