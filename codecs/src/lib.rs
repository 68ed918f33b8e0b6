//! Codecs for the banks of a KV capsule.
//!
//! This crate knows numbers: element types, block layouts and codecs. It knows nothing of files,
//! keys or I/O. The format is `spec/codecs-v1.md`.
//!
//! A bank is cut into frames ([`BankShape`]); a [`Codec`] encodes and decodes one frame at a time:
//!
//! ```
//! use kvcap_codecs::{BankShape, Codec, Dtype, FrameContext, Scratch};
//!
//! # fn main() -> Result<(), kvcap_codecs::CodecError> {
//! let shape = BankShape::Tokens { heads: 2, tokens: 3, dim: 64 };
//! let plain = vec![0x3c; 2 * 3 * 64 * 2]; // f16, little-endian, [head][token][dim]
//! let codec = Codec::Affine { bits: 8, group: 64 };
//!
//! let mut scratch = Scratch::new(); // one a worker, reused for every frame
//! let frame = FrameContext::new(&shape, Dtype::F16, 0)?;
//! let (mut encoded, mut decoded) = (Vec::new(), vec![0; frame.plain_len()]);
//! codec.encode_frame(&frame, &plain, &mut encoded, &mut scratch)?;
//! codec.decode_frame(&frame, &encoded, &mut decoded, &mut scratch)?;
//! # assert_eq!(plain, decoded);
//! # Ok(())
//! # }
//! ```

mod accelerator;
mod affine;
mod backend;
mod codec;
mod error;
mod frame;
mod layout;
pub mod packed;
mod planes;
mod preset;
mod q4k;
mod quality;
mod reference;
mod rope;
mod scratch;
mod values;
mod zstd_frame;

pub use accelerator::{Accelerator, accelerate, accelerator};
pub use backend::cpu::copy_streaming;
pub use codec::{Codec, Content};
pub use error::{CodecError, ErrorKind, Place};
pub use frame::FrameContext;
pub use layout::{AffineParams, BLOCK_TOKENS, BankShape, Dtype, ParamDtype, WHOLE_FRAME_BYTES};
pub use packed::Padding;
pub use preset::{Choice, Guard, Preset, Reason, choose};
pub use quality::{FrameQuality, Measurement, Quality};
pub use rope::{Pairing, Positions, Rotation, Turns};
pub use scratch::{Scratch, aligned};
pub use values::{from_f32, hadamard, to_f32};
