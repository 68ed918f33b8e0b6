//! Codecs for the banks of a KV capsule.
//!
//! This crate knows numbers: element types, block layouts and codecs. It knows nothing of files,
//! keys or I/O. See `spec/codecs-v1.md`.

mod layout;

pub use layout::{AffineParams, BLOCK_TOKENS, BankShape, Dtype, ParamDtype, WHOLE_FRAME_BYTES};
