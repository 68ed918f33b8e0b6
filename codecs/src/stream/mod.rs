//! Byte streams: packed frames, and the zstd frame of an exponent plane.

pub mod packed;
pub(crate) mod zstd_frame;
